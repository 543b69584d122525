"""Numerics that do not depend on the CPU: part of ids, of manifests and of how jobs start."""

import json
import shutil
from pathlib import Path

import pytest

from checkout import ROOT, copy_checkout
from lntune.environment import PORTABLE, portable_lacks
from lntune.errors import UserError
from lntune.plan.node import Node, closure
from lntune.plan.plan import Plan
from lntune.plan.study import Study


def results(scale: str) -> dict[tuple[str, str], Node]:
    """The results behind a table at a scale, by stage and label."""
    return {
        (one.stage, one.label): one for one in closure([Plan(Study.read(ROOT, {"scale": scale})).report_item("quick")])
    }


def test_numerics_are_part_of_the_ids_of_what_is_computed() -> None:
    native, portable = results("demo"), results("portable")
    assert native.keys() == portable.keys()
    assert all("environment" not in one.identity.document() for one in native.values())
    fixed = {stage for (stage, _), one in portable.items() if one.identity.document().get("environment") == PORTABLE}
    assert fixed >= {
        "draw",
        "prepare",
        "connector",
        "finetune",
        "predict",
        "score-captions",
        "score-mme",
        "score-vqav2",
    }
    same = {stage for (stage, label), one in portable.items() if one.id == native[stage, label].id}
    assert same == {"fetch"}, "downloads are the same; the others compute, or rest on what is computed"


def test_threads_and_gpus_are_refused_with_portable_numerics(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    for name, value in {"stages": {"predict": {"threads": 2}}, "default": {"gpus": 1}, "engine": "deepspeed"}.items():
        scale = {"extends": "tiny", "numerics": "portable", "execution": {name: value}}
        checkout.write_yaml("workflow/scales/portable.yaml", scale)
        with pytest.raises(UserError, match=r"portable\.yaml: numerics: portable computes in one thread of a CPU"):
            Study.read(checkout.root, {"scale": "portable"})


@pytest.mark.slow
@pytest.mark.skipif(bool(portable_lacks()), reason="no x86-64 CPU with AVX2")
def test_a_reference_is_written_compared_and_names_what_differs(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    checkout.write_yaml("workflow/scales/portable.yaml", {"extends": "tiny", "numerics": "portable"})
    (checkout.root / "measurements").mkdir()
    shutil.copy(ROOT / "measurements" / "reference.py", checkout.root / "measurements")
    module = ("measurements.reference", "data")
    assert "has not been made yet" in checkout.run(*module, code=1)
    checkout.snakemake("-c2", "--config", "scale=portable", "--", "tables/data.csv")
    for manifest in (checkout.root / "results").glob("*/*/manifest.json"):
        noted = json.loads(manifest.read_text())["environment"]
        assert noted == (PORTABLE if manifest.parts[-3] in ("draw", "prepare", "questions-vqav2") else {})

    assert "`make reference-update` writes it" in checkout.run(*module, code=1)
    checkout.run(*module, "--update")
    assert "data: all " in checkout.run(*module)
    path = checkout.root / "workflow/reference/data.sha256"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line if "/Conv.20K/" not in line else "0" + line[1:] for line in lines))
    assert " of prepare Conv.20K differs; it is the first of " in checkout.run(*module, code=1)

    (spec,) = (checkout.root / "results/.jobs/prepare").glob("Conv.20K-*.json")
    again = ("verify", "tables/data.csv", "--rerun", f"prepare/{spec.stem}", "--config", "scale=portable")
    assert f"made again: prepare/{spec.stem}: equal" in checkout.run("lntune", *again)
    shutil.rmtree(checkout.root / "results/prepare" / spec.stem)
    printed = checkout.run("lntune.jobs.run", str(spec), code=1)
    assert printed == (
        "error: prepare Conv.20K: is to be computed with numerics: portable, which variables fix; run it by snakemake\n"
    )

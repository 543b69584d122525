"""What one GPU does with random weights of the real shape: one command, under ten minutes on an H100 or A100 of 80 GB.

    python -m measurements.gpu --suite gpu                     # everything, with LLaMA 7B's shape
    python -m measurements.gpu --suite answers --part clip     # some of it; --list names the parts
    python -m measurements.gpu --shape tiny                    # on any machine, in a minute: no figure means anything
    python -m measurements.gpu --publish FILE                  # put a run's figures into measurements/results.md

It needs torch, transformers and accelerate, pillow, pydantic and blake3, no Snakemake and no DeepSpeed. Where PEFT is
missing LoRA is left out, where open_clip is missing CLIP is transformers'. Results are written as JSON after each part,
so a run that is cut off keeps what it had; a part that fails does not end the others.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
if __name__ == "__main__":  # before CUDA starts
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # one is used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products need it
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # as lntune.training.gpus does for jobs
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch  # noqa: E402

from gpu_suite.answers import batches_of_answers  # noqa: E402
from gpu_suite.clip import clip_features  # noqa: E402
from gpu_suite.made_up import SHAPES, Shape, forget  # noqa: E402
from gpu_suite.page import PUBLISHED, publish, tables  # noqa: E402
from gpu_suite.rival import beside_trainer  # noqa: E402
from gpu_suite.training import a_job, fitting, predicted, prefetching, train_method  # noqa: E402
from lntune.files import write_whole  # noqa: E402
from lntune.store.record import git_state  # noqa: E402
from lntune.training.trial import machine  # noqa: E402

Part = Callable[[dict[str, Any], Shape], None]

PARTS: dict[str, Part] = {
    "clip": clip_features,
    "train-layernorm-simp": partial(train_method, method="layernorm-simp", precision="tf32"),
    "answers-fp32": partial(batches_of_answers, precision="fp32"),
    "answers-bf16": partial(batches_of_answers, precision="bf16-weights"),
    "trainer-layernorm-simp": partial(beside_trainer, method="layernorm-simp"),
    "trainer-lora": partial(beside_trainer, method="lora"),
    "train-layernorm": partial(train_method, method="layernorm", precision="tf32"),
    "train-lora": partial(train_method, method="lora", precision="tf32"),
    "prefetch": partial(prefetching, precision="tf32"),
    "train-layernorm-bf16": partial(train_method, method="layernorm", precision="bf16"),
    "train-connector-only": partial(train_method, method="connector-only", precision="tf32"),
    "train-attn-qv": partial(train_method, method="attn-qv", precision="tf32"),
    "train-attn-mlp": partial(train_method, method="attn-mlp", precision="tf32"),
    "train-finetune": partial(train_method, method="finetune", precision="tf32"),
}
"""In order of what is wanted most, should the time not do. tf32 is the precision of the paper's scale."""

SUITES: dict[str, Sequence[str]] = {
    "gpu": list(PARTS),
    "training": [name for name in PARTS if name.startswith("train-")],
    "answers": ["answers-fp32", "answers-bf16"],
    "trainer": ["trainer-layernorm-simp", "trainer-lora"],
}

NEED_PEFT = ("train-lora", "trainer-lora")


def say(text: str) -> None:
    """Tell it at once."""
    print(text, file=sys.stderr, flush=True)


def announce(names: Sequence[str], shape: str, minutes: float, out: Path) -> None:
    """Say what is going to be done, and which methods are predicted to fit."""
    here = machine()
    say(f"On {here['gpu'] or 'the CPU'}, torch {torch.__version__}: {len(names)} parts, shape {shape}.")
    for name in names:
        part: Any = PARTS[name]
        what = ""
        if name.startswith("train-"):
            job = a_job(SHAPES[shape], part.keywords["method"], part.keywords["precision"])
            size = fitting(job, SHAPES[shape].micro_batch)
            gigabytes = predicted(job, max(size, 1)).peak / 1e9
            what = f": {gigabytes:.1f} GB (predicted) at micro-batch {max(size, 1)}" + (
                "" if size else ", does not fit"
            )
        say(f"  {name}{what}")
    say(f"No part begins after {minutes:g} minutes. Results, after each part: {out}")


def run(names: Sequence[str], shape: str, minutes: float, out: Path) -> dict[str, Any]:
    """Do the parts; the document that ``out`` holds after each."""
    started = time.monotonic()
    git = git_state(HERE)
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git.commit[:10] + (" with changes" if git.dirty else "") if git else "no commit",
        "shape": shape,
        "machine": machine(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "peft") if find_spec(name)},
        "parts": {},
        "left_out": {},
        "seconds": 0.0,
    }
    for name in names:
        spent = time.monotonic() - started
        reason = ""
        if spent > 60 * minutes:
            reason = f"not begun: {minutes:g} minutes were over; run it with --part {name}"
        elif name in NEED_PEFT and not find_spec("peft"):
            reason = "PEFT is not installed"
        if reason:
            document["left_out"][name] = reason
            say(f"{name}: {reason}")
        else:
            document["parts"][name] = one_part(name, shape)
            found = document["parts"][name]
            say(f"{name}: {found.get('failed', 'done')} ({found['seconds']:.0f} s)")
        document["seconds"] = time.monotonic() - started
        write_whole(out, json.dumps(document, indent=1) + "\n")
    return document


def one_part(name: str, shape: str) -> dict[str, Any]:
    """What a part found; where it failed, what it had found before, and ``failed``."""
    found: dict[str, Any] = {}
    started = time.monotonic()
    try:
        PARTS[name](found, SHAPES[shape])
    except Exception as error:  # the other parts have figures to give
        found["failed"] = " ".join(f"{type(error).__name__}: {error}".split())
    found["seconds"] = time.monotonic() - started
    forget()
    return found


def main() -> None:
    """Announce, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, help="which parts; gpu, the default, is all of them")
    parser.add_argument("--part", action="append", choices=PARTS, metavar="PART", help="one part; may be repeated")
    parser.add_argument("--shape", choices=SHAPES, default="7B", help="of the LLM; tiny runs on the CPU too")
    parser.add_argument("--minutes", type=float, default=7.5, help="no part begins after so many")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the results go")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    parser.add_argument("--publish", type=Path, metavar="FILE", help=f"copy a run's results to {PUBLISHED.name}")
    given = parser.parse_args()
    if given.list:
        print("\n".join(PARTS))
    elif given.publish:
        publish(given.publish)
    elif given.shape != "tiny" and not torch.cuda.is_available():
        sys.exit("error: torch finds no GPU here (nvidia-smi shows the driver); --shape tiny runs on the CPU")
    else:
        names = list(dict.fromkeys([*(given.part or []), *(SUITES[given.suite] if given.suite else [])])) or list(PARTS)
        gc.freeze()  # what was imported is no part of what a part leaves
        announce(names, given.shape, given.minutes, given.out)
        document = run(names, given.shape, given.minutes, given.out)
        print(tables(document))
        sys.exit(1 if any("failed" in found for found in document["parts"].values()) else 0)


if __name__ == "__main__":
    main()

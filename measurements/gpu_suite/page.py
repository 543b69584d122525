"""The tables of a run on a GPU, and their place in results.md."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1]
PUBLISHED = FOLDER / "gpu.json"

NEVER = """\
## On a GPU

**Never run: this table has no figures yet.** `python -m measurements.gpu --suite gpu` measures them in under ten
minutes (by estimate) on one H100 or A100 of 80 GB, and `--publish gpu.json` puts them here: for LLaMA 7B's shape with
random weights, memory beside the prediction, tokens a second, share of the card's peak, attention kernel, whether
steps repeat to the bit, whether answers depend on the batch in float32 and bfloat16, prefetching, CLIP's features, and
the same training by Hugging Face's `Trainer` with PEFT. [docs/cluster.md](../docs/cluster.md) says how to run it.
"""


def section() -> str:
    """What results.md says of the GPU: what was published, or that nothing was."""
    if not PUBLISHED.is_file():
        return NEVER
    return "## On a GPU\n\n" + tables(json.loads(PUBLISHED.read_text()))


def publish(results: Path) -> None:
    """Copy a run's results beside results.md, and write that page anew."""
    try:
        document = json.loads(results.read_text(encoding="utf-8"))
        ran_on = document["machine"]["gpu"], document["shape"]
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {results}: no results of python -m measurements.gpu ({error})")
    if ran_on[0] is None or ran_on[1] == "tiny":
        sys.exit(f"error: {results}: shape {ran_on[1]} on {ran_on[0] or 'a CPU'}; only a real shape on a GPU is shown")
    from races.page import page
    from races.rounds import Measured

    PUBLISHED.write_text(json.dumps(document, indent=1) + "\n")
    known = json.loads((FOLDER / "results.json").read_text())
    pages = {name: Measured.model_validate_json(json.dumps(found)) for name, found in known.items()}
    (FOLDER / "results.md").write_text(page(pages))


def tables(document: Mapping[str, Any]) -> str:
    """A run as Markdown: where it ran, and a table for each kind of part."""
    here, parts = document["machine"], document["parts"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    driver = f"driver {here['driver']}, CUDA {here['cuda']}" if here["gpu"] else "figures of a CPU mean nothing"
    found = [
        f"{here['gpu'] or 'CPU'}, {driver}; {versions}; {document['date']} at {document['commit']}. Random weights of "
        f"the shape {document['shape']}, plain engine, {document['seconds'] / 60:.1f} minutes in all.\n"
    ]
    for kind, head, row in _KINDS:
        rows = [row(part) for name, part in parts.items() if name.startswith(kind) and "failed" not in part]
        if rows:
            found += [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    failed = {name: part["failed"] for name, part in parts.items() if "failed" in part}
    found += [f"**Failed: {name}.** {text}\n" for name, text in failed.items()]
    found += [f"Left out: {name}: {text}.\n" for name, text in document["left_out"].items()]
    return "\n".join(found).rstrip() + "\n"


def _training(part: Mapping[str, Any]) -> list[str]:
    predicted = part["predicted_bytes"]
    start = [part["method"], part["precision"]]
    if not part["micro_batch"]:
        return [*start, "does not fit", _gb(predicted), *["-"] * 9]
    typical, first, rate = part["first"]["typical"], part["first"], part["again"]["highest rate"]
    diverged = rate["diverged_at"]
    return [
        *start,
        str(part["micro_batch"]),
        _gb(predicted),
        _gb(part["peak_bytes"]),
        f"{predicted / part['peak_bytes'] - 1:+.1%}" if "mfu" in part else "-",
        f"{typical['tokens_per_second']:,.0f}",
        f"{part['mfu']:.1%} ({part['with_recomputation']:.1%})" if "mfu" in part else "-",
        ", ".join(typical["attention"]),
        f"{first['checkpoint']['bytes'] / 1e9:.1f} GB in {first['checkpoint']['seconds']:.1f} s",
        _yes(part["resumed_equal"]),
        _yes(part["repeats"]),
        f"diverged at step {diverged}" if diverged else f"{len(rate['steps'])} steps finite",
    ]


def _answers(part: Mapping[str, Any]) -> list[str]:
    batches = part["batches"]
    return [
        part["precision"],
        f"{part['questions']} ({part['distinct']} distinct)",
        *(f"{one['equal']:.1%}" for size, one in batches.items() if size != "1"),
        " / ".join(f"{one['seconds']:.1f}" for one in batches.values()),
        " / ".join(_gb(one["peak_bytes"]) for one in batches.values()),
    ]


def _trainer(part: Mapping[str, Any]) -> list[str]:
    ours, theirs = part["ours"], part["trainer"]
    return [
        part["method"],
        "`Trainer` and PEFT" if part["peft"] else "`Trainer`",
        f"{theirs['tokens_per_second']:,.0f}",
        f"{ours['tokens_per_second']:,.0f}",
        f"**{ours['tokens_per_second'] / theirs['tokens_per_second']:.2f}**",
        f"{_gb(theirs['peak_bytes'])} / {_gb(ours['peak_bytes'])}",
        f"{part['loss_differs']:.0e} / {part['norm_differs']:.0e}",
    ]


def _prefetch(part: Mapping[str, Any]) -> list[str]:
    speeds = [f"{part[name]['images_per_second']:.1f}" for name in ("off", "on")]
    return [*speeds, str(part["on"]["workers"]), _yes(part["equal"])]


def _clip(part: Mapping[str, Any]) -> list[str]:
    off = [f"{part[name]:.1e}" if name in part else "open_clip is not there" for name in ("QuickGELU", "GELU")]
    return [f"{part['images_per_second']:,.0f}", *off]


_KINDS = (
    (
        "train-",
        ["method", "precision", "micro-batch", "GB, predicted", "GB, longest batch", "off", "tokens/s, typical",
         "MFU (with recomputation)", "attention", "checkpoint", "resumed equal", "repeats", "at the highest rate"],
        _training,
    ),
    (
        "answers-",
        ["answers in", "questions", "equal in batches of 8", "of 32", "seconds at 1 / 8 / 32", "GB at 1 / 8 / 32"],
        _answers,
    ),
    (
        "trainer-",
        ["method", "rival", "tokens/s, rival", "ours", "times as fast", "GB, rival / ours",
         "first loss / gradient norm differ by"],
        _trainer,
    ),
    ("prefetch", ["images/s, read in turn", "prefetched", "threads", "equal steps"], _prefetch),
    ("clip", ["CLIP, images/s", "open_clip with QuickGELU differs by", "with GELU"], _clip),
)  # fmt: skip


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f}"


def _yes(flag: bool) -> str:
    return "yes" if flag else "**no**"

"""The memory in the paper's Table 2 compared with what is predicted: ``lntune memory --paper``.

The paper does not say at which batch, length or engine it measured. So the prediction is made under several
assumptions, all named, and none chosen by its outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lntune.config.training import LoraSettings
from lntune.errors import UserError
from lntune.estimate.memory import Setup, predict_memory
from lntune.estimate.shapes import LLMS, VISIONS
from lntune.paper.printed import read_paper
from lntune.report.published import table_lines

TABLE = Path("workflow/paper/table2.csv")
LORA = LoraSettings(rank=64, alpha=16, dropout=0.05)
"""Rank 64 is the one that gives Table 2's percentages; the text says 32."""

GPU = 80e9
"""Where OOM is predicted: the least that an 80 GB GPU could mean."""

ASSUMED = ((1, 512), (4, 512), (4, 1024), (8, 1024), (16, 1024))
"""Micro-batches and lengths that are tried; a third of a sample's text is answer."""

_NAMES = [f"batch {batch}, {length} tokens" for batch, length in ASSUMED]


@dataclass(frozen=True)
class Row:
    """A cell pair of Table 2: gigabytes (10**9 bytes are taken for one; None: out of memory), percent that trains."""

    method: str
    size: str
    printed: float | None
    percent: float


METHODS = {
    "Finetune": "finetune",
    "LoRA": "lora",
    "Attn. QV Proj.": "attn-qv",
    "Attn. MLP": "attn-mlp",
    "LayerNorm": "layernorm",
    "LayerNorm-simp.": "layernorm-simp",
}
"""The rows of the table, and the methods that they are."""


def read_rows(path: Path) -> list[Row]:
    """The paper's values, 7B first; UserError if the file is not its Table 2."""
    values = {(one.place.group, one.place.row, one.place.column): one.text for one in read_paper(path)}

    def row(size: str, title: str) -> Row:
        memory, share = (values[f"{size} scale", title, column] for column in ("Mem. (GB)", "#param."))
        return Row(METHODS[title], size, None if memory == "OOM" else float(memory), float(share.rstrip("%")))

    try:
        return [row(size, title) for size in LLMS for title in METHODS]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the paper's Table 2 ({error!r}); restore it from git") from None


def predicted(row: Row, micro_batch: int, length: int) -> int:
    """Bytes at the paper's probable settings: bfloat16 weights, DeepSpeed ZeRO-2, one GPU, gradient checkpointing."""
    answers = (length - VISIONS["open_clip"].tokens) // 3
    setup = Setup(
        llm=LLMS[row.size],
        vision=VISIONS["open_clip"],
        method=row.method,
        lora=LORA if row.method == "lora" else None,
        micro_batch=micro_batch,
        length=length,
        answer_tokens=answers,
    )
    return predict_memory(setup).peak


def _peaks(row: Row) -> list[int]:
    """The bytes predicted under each of ASSUMED."""
    return [predicted(row, *assumed) for assumed in ASSUMED]


def document(root: Path) -> Mapping[str, object]:
    """The whole comparison for scripts; every number under a key that says what it is."""
    return {
        "rows": [
            {
                "method": row.method,
                "size": row.size,
                "paper_gb": row.printed if row.printed is not None else "OOM",
                "predicted_gb": {name: round(peak / 1e9, 2) for name, peak in zip(_NAMES, _peaks(row), strict=True)},
            }
            for row in read_rows(root / TABLE)
        ],
    }


def text(root: Path) -> str:
    """The comparison as a Markdown table."""
    head = ["", "paper", *(f"predicted, {name}" for name in _NAMES), "OOM agrees"]
    lines = []
    for row in read_rows(root / TABLE):
        peaks = _peaks(row)
        agree = sum((peak > GPU) == (row.printed is None) for peak in peaks)
        cells = [f"{row.size} {row.method}", "OOM" if row.printed is None else f"{row.printed:.1f}"]
        lines.append([*cells, *(_against(peak, row.printed) for peak in peaks), f"{agree} of {len(peaks)}"])
    note = (
        "GB of 10^9 bytes. Predicted: bf16-weights, DeepSpeed ZeRO-2 on one GPU, gradient checkpointing; the "
        "percentages are what is missing or too much of the paper's figure. OOM agrees: under how many of the "
        f"assumptions the prediction is on the paper's side of {GPU / 1e9:g} GB."
    )
    return "\n".join([*table_lines(head, lines), "", note])


def _against(size: float, printed: float | None) -> str:
    """Bytes as gigabytes, and how far they are from the paper's."""
    value = size / 1e9
    return f"{value:.1f}" if printed is None else f"{value:.1f} ({value / printed - 1:+.0%})"

"""The memory in the paper's Table 2 beside what is predicted, and beside a fit: ``lntune memory --paper``.

The paper does not say at which batch, length or engine it measured. So the prediction is made under several
assumptions, all named, and none chosen by its outcome. The fit is another thing: two constants taken from three of the
paper's own rows, of use to see whether the other rows follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lntune.config.training import LoraSettings
from lntune.errors import UserError
from lntune.estimate.memory import Setup, predict_memory
from lntune.estimate.shapes import LLMS, VISIONS, Skeleton
from lntune.paper.printed import read_paper

TABLE = Path("workflow/paper/table2.csv")
LORA = LoraSettings(rank=64, alpha=16, dropout=0.05)
"""Rank 64 is the one that gives Table 2's percentages; the text says 32."""

CARD = 80e9
"""Where OOM is predicted: the least that an 80 GB card could mean."""

ASSUMED = ((1, 512), (4, 512), (4, 1024), (8, 1024), (16, 1024))
"""Micro-batches and lengths that are tried; a third of a sample's text is answer."""

FITTED = (("lora", "7B"), ("attn-qv", "7B"), ("layernorm", "7B"))
"""The rows that the fit's two constants are taken from; all others are held out."""


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
    """The paper's figures, 7B first."""
    figures = {(one.place.group, one.place.row, one.place.column): one.text for one in read_paper(path)}
    try:
        rows = []
        for size in LLMS:
            for title, method in METHODS.items():
                memory, share = (figures[f"{size} scale", title, column] for column in ("Mem. (GB)", "#param."))
                printed = None if memory == "OOM" else float(memory)
                rows.append(Row(method, size, printed, float(share.rstrip("%"))))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the paper's Table 2 ({error!r}); restore it from git") from None
    return rows


def predicted(row: Row, micro_batch: int, length: int) -> int:
    """Bytes at the paper's probable settings: bfloat16 weights, DeepSpeed ZeRO-2, one GPU, gradient checkpointing."""
    vision = VISIONS["open_clip"]
    setup = Setup(
        llm=LLMS[row.size],
        vision=vision,
        method=row.method,
        lora=LORA if row.method == "lora" else None,
        micro_batch=micro_batch,
        length=length,
        answer_tokens=(length - vision.tokens) // 3,
    )
    return predict_memory(setup).peak


def counts(row: Row) -> tuple[int, int]:
    """Parameters that train, and all."""
    model = Skeleton(LLMS[row.size], VISIONS["open_clip"], row.method, LORA if row.method == "lora" else None)
    return model.trainable, model.numel


def fit(rows: Sequence[Row]) -> tuple[float, float]:
    """Bytes a trainable parameter, and bytes besides, by least squares on the rows of FITTED.

    What is fitted is what the row's weights, at two bytes each, leave of the printed figure.
    """
    points = []
    for row in rows:
        if (row.method, row.size) in FITTED and row.printed is not None:
            trainable, total = counts(row)
            points.append((float(trainable), row.printed * 1e9 - 2 * total))
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return slope, mean_y - slope * mean_x


def fitted(row: Row, constants: tuple[float, float]) -> float:
    """Bytes by the fit."""
    trainable, total = counts(row)
    return 2 * total + constants[0] * trainable + constants[1]


def document(root: Path) -> Mapping[str, object]:
    """The whole comparison for scripts; every figure under a key that says what it is."""
    rows = read_rows(root / TABLE)
    constants = fit(rows)
    return {
        "fit_bytes_a_trainable_parameter": constants[0],
        "fit_bytes_besides": constants[1],
        "rows": [
            {
                "method": row.method,
                "size": row.size,
                "paper_gb": row.printed if row.printed is not None else "OOM",
                "predicted_gb": {
                    f"batch {batch}, {length} tokens": round(predicted(row, batch, length) / 1e9, 2)
                    for batch, length in ASSUMED
                },
                "fit_gb": round(fitted(row, constants) / 1e9, 2),
                "in_fit": (row.method, row.size) in FITTED,
            }
            for row in rows
        ],
    }


def text(root: Path) -> str:
    """The comparison as a Markdown table."""
    rows = read_rows(root / TABLE)
    slope, rest = fit(rows)
    heads = [f"predicted, batch {batch}, {length} tokens" for batch, length in ASSUMED]
    head = ["", "paper", *heads, "OOM agrees", "fit"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for row in rows:
        peaks = [predicted(row, batch, length) for batch, length in ASSUMED]
        lines.append("| " + " | ".join(_cells(row, peaks, fitted(row, (slope, rest)))) + " |")
    note = (
        "GB of 10^9 bytes. Predicted: bf16-weights, DeepSpeed ZeRO-2 on one GPU, gradient checkpointing; the "
        "percentages are what is missing or too much of the paper's figure. OOM agrees: under how many of the "
        f"assumptions the prediction is on the paper's side of {CARD / 1e9:g} GB. "
        f"Fit (not a prediction): 2 bytes a parameter, {slope:.2f} bytes a trainable one and {rest / 1e9:.2f} GB, the "
        "last two fitted on the rows marked *; the other rows are held out."
    )
    return "\n".join([*lines, "", note])


def _cells(row: Row, peaks: Sequence[int], by_fit: float) -> list[str]:
    agree = sum((peak > CARD) == (row.printed is None) for peak in peaks)
    mark = " *" if (row.method, row.size) in FITTED else ""
    return [
        f"{row.size} {row.method}",
        "OOM" if row.printed is None else f"{row.printed:.1f}",
        *[_against(peak / 1e9, row.printed) for peak in peaks],
        f"{agree} of {len(peaks)}",
        _against(by_fit / 1e9, row.printed) + mark,
    ]


def _against(value: float, printed: float | None) -> str:
    if printed is None:
        return f"{value:.1f}"
    return f"{value:.1f} ({value / printed - 1:+.0%})"

"""What a cell shows of the results that it is read from: the figures of a column, written as the paper writes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Cell:
    """One cell: figures that are ranked separately (MME's two, POPE's three).

    Attributes:
        parts: each figure as it is written; "OOM" and "-" are no numbers.
        intervals: the bootstrap 95% interval of each.
        decimals: digits that intervals are written with.
        beside: what the CSV says besides, by the end of the column's title.
    """

    parts: tuple[str, ...]
    intervals: tuple[Interval, ...] = ()
    decimals: int = 2
    beside: Mapping[str, str] | None = None

    @property
    def text(self) -> str:
        """All figures, with slashes between them; what stands for all of them, once."""
        return self.parts[0] if len(set(self.parts)) == 1 and number(self.parts[0]) is None else "/".join(self.parts)

    @property
    def interval(self) -> str:
        """All intervals, with slashes between them."""
        return "/".join(bounds_text(one, self.decimals) for one in self.intervals)


def number(text: str) -> float | None:
    """A written figure as a number; None for what is none."""
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None


def bounds_text(interval: Interval, decimals: int) -> str:
    """An interval as it is written; "-" if there is none."""
    return "-" if interval is None else f"{interval[0]:.{decimals}f}..{interval[1]:.{decimals}f}"


# --- the columns -------------------------------------------------------------------------------------------------------

_POPE = ("popular", "random", "adversarial")


def cell_of(column: str, folders: Sequence[Path], tokens: str | None) -> Cell:
    """A cell of a column.

    MME: perception/cognition; VQAv2: overall accuracy; MSCOCO and Flickr30k: CIDEr; POPE: accuracy on
    popular/random/adversarial, in the paper's order (Table 1); Mem. (GB) and #param.: Table 2; Similarity: Table 6.

    Args:
        column: its title.
        folders: the results that it is read from, a seed each.
        tokens: of Similarity, the tokens whose states are compared.
    """
    return _COLUMNS[column](folders, tokens)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def _mme(folders: Sequence[Path], tokens: str | None) -> Cell:
    return _of_scores(folders, {name: (name,) for name in ("perception", "cognition")}, 1)


def _pope(folders: Sequence[Path], tokens: str | None) -> Cell:
    return _of_scores(folders, {kind: (kind, "accuracy") for kind in _POPE}, 1)


def _one_score(name: str, folders: Sequence[Path], tokens: str | None) -> Cell:
    return _of_scores(folders, {name: (name,)}, 2)


def _of_scores(folders: Sequence[Path], parts: Mapping[str, tuple[str, ...]], decimals: int) -> Cell:
    """Figures of scores.json, each found by its keys; of several seeds the mean."""
    scores = [_read(folder, "scores.json") for folder in folders]
    texts, intervals = [], []
    for name, keys in parts.items():
        found = [_at(one, keys) for one in scores]
        texts.append(f"{sum(found) / len(found):.{decimals}f}")
        bounds = scores[0]["intervals"][name]
        intervals.append((bounds[0], bounds[1]) if bounds is not None else None)
    return Cell(tuple(texts), tuple(intervals), decimals)


def _at(document: Any, keys: Sequence[str]) -> float:
    for key in keys:
        document = document[key]
    return float(document)


def _memory(folders: Sequence[Path], tokens: str | None) -> Cell:
    measured = _measured(folders[0], "peak_bytes")
    predicted = _gigabytes(_labelled(folders[0], "peak_bytes", "predicted"))
    text = measured if isinstance(measured, str) else _gigabytes(measured)
    return Cell((text,), beside={"predicted": predicted})


def _gigabytes(size: float) -> str:
    """Bytes in 10**9, with one digit as Table 2 has it, and three that count below 1."""
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:.3g}"


def _parameters(folders: Sequence[Path], tokens: str | None) -> Cell:
    return Cell((f"{_measured(folders[0], 'trainable_percent')}%",))


def _measured(folder: Path, name: str) -> Any:
    return _labelled(folder, name, "measured")


def _labelled(folder: Path, name: str, label: str) -> Any:
    """A number of measure.json; those that were predicted or printed are labelled so."""
    numbers = _read(folder, "measure.json")["numbers"]
    return next(one["value"] for one in numbers if (one["name"], one["label"]) == (name, label))


def _similarity(folders: Sequence[Path], tokens: str | None) -> Cell:
    found = [_read(folder, "similarity.json")["tokens"][tokens] for folder in folders]
    mean = sum(one["mean"] for one in found) / len(found)
    bounds = found[0]["interval"]
    return Cell((f"{mean:.3f}",), ((bounds[0], bounds[1]),), 3)


_COLUMNS = {
    "MME": _mme,
    "VQAv2": partial(_one_score, "overall"),
    "MSCOCO": partial(_one_score, "CIDEr"),
    "Flickr30k": partial(_one_score, "CIDEr"),
    "POPE": _pope,
    "Mem. (GB)": _memory,
    "#param.": _parameters,
    "Similarity": _similarity,
}

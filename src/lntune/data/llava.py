"""Reads LLaVA's two training sets: CC3M-595K for the connector, LLaVA-Instruct for finetuning.

Both are JSON lists of ``{id, image, conversations: [{from: human|gpt, value}]}``. A record that cannot be used is
dropped and counted by reason; none vanishes silently.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from lntune.data.samples import Sample
from lntune.errors import UserError

IMAGE = "<image>"

PRETRAIN_FILE, PRETRAIN_ARCHIVE = "chat.json", "images.zip"
INSTRUCT_FILE, INSTRUCT_ARCHIVE, INSTRUCT_FOLDER = "llava_instruct_80k.json", "train2017.zip", "train2017"
TYPE_FILES = {
    "conversation": "conversation_58k.json",
    "detail": "detail_23k.json",
    "complex_reasoning": "complex_reasoning_77k.json",
}


def read_records(path: Path) -> list[Any]:
    """The records of one of LLaVA's files; UserError names the file if it is missing, no JSON, or no list."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); download it again") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: holds no list of records but a {type(records).__name__}")
    return records


def _turns(record: Any) -> tuple[str, ...] | str:
    """The texts of a conversation, or why it cannot be used."""
    if not isinstance(record, dict) or not isinstance(record.get("conversations"), list):
        return "no conversation"
    said = record["conversations"]
    if len(said) < 2 or len(said) % 2:
        return "odd number of turns"
    for place, turn in enumerate(said):
        if not isinstance(turn, dict) or turn.get("from") != ("human", "gpt")[place % 2]:
            return "turns do not alternate"
        if not str(turn.get("value") or "").strip():
            return "empty turn"
    texts = [str(turn["value"]) for turn in said]
    if sum(text.count(IMAGE) for text in texts) != 1 or IMAGE not in texts[0]:
        return "not exactly one image, in the first turn"
    texts[0] = f"{IMAGE}\n" + texts[0].replace(IMAGE, "").strip()
    return tuple(texts)


def _used(
    records: Sequence[Any], file: str, members: Collection[str], prefix: str, dropped: Counter[str]
) -> Iterator[Sample]:
    seen: set[str] = set()
    for number, record in enumerate(records):
        turns = _turns(record)
        if isinstance(turns, str):
            dropped[turns] += 1
            continue
        image = f"{prefix}{record.get('image')}"
        if image not in members:
            dropped["image not in the archive"] += 1
            continue
        key = json.dumps([record.get("id"), turns])
        if key in seen:
            dropped["repeats an earlier record"] += 1
            continue
        seen.add(key)
        yield Sample(str(record.get("id")), image, turns, f"{file}[{number}]")


def pretrain_samples(folder: Path, members: Collection[str], dropped: Counter[str]) -> Iterator[Sample]:
    """Samples of CC3M-595K: the caption alone follows the image, as the plain template has it."""
    for sample in _used(read_records(folder / PRETRAIN_FILE), PRETRAIN_FILE, members, "", dropped):
        yield Sample(sample.id, sample.image, (IMAGE, sample.turns[1]), sample.source)


def _key(record: Any) -> str:
    """What a record of the 80K file and its copy in a type's file have in common."""
    known = record if isinstance(record, dict) else {}
    return json.dumps([known.get("id"), known.get("conversations")])


def instruct_samples(
    folder: Path, members: Collection[str], types: Sequence[str], dropped: Counter[str]
) -> Iterator[Sample]:
    """Samples of LLaVA-Instruct-80K, all or those that stand in the files of ``types``."""
    records = read_records(folder / INSTRUCT_FILE)
    if types:
        wanted = {_key(record) for name in types for record in read_records(folder / TYPE_FILES[name])}
        kept = [record for record in records if _key(record) in wanted]
        dropped["of another type"] += len(records) - len(kept)
        records = kept
    yield from _used(records, INSTRUCT_FILE, members, f"{INSTRUCT_FOLDER}/", dropped)

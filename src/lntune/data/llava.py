"""Reads LLaVA's two training sets: CC3M-595K for the connector, LLaVA-Instruct for finetuning.

Both are JSON lists of ``{id, image, conversations: [{from: human|gpt, value}]}``. A record that cannot be used is
dropped, counted by reason and listed; none vanishes silently. What images look like is not this module's affair.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lntune.data.drops import Drops
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
        records = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); download it again") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: holds no list of records but a {type(records).__name__}")
    return records


def _turns(record: Any) -> tuple[str, ...] | str:
    """The texts of a conversation, or why it cannot be used."""
    if not isinstance(record, dict) or not isinstance(record.get("conversations"), list):
        return "no conversation"
    turns = record["conversations"]
    if len(turns) < 2 or len(turns) % 2:
        return "odd number of turns"
    for place, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("from") != ("human", "gpt")[place % 2]:
            return "turns do not alternate"
        if not str(turn.get("value") or "").strip():
            return "empty turn"
    texts = [str(turn["value"]) for turn in turns]
    if sum(text.count(IMAGE) for text in texts) != 1 or IMAGE not in texts[0]:
        return "not exactly one image, in the first turn"
    texts[0] = f"{IMAGE}\n" + texts[0].replace(IMAGE, "").strip()
    return tuple(texts)


def _digest(value: object) -> bytes:
    """16 bytes in place of a record, to tell whether there is another like it; a chance match is out of reach."""
    return blake2b(json.dumps(value).encode(), digest_size=16).digest()


def _used(records: Sequence[Any], places: Sequence[int], file: str, prefix: str, drops: Drops) -> Iterator[Sample]:
    """The usable ones of the records at these places."""
    seen: set[bytes] = set()
    for number in places:
        record, source = records[number], f"{file}[{number}]"
        turns = _turns(record)
        if isinstance(turns, str):
            drops.fault(turns, source)
            continue
        if not isinstance(record.get("image"), str) or not record["image"]:
            drops.fault("names no image", source)
            continue
        key = _digest([record.get("id"), record["image"], turns])
        if key in seen:
            drops.fault("repeats an earlier record", source)
            continue
        seen.add(key)
        yield Sample(str(record.get("id")), f"{prefix}{record['image']}", turns, source)


def pretrain_samples(folder: Path, drops: Drops) -> tuple[int, list[Sample]]:
    """How many records CC3M-595K has, and its samples.

    The caption alone follows the image, as the plain template has it.
    """
    records = read_records(folder / PRETRAIN_FILE)
    return len(records), [
        Sample(sample.id, sample.image, (IMAGE, sample.turns[1]), sample.source)
        for sample in _used(records, range(len(records)), PRETRAIN_FILE, "", drops)
    ]


def _key(record: Any) -> bytes:
    """What a record of the 80K file and its copy in a type's file have in common: id and words.

    The image's mark stands before the first question in some records and after it in others.
    """
    turns = _turns(record)
    return _digest([record.get("id"), turns] if isinstance(turns, tuple) else [record])


def instruct_samples(folder: Path, types: Sequence[str], drops: Drops) -> tuple[int, list[Sample]]:
    """How many records LLaVA-Instruct-80K has, and its samples: all, or those that stand in the files of ``types``."""
    wanted = {_key(record) for name in types for record in read_records(folder / TYPE_FILES[name])}
    records = read_records(folder / INSTRUCT_FILE)
    places: Sequence[int] = range(len(records))
    if types:
        places = [place for place in places if _key(records[place]) in wanted]
        drops.choose("of another type", len(records) - len(places))
    return len(records), list(_used(records, places, INSTRUCT_FILE, f"{INSTRUCT_FOLDER}/", drops))

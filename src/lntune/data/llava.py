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
from lntune.errors import NO_TEXT, UserError

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
        raise UserError(f"{path}: no such file; download it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); download it again") from None
    if not isinstance(records, list):
        raise UserError(f"{path}: holds no list of records but a {type(records).__name__}; download it again")
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
        if not isinstance(turn.get("value"), str) or not turn["value"].strip():
            return "empty turn"
    texts = [turn["value"] for turn in turns]
    if any(map(NO_TEXT.search, texts)):
        return "characters that are no text"
    if sum(text.count(IMAGE) for text in texts) != 1 or IMAGE not in texts[0]:
        return "not exactly one image, in the first turn"
    texts[0] = f"{IMAGE}\n" + texts[0].replace(IMAGE, "").strip()
    return tuple(texts)


def _digest(value: object) -> bytes:
    """16 bytes in place of a record, to tell whether there is another like it; a chance match is out of reach."""
    return blake2b(json.dumps(value).encode(), digest_size=16).digest()


def _used(records: Sequence[Any], file: str, prefix: str, drops: Drops, seen: set[bytes]) -> Iterator[Sample]:
    """The usable ones of a file's records; ``seen`` holds the digests of those that came before."""
    for number, record in enumerate(records):
        source, turns = f"{file}[{number}]", _turns(record)
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


def pretrain_samples(folder: Path, drops: Drops) -> tuple[dict[str, int], list[Sample]]:
    """How many records ``chat.json`` of CC3M-595K has, by its name, and their samples.

    The caption alone follows the image, as the plain template has it.
    """
    records = read_records(folder / PRETRAIN_FILE)
    return {PRETRAIN_FILE: len(records)}, [
        Sample(sample.id, sample.image, (IMAGE, sample.turns[1]), sample.source)
        for sample in _used(records, PRETRAIN_FILE, "", drops, set())
    ]


def instruct_samples(folder: Path, types: Sequence[str], drops: Drops) -> tuple[dict[str, int], list[Sample]]:
    """How many records each file has that is read, and their samples: the 80K's, or those of the files of ``types``.

    LLaVA made the 80K of conversations and complex reasoning, 40K of each and one an image, so a type has a file of
    its own: of detailed descriptions the 80K holds none, and of the others not all (LLaVA's README at 181a2f8).
    """
    read: dict[str, int] = {}
    samples: list[Sample] = []
    seen: set[bytes] = set()
    for file in [TYPE_FILES[name] for name in types] or [INSTRUCT_FILE]:
        records = read_records(folder / file)
        read[file] = len(records)
        samples += _used(records, file, f"{INSTRUCT_FOLDER}/", drops, seen)
    return read, samples

"""Writes the demo's world as data sets in the official formats, to be read by the code that reads the real ones.

    pretrain   chat.json and images.zip, as LLaVA-CC3M-Pretrain-595K
    instruct   llava_instruct_80k.json, one JSON for each of its three types, train2017.zip
    coco       val2014.zip, caption_datasets.zip (Karpathy's splits), instances_val2014.json
    flickr30k  flickr30k-images.zip, caption_datasets.zip, in another look and another style of caption
    vqav2      question and annotation zips over the images of coco's test split
    pope       coco_pope_random.json, _popular, _adversarial (JSON lines) by POPE's sampling rule
    mme        MME_Benchmark_release_version.zip with all fourteen subtasks

Every set of images comes with ``facts.jsonl``, the scene behind each, which no model is ever shown.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lntune.benchmarks.captions import formats
from lntune.benchmarks.mme import release as mme_release
from lntune.data.archives import write_zip
from lntune.world import language
from lntune.world.drawing import Look, draw
from lntune.world.scenes import SPLITS, THINGS, Kind, Scene, Thing, generator, scenes

Rng = np.random.Generator


def written(text: str) -> str:
    """Sentences as people write them: each with a capital first letter, and no space before a mark."""
    for mark in (",", ".", "?", ")"):
        text = text.replace(f" {mark}", mark)
    text = text.replace("( ", "(").replace(" (", "(").replace("one - sentence", "one-sentence")
    return re.sub(r"(^|[.?] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value) + "\n")


def _dump_lines(path: Path, records: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _image(scene: Scene, look: Look, rng: Rng, suffix: str = ".jpg") -> bytes:
    buffer, image = io.BytesIO(), draw(scene, look, rng)
    if suffix == ".png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _write_facts(out: Path, named: Iterable[tuple[str, Scene]]) -> None:
    _dump_lines(out / "facts.jsonl", ({"image": name, **asdict(scene)} for name, scene in named))


def _write_images(out: Path, archive: str, named: Sequence[tuple[str, Scene]], look: Look, rng: Rng) -> None:
    write_zip(out / archive, ((name, _image(scene, look, rng)) for name, scene in named))
    _write_facts(out, named)


def read_facts(folder: Path) -> dict[str, Scene]:
    """The scene behind each image of a drawn set, by member name."""
    found = {}
    for line in (folder / "facts.jsonl").read_text().splitlines():
        record = json.loads(line)
        things = tuple(Thing(**thing) for thing in record["things"])
        found[record["image"]] = Scene(record["background"], things)
    return found


def _talk(exchanges: Sequence[language.Exchange]) -> list[dict[str, str]]:
    turns = []
    for number, (asked, answer) in enumerate(exchanges):
        front = "<image>\n" if number == 0 else ""
        turns.append({"from": "human", "value": front + written(asked)})
        turns.append({"from": "gpt", "value": written(answer)})
    return turns


def draw_pretrain(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """Images of both looks with one short caption each."""
    rng = generator(seed, "pretrain")
    named = [(f"GCC_train_{k:09d}.jpg", scene) for k, scene in enumerate(scenes(rng, "train", images))]
    records = []
    for name, scene in named:
        style: language.Style = "coco" if rng.random() < 0.5 else "flickr30k"
        caption = language.caption(scene, rng, style, form=0)
        records.append(
            {"id": name[:-4], "image": name, "conversations": _talk([(language.CAPTION_REQUESTS[2], caption)])}
        )
    _dump(out / "chat.json", records)
    half = len(named) // 2
    bright = [(name, _image(scene, "bright", rng)) for name, scene in named[:half]]
    dim = [(name, _image(scene, "dim", rng)) for name, scene in named[half:]]
    write_zip(out / "images.zip", bright + dim)
    _write_facts(out, named)


_TURNS = 4


def _conversation(scene: Scene, rng: Rng) -> list[language.Exchange]:
    return language.conversation(scene, rng, _TURNS)


_TYPES: dict[str, tuple[str, Callable[[Scene, Rng], list[language.Exchange]], float]] = {
    "conversation_58k.json": ("conversation", _conversation, 0.5),
    "detail_23k.json": ("detail", language.detail, 0.25),
    "complex_reasoning_77k.json": ("complex_reasoning", language.reasoning, 0.25),
}


def draw_instruct(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """One record an image, of one of the three types; the 80K file holds them all, shuffled."""
    rng = generator(seed, "instruct")
    named = [(f"{k + 1:012d}.jpg", scene) for k, scene in enumerate(scenes(rng, "train", images))]
    together: list[Any] = []
    start = 0
    for file, (_, write, share) in _TYPES.items():
        number = round(share * images)
        records = []
        for name, scene in named[start : start + number]:
            records.append({"id": name[:-4], "image": name, "conversations": _talk(write(scene, rng))})
        _dump(out / file, records)
        together += records
        start += number
    _dump(out / "llava_instruct_80k.json", [together[k] for k in rng.permutation(len(together))])
    _write_images(out, "train2017.zip", [(f"train2017/{name}", scene) for name, scene in named], "bright", rng)


def _karpathy(dataset: str, named: Sequence[tuple[str, Scene, str]], style: language.Style, rng: Rng) -> dict[str, Any]:
    images = []
    for number, (member, scene, split) in enumerate(named):
        forms = (0, 0, None, None, None)
        captions = [written(language.caption(scene, rng, style, form=form)) for form in forms]
        sentids = list(range(5 * number, 5 * number + 5))
        sentences = [
            {"raw": raw, "tokens": raw.lower().rstrip(".").replace(",", "").split(), "imgid": number, "sentid": sentid}
            for raw, sentid in zip(captions, sentids, strict=True)
        ]
        image = {"filename": Path(member).name, "imgid": number, "split": split, "sentids": sentids}
        if dataset == "coco":
            image |= {"filepath": "val2014", "cocoid": number + 1}
        images.append(image | {"sentences": sentences})
    return {"images": images, "dataset": dataset}


def _write_karpathy(out: Path, dataset: str, document: Any) -> None:
    """The official archive holds the files of three sets; those of the two others are empty here."""
    documents: dict[str, Any] = {name: {"images": [], "dataset": name} for name in ("coco", "flickr8k", "flickr30k")}
    documents[dataset] = document
    members = [(f"dataset_{name}.json", json.dumps(one).encode()) for name, one in documents.items()]
    write_zip(out / formats.ARCHIVE, members)


_KARPATHY_SPLIT = {"train": "train", "validation": "val", "test": "test"}


def _split_scenes(rng: Rng, images: int, distinct: tuple[int, int]) -> list[tuple[Scene, str]]:
    """Test and validation scenes, three to one, and a few of train, as Karpathy's files have all three."""
    shares = {"train": 0.05, "validation": 0.25, "test": 0.7}
    found = []
    for split in SPLITS:
        number = max(1, round(shares[split] * images))
        found += [(scene, _KARPATHY_SPLIT[split]) for scene in scenes(rng, split, number, distinct=distinct)]
    return found


def draw_coco(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """Bright images with five references each, and which things stand in them."""
    rng = generator(seed, "coco")
    found = _split_scenes(rng, images, (2, 4))
    named = [(f"val2014/COCO_val2014_{k + 1:012d}.jpg", scene, split) for k, (scene, split) in enumerate(found)]
    _write_karpathy(out, "coco", _karpathy("coco", named, "coco", rng))
    annotations = [
        {"image_id": k + 1, "category_id": THINGS.index(thing.category) + 1}
        for k, (_, scene, _) in enumerate(named)
        for thing in scene.things
        if thing.category in THINGS
    ]
    instances = {
        "images": [{"id": k + 1, "file_name": Path(name).name} for k, (name, _, _) in enumerate(named)],
        "annotations": [{"id": k + 1, **annotation} for k, annotation in enumerate(annotations)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(THINGS)],
    }
    _dump(out / "instances_val2014.json", instances)
    _write_images(out, "val2014.zip", [(name, scene) for name, scene, _ in named], "bright", rng)


def draw_flickr30k(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """Dim images with five references each, worded otherwise than coco's."""
    rng = generator(seed, "flickr30k")
    found = _split_scenes(rng, images, (2, 3))
    named = [(f"flickr30k-images/{1000 + 37 * k}.jpg", scene, split) for k, (scene, split) in enumerate(found)]
    _write_karpathy(out, "flickr30k", _karpathy("flickr30k", named, "flickr30k", rng))
    _write_images(out, "flickr30k-images.zip", [(name, scene) for name, scene, _ in named], "dim", rng)


def _humans(answer: str, answer_type: str, rng: Rng) -> list[str]:
    """Ten people's answers: most agree; some err or word it otherwise; all ten agree on some questions."""
    other = {"yes/no": ("yes", "no"), "number": ("1", "2", "3", "4"), "other": ("not sure", f"the {answer}", "thing")}
    dissent = int(rng.choice([0, 1, 2, 4], p=[0.4, 0.3, 0.2, 0.1]))
    wrong = [str(rng.choice(other[answer_type])) for _ in range(dissent)]
    answers = [answer] * (10 - dissent) + wrong
    return [answers[k] for k in rng.permutation(10)]


def _coco_test(inputs: Mapping[str, Path]) -> list[tuple[int, str, Scene]]:
    """Image id, member name and scene of coco's test images."""
    folder = inputs["coco"]
    facts = read_facts(folder)
    images: list[Any] = formats.read_split(folder, "coco")
    chosen = [image for image in images if image["split"] == "test"]
    return [(i["cocoid"], name, facts[name]) for i in chosen for name in [f"{i['filepath']}/{i['filename']}"]]


def draw_vqav2(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """Three questions of different types for each of the first ``images`` test images of coco."""
    rng = generator(seed, "vqav2")
    questions, annotations = [], []
    for image_id, _, scene in _coco_test(inputs)[:images]:
        asked: dict[str, language.Question] = {}
        while len(asked) < 3:
            one = language.question(scene, rng)
            asked.setdefault(one.text, one)
        for number, one in enumerate(asked.values()):
            ids = {"image_id": image_id, "question_id": 1000 * image_id + number}
            questions.append(ids | {"question": written(one.text)})
            humans = _humans(one.answer, one.answer_type, rng)
            annotations.append(
                ids
                | {
                    "question_type": one.question_type,
                    "answer_type": one.answer_type,
                    "multiple_choice_answer": Counter(humans).most_common(1)[0][0],
                    "answers": [
                        {"answer": answer, "answer_confidence": "yes", "answer_id": k + 1}
                        for k, answer in enumerate(humans)
                    ],
                }
            )
    head = {"task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014"}
    for archive, member, key, records in (
        ("v2_Questions_Val_mscoco.zip", "v2_OpenEnded_mscoco_val2014_questions.json", "questions", questions),
        ("v2_Annotations_Val_mscoco.zip", "v2_mscoco_val2014_annotations.json", "annotations", annotations),
    ):
        write_zip(out / archive, [(member, json.dumps(head | {key: records}).encode())])


def _co_occurrence(scenes_: Iterable[Scene]) -> tuple[Counter[str], dict[str, Counter[str]]]:
    frequency: Counter[str] = Counter()
    together: dict[str, Counter[str]] = {name: Counter() for name in THINGS}
    for scene in scenes_:
        names = [c for c in scene.categories if c in THINGS]
        frequency.update(names)
        for name in names:
            together[name].update(n for n in names if n != name)
    return frequency, together


def pope_negatives(
    names: Sequence[str], kind: str, frequency: Counter[str], together: Mapping[str, Counter[str]], rng: Rng
) -> list[str]:
    """Three absent things by POPE's rule: any, the most frequent, or those that most often stand with a present one.

    ``names`` are all the things in the image.
    """
    missing = [n for n in THINGS if n not in names]
    if kind == "random":
        return [str(n) for n in rng.choice(missing, 3, replace=False)]
    if kind == "popular":
        return sorted(missing, key=lambda n: (-frequency[n], n))[:3]
    found: list[str] = []
    for name in names:
        found += sorted((n for n in missing if n not in found), key=lambda n: (-together[name][n], n))[:1]
    return found[:3]


def draw_pope(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """Six questions, half yes and half no, for each of up to ``images`` coco test images of three things or more."""
    rng = generator(seed, "pope")
    test = _coco_test(inputs)
    frequency, together = _co_occurrence(scene for _, _, scene in test)
    rich = [(name, scene) for _, name, scene in test if sum(c in THINGS for c in scene.categories) >= 3]
    chosen = list(islice(rich, images))
    for kind in ("random", "popular", "adversarial"):
        lines: list[dict[str, object]] = []
        for name, scene in chosen:
            names = [c for c in scene.categories if c in THINGS]
            absent = pope_negatives(names, kind, frequency, together, rng)
            for there, wrong in zip(names[:3], absent, strict=True):
                for noun, label in ((there, "yes"), (wrong, "no")):
                    text = written(f"is there {language.article(noun)} in the image ?")
                    image = Path(name).name
                    lines.append({"question_id": len(lines) + 1, "image": image, "text": text, "label": label})
        _dump_lines(out / f"coco_pope_{kind}.json", lines)


_MME_KIND: dict[str, Kind] = {"celebrity": "person", "landmark": "landmark", "OCR": "sign"}
_MME_GROUND = {"posters": "poster", "artwork": "painting"}


_MME_PNG = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def _mme_places(subtask: str) -> tuple[str, str, str]:
    """Where a subtask has its images and its texts in the archive, and what kind of images it has."""
    folder, suffix = f"{mme_release.FOLDER}/{subtask}", ".png" if subtask in _MME_PNG else ".jpg"
    if subtask in mme_release.APART:
        return f"{folder}/{mme_release.IMAGES_FOLDER}", f"{folder}/{mme_release.TEXTS_FOLDER}", suffix
    return folder, folder, suffix


def draw_mme(out: Path, images: int, seed: int, inputs: Mapping[str, Path]) -> None:
    """``images`` images for each subtask, with one question to be answered yes and one no."""
    rng = generator(seed, "mme")
    named: list[tuple[str, Scene]] = []
    texts: list[tuple[str, bytes]] = []
    for subtask, ask in language.MME.items():
        found = scenes(
            rng, "test", 50 * images, background=_MME_GROUND.get(subtask), kind=_MME_KIND.get(subtask), distinct=(2, 3)
        )
        clear = (s for s in found if subtask != "position" or len(s.things) == len(s.categories))  # one of each kind
        suitable = list(islice((scene for scene in clear if language.suits(scene, subtask)), images))
        image_folder, text_folder, suffix = _mme_places(subtask)
        for number, scene in enumerate(suitable, 1):
            named.append((f"{image_folder}/{number:04d}{suffix}", scene))
            pairs = zip(ask(scene, rng), ("Yes", "No"), strict=True)
            lines = [f"{written(f'{asked} {language.YES_NO}')}\t{answer}\n" for asked, answer in pairs]
            texts.append((f"{text_folder}/{number:04d}.txt", "".join(lines).encode()))
    drawn = [(name, _image(scene, "bright", rng, Path(name).suffix)) for name, scene in named]
    write_zip(out / mme_release.ARCHIVE, drawn + texts)
    _write_facts(out, named)


WRITERS: dict[str, Callable[[Path, int, int, Mapping[str, Path]], None]] = {
    "pretrain": draw_pretrain,
    "instruct": draw_instruct,
    "coco": draw_coco,
    "flickr30k": draw_flickr30k,
    "vqav2": draw_vqav2,
    "pope": draw_pope,
    "mme": draw_mme,
}
"""Set to the function that writes it: ``(folder, images, seed, inputs)``; vqav2 and pope need coco's folder."""

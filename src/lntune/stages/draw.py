"""draw: one data set of the demo's world, in its official format, to be read by the code that reads the real one.

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
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from numpy.random import Generator as Rng
from pydantic import Field

from lntune.benchmarks.captions import formats
from lntune.benchmarks.mme import release as mme_release
from lntune.config import Frozen
from lntune.data.archives import write_zip
from lntune.store.job import Job, Metrics, NoExecution
from lntune.world import language
from lntune.world.drawing import Look, draw
from lntune.world.scenes import THINGS, Scene, Split, Thing, draw_scene, generator, scenes

PACKAGES = ("numpy", "pillow")

Inputs = Mapping[str, Path]
Named = Sequence[tuple[str, Scene]]
"""Each image's name, a member of the set's archive, and the scene that it shows."""


class Settings(Frozen):
    """Which set, how many images (for mme: a subtask), and the seed."""

    set: str
    images: int = Field(ge=1)
    seed: int


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write the set's files."""
    inputs = {role: job.folder(role) for role in job.inputs}
    draw_set(job.settings.set, job.out, job.settings.images, job.settings.seed, inputs)
    return {"files": len(list(job.out.iterdir()))}


def draw_set(name: str, out: Path, images: int, seed: int, inputs: Inputs) -> None:
    """Write a set of ``images`` images (for mme: a subtask) into ``out``; vqav2 and pope need coco's folder."""
    _WRITERS[name](out, images, generator(seed, name), inputs)


def written(text: str) -> str:
    """Sentences as people write them: each with a capital first letter, and no space before a mark."""
    for mark in (",", ".", "?", ")"):
        text = text.replace(f" {mark}", mark)
    text = text.replace("( ", "(").replace(" (", "(").replace("one - sentence", "one-sentence")
    return re.sub(r"(^|[.?] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def _dump_lines(path: Path, records: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _write_images(
    out: Path, archive: str, named: Named, looks: Iterable[Look], rng: Rng, others: Sequence[tuple[str, bytes]] = ()
) -> None:
    """Write the archive of the images, in the look that each has, and of ``others``; and the facts."""
    members = []
    for (name, scene), look in zip(named, looks, strict=False):
        buffer, image = io.BytesIO(), draw(scene, look, rng)
        if name.endswith(".png"):
            image.save(buffer, "PNG")
        else:
            image.save(buffer, "JPEG", quality=95, subsampling=0)
        members.append((name, buffer.getvalue()))
    write_zip(out / archive, [*members, *others])
    _dump_lines(out / "facts.jsonl", ({"image": name, **asdict(scene)} for name, scene in named))


def read_facts(folder: Path) -> dict[str, Scene]:
    """The scene behind each image of a drawn set, by member name."""
    records = map(json.loads, (folder / "facts.jsonl").read_text(encoding="utf-8").splitlines())
    return {one["image"]: Scene(one["background"], tuple(Thing(**t) for t in one["things"])) for one in records}


def _record(name: str, exchanges: Iterable[language.Exchange]) -> dict[str, Any]:
    """A conversation about an image as LLaVA has it."""
    turns: list[dict[str, str]] = []
    for asked, answer in exchanges:
        front = "" if turns else "<image>\n"
        turns.append({"from": "human", "value": front + written(asked)})
        turns.append({"from": "gpt", "value": written(answer)})
    return {"id": name[:-4], "image": name, "conversations": turns}


def _draw_pretrain(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """Images of both looks with one short caption each."""
    named = [(f"GCC_train_{k:09d}.jpg", scene) for k, scene in enumerate(scenes(rng, "train", images))]
    request = language.CAPTION_REQUESTS[2]
    _dump(out / "chat.json", [_record(name, [(request, language.any_caption(scene, rng))]) for name, scene in named])
    _write_images(out, "images.zip", named, ("bright" if k < images // 2 else "dim" for k in range(images)), rng)


_TYPES: dict[str, tuple[Callable[[Scene, Rng], list[language.Exchange]], float, float]] = {
    "conversation_58k.json": (partial(language.conversation, turns=4), 0.0, 0.7),
    "detail_23k.json": (language.detail, 0.4, 0.7),
    "complex_reasoning_77k.json": (language.reasoning, 0.06, 1.0),
}
"""The file of a type of LLaVA-Instruct, what writes its conversations, and from where to where among the images it has
a record of each: of as large a share of them as LLaVA's, and with most of them shared between the files."""


def _draw_instruct(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """The types' files, and the 80K out of them, shuffled: one record an image, half conversations, half reasoning."""
    named = [(f"{k + 1:012d}.jpg", scene) for k, scene in enumerate(scenes(rng, "train", images))]
    records: dict[str, dict[str, Any]] = {}
    for file, (converse, first, last) in _TYPES.items():
        mine = named[round(first * images) : round(last * images)]
        records[file] = {name: _record(name, converse(scene, rng)) for name, scene in mine}
        _dump(out / file, list(records[file].values()))
    conversation, _, reasoning = records.values()
    together = [(conversation if k < images // 2 else reasoning)[name] for k, (name, _) in enumerate(named)]
    _dump(out / "llava_instruct_80k.json", [together[k] for k in rng.permutation(images)])
    _write_images(out, "train2017.zip", [(f"train2017/{name}", scene) for name, scene in named], repeat("bright"), rng)


_SPLITS: dict[Split, tuple[str, float]] = {"train": ("train", 0.05), "validation": ("val", 0.25), "test": ("test", 0.7)}
"""What Karpathy calls a split, and its share here: mostly test, and a few of train, as his files have all three."""


def _split_scenes(rng: Rng, images: int, most: int) -> list[tuple[Scene, str]]:
    """Scenes of two to ``most`` categories, and the split of each."""
    return [
        (scene, name)
        for split, (name, share) in _SPLITS.items()
        for scene in scenes(rng, split, max(1, round(share * images)), partial(draw_scene, distinct=(2, most)))
    ]


def _write_karpathy(
    out: Path, dataset: formats.CaptioningSet, named: Sequence[tuple[str, Scene, str]], rng: Rng
) -> None:
    """Five captions of each image. The official archive holds the files of three sets; two are empty here."""
    images = []
    for number, (member, scene, split) in enumerate(named):
        sentences: list[dict[str, Any]] = []
        for sentid, form in enumerate((0, 0, None, None, None), 5 * number):
            raw = written(language.caption(scene, rng, dataset, form=form))
            tokens = raw.lower().rstrip(".").replace(",", "").split()
            sentences.append({"raw": raw, "tokens": tokens, "imgid": number, "sentid": sentid})
        sentids = [sentence["sentid"] for sentence in sentences]
        image = {"filename": Path(member).name, "imgid": number, "split": split, "sentids": sentids}
        if dataset == "coco":
            image |= {"filepath": "val2014", "cocoid": number + 1}
        images.append(image | {"sentences": sentences})
    documents = ({"images": images if n == dataset else [], "dataset": n} for n in ("coco", "flickr8k", "flickr30k"))
    members = [(f"dataset_{one['dataset']}.json", json.dumps(one).encode()) for one in documents]
    write_zip(out / formats.ARCHIVE, members)


def _draw_coco(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """Bright images with five references each, and which things stand in them."""
    found = _split_scenes(rng, images, 4)
    named = [(f"val2014/COCO_val2014_{k:012d}.jpg", scene, split) for k, (scene, split) in enumerate(found, 1)]
    _write_karpathy(out, "coco", named, rng)
    annotations = [
        {"image_id": k, "category_id": THINGS.index(thing.category) + 1}
        for k, (_, scene, _) in enumerate(named, 1)
        for thing in scene.things
        if thing.category in THINGS
    ]
    instances = {
        "images": [{"id": k, "file_name": Path(name).name} for k, (name, _, _) in enumerate(named, 1)],
        "annotations": [{"id": k, **annotation} for k, annotation in enumerate(annotations, 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(THINGS, 1)],
    }
    _dump(out / "instances_val2014.json", instances)
    _write_images(out, "val2014.zip", [(name, scene) for name, scene, _ in named], repeat("bright"), rng)


def _draw_flickr30k(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """Dim images with five references each, worded otherwise than coco's."""
    found = _split_scenes(rng, images, 3)
    named = [(f"flickr30k-images/{1000 + 37 * k}.jpg", scene, split) for k, (scene, split) in enumerate(found)]
    _write_karpathy(out, "flickr30k", named, rng)
    _write_images(out, "flickr30k-images.zip", [(name, scene) for name, scene, _ in named], repeat("dim"), rng)


def _humans(answer: str, answer_type: str, rng: Rng) -> list[str]:
    """Ten people's answers: most agree; some err or word it otherwise; all ten agree on some questions."""
    other = {"yes/no": ("yes", "no"), "number": ("1", "2", "3", "4"), "other": ("not sure", f"the {answer}", "thing")}
    dissent = int(rng.choice([0, 1, 2, 4], p=[0.4, 0.3, 0.2, 0.1]))
    wrong = [str(rng.choice(other[answer_type])) for _ in range(dissent)]
    answers = [answer] * (10 - dissent) + wrong
    return [answers[k] for k in rng.permutation(10)]


def _coco_test(inputs: Inputs) -> list[tuple[int, str, Scene]]:
    """Image id, file name and scene of coco's test images."""
    facts = read_facts(inputs["coco"])
    images: list[Any] = formats.read_split(inputs["coco"], "coco")
    return [
        (image["cocoid"], image["filename"], facts[f"{image['filepath']}/{image['filename']}"])
        for image in images
        if image["split"] == "test"
    ]


def _draw_vqav2(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """Three questions of different types for each of the first ``images`` test images of coco."""
    questions, annotations = [], []
    for image_id, _, scene in _coco_test(inputs)[:images]:
        asked: dict[str, language.Question] = {}
        while len(asked) < 3:
            one = language.question(scene, rng)
            asked.setdefault(one.text, one)
        for question_id, one in enumerate(asked.values(), 1000 * image_id):
            ids = {"image_id": image_id, "question_id": question_id}
            questions.append(ids | {"question": written(one.text)})
            humans = _humans(one.answer, one.answer_type, rng)
            answers = [{"answer": said, "answer_confidence": "yes", "answer_id": k} for k, said in enumerate(humans, 1)]
            kinds = {"question_type": one.question_type, "answer_type": one.answer_type}
            most = {"multiple_choice_answer": Counter(humans).most_common(1)[0][0]}
            annotations.append(ids | kinds | most | {"answers": answers})
    head = {"task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014"}
    for archive, member, key, records in (
        ("v2_Questions_Val_mscoco.zip", "v2_OpenEnded_mscoco_val2014_questions.json", "questions", questions),
        ("v2_Annotations_Val_mscoco.zip", "v2_mscoco_val2014_annotations.json", "annotations", annotations),
    ):
        write_zip(out / archive, [(member, json.dumps(head | {key: records}).encode())])


def pope_negatives(
    names: Sequence[str], kind: str, frequency: Counter[str], together: Mapping[str, Counter[str]], rng: Rng
) -> list[str]:
    """Three things that are not in ``names``, by POPE's rule: any, the most frequent, or most often beside one."""
    missing = [n for n in THINGS if n not in names]
    if kind == "random":
        return [str(n) for n in rng.choice(missing, 3, replace=False)]
    if kind == "popular":
        return sorted(missing, key=lambda n: (-frequency[n], n))[:3]
    found: list[str] = []
    for name in names:
        found += sorted((n for n in missing if n not in found), key=lambda n: (-together[name][n], n))[:1]
    return found[:3]


def _draw_pope(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """Six questions, half yes and half no, for each of up to ``images`` coco test images of three things or more."""
    test = [(file, [c for c in scene.categories if c in THINGS]) for _, file, scene in _coco_test(inputs)]
    frequency = Counter(name for _, names in test for name in names)
    together = {name: Counter[str]() for name in THINGS}
    for _, names in test:
        for name in names:
            together[name].update(n for n in names if n != name)
    chosen = [(file, names) for file, names in test if len(names) >= 3][:images]
    for kind in ("random", "popular", "adversarial"):
        lines: list[dict[str, object]] = []
        for file, names in chosen:
            absent = pope_negatives(names, kind, frequency, together, rng)
            for there, wrong in zip(names[:3], absent, strict=True):
                for noun, label in ((there, "yes"), (wrong, "no")):
                    text = written(f"is there {language.article(noun)} in the image ?")
                    lines.append({"question_id": len(lines) + 1, "image": file, "text": text, "label": label})
        _dump_lines(out / f"coco_pope_{kind}.json", lines)


_MME_PNG = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def _draw_mme(out: Path, images: int, rng: Rng, inputs: Inputs) -> None:
    """``images`` images for each subtask, with one question to be answered yes and one no."""
    named: list[tuple[str, Scene]] = []
    texts: list[tuple[str, bytes]] = []
    for subtask, ask in language.MME.items():
        ground, kind = language.GROUNDS.get(subtask), language.KINDS.get(subtask)
        found = scenes(rng, "test", 50 * images, partial(draw_scene, background=ground, kind=kind, distinct=(2, 3)))
        clear = (s for s in found if subtask != "position" or len(s.things) == len(s.categories))  # one of each kind
        suitable = islice((scene for scene in clear if language.suits(scene, subtask)), images)
        image_folder = text_folder = f"{mme_release.FOLDER}/{subtask}"
        if subtask in mme_release.APART:
            image_folder += f"/{mme_release.IMAGES_FOLDER}"
            text_folder += f"/{mme_release.TEXTS_FOLDER}"
        for number, scene in enumerate(list(suitable), 1):
            named.append((f"{image_folder}/{number:04d}{'.png' if subtask in _MME_PNG else '.jpg'}", scene))
            pairs = zip(ask(scene, rng), ("Yes", "No"), strict=True)
            lines = [f"{written(f'{asked} {language.YES_NO}')}\t{answer}\n" for asked, answer in pairs]
            texts.append((f"{text_folder}/{number:04d}.txt", "".join(lines).encode()))
    _write_images(out, mme_release.ARCHIVE, named, repeat("bright"), rng, texts)


_WRITERS: dict[str, Callable[[Path, int, Rng, Inputs], None]] = {
    "pretrain": _draw_pretrain,
    "instruct": _draw_instruct,
    "coco": _draw_coco,
    "flickr30k": _draw_flickr30k,
    "vqav2": _draw_vqav2,
    "pope": _draw_pope,
    "mme": _draw_mme,
}

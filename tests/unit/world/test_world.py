"""The demo's world: its splits do not overlap, its facts decide every answer, its files are the official ones.

Answers are worked out here anew, from ``facts.jsonl`` and the words of the questions.
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lntune.benchmarks.captions.formats import read_split as karpathy_images
from lntune.benchmarks.mme import release as mme_release
from lntune.benchmarks.mme import score as mme_score
from lntune.benchmarks.official_files import read_json
from lntune.benchmarks.pope import questions as pope_questions
from lntune.benchmarks.vqav2 import score as vqav2_score
from lntune.data import llava
from lntune.data.archives import Members
from lntune.data.drops import Drops
from lntune.stages.draw import draw_set, pope_negatives, read_facts
from lntune.world.scenes import BACKGROUNDS, CATEGORIES, THINGS, Scene, split_of
from world_oracle import (
    COLUMNS,
    ORACLE,
    ROWS,
    category,
    check_caption,
    named_things,
    right_answer,
    words,
    yes,
)

SIZES = {"pretrain": 80, "instruct": 120, "coco": 140, "flickr30k": 100, "vqav2": 60, "pope": 40, "mme": 5}
KINDS = ("random", "popular", "adversarial")


def draw_world(root: Path, seed: int, sizes: dict[str, int] = SIZES) -> Path:
    for name, images in sizes.items():
        (root / name).mkdir(parents=True)
        inputs = {"coco": root / "coco"} if name in ("vqav2", "pope") else {}
        draw_set(name, root / name, images, seed, inputs)
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All seven sets, small."""
    return draw_world(tmp_path_factory.mktemp("world") / "drawn", seed=0)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def karpathy(world: Path, dataset: str) -> Iterator[tuple[str, str, list[str], Scene]]:
    """Member, split, captions and scene of each image of a captioning set."""
    facts = read_facts(world / dataset)
    images: list[Any] = karpathy_images(world / dataset, dataset)
    for image in images:
        member = f"{image.get('filepath', 'flickr30k-images')}/{image['filename']}"
        yield member, image["split"], [sentence["raw"] for sentence in image["sentences"]], facts[member]


def facts_of(world: Path, dataset: str, split: str) -> set[Scene]:
    return {scene for _, of, _, scene in karpathy(world, dataset) if of == split}


def test_no_training_scene_is_ever_asked_about(world: Path) -> None:
    training = {scene for name in ("pretrain", "instruct") for scene in read_facts(world / name).values()}
    assert len(training) > 150
    test = facts_of(world, "coco", "test") | facts_of(world, "flickr30k", "test")
    test |= set(read_facts(world / "mme").values())
    validation = facts_of(world, "coco", "val") | facts_of(world, "flickr30k", "val")
    assert len(test) > 150 and len(validation) > 50
    assert not training & test
    assert not training & validation
    assert not test & validation


def test_questions_are_about_test_images_alone(world: Path) -> None:
    coco = {Path(member).name: split for member, split, _, _ in karpathy(world, "coco")}
    questions = read_json(world / "vqav2" / "v2_Questions_Val_mscoco.zip")["questions"]  # type: ignore[index]
    asked = {f"COCO_val2014_{record['image_id']:012d}.jpg" for record in questions}
    for kind in KINDS:
        asked |= {record["image"] for record in lines(world / "pope" / f"coco_pope_{kind}.json")}
    assert len(asked) >= SIZES["vqav2"]
    assert {coco[name] for name in asked} == {"test"}


def test_every_scene_stands_once_and_in_the_split_that_its_facts_say(world: Path) -> None:
    split = {"train": "train", "val": "validation", "test": "test"}
    for dataset in ("coco", "flickr30k"):
        known = [(of, scene) for _, of, _, scene in karpathy(world, dataset)]
        assert all(split_of(scene) == split[of] for of, scene in known)
        assert len({scene for _, scene in known}) == len(known)
        assert {of for of, _ in known} == {"train", "val", "test"}


def test_two_worlds_of_other_seeds_do_not_overlap_either(world: Path, tmp_path: Path) -> None:
    other = draw_world(tmp_path / "other", seed=7, sizes={"instruct": 60})
    trained = set(read_facts(other / "instruct").values())
    assert not trained & (facts_of(world, "coco", "test") | facts_of(world, "coco", "val"))


def test_vqav2s_answers_follow_from_the_facts(world: Path) -> None:
    questions = vqav2_score.read_questions(world / "vqav2" / "v2_Questions_Val_mscoco.zip")
    annotations = vqav2_score.read_annotations(world / "vqav2" / "v2_Annotations_Val_mscoco.zip")
    facts = read_facts(world / "coco")
    assert list(questions) == list(annotations)
    assert len(questions) == 3 * SIZES["vqav2"]
    for number, question in questions.items():
        scene = facts[f"val2014/COCO_val2014_{number // 1000:012d}.jpg"]
        right = right_answer(scene, question)
        annotation = annotations[number]
        assert annotation.answers.count(right) >= 6, question
        kind = "yes/no" if right in ("yes", "no") else "number" if right.isdigit() else "other"
        assert annotation.answer_type == kind
        assert words(question)[0] == words(annotation.question_type)[0] or annotation.question_type == "is there a"


def test_vqav2s_people_agree_on_some_questions_and_not_on_others(world: Path) -> None:
    annotations = vqav2_score.read_annotations(world / "vqav2" / "v2_Annotations_Val_mscoco.zip").values()
    assert all(len(annotation.answers) == 10 for annotation in annotations)
    different = Counter(len(set(annotation.answers)) > 1 for annotation in annotations)
    assert different[True] > 50 and different[False] > 50
    assert {annotation.answer_type for annotation in annotations} == {"yes/no", "number", "other"}
    assert {annotation.question_type for annotation in annotations} == {
        "is there a", "how many", "what color is the", "where is the", "what is",
    }  # fmt: skip


def test_vqav2s_files_are_official(world: Path) -> None:
    annotated: Any = read_json(world / "vqav2" / "v2_Annotations_Val_mscoco.zip")
    asked: Any = read_json(world / "vqav2" / "v2_Questions_Val_mscoco.zip")
    head = {"task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014"}
    assert {key: asked[key] for key in head} == head == {key: annotated[key] for key in head}
    assert set(asked["questions"][0]) == {"image_id", "question_id", "question"}
    one = annotated["annotations"][0]
    assert set(one) == {
        "image_id", "question_id", "question_type", "answer_type", "multiple_choice_answer", "answers",
    }  # fmt: skip
    assert [human["answer_id"] for human in one["answers"]] == list(range(1, 11))
    for record in annotated["annotations"]:
        said = Counter(human["answer"] for human in record["answers"])
        assert record["multiple_choice_answer"] == said.most_common(1)[0][0]


def coco_test_objects(world: Path) -> dict[str, list[str]]:
    """The objects that are annotated in each test image, by file name, in the annotations' order."""
    instances = read(world / "coco" / "instances_val2014.json")
    names = {one["id"]: one["name"] for one in instances["categories"]}
    files = {one["id"]: one["file_name"] for one in instances["images"]}
    test = {Path(member).name for member, split, _, _ in karpathy(world, "coco") if split == "test"}
    found: dict[str, list[str]] = {name: [] for name in sorted(test)}
    for one in instances["annotations"]:
        file = files[one["image_id"]]
        if file in test and names[one["category_id"]] not in found[file]:
            found[file].append(names[one["category_id"]])
    return found


def test_coco_annotates_the_things_of_the_facts(world: Path) -> None:
    facts = read_facts(world / "coco")
    for file, objects in coco_test_objects(world).items():
        assert objects == [name for name in facts[f"val2014/{file}"].categories if name in THINGS]


@pytest.mark.parametrize("kind", KINDS)
def test_popes_labels_follow_from_the_annotated_objects(world: Path, kind: str) -> None:
    objects = coco_test_objects(world)
    questions = pope_questions.read_questions(world / "pope" / f"coco_pope_{kind}.json")
    assert [question.question_id for question in questions] == list(range(1, len(questions) + 1))
    assert Counter(question.label for question in questions) == {"yes": len(questions) // 2, "no": len(questions) // 2}
    by_image = Counter(question.image for question in questions)
    assert set(by_image.values()) == {6}
    assert len({(question.image, question.text) for question in questions}) == len(questions)
    for question in questions:
        match = re.fullmatch(r"Is there (an?) (\w+) in the image\?", question.text)
        assert match and match[1] == ("an" if match[2][0] in "aeiou" else "a")
        assert question.label == yes(match[2] in objects[question.image])


def absent_things(world: Path, kind: str) -> dict[str, list[str]]:
    """The things that are asked about and absent, by image, in the file's order."""
    found: dict[str, list[str]] = {}
    for question in pope_questions.read_questions(world / "pope" / f"coco_pope_{kind}.json"):
        if question.label == "no":
            found.setdefault(question.image, []).append(words(question.text)[3])
    return found


def test_pope_popular_asks_for_the_most_frequent_absent_things(world: Path) -> None:
    objects = coco_test_objects(world)
    frequency = Counter(name for names in objects.values() for name in names)
    for image, absent in absent_things(world, "popular").items():
        others = [name for name in THINGS if name not in objects[image]]
        assert len(set(absent)) == 3 and not set(absent) & set(objects[image])
        assert [frequency[name] for name in absent] == sorted((frequency[name] for name in others), reverse=True)[:3]


def test_pope_adversarial_asks_for_what_most_often_stands_with_what_is_there(world: Path) -> None:
    objects = coco_test_objects(world)
    together = Counter((a, b) for names in objects.values() for a in names for b in names if a != b)
    changed = 0
    for image, absent in absent_things(world, "adversarial").items():
        left = [name for name in THINGS if name not in objects[image]]
        for there, wrong in zip(objects[image][:3], absent, strict=True):
            assert together[there, wrong] == max(together[there, name] for name in left)
            left.remove(wrong)
        changed += set(absent) != set(absent_things(world, "popular")[image])
    assert changed > 0


def test_pope_random_asks_for_any_absent_thing(world: Path) -> None:
    asked = Counter(name for absent in absent_things(world, "random").values() for name in absent)
    popular = Counter(name for absent in absent_things(world, "popular").values() for name in absent)
    assert len(asked) > len(popular)
    assert len(asked) >= 10
    rng = np.random.default_rng(0)
    names = list(THINGS[:3])
    draws = [pope_negatives(names, "random", Counter(), {}, rng) for _ in range(50)]
    assert all(len(set(draw)) == 3 and not set(draw) & set(names) for draw in draws)


def read_mme(world: Path) -> dict[str, list[mme_release.Asked]]:
    subtasks, unasked = mme_release.read_release(Members(world / "mme" / mme_release.ARCHIVE))
    assert set(subtasks) == set(mme_score.ALL) and not unasked
    return subtasks


@pytest.mark.parametrize("subtask", mme_score.ALL)
def test_mmes_answers_follow_from_the_facts(world: Path, subtask: str) -> None:
    facts = read_facts(world / "mme")
    asked = read_mme(world)[subtask]
    assert len(asked) == SIZES["mme"]
    for one in asked:
        assert [answer for _, answer in one.questions] == ["Yes", "No"] and one.member is not None
        for question, answer in one.questions:
            assert question.endswith("Please answer yes or no.")
            assert right_answer(facts[one.member], question) == answer.lower()


def test_mmes_subtasks_ask_different_things(world: Path) -> None:
    forms = {}
    for subtask in mme_score.ALL:
        rows = [question for one in read_mme(world)[subtask] for question, _ in one.questions]
        used = {next(form for form, _ in ORACLE if re.fullmatch(form, row.rsplit(" Please", 1)[0])) for row in rows}
        assert len(used) == 1
        forms[subtask] = used.pop()
    assert len(set(forms.values())) == 13  # posters and artwork ask alike, about different images
    facts = read_facts(world / "mme")
    assert {scene.background for name, scene in facts.items() if "/posters/" in name} == {"poster"}
    assert {scene.background for name, scene in facts.items() if "/artwork/" in name} == {"painting"}


@pytest.mark.parametrize("dataset", ["coco", "flickr30k"])
def test_five_true_captions_a_image(world: Path, dataset: str) -> None:
    with zipfile.ZipFile(world / dataset / "caption_datasets.zip") as archive:
        names = ["dataset_coco.json", "dataset_flickr8k.json", "dataset_flickr30k.json"]
        assert sorted(archive.namelist()) == sorted(names)
        document = json.loads(archive.read(f"dataset_{dataset}.json"))
    assert document["dataset"] == dataset
    sentids = [sentence["sentid"] for image in document["images"] for sentence in image["sentences"]]
    assert sentids == list(range(5 * len(document["images"])))
    assert all(image["sentids"] == [one["sentid"] for one in image["sentences"]] for image in document["images"])
    for _, _, captions, scene in karpathy(world, dataset):
        assert len(captions) == 5
        for caption in captions:
            check_caption(caption, scene)
            assert caption[0].isupper() and caption.endswith(".") and " ." not in caption


def test_the_two_captioning_sets_differ_in_words_and_in_looks(world: Path) -> None:
    def said(dataset: str) -> set[str]:
        return {word for _, _, captions, _ in karpathy(world, dataset) for text in captions for word in words(text)}

    assert {"picture", "there"} <= said("coco") - said("flickr30k")
    assert {"seen", "see", "shows"} <= said("flickr30k") - said("coco")

    def brightness(archive: Path) -> float:
        with zipfile.ZipFile(archive) as images:
            read = [Image.open(io.BytesIO(images.read(name))) for name in images.namelist()]
        assert {image.size for image in read} == {(48, 48)}
        return float(np.mean([np.asarray(image).mean() for image in read]))

    bright = brightness(world / "coco" / "val2014.zip")
    dim = brightness(world / "flickr30k" / "flickr30k-images.zip")
    assert dim < 0.75 * bright


def members(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as images:
        return set(images.namelist())


def test_pretraining_pairs_a_image_with_a_true_caption(world: Path) -> None:
    facts, drops = read_facts(world / "pretrain"), Drops()
    read_, samples = llava.pretrain_samples(world / "pretrain", drops)
    assert read_ == {"chat.json": len(samples)} and len(samples) == SIZES["pretrain"] and not drops.counts
    assert {sample.image for sample in samples} == members(world / "pretrain" / "images.zip")
    for sample in samples:
        assert sample.turns[0] == "<image>"
        check_caption(sample.turns[1], facts[sample.image])


def read_instruct(world: Path, *types: str) -> list[Any]:
    drops = Drops()
    _, samples = llava.instruct_samples(world / "instruct", types, drops)
    assert not drops.counts
    assert {sample.image for sample in samples} <= members(world / "instruct" / "train2017.zip")
    return samples


def exchanges(turns: Iterable[str]) -> list[tuple[str, str]]:
    said = [turn.removeprefix("<image>\n") for turn in turns]
    return list(zip(said[::2], said[1::2], strict=True))


def test_the_instruct_files_are_built_as_llavas(world: Path) -> None:
    """A record an image in each file, images shared between them; the 80K of half conversations, half reasoning."""
    by_type = {name: {s.image: s.turns for s in read_instruct(world, name)} for name in llava.TYPE_FILES}
    assert {name: len(turns) for name, turns in by_type.items()} == {
        "conversation": 84, "detail": 36, "complex_reasoning": 113,
    }  # fmt: skip
    whole = read_instruct(world)
    assert len({s.image for s in whole}) == len(whole) == SIZES["instruct"]
    held = Counter(name for s in whole for name, turns in by_type.items() if turns.get(s.image) == s.turns)
    assert held == {"conversation": 60, "complex_reasoning": 60}
    assert set(by_type["conversation"]) & set(by_type["detail"]) & set(by_type["complex_reasoning"])
    assert [s.id for s in whole] != sorted(s.id for s in whole), "shuffled"


def test_the_three_types_are_different_texts(world: Path) -> None:
    talks = {name: [exchanges(s.turns) for s in read_instruct(world, name)] for name in llava.TYPE_FILES}
    turns = {name: {len(talk) for talk in found} for name, found in talks.items()}
    assert min(turns["conversation"]) >= 2 and turns["detail"] == turns["complex_reasoning"] == {1}
    asked = {name: {question for talk in found for question, _ in talk} for name, found in talks.items()}
    assert not asked["detail"] & asked["complex_reasoning"]
    assert not asked["detail"] & asked["conversation"]
    assert not asked["complex_reasoning"] & asked["conversation"]
    length = {
        name: np.mean([len(words(answer)) for talk in found for _, answer in talk]) for name, found in talks.items()
    }
    assert length["conversation"] < length["complex_reasoning"] < length["detail"]


def test_conversations_say_what_the_facts_say(world: Path) -> None:
    facts = read_facts(world / "instruct")
    checked = Counter[bool]()
    for sample in read_instruct(world, "conversation"):
        scene = facts[sample.image]
        for question, answer in exchanges(sample.turns):
            caption = words(question)[0] in ("please", "provide", "describe")
            checked[caption] += 1
            if caption:
                check_caption(answer, scene)
            else:
                assert right_answer(scene, question) in words(answer), (question, answer, scene)
    assert checked[True] > 10 and checked[False] > 150


def test_details_tell_every_thing_and_its_cell(world: Path) -> None:
    facts = read_facts(world / "instruct")
    for sample in read_instruct(world, "detail"):
        scene = facts[sample.image]
        answer = sample.turns[1]
        told = [
            (category(noun.lower()), row, column)
            for noun, row, column in re.findall(r"There is (.+?) on the (\w+) (\w+)\.", answer)
        ]
        told = [(name.split()[-1], row, column) for name, row, column in told]
        assert told == [(t.category, ROWS[t.cell // 3], COLUMNS[t.cell % 3]) for t in scene.things]
        assert answer.endswith(f"There are {len(scene.things)} things.")


def test_reasons_follow_from_what_things_are_good_for(world: Path) -> None:
    facts = read_facts(world / "instruct")
    said = Counter[str]()
    for sample in read_instruct(world, "complex_reasoning"):
        scene = facts[sample.image]
        ((question, answer),) = exchanges(sample.turns)
        assert words(answer)[0] == right_answer(scene, question)
        said[words(answer)[0]] += 1
        named = named_things(answer)
        if words(answer)[0] == "no":
            assert named == scene.categories
        else:
            use = question.removeprefix("Can you ").removesuffix(" something in this image?")
            assert len(named) == 1 and named[0] in scene.categories and use in CATEGORIES[named[0]].uses
    assert said["yes"] >= 3 and said["no"] >= 3


def test_the_same_seed_gives_the_same_bytes_and_another_others(world: Path, tmp_path: Path) -> None:
    again, other = draw_world(tmp_path / "again", seed=0), draw_world(tmp_path / "other", seed=1)
    files = sorted(path.relative_to(world) for path in world.rglob("*") if path.is_file())
    assert len(files) == 23
    for file in files:
        assert (world / file).read_bytes() == (again / file).read_bytes(), file
        assert (world / file).read_bytes() != (other / file).read_bytes(), file


def test_archives_bear_no_times(world: Path) -> None:
    archives = sorted(world.rglob("*.zip"))
    assert len(archives) == 9
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            for entry in archive.infolist():
                assert entry.date_time == (1980, 1, 1, 0, 0, 0)
                assert entry.compress_type == zipfile.ZIP_STORED


def test_a_set_of_images_comes_with_the_facts_of_each(world: Path) -> None:
    for name, archive in (
        ("pretrain", "images.zip"), ("instruct", "train2017.zip"), ("coco", "val2014.zip"),
        ("flickr30k", "flickr30k-images.zip"), ("mme", "MME_Benchmark_release_version.zip"),
    ):  # fmt: skip
        facts = read_facts(world / name)
        assert set(facts) == {member for member in members(world / name / archive) if not member.endswith(".txt")}
        for scene in facts.values():
            cells = [thing.cell for thing in scene.things]
            assert cells == sorted(set(cells)) and scene.background in BACKGROUNDS
            assert all(thing.colour in CATEGORIES[thing.category].colours for thing in scene.things)

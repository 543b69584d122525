"""The stages from raw files to samples and questions, run for real on small folders."""

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from image_files import jpeg
from lntune.benchmarks.captions.formats import ARCHIVE as SPLITS
from lntune.benchmarks.official_files import read_json
from lntune.benchmarks.pope import questions as pope_questions
from lntune.benchmarks.vqav2 import score as vqav2_score
from lntune.data.archives import write_zip
from lntune.data.images import ImageArchive
from lntune.data.llava import TYPE_FILES
from lntune.data.samples import read_questions, read_samples
from lntune.errors import UserError
from lntune.plan.stages import STAGES, stage_module
from stage_runs import Folders, draw_small, read, refusal, run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("drawn"))


def test_every_stage_has_what_a_stage_has() -> None:
    for stage in STAGES:
        module = stage_module(stage)
        assert callable(module.run) and isinstance(module.PACKAGES, tuple)
        assert module.Settings.model_config["extra"] == module.Execution.model_config["extra"] == "forbid"


def of(folder: Path) -> Folders:
    """Questions and images from one folder."""
    return {"raw": folder, "images": folder}


INSTRUCT = {"format": "llava-instruct", "types": (), "samples": None, "broken_share": 0.0, "seed": 0}
PRETRAIN = INSTRUCT | {"format": "llava-pretrain"}


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]


def raw_pretrain(folder: Path, records: Any, members: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    folder.mkdir()
    (folder / "chat.json").write_text(records if isinstance(records, str) else json.dumps(records))
    write_zip(folder / "images.zip", [(name, jpeg()) for name in members])
    return folder


def test_prepare_counts_every_reason_to_drop_a_record(tmp_path: Path) -> None:
    good = {"id": 1, "image": "a.jpg", "conversations": talk("Describe it.\n<image>", "a cat")}
    other = good | {"id": 2, "image": "b.jpg"}
    records = [
        good,
        "text",
        {"id": 3, "image": "a.jpg"},
        good | {"conversations": talk("<image>\nWhat?")},
        good | {"conversations": talk("<image>\nWhat?", "a cat", "And?")},
        good | {"conversations": talk("<image>\nWhat?", "a cat")[::-1]},
        good | {"conversations": [1, 2]},
        good | {"conversations": talk("<image>\nWhat?", "  ")},
        good | {"conversations": [talk("<image>")[0], {"from": "gpt", "value": ["a cat"]}]},
        good | {"conversations": talk("<image>", "a \ud83d cat")},
        good | {"conversations": talk("<image>\n\0", "a cat")},
        good | {"conversations": talk("<image>", "a cat </s> <image>")},
        good | {"conversations": talk("What?", "a cat")},
        good | {"conversations": talk("<image>\n<image>", "a cat")},
        good | {"conversations": talk("What?", "a cat", "<image>", "a dog")},
        good | {"image": "c.jpg"},
        {"id": 4, "conversations": talk("<image>", "a cat")},
        good,
        other,
    ]
    out = tmp_path / "connector"
    settings = PRETRAIN | {"broken_share": 0.5}
    metrics = run(out, "prepare", settings, {"raw": raw_pretrain(tmp_path / "raw", records)})
    dropped = {
        "characters that are no text": 2,
        "empty turn": 2,
        "names no image": 1,
        "no conversation": 2,
        "not exactly one image, in the first turn": 4,
        "odd number of turns": 2,
        "image missing": 1,
        "repeats an earlier record": 1,
        "turns do not alternate": 2,
    }
    assert read(out / "dropped.json") == {
        "unit": "samples",
        "read": 19,
        "dropped": dropped,
        "kept": 2,
        "files": {"chat.json": {"records": 19}},
    }
    counts = {f"dropped: {reason}": number for reason, number in dropped.items()}
    assert metrics == {"samples": 2, "read": 19, **counts}
    assert metrics["samples"] + sum(dropped.values()) == len(records)
    listed = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert Counter(one["reason"] for one in listed) == dropped
    assert listed[0] == {"source": "chat.json[1]", "reason": "no conversation"}
    assert listed[-1] == {
        "source": "chat.json[15]", "reason": "image missing", "image": "c.jpg", "detail": "no member of images.zip",
    }  # fmt: skip
    archive, samples = read_samples(out)
    assert archive == "images.zip"
    assert [(s.id, s.image, s.turns, s.source) for s in samples] == [
        ("1", "a.jpg", ("<image>", "a cat"), "chat.json[0]"),
        ("2", "b.jpg", ("<image>", "a cat"), "chat.json[18]"),
    ]


def test_prepare_puts_the_image_at_the_front_of_the_first_turn(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_zip(raw / "train2017.zip", [("train2017/1.jpg", jpeg())])
    said = talk("What is it?\n<image>", "A cat.", "Where?", "On a mat.")
    (raw / "llava_instruct_80k.json").write_text(json.dumps([{"id": "x", "image": "1.jpg", "conversations": said}]))
    run(tmp_path / "80K", "prepare", INSTRUCT, {"raw": raw})
    (sample,) = read_samples(tmp_path / "80K")[1]
    assert sample.turns == ("<image>\nWhat is it?", "A cat.", "Where?", "On a mat.")
    assert (sample.image, sample.source) == ("train2017/1.jpg", "llava_instruct_80k.json[0]")


def test_prepare_reads_the_drawn_types_from_their_files(world: Path, tmp_path: Path) -> None:
    raw = world / "instruct"
    for name, file in TYPE_FILES.items():
        metrics = run(tmp_path / name, "prepare", INSTRUCT | {"types": (name,)}, {"raw": raw})
        samples = read_samples(tmp_path / name)[1]
        assert [sample.id for sample in samples] == [record["id"] for record in read(raw / file)]
        assert metrics == {"samples": len(samples), "read": len(samples)}
    two = INSTRUCT | {"types": ("detail", "complex_reasoning")}
    assert run(tmp_path / "two", "prepare", two, {"raw": raw})["samples"] == 7 + 23


def test_prepare_takes_some_at_random_by_the_seed_in_the_old_order(world: Path, tmp_path: Path) -> None:
    def chosen(name: str, seed: int) -> list[str]:
        run(tmp_path / name, "prepare", INSTRUCT | {"samples": 8, "seed": seed}, {"raw": world / "instruct"})
        return [sample.source for sample in read_samples(tmp_path / name)[1]]

    first = chosen("first", 0)
    assert chosen("again", 0) == first != chosen("other", 1)
    places = [int(source.split("[")[1][:-1]) for source in first]
    assert places == sorted(set(places)) and len(places) == 8
    assert (tmp_path / "first" / "samples.jsonl").read_bytes() == (tmp_path / "again" / "samples.jsonl").read_bytes()
    assert read(tmp_path / "first" / "dropped.json")["dropped"] == {"beyond the number asked for": 16}
    assert (tmp_path / "first" / "dropped.jsonl").read_bytes() == b""


def test_prepare_refuses_what_it_cannot_use(world: Path, tmp_path: Path) -> None:
    raw = {"raw": world / "instruct"}
    assert refusal(tmp_path / "Conv.20K", "prepare", INSTRUCT | {"samples": 25}, raw) == (
        "data.Conv.20K.samples: 25 are asked for, 24 are left after the filters of the records there are "
        "(24 of llava_instruct_80k.json); ask for fewer"
    )
    strange = raw_pretrain(tmp_path / "strange", [{"id": 1, "image": "z.jpg", "conversations": talk("", "x")}])
    assert refusal(tmp_path / "none", "prepare", PRETRAIN, {"raw": strange}) == (
        "none: no sample is left after the filters; are the files those of one set?"
    )
    bad = raw_pretrain(tmp_path / "bad", '[{"id": 1,')
    said = refusal(tmp_path / "1", "prepare", PRETRAIN, {"raw": bad})
    assert said.startswith(f"{bad / 'chat.json'}: not valid JSON (") and said.endswith("; download it again")
    mapping = raw_pretrain(tmp_path / "mapping", {"a": 1})
    said = refusal(tmp_path / "2", "prepare", PRETRAIN, {"raw": mapping})
    assert said == f"{mapping / 'chat.json'}: holds no list of records but a dict; download it again"
    (mapping / "chat.json").unlink()
    said = refusal(tmp_path / "3", "prepare", PRETRAIN, {"raw": mapping})
    assert said == f"{mapping / 'chat.json'}: no such file; download it"
    (bad / "images.zip").write_bytes(b"PK no zip")
    said = refusal(tmp_path / "4", "prepare", PRETRAIN, {"raw": bad})
    assert said.startswith(f"{bad / 'images.zip'}: not a readable zip (") and said.endswith("; download it again")
    (bad / "images.zip").unlink()
    said = refusal(tmp_path / "5", "prepare", PRETRAIN, {"raw": bad})
    assert said == f"{bad / 'images.zip'}: no such archive; download it"


def test_images_are_read_in_place_or_refused_by_name(world: Path, tmp_path: Path) -> None:
    images = ImageArchive(world / "coco" / "val2014.zip")
    assert len(images.names()) == 40
    assert images.image_or_refuse(images.names()[7]).size == (48, 48)
    with pytest.raises(UserError, match=r"val2014\.zip: has no member x\.jpg; the samples belong to another archive$"):
        images.image_or_refuse("x.jpg")
    write_zip(tmp_path / "bad.zip", [("x.jpg", b"no image")])
    with pytest.raises(UserError, match=r"bad\.zip: member x\.jpg is not a readable image "):
        ImageArchive(tmp_path / "bad.zip").image_or_refuse("x.jpg")
    whole = (world / "coco" / "val2014.zip").read_bytes()
    (tmp_path / "torn.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"torn\.zip: not a readable zip \(.*\); download it again$"):
        ImageArchive(tmp_path / "torn.zip")


@pytest.mark.parametrize(("dataset", "split", "share"), [("coco", "test", 28), ("coco", "validation", 10),
                                                         ("flickr30k", "test", 14)])  # fmt: skip
def test_questions_of_captioning_sets(world: Path, tmp_path: Path, dataset: str, split: str, share: int) -> None:
    settings = {"dataset": dataset, "split": split, "request": "Describe it.", "broken_share": 0.0}
    metrics = run(tmp_path / "out", "questions-captions", settings, of(world / dataset))
    read_, others = metrics.pop("read"), metrics.pop("dropped: of another split")
    assert metrics == {"questions": share, "references": 5 * share} and read_ == share + others
    archive, questions = read_questions(tmp_path / "out")
    with zipfile.ZipFile(world / dataset / archive) as images:
        assert {question.image for question in questions} <= set(images.namelist())
    assert {question.text for question in questions} == {"Describe it."}
    references = read(tmp_path / "out" / "references.json")
    assert [str(image["id"]) for image in references["images"]] == [question.id for question in questions]
    assert len({one["id"] for one in references["annotations"]}) == 5 * share


def test_questions_of_captioning_sets_refuse_other_files(tmp_path: Path) -> None:
    settings = {"dataset": "coco", "split": "test", "request": "?", "broken_share": 0.0}
    path = tmp_path / SPLITS / "dataset_coco.json"
    image = {"split": "test", "cocoid": 0, "filepath": "val2014", "filename": "a.jpg", "sentences": [{"sentid": 0}]}
    for number, (content, said) in enumerate(
        {
            "[]": "a list where an object with 'images' is expected",
            '{"images": [': "line 1: not JSON (Expecting value)",
            json.dumps({"images": [image]}): "images[0]: not as in Karpathy's files (KeyError('raw')); get",
            json.dumps({"images": [3]}): "images[0]: not as in Karpathy's files (TypeError(",
            json.dumps({"images": [image | {"split": "val"}]}): "no image belongs to the split 'test'; take",
        }.items()
    ):
        write_zip(tmp_path / SPLITS, [("dataset_coco.json", content.encode())])
        found = refusal(tmp_path / str(number), "questions-captions", settings, of(tmp_path))
        assert found.startswith(f"{path}: {said}")


def test_questions_of_mme(world: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", {"subtasks": ("count", "OCR", "artwork", "code_reasoning"), "broken_share": 0.0}
    metrics = run(out, "questions-mme", settings, of(world / "mme"))
    others = {"dropped: of another subtask": 60, "pictures_without_questions": 0}
    assert metrics == {"questions": 24, "read": 84, **others}
    archive, questions = read_questions(out)
    with zipfile.ZipFile(world / "mme" / archive) as images:
        assert {question.image for question in questions} <= set(images.namelist())
    assert [question.id for question in questions[:2]] == ["count/0", "count/1"]
    front = "MME_Benchmark_release_version/MME_Benchmark"
    assert questions[6].image == f"{front}/OCR/0001.jpg" and questions[6].text.startswith("Is the word on the sign ")
    assert questions[12].image == f"{front}/artwork/images/0001.jpg"
    assert questions[18].image == f"{front}/code_reasoning/0001.png"
    assert sorted(path.name for path in out.iterdir()) == [
        "OCR.txt", "artwork.txt", "code_reasoning.txt", "count.txt", "dropped.json", "dropped.jsonl", "questions.jsonl",
        "set.json",
    ]  # fmt: skip
    rows = [line.split("\t") for line in (out / "code_reasoning.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["0001.png", "0001.png", "0002.png", "0002.png", "0003.png", "0003.png"]
    assert [row[1] for row in rows] == [question.text for question in questions[18:]]
    assert [row[2] for row in rows] == ["Yes", "No"] * 3


def test_questions_of_pope(world: Path, tmp_path: Path) -> None:
    inputs = {"raw": world / "pope", "images": world / "coco"}
    metrics = run(tmp_path / "out", "questions-pope", {"broken_share": 0.0}, inputs)
    archive, questions = read_questions(tmp_path / "out")
    with zipfile.ZipFile(world / "coco" / archive) as images:
        assert {question.image for question in questions} <= set(images.namelist())
    assert metrics["questions"] == len(questions) == len({question.id for question in questions})
    assert {question.id.split("/")[0] for question in questions} == set(pope_questions.KINDS)
    for kind in pope_questions.KINDS:
        name = f"coco_pope_{kind}.json"
        assert (tmp_path / "out" / name).read_bytes() == (world / "pope" / name).read_bytes()


def test_questions_of_vqav2_all_or_some(world: Path, tmp_path: Path) -> None:
    def asked(name: str, number: int | None, seed: int = 0) -> list[str]:
        out = tmp_path / name
        settings = {"questions": number, "broken_share": 0.0, "seed": seed}
        metrics = run(out, "questions-vqav2", settings, {"raw": world / "vqav2", "images": world / "coco"})
        archive, questions = read_questions(out)
        ids = [question.id for question in questions]
        beyond = {"dropped: beyond the number asked for": 36 - len(ids)} if len(ids) < 36 else {}
        assert archive == "val2014.zip" and metrics == {"questions": len(ids), "read": 36, **beyond}
        assert list(map(str, vqav2_score.read_questions(out / "questions.json"))) == ids
        assert {str(id) for id in vqav2_score.read_annotations(out / "annotations.json")} == set(ids)
        return ids

    everything = asked("all", None)
    assert len(everything) == 36 and everything == asked("more", 5000)
    some = asked("some", 10)
    assert len(some) == 10 and some == [id for id in everything if id in some]
    assert asked("again", 10) == some != asked("other", 10, seed=1)


def test_questions_of_vqav2_refuse_files_that_do_not_match(world: Path, tmp_path: Path) -> None:
    names = ("v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip")
    asked, annotated = (read_json(world / "vqav2" / name) for name in names)
    assert isinstance(asked, dict) and isinstance(annotated, dict)

    def written(questions: Any, annotations: Any) -> Path:
        for name, content in zip(names, (questions, annotations), strict=True):
            write_zip(tmp_path / name, [("x.json", json.dumps(content).encode())])
        return tmp_path

    settings = {"questions": None, "broken_share": 0.0, "seed": 0}
    raw = written(asked, annotated | {"annotations": annotated["annotations"][1:]})
    first = asked["questions"][0]["question_id"]
    assert refusal(tmp_path / "1", "questions-vqav2", settings, of(raw)) == (
        f"{raw / names[1]}: no record for question_id '{first}' of {raw / names[0]}"
    )
    raw = written({"questions": [{"question_id": 1, "question": "?"}]}, annotated)
    assert refusal(tmp_path / "2", "questions-vqav2", settings, of(raw)) == (
        f"{raw / names[0]}: question 1: 'image_id' is missing; mend it, or get the file again"
    )
    raw = written([], annotated)
    assert refusal(tmp_path / "3", "questions-vqav2", settings, of(raw)) == (
        f"{raw / names[0]}: a list where an object with 'questions' is expected; mend it, or get the file again"
    )

"""What is left out of the data sets: broken images, other types; each counted and listed, or the stage stops."""

import csv
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tokenizers import Tokenizer

from checkout import ROOT
from image_files import UNUSABLE, jpeg
from lntune.data import llava
from lntune.data.archives import write_zip
from lntune.data.drops import Drops
from lntune.data.llava import TYPE_FILES
from lntune.data.samples import Question, read_questions, read_samples
from lntune.errors import UserError
from made_up import MADE_UP
from stage_runs import Folders, read, refusal, run

PRETRAIN = {"format": "llava-pretrain", "types": (), "samples": None, "broken_share": 0.0, "seed": 0}
INSTRUCT = PRETRAIN | {"format": "llava-instruct"}
TOKENIZER = Tokenizer.from_file(str(ROOT / "workflow" / "weights" / "vicuna-7b" / "tokenizer.json"))


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]


def xml_takes(text: str) -> bool:
    """Whether a reader of XML takes the text, its marks escaped."""
    try:
        ElementTree.fromstring(f"<a>{escape(text)}</a>".encode("utf-8", "surrogatepass"))
    except ElementTree.ParseError:
        return False
    return True


@given(
    captions=some.lists(
        some.text(some.one_of(some.characters(categories=["Cc", "Cs", "Cn"]), some.characters()), min_size=1),
        min_size=1, max_size=8,
    )
)  # fmt: skip
@MADE_UP
def test_captions_that_are_no_text_are_dropped_and_all_others_can_be_told_to_a_model(captions: list[str]) -> None:
    records = [
        {"id": k, "image": "a.jpg", "conversations": talk("<image>\n?", f"{text}.")} for k, text in enumerate(captions)
    ]
    with TemporaryDirectory() as folder:
        Path(folder, "chat.json").write_text(json.dumps(records), "utf-8")
        drops = Drops()
        read_, samples = llava.pretrain_samples(Path(folder), drops)
    told = [text for text in captions if xml_takes(text) and "<image>" not in text]
    assert [sample.turns[1] for sample in samples] == [f"{text}." for text in told]
    assert len(samples) + drops.counts.total() == len(captions) == read_["chat.json"]
    assert set(drops.counts) <= {"characters that are no text", "not exactly one image, in the first turn"}
    for sample in samples:
        assert TOKENIZER.encode(sample.turns[1]).ids


def listed(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]


@pytest.fixture
def mixed(tmp_path: Path) -> Folders:
    """CC3M-595K in miniature: 25 records, the image of every fifth cannot be used, one is not there."""
    members = [(f"{k}.jpg", jpeg(k)) for k in range(25)]
    for k, content in enumerate(UNUSABLE.values()):
        members[5 * k] = (f"{5 * k}.jpg", content)
    members.remove(members[3])
    records = [{"id": k, "image": f"{k}.jpg", "conversations": talk("<image>", f"a {k}")} for k in range(25)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "chat.json").write_text(json.dumps(records))
    write_zip(tmp_path / "raw" / "images.zip", members)
    return {"raw": tmp_path / "raw"}


def test_prepare_leaves_out_images_that_cannot_be_used(mixed: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    metrics = run(out, "prepare", PRETRAIN | {"broken_share": 0.24}, mixed)
    reasons = [f"image {reason}" for reason in (*UNUSABLE, "missing")]
    assert metrics == {"samples": 19, "read": 25, **{f"dropped: {reason}": 1 for reason in reasons}}
    assert [(one["source"], one["image"], one["reason"]) for one in listed(out)] == [
        (f"chat.json[{k}]", f"{k}.jpg", reason)
        for k, reason in sorted([(5 * k, f"image {r}") for k, r in enumerate(UNUSABLE)] + [(3, "image missing")])
    ]
    assert all(one["detail"] for one in listed(out))
    assert [int(sample.id) for sample in read_samples(out)[1]] == [k for k in range(25) if k % 5 and k != 3]


def test_prepare_stops_above_the_share_that_is_allowed(mixed: Folders, tmp_path: Path) -> None:
    archive = f"{tmp_path / 'raw' / 'images.zip'}"
    assert refusal(tmp_path / "out", "prepare", PRETRAIN | {"broken_share": 0.2399}, mixed) == (
        f"{archive}: the images of 6 of 25 samples (24.000%) cannot be used, the scale's broken_share allows "
        "23.990%; first: 0.jpg of chat.json[0] is broken: cannot identify image file; fix the archive, "
        "or raise broken_share to leave them out"
    )
    assert refusal(tmp_path / "none", "prepare", PRETRAIN, mixed).startswith(f"{archive}: the images of 6 of 25 ")


@pytest.mark.parametrize("samples", [None, 12])
def test_any_number_of_threads_gives_the_same_bytes(mixed: Folders, tmp_path: Path, samples: int | None) -> None:
    settings = PRETRAIN | {"broken_share": 1.0, "samples": samples}
    for workers in (1, 2, 4):
        run(tmp_path / str(workers), "prepare", settings, mixed, workers=workers)
    for file in ("samples.jsonl", "set.json", "dropped.json", "dropped.jsonl"):
        one = (tmp_path / "1" / file).read_bytes()
        assert one == (tmp_path / "2" / file).read_bytes() == (tmp_path / "4" / file).read_bytes()


def test_as_many_samples_as_asked_for_are_kept_where_images_are_broken(mixed: Folders, tmp_path: Path) -> None:
    settings = PRETRAIN | {"broken_share": 1.0}
    kept: list[set[str]] = []
    for number in (1, 12, 19):
        out = tmp_path / str(number)
        metrics = run(out, "prepare", settings | {"samples": number}, mixed)
        assert metrics["samples"] == number
        assert metrics["read"] == 25 == number + sum(read(out / "dropped.json")["dropped"].values())
        kept.append({sample.id for sample in read_samples(out)[1]})
    assert kept[0] < kept[1] < kept[2]
    assert refusal(tmp_path / "more", "prepare", settings | {"samples": 20}, mixed) == (
        "data.more.samples: 20 are asked for, 19 are left after the filters of the records there are "
        "(25 of chat.json); ask for fewer"
    )


def record(id: str, *texts: str, image: str = "") -> dict[str, Any]:
    return {"id": id, "image": f"{image or id}.jpg", "conversations": talk(*texts)}


def raw_instruct(folder: Path, whole: Sequence[Any], types: dict[str, Sequence[Any]]) -> Folders:
    folder.mkdir()
    names = {one["image"] for one in whole}
    write_zip(folder / "train2017.zip", [(f"train2017/{name}", jpeg(k)) for k, name in enumerate(sorted(names))])
    (folder / "llava_instruct_80k.json").write_text(json.dumps(whole))
    for name, file in TYPE_FILES.items():
        (folder / file).write_text(json.dumps(types.get(name, [])))
    return {"raw": folder}


@pytest.fixture
def instruct(tmp_path: Path) -> Folders:
    """LLaVA-Instruct in miniature, built as the public files are.

    Ten images; a record an image in each file, under the image's id; the 80K of half conversations, half reasoning.
    """
    talks = [record(f"{k}", f"<image>\nWhat is {k}?", "A cat.", "Where?", "There.") for k in range(7)]
    details = [record(f"{k}", f"Describe {k}.\n<image>", "A cat on a mat.") for k in range(4, 7)]
    reasons = [record(f"{k}", f"<image>\nWhy {k}?", "So.") for k in range(1, 10)]
    types = {"conversation": talks, "detail": details, "complex_reasoning": reasons}
    # The mark of the image stands elsewhere than in the type's file, as it does between LLaVA's files.
    moved = record("0", "What is 0?\n<image>", "A cat.", "Where?", "There.")
    return raw_instruct(tmp_path / "raw", [reasons[4], moved, *talks[1:5], *reasons[5:]], types)


def test_the_types_come_from_their_own_files_since_the_80k_holds_no_detail(instruct: Folders, tmp_path: Path) -> None:
    def chosen(*names: str) -> list[str]:
        out = tmp_path / "-".join(("chosen", *names))
        metrics = run(out, "prepare", INSTRUCT | {"types": names}, instruct)
        samples = read_samples(out)[1]
        assert metrics == {"samples": len(samples), "read": len(samples)}
        assert all(sample.image == f"train2017/{sample.id}.jpg" for sample in samples)
        return [sample.source for sample in samples]

    conversations = [f"conversation_58k.json[{k}]" for k in range(7)]
    details = [f"detail_23k.json[{k}]" for k in range(3)]
    assert chosen("detail") == details
    assert chosen("conversation") == conversations
    assert chosen("complex_reasoning") == [f"complex_reasoning_77k.json[{k}]" for k in range(9)]
    assert chosen("conversation", "detail") == [*conversations, *details]
    assert chosen() == [f"llava_instruct_80k.json[{k}]" for k in range(10)]


def test_more_samples_than_the_files_hold_are_refused_by_file(instruct: Folders, tmp_path: Path) -> None:
    said = "{} are asked for, {} are left after the filters of the records there are ({}); ask for fewer"
    for name, types, held in (
        ("Detail.20K", ("detail",), "3 of detail_23k.json"),
        ("Mixed.20K", ("detail", "conversation"), "3 of detail_23k.json, 7 of conversation_58k.json"),
    ):
        number = 3 if len(types) == 1 else 10
        assert run(tmp_path / f"{name}-all", "prepare", INSTRUCT | {"types": types, "samples": number}, instruct)
        found = refusal(tmp_path / name, "prepare", INSTRUCT | {"types": types, "samples": number + 1}, instruct)
        assert found == f"data.{name}.samples: {said.format(number + 1, number, held)}"


def test_a_record_that_stands_twice_is_taken_once(tmp_path: Path) -> None:
    talked, detailed = record("1", "<image>\nWhat?", "A cat."), record("1", "<image>\nDescribe it.", "A cat, there.")
    types = {"conversation": [talked, detailed], "detail": [detailed]}
    raw, out = raw_instruct(tmp_path / "raw", [detailed, talked, detailed], types), tmp_path / "80K"
    dropped = {"dropped: repeats an earlier record": 1}
    assert run(out, "prepare", INSTRUCT, raw) == {"samples": 2, "read": 3, **dropped}
    assert listed(out) == [{"source": "llava_instruct_80k.json[2]", "reason": "repeats an earlier record"}]
    out = tmp_path / "two"
    assert run(out, "prepare", INSTRUCT | {"types": ("detail", "conversation")}, raw)["samples"] == 2
    assert listed(out) == [{"source": "conversation_58k.json[1]", "reason": "repeats an earlier record"}]


# --- benchmarks ------------------------------------------------------------------------------------------------------


def karpathy_image(k: int, split: str = "test", folder: str = "val2014") -> dict[str, Any]:
    sentences = [{"sentid": 10 * k + n, "raw": f"Caption {n} of {k}."} for n in range(5)]
    place = {"filename": f"{k}.jpg", "filepath": folder, "cocoid": 100 + k, "imgid": k}
    return place | {"split": split, "sentences": sentences}


def raw_coco(folder: Path, images: Sequence[Any]) -> Folders:
    """Images 0 to 3 of which 1 is cut; Karpathy's file among other members."""
    folder.mkdir()
    files = [jpeg(0), UNUSABLE["truncated"], jpeg(2), jpeg(3)]
    write_zip(folder / "val2014.zip", [(f"val2014/{k}.jpg", content) for k, content in enumerate(files)])
    document = json.dumps({"images": images, "dataset": "coco"}).encode()
    junk = [("__MACOSX/._dataset_coco.json", b"\0\5"), ("dataset_flickr8k.json", b"{}"), (".DS_Store", b"")]
    write_zip(folder / "caption_datasets.zip", [*junk, ("dataset_coco.json", document)])
    return {"raw": folder, "images": folder}


CAPTIONS = {"dataset": "coco", "split": "test", "request": "?", "broken_share": 0.0}


def test_captions_of_a_broken_image_stop_the_stage_or_are_left_out(tmp_path: Path) -> None:
    images = [karpathy_image(0, "restval"), *map(karpathy_image, (1, 2)), karpathy_image(3, "val")]
    raw = raw_coco(tmp_path / "raw", images)
    said = refusal(tmp_path / "1", "questions-captions", CAPTIONS, raw)
    archive = tmp_path / "raw" / "val2014.zip"
    assert said.startswith(
        f"{archive}: the images of 1 of 2 questions (50.000%) cannot be used, the scale's broken_share allows "
        "0.000%; first: val2014/1.jpg of dataset_coco.json[1] is truncated: "
    )
    out = tmp_path / "2"
    metrics = run(out, "questions-captions", CAPTIONS | {"broken_share": 0.5}, raw)
    dropped = {"dropped: of another split": 2, "dropped: image truncated": 1}
    assert metrics == {"questions": 1, "read": 4, "references": 5, **dropped}
    assert [question.image for question in read_questions(out)[1]] == ["val2014/2.jpg"]
    references = read(out / "references.json")
    assert references["images"] == [{"id": 102}] and {one["image_id"] for one in references["annotations"]} == {102}
    (fault,) = listed(out)
    assert (fault["source"], fault["image"]) == ("dataset_coco.json[1]", "val2014/1.jpg")


def test_a_test_image_that_is_not_of_val2014_is_missing(tmp_path: Path) -> None:
    raw = raw_coco(tmp_path / "raw", [karpathy_image(2), karpathy_image(3, folder="train2014")])
    said = refusal(tmp_path / "1", "questions-captions", CAPTIONS, raw)
    assert "first: train2014/3.jpg of dataset_coco.json[1] is missing: no member of val2014.zip; " in said


def test_no_question_left_is_refused(tmp_path: Path) -> None:
    raw = raw_coco(tmp_path / "raw", [karpathy_image(1)])
    said = refusal(tmp_path / "mscoco", "questions-captions", CAPTIONS | {"broken_share": 1.0}, raw)
    assert said == (
        f"mscoco: no question is left whose image can be used; fix {tmp_path / 'raw' / 'val2014.zip'}"
    )  # fmt: skip


def test_other_caption_archives_are_refused(tmp_path: Path) -> None:
    raw = raw_coco(tmp_path / "raw", [])
    path = tmp_path / "raw" / "caption_datasets.zip"
    write_zip(path, [("dataset_flickr30k.json", b"{}")])
    said = refusal(tmp_path / "1", "questions-captions", CAPTIONS, raw)
    assert said == f"{path}: holds 0 members called dataset_coco.json instead of one"


def val2014(folder: Path, bad: Sequence[int]) -> Path:
    folder.mkdir()
    members = [(f"val2014/COCO_val2014_{k:012d}.jpg", b"bad" if k in bad else jpeg(k)) for k in range(1, 7)]
    write_zip(folder / "val2014.zip", members)
    return folder


def test_popes_questions_about_a_broken_image(tmp_path: Path) -> None:
    raw, images = tmp_path / "pope", val2014(tmp_path / "coco", [2])
    raw.mkdir()
    lines = [
        f'{{"question_id": {n}, "image": "COCO_val2014_{1 + n % 3:012d}.jpg", "text": "Q{n}?",  "label": "yes"}}\n'
        for n in range(1, 7)
    ]
    for kind in ("random", "popular", "adversarial"):
        (raw / f"coco_pope_{kind}.json").write_text("".join(lines))
    inputs = {"raw": raw, "images": images}
    said = refusal(tmp_path / "1", "questions-pope", {"broken_share": 0.0}, inputs)
    assert "the images of 6 of 18 questions (33.333%) cannot be used" in said
    assert "first: val2014/COCO_val2014_000000000002.jpg of coco_pope_popular/1 is broken: " in said
    out = tmp_path / "2"
    metrics = run(out, "questions-pope", {"broken_share": 0.4}, inputs, workers=3)
    assert metrics == {"questions": 12, "read": 18, "dropped: image broken": 6}
    left = "".join(line for line in lines if "0002.jpg" not in line)
    for kind in ("random", "popular", "adversarial"):
        assert (out / f"coco_pope_{kind}.json").read_text() == left
    assert Counter(one.id.split("/")[0] for one in read_questions(out)[1]) == dict.fromkeys(
        ("random", "popular", "adversarial"), 4
    )


def test_vqav2s_questions_about_a_broken_image(tmp_path: Path) -> None:
    raw, images = tmp_path / "vqav2", val2014(tmp_path / "coco", [3])
    raw.mkdir()
    ids = [{"image_id": 1 + n % 6, "question_id": n} for n in range(24)]
    asked = {"task_type": "Open-Ended", "questions": [one | {"question": "?"} for one in ids]}
    annotated = {"annotations": [one | {"answers": []} for one in ids]}
    for name, member, content in (
        ("v2_Questions_Val_mscoco.zip", "v2_OpenEnded_mscoco_val2014_questions.json", asked),
        ("v2_Annotations_Val_mscoco.zip", "v2_mscoco_val2014_annotations.json", annotated),
    ):
        write_zip(raw / name, [(member, json.dumps(content).encode()), (f"__MACOSX/._{member}", b"\0")])
    inputs = {"raw": raw, "images": images}
    settings = {"questions": None, "broken_share": 0.0, "seed": 0}
    said = refusal(tmp_path / "1", "questions-vqav2", settings, inputs)
    assert "the images of 4 of 24 questions" in said
    assert "first: val2014/COCO_val2014_000000000003.jpg of v2_Questions_Val_mscoco.zip: question 2 is broken" in said
    out = tmp_path / "2"
    metrics = run(out, "questions-vqav2", settings | {"questions": 20, "broken_share": 1.0}, inputs)
    assert metrics["read"] == 24 and metrics["dropped: beyond the number asked for"] == 4
    kept = [int(question.id) for question in read_questions(out)[1]]
    assert metrics["questions"] == len(kept) == 20 - metrics["dropped: image broken"]
    assert all(n % 6 != 2 for n in kept)
    for file, key in (("questions.json", "questions"), ("annotations.json", "annotations")):
        assert [one["question_id"] for one in read(out / file)[key]] == kept
    assert read(out / "questions.json")["task_type"] == "Open-Ended"


MME = "MME_Benchmark_release_version.zip"
FRONT = "MME_Benchmark_release_version/MME_Benchmark/"


def pair(word: str) -> bytes:
    return f"Is it {word}? Please answer yes or no.\tYes\nIs it not? Please answer yes or no.\tNo\n".encode()


def raw_mme(folder: Path, members: Sequence[tuple[str, bytes]]) -> Folders:
    folder.mkdir(exist_ok=True)
    write_zip(folder / MME, members)
    return {"raw": folder, "images": folder}


OFFICIAL = [
    (f"{FRONT}artwork/images/9.jpg", jpeg(9)),
    (f"{FRONT}artwork/images/10.jpg", jpeg(10)),
    (f"{FRONT}artwork/questions_answers_YN/10.txt", pair("ten")),
    (f"{FRONT}artwork/questions_answers_YN/9.txt", pair("nine")),
    (f"{FRONT}OCR/0002.jpg", jpeg(2)),
    (f"{FRONT}OCR/0002.txt", pair("two").replace(b"\n", b"\r\n") + b"\r\n\n"),
    (f"{FRONT}OCR/0001.PNG", jpeg(1)),
    (f"{FRONT}OCR/0001.txt", b"\xef\xbb\xbf" + pair("one").rstrip(b"\n")),
    (f"{FRONT}code_reasoning/0020.png", jpeg(20)),
    (f"{FRONT}code_reasoning/0020.txt", pair("code")),
]
JUNK = [
    (f"{FRONT}", b""),
    (f"{FRONT}OCR/.DS_Store", b"\0"),
    (f"{FRONT}OCR/._0001.txt", b"\0"),
    (f"__MACOSX/{FRONT}OCR/._0001.txt", b"\0"),
    ("MME_Benchmark_release_version/eval_tool/Your_Results/OCR.txt", b"0001.png\tIs it?\tYes\tno\n"),
    ("MME_Benchmark_release_version/eval_tool/readme.md", b"Read me."),
    ("MME_Benchmark_release_version/eval_tool/calculation.py", b"print()"),
]
SUBTASKS = {"subtasks": ("OCR", "artwork"), "broken_share": 0.0}


@pytest.mark.parametrize("front", [FRONT, "", "MME_Benchmark_release_version/"])
def test_mme_is_read_from_both_layouts_past_junk(tmp_path: Path, front: str) -> None:
    members = [(name.replace(FRONT, front), content) for name, content in [*JUNK, *OFFICIAL] if name != FRONT]
    metrics = run(tmp_path / "out", "questions-mme", SUBTASKS, raw_mme(tmp_path / "raw", members))
    assert metrics == {"questions": 8, "read": 10, "dropped: of another subtask": 2, "pictures_without_questions": 0}
    assert (tmp_path / "out" / "OCR.txt").read_text() == (
        "0001.PNG\tIs it one? Please answer yes or no.\tYes\n0001.PNG\tIs it not? Please answer yes or no.\tNo\n"
        "0002.jpg\tIs it two? Please answer yes or no.\tYes\n0002.jpg\tIs it not? Please answer yes or no.\tNo\n"
    )
    archive, questions = read_questions(tmp_path / "out")
    assert archive == MME
    assert [(one.id, one.image, one.text.split()[2]) for one in questions[4:]] == [
        ("artwork/0", f"{front}artwork/images/10.jpg", "ten?"), ("artwork/1", f"{front}artwork/images/10.jpg", "not?"),
        ("artwork/2", f"{front}artwork/images/9.jpg", "nine?"), ("artwork/3", f"{front}artwork/images/9.jpg", "not?"),
    ]  # fmt: skip


def test_mmes_pairs_about_a_broken_or_missing_image(tmp_path: Path) -> None:
    members = [(name, UNUSABLE["CMYK"] if name.endswith("0001.PNG") else content) for name, content in OFFICIAL]
    members.remove(members[0])  # artwork's image 9
    members.append((f"{FRONT}artwork/images/nobody-asks.jpg", jpeg(0)))
    raw = raw_mme(tmp_path / "raw", members)
    said = refusal(tmp_path / "1", "questions-mme", SUBTASKS, raw)
    assert "the images of 4 of 8 questions (50.000%) cannot be used" in said
    assert f"first: {FRONT}OCR/0001.PNG of {FRONT}OCR/0001.txt is CMYK: " in said
    out = tmp_path / "2"
    metrics = run(out, "questions-mme", SUBTASKS | {"broken_share": 0.5}, raw)
    assert metrics == {
        "questions": 4, "read": 10, "pictures_without_questions": 1, "dropped: of another subtask": 2,
        "dropped: image CMYK": 2, "dropped: image missing": 2,
    }  # fmt: skip
    ids = [question.id for question in read_questions(out)[1]]
    assert ids == ["OCR/0", "OCR/1", "artwork/0", "artwork/1"]
    assert [line.split("\t")[0] for line in (out / "OCR.txt").read_text().splitlines()] == ["0002.jpg"] * 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("OCR/0001.txt", b"Is it?\tYes\n", "OCR/0001.txt: 1 questions; MME has two to an image; download it again"),
        ("OCR/0001.txt", b"", "OCR/0001.txt: 0 questions; MME has two to an image; download it again"),
        ("OCR/0001.txt", b"Is it?\tYes\n\nIs it not? No\n",
         "OCR/0001.txt: line 3 has 1 columns, not 2 (question, answer)"),
        ("OCR/0001.txt", b"Is it?\tYes\nIs it?\tmaybe\n",
         "OCR/0001.txt: line 2: the answer is 'maybe', neither Yes nor No"),
        ("OCR/0001.txt", b"Is it \xff?\tYes\n", "OCR/0001.txt: not UTF-8 text at byte 6"),
    ],
)  # fmt: skip
def test_mmes_texts_are_as_they_should_be(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    members = [(one, content if one == FRONT + name else old) for one, old in OFFICIAL]
    found = refusal(tmp_path / "out", "questions-mme", SUBTASKS, raw_mme(tmp_path / "raw", members))
    assert found == f"{tmp_path / 'raw' / MME / FRONT}/{said}"


def test_mmes_archive_holds_every_subtask_once(tmp_path: Path) -> None:
    asked = SUBTASKS | {"subtasks": ("count",)}
    found = refusal(tmp_path / "1", "questions-mme", asked, raw_mme(tmp_path / "raw", OFFICIAL))
    assert found == (
        f"{tmp_path / 'raw' / MME}: holds no questions of MME's subtask count; it holds OCR, artwork, code_reasoning"
    )
    twice = [*OFFICIAL, (f"{FRONT}OCR/0001.jpg", jpeg(0))]
    found = refusal(tmp_path / "2", "questions-mme", SUBTASKS, raw_mme(tmp_path / "raw", twice))
    assert found == (
        f"{tmp_path / 'raw' / MME}: {FRONT}OCR/0001.PNG and {FRONT}OCR/0001.jpg have the same name; "
        "MME has one for each"
    )


# --- the table -------------------------------------------------------------------------------------------------------


def table_of_data(tmp_path: Path, mixed: Folders, **known: object) -> Path:
    """The table of a training set and of MME, whose sources' files are known to hold this."""
    run(tmp_path / "connector", "prepare", PRETRAIN | {"broken_share": 1.0}, mixed)
    run(tmp_path / "mme", "questions-mme", SUBTASKS, raw_mme(tmp_path / "raw2", OFFICIAL))
    rows = (
        {"name": "connector", "use": "training", "source": "pretrain", "known": known.get("pretrain", ())},
        {"name": "MME", "use": "benchmark", "source": "mme", "known": known.get("mme", ())},
    )
    settings = {"name": "data", "rows": rows, "scale": "demo", "scale_note": "**This is the demo.**"}
    out = tmp_path / "table"
    metrics = run(out, "data-table", settings, {"sets": (tmp_path / "connector", tmp_path / "mme")})
    assert metrics == {"sets": 2, "reasons": 7}
    return out


def test_the_table_of_data_has_a_row_for_each_set_that_sums_up(mixed: Folders, tmp_path: Path) -> None:
    out = table_of_data(tmp_path, mixed)
    assert (out / "data.csv").read_text() == (
        "set,use,source,unit,read,dropped: image CMYK,dropped: image animated,dropped: image broken,"
        "dropped: image missing,dropped: image oversized,dropped: image truncated,dropped: of another subtask,kept,"
        "known,differs\n"
        "connector,training,pretrain,samples,25,1,1,1,1,1,1,0,19,,\n"
        "MME,benchmark,mme,questions,10,0,0,0,0,0,0,2,8,,\n"
    )
    lines = (out / "data.md").read_text().splitlines()
    assert "**This is the demo.**" in lines and "Scale: demo." in lines[4]
    assert lines[-1] == "| MME | benchmark | mme | 10 | 2 of another subtask | 8 questions | - |"


def test_the_table_of_data_says_where_files_differ_from_what_is_known_of_them(mixed: Folders, tmp_path: Path) -> None:
    unread = {"file": "metadata.json", "counts": {"records": 1}, "source": "nobody"}
    of_chat = {"file": "chat.json", "counts": {"records": 25}, "source": "a README"}
    counts = {"questions": 2374, "subtasks": 3, "questions of OCR": 4, "questions of count": 60}
    of_mme = {"file": MME, "counts": counts, "source": "its paper"}
    out = table_of_data(tmp_path, mixed, pretrain=(of_chat, unread), mme=(of_mme,))
    with (out / "data.csv").open() as file:
        connector, mme = csv.DictReader(file)
    assert (connector["known"], connector["differs"]) == ("chat.json: 25 records", "")
    assert mme["known"] == f"{MME}: 2,374 questions, 3 subtasks, 4 questions of OCR, 60 questions of count"
    differences = [
        f"{MME}: 10 questions instead of 2,374 (-2,364)", f"{MME}: 0 questions of count instead of 60 (-60)",
    ]  # fmt: skip
    assert mme["differs"] == "; ".join(differences)
    text = (out / "data.md").read_text()
    assert "| 19 samples | the same |" in text and f"| **differs:** {mme['differs']} |" in text
    assert text.endswith(f"\nKnown of the files:\n\n- chat.json: 25 records (a README)\n- {mme['known']} (its paper)\n")


def test_what_a_file_holds_is_counted_before_anything_is_left_out(tmp_path: Path) -> None:
    images = [karpathy_image(0, "restval"), *map(karpathy_image, (1, 2)), karpathy_image(3, "val")]
    raw = raw_coco(tmp_path / "raw", images)
    run(tmp_path / "coco", "questions-captions", CAPTIONS | {"broken_share": 0.5}, raw)
    assert read(tmp_path / "coco" / "dropped.json")["files"] == {
        "caption_datasets.zip": {
            "images": 4, "images of restval": 1, "captions of restval": 5, "images of test": 2, "captions of test": 10,
            "images of val": 1, "captions of val": 5,
        }
    }  # fmt: skip
    run(tmp_path / "mme", "questions-mme", SUBTASKS, raw_mme(tmp_path / "raw2", OFFICIAL))
    held = {"questions of OCR": 4, "questions of artwork": 4, "questions of code_reasoning": 2}
    assert read(tmp_path / "mme" / "dropped.json")["files"] == {MME: {"questions": 10, "subtasks": 3, **held}}


# --- questions that no model can be asked ----------------------------------------------------------------------------


def asked_with(folder: Path, benchmark: str, text: str) -> tuple[str, dict[str, Any], Folders]:
    """A benchmark of two images that asks this of one of them: its stage, settings and files."""
    raw, images = folder / "raw", val2014(folder / "images", [])
    raw.mkdir()
    inputs = {"raw": raw, "images": images}
    if benchmark == "pope":
        lines = [json.dumps({"question_id": 1, "image": "COCO_val2014_000000000001.jpg", "text": text, "label": "no"})]
        for kind in ("random", "popular", "adversarial"):
            (raw / f"coco_pope_{kind}.json").write_text("".join(lines))
        return "questions-pope", {"broken_share": 0.0}, inputs
    if benchmark == "mme":
        pairs = f"{text}\tYes\nIs it not?\tNo\n".encode("utf-8", "surrogatepass")
        members = [(f"{FRONT}OCR/1.jpg", jpeg(1)), (f"{FRONT}OCR/1.txt", pairs)]
        return "questions-mme", SUBTASKS | {"subtasks": ("OCR",)}, raw_mme(raw, members)
    asked = {"questions": [{"image_id": 1, "question_id": 7, "question": text}]}
    write_zip(raw / "v2_Questions_Val_mscoco.zip", [("a.json", json.dumps(asked).encode())])
    annotations = {"annotations": [{"question_id": 7, "answers": []}]}
    write_zip(raw / "v2_Annotations_Val_mscoco.zip", [("a.json", json.dumps(annotations).encode())])
    return "questions-vqav2", {"questions": None, "broken_share": 0.0, "seed": 0}, inputs


BENCHMARKS = pytest.mark.parametrize(
    ("benchmark", "id"), [("pope", "popular/1"), ("mme", f"{FRONT}OCR/1.txt"), ("vqav2", "7")]
)


@BENCHMARKS
def test_a_question_that_no_model_can_be_asked_is_named(tmp_path: Path, benchmark: str, id: str) -> None:
    said = refusal(tmp_path / "out", *asked_with(tmp_path, benchmark, "Is <image> red?"))
    assert said.startswith(f"question {id} about ")
    assert said.endswith(": no prompt can hold <image>, in 'Is <image> red?'; mend the benchmark's file")


@BENCHMARKS
def test_a_question_with_half_a_character_is_named(tmp_path: Path, benchmark: str, id: str) -> None:
    said = refusal(tmp_path / "out", *asked_with(tmp_path, benchmark, "Is \ud83d red?"))
    said.encode()  # can be shown
    if benchmark == "mme":  # whose text has no escapes
        assert said.endswith("OCR/1.txt: not UTF-8 text at byte 3")
    else:
        assert said.startswith(f"question {id} about val2014/") and r": no prompt can hold \ud83d, in " in said


@BENCHMARKS
def test_other_strange_questions_are_asked_as_they_are(tmp_path: Path, benchmark: str, id: str) -> None:
    text = "Is \x00\x1b it </s> \u2028\x85 red?"
    run(tmp_path / "out", *asked_with(tmp_path, benchmark, text))
    assert read_questions(tmp_path / "out")[1][0].text == text


def test_an_example_that_no_model_can_be_shown_is_refused() -> None:
    Question("1", "a.jpg", "?", (("What?", "a </s> cat"),))
    with pytest.raises(UserError, match=r"question 1 about a\.jpg: no prompt can hold <image>, in 'an <image>'"):
        Question("1", "a.jpg", "?", (("What?", "a cat"), ("What?", "an <image>")))


def test_images_are_found_whatever_form_of_unicode_their_names_have(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    names = ["caf\u00e9", "cafe\u0301"]  # one name, composed and decomposed
    records = [{"id": k, "image": f"{k}{names[k]}.jpg", "conversations": talk("<image>", "a")} for k in (0, 1)]
    (tmp_path / "raw" / "chat.json").write_text(json.dumps(records))
    with zipfile.ZipFile(tmp_path / "raw" / "images.zip", "w") as archive:
        for k in (0, 1):
            archive.writestr(f"{k}{names[1 - k]}.jpg", jpeg(k))
    run(tmp_path / "out", "prepare", PRETRAIN, {"raw": tmp_path / "raw"})
    kept = read_samples(tmp_path / "out")[1]
    assert [one.image for one in kept] == [f"{k}{names[k]}.jpg" for k in (0, 1)]


def test_mmes_texts_belong_to_images_whose_names_have_another_form(tmp_path: Path) -> None:
    members = [(f"{FRONT}OCR/caf\u00e9.jpg", jpeg(1)), (f"{FRONT}OCR/cafe\u0301.txt", pair("one"))]
    settings = SUBTASKS | {"subtasks": ("OCR",)}
    metrics = run(tmp_path / "out", "questions-mme", settings, raw_mme(tmp_path / "raw", members))
    assert (metrics["questions"], metrics["pictures_without_questions"]) == (2, 0)

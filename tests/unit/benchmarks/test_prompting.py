"""Few-shot examples drawn for each question, and the prompts of every benchmark under every protocol, to the letter."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkout import ROOT
from image_files import jpeg
from lntune.benchmarks.captions.formats import ARCHIVE as SPLITS
from lntune.benchmarks.captions.formats import read_split
from lntune.benchmarks.official_files import read_json
from lntune.benchmarks.registry import by_name, protocol_settings
from lntune.benchmarks.vqav2 import score as vqav2_score
from lntune.config.load import load
from lntune.data.archives import write_zip
from lntune.data.samples import Question, read_questions
from lntune.errors import UserError
from lntune.model.prompts import TEMPLATES
from lntune.plan.models import Models, Variant
from lntune.plan.study import Study
from lntune.stages.draw import draw_set
from stage_runs import Folders, draw_small, refusal, run

DRAWN = {"number": 3, "pool": 1000, "seed": 42}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("drawn"))


def of(folder: Path) -> Folders:
    """Questions and images from one folder."""
    return {"raw": folder, "images": folder}


def test_examples_of_captions_are_real_captions_of_the_training_split(tmp_path: Path) -> None:
    """Not three fixed sentences in the words of the demo's world."""
    draw_set("flickr30k", tmp_path, 100, 0, {})
    settings = {"dataset": "flickr30k", "split": "test", "request": "Describe it.", "broken_share": 0.0, "shots": DRAWN}
    run(tmp_path / "out", "questions-captions", settings, of(tmp_path))
    images = read_split(tmp_path, "flickr30k")
    captions = {
        one["raw"]: n for n, image in enumerate(images) if image["split"] == "train" for one in image["sentences"]
    }
    questions = read_questions(tmp_path / "out")[1]
    for question in questions:
        assert len(question.shots) == 3 and {asked for asked, _ in question.shots} == {"Describe it."}
        assert len({captions[said] for _, said in question.shots}) == 3, "of three images"
    assert len({question.shots for question in questions}) > len(questions) / 2, "others for every question"
    run(tmp_path / "other", "questions-captions", settings | {"shots": DRAWN | {"seed": 1}}, of(tmp_path))
    assert read_questions(tmp_path / "other")[1] != questions
    few = settings | {"shots": DRAWN | {"number": 6}}
    assert refusal(tmp_path / "few", "questions-captions", few, of(tmp_path)) == (
        f"{tmp_path / SPLITS / 'dataset_flickr30k.json'}: has 5 examples for question {questions[0].id} where the "
        "protocol draws 6; lower number in its drawn_shots"
    )


def test_examples_of_a_vqav2_question_depend_on_no_other_and_are_never_itself(world: Path, tmp_path: Path) -> None:
    annotated: Any = read_json(world / "vqav2" / "v2_Annotations_Val_mscoco.zip")
    asked: Any = read_json(world / "vqav2" / "v2_Questions_Val_mscoco.zip")
    first = {str(one["question_id"]): one["answers"][0]["answer"] for one in annotated["annotations"]}
    known = {(one["question"], first[str(one["question_id"])]) for one in asked["questions"]}

    def drawn(name: str, asked_for: int | None, **shots: int) -> dict[str, Question]:
        settings = {"questions": asked_for, "broken_share": 0.0, "seed": 0, "shots": DRAWN | shots}
        run(tmp_path / name, "questions-vqav2", settings, {"raw": world / "vqav2", "images": world / "coco"})
        questions = read_questions(tmp_path / name)[1]
        assert list(map(str, vqav2_score.read_questions(tmp_path / name / "questions.json"))) == [
            q.id for q in questions
        ]
        return {question.id: question for question in questions}

    everything, some = drawn("all", None), drawn("some", 10)
    assert len(everything) == 36 and len(some) == 10
    assert all(everything[id] == question for id, question in some.items()), "however many are asked"
    for question in everything.values():
        assert len(question.shots) == 3 and set(question.shots) <= known
    closest = drawn("closest", None, number=35)
    for id, question in closest.items():
        own, others = (question.text, first[id]), [one for one in known if one != (question.text, first[id])]
        texts = [(one["question"], first[str(one["question_id"])]) for one in asked["questions"]]
        assert question.shots.count(own) == texts.count(own) - 1 and set(others) <= set(question.shots)


def test_the_pool_of_vqav2_is_not_asked_and_the_order_is_numpys(world: Path, tmp_path: Path) -> None:
    """With seed 42, 2,048 and 5,000 of the official file these are the questions of Sight-Beyond-Text."""
    asked: Any = read_json(world / "vqav2" / "v2_Questions_Val_mscoco.zip")
    np.random.seed(42)
    order = np.random.choice(36, 8 + 20, replace=False)
    expected = [asked["questions"][k] for k in order]
    settings = {"questions": 20, "broken_share": 0.0, "seed": 0, "shots": DRAWN | {"pool": 8}}
    run(tmp_path / "out", "questions-vqav2", settings, {"raw": world / "vqav2", "images": world / "coco"})
    questions = read_questions(tmp_path / "out")[1]
    assert {question.id for question in questions} == {str(one["question_id"]) for one in expected[8:]}
    pool = {one["question"] for one in expected[:8]}
    assert {text for question in questions for text, _ in question.shots} <= pool


# --- golden prompts

QUESTIONS = {
    "mme": "Is there a dog in this image? Please answer yes or no.",
    "vqav2": "What color is the dog?",
    "mscoco": None,  # the protocol's request
    "flickr30k": None,
    "pope": "Is there a dog in the image?",
}


def small_set(folder: Path, benchmark: str) -> Folders:
    """Raw files of a set with one question to ask and three others to draw from; its images in a broken archive."""
    folder.mkdir()
    if benchmark == "vqav2":
        texts = ["What color is the dog?", " How many cats? ", "Is it day?", "Where is he?"]
        answers = ["brown", "2", " yes", "left"]
        records = [{"image_id": 1, "question_id": n, "question": text} for n, text in enumerate(texts)]
        humans = [[{"answer": said, "answer_id": k} for k, said in enumerate([one, "other"], 1)] for one in answers]
        kinds = {"question_type": "what", "answer_type": "other"}
        annotations = [{"question_id": n, "answers": humans[n]} | kinds for n in range(4)]
        write_zip(folder / "v2_Questions_Val_mscoco.zip", [("q.json", json.dumps({"questions": records}).encode())])
        write_zip(
            folder / "v2_Annotations_Val_mscoco.zip", [("a.json", json.dumps({"annotations": annotations}).encode())]
        )
        write_zip(folder / "val2014.zip", [("val2014/COCO_val2014_000000000001.jpg", jpeg())])
    else:
        train = ["A red ball. "], ["Two men on a boat."], ["Snow"]
        captions = [("test", ["a"]), *(("train", texts) for texts in train)]
        images = [
            {
                "filename": f"{n}.jpg", "filepath": "val2014", "imgid": n, "cocoid": n, "split": split,
                "sentences": [{"raw": text, "sentid": n} for text in texts],
            }
            for n, (split, texts) in enumerate(captions)
        ]  # fmt: skip
        dataset, archive, member = {
            "mscoco": ("coco", "val2014.zip", "val2014/0.jpg"),
            "flickr30k": ("flickr30k", "flickr30k-images.zip", "flickr30k-images/0.jpg"),
        }[benchmark]
        write_zip(folder / SPLITS, [(f"dataset_{dataset}.json", json.dumps({"images": images}).encode())])
        write_zip(folder / archive, [(member, jpeg())])
    return of(folder)


def asked(tmp_path: Path, benchmark: str, protocol: str, llm: str) -> str:
    """The prompt of a benchmark's first question, by the plan's own settings at the paper's scale."""
    models = Models(Study.read(ROOT, {"scale": "paper", "protocol": protocol}), [])
    settings = models._asked(Variant(llm, "clip", "layernorm", "80K", 0), benchmark)
    text = QUESTIONS[benchmark] or models.protocol.options("captions").request
    question = Question("0", "image.jpg", text)
    if benchmark in ("vqav2", "mscoco", "flickr30k"):
        node = models.questions(benchmark)
        raw = small_set(tmp_path / benchmark, benchmark)
        run(tmp_path / "out", node.stage, node.settings.model_dump(), raw)
        question = next(one for one in read_questions(tmp_path / "out")[1] if one.id == "0")
        assert question.text == text
    return settings.prompt(question).text


V0_FRONT = f"{TEMPLATES['vicuna_v0'].system}###{TEMPLATES['vicuna_v0'].first}"  # tests/unit/model/test_prompts.py
V1_FRONT = f"{TEMPLATES['v1'].system} USER: "
LLAMA_2_FRONT = f"[INST] <<SYS>>\n{TEMPLATES['llama_2'].system}\n<</SYS>>\n\n"
DESCRIBE = "Please provide a description of the picture."
CAPTIONS = (
    f"{DESCRIBE}###Assistant: A red ball.###Human: {DESCRIBE}###Assistant: Two men on a boat.###Human: {DESCRIBE}"
    f"###Assistant: Snow###Human: <image>\n{DESCRIBE}###Assistant:"
)
PAPER = {
    "mme": "<image>\nIs there a dog in this image? Please answer yes or no.###Assistant:",
    "vqav2": "Where is he?###Assistant: left###Human: How many cats?###Assistant: 2###Human: Is it day?"
    "###Assistant: yes###Human: <image>\nWhat color is the dog?###Assistant:",
    "mscoco": CAPTIONS,
    "flickr30k": CAPTIONS,
    "pope": "<image>\nIs there a dog in the image?###Assistant:",
}
MODERN = {
    "mme": "<image>\nIs there a dog in this image? Please answer yes or no.",
    "vqav2": "<image>\nWhat color is the dog?\nAnswer the question using a single word or phrase.",
    "mscoco": "<image>\nProvide a one-sentence caption for the provided image.",
    "flickr30k": "<image>\nProvide a one-sentence caption for the provided image.",
    "pope": "<image>\nIs there a dog in the image?",
}
GOLDEN = [
    *(("paper", llm, name, V0_FRONT + text) for llm in ("vicuna-7b", "llama2-7b") for name, text in PAPER.items()),
    *(("modern", "vicuna-7b", name, f"{V1_FRONT}{text} ASSISTANT:") for name, text in MODERN.items()),
    *(("modern", "llama2-7b", name, f"{LLAMA_2_FRONT}{text} [/INST]") for name, text in MODERN.items()),
]


@pytest.mark.parametrize(("protocol", "llm", "benchmark", "prompt"), GOLDEN, ids=["-".join(one[:3]) for one in GOLDEN])
def test_prompt_of_a_benchmark_is_golden(protocol: str, llm: str, benchmark: str, prompt: str, tmp_path: Path) -> None:
    assert asked(tmp_path, benchmark, protocol, llm) == prompt


def test_every_protocol_and_benchmark_has_a_golden_prompt() -> None:
    protocols = [path.stem for path in (ROOT / "workflow/protocols").glob("*.yaml")]
    assert {(one[0], one[2]) for one in GOLDEN} == {(protocol, name) for protocol in protocols for name in by_name()}


def test_models_are_trained_on_the_templates_of_the_sibling_code() -> None:
    """v1 for Vicuna, llava_llama_2 for LLaMA 2 (Sight-Beyond-Text, train_scripts/finetune-7b.sh); not v0."""
    llms = Study.read(ROOT, {"scale": "paper"}).scale.llms
    assert {name: one.template for name, one in llms.items()} == {
        "vicuna-7b": "v1", "llama2-7b": "llama_2", "llama2-chat-7b": "llama_2", "llama2-13b": "llama_2",
        "llama2-chat-13b": "llama_2",
    }  # fmt: skip


def test_a_benchmark_has_fixed_or_drawn_examples_but_not_both(tmp_path: Path) -> None:
    text = (ROOT / "workflow/protocols/paper.yaml").read_text()
    fixed = "shots: [{question: What?, answer: This}]"
    for content, said in (
        (text.replace("questions: 5000", f"questions: 5000\n    {fixed}"), "vqav2: gives both shots and drawn_shots"),
        (text.replace("max_new_tokens: 10}", "max_new_tokens: 10, drawn_shots: {number: 3, pool: 9, seed: 0}}"),
         "benchmarks.pope.drawn_shots: unknown key"),
    ):  # fmt: skip
        (tmp_path / "own.yaml").write_text(content)
        with pytest.raises(UserError, match=said):
            load(tmp_path / "own.yaml", protocol_settings())
    (tmp_path / "own.yaml").write_text(text.replace("drawn_shots: {number: 3, pool: 2048, seed: 42}", fixed))
    assert load(tmp_path / "own.yaml", protocol_settings()).prompting("vqav2").shots[0].answer == "This"

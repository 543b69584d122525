"""Tuned models in Hugging Face's form, reloaded by transformers and PEFT alone: equal, or not written.

The LLM and the CLIP are the demo's. Rows are of a store whose results are made here, without a run of Snakemake.
"""

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from checkout import ROOT, copy_checkout
from chromium import find_chromium
from finished import finish
from lntune.commands.ask import Asked, ask, load_models, page_server
from lntune.commands.publish import BASE, CLOSE, load_published, publish, write_checked
from lntune.config.protocol import Prompting, Shot
from lntune.config.training import LoraSettings
from lntune.data.images import ImageArchive
from lntune.data.samples import Question, read_answers, read_questions, write_questions
from lntune.errors import UserError
from lntune.model.multimodal import assemble, save_connector
from lntune.model.tuning import apply_method, trainable_state
from lntune.plan.node import input_folders, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import PredictJob, predictions
from lntune.stages import predict
from lntune.stages.asked import Execution, messages
from lntune.store.job import Job
from local_hub import LocalHub

WEIGHTS = ROOT / "workflow" / "weights"
LLM = WEIGHTS / "vicuna-7b"
LORA = LoraSettings(rank=4, alpha=8, dropout=0.05)
METHODS = ["finetune", "lora", "attn-qv", "layernorm", "layernorm-simp"]
FAMILIES: dict[str, dict[str, Any]] = {  # each with something else, so that all of it is tried
    "llama": {},
    "mistral": {"connector": "mlp2x_gelu"},
    "qwen2": {"template": "chat", "system": "Be brief."},
}
OWN_TEMPLATE = (  # whose loops and conditions are those of the published ones
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}{{ '| ' + message['role'] + ':\n' + message['content'] }}"
    "{{ eos_token if message.role == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}| assistant{{ '' if enable_thinking is false else ' hm' }}:\n{% endif %}"
)
TOKEN, REPO = "hf_SecretThatNobodyMaySee", "someone/layernorm"
ROW, OTHER = "tiny LayerNorm-Conv. 20K", "tiny Finetune-80K"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 questions about 4 pictures of other sizes than the encoder's."""
    folder = tmp_path_factory.mktemp("asked")
    generator = torch.Generator().manual_seed(0)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number in range(4):
            pixels = torch.randint(0, 255, (50 + 9 * number, 70, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / "one.png")
            archive.write(folder / "one.png", f"{number}.png")
    words = ["cat", "dog", "tree", "house", "castle", "red", "green", "two", "three"]
    texts = [f"Is there a {words[k % 9]} near the {words[k // 9]} ?" for k in range(60)]
    write_questions(folder, "images.zip", [Question(str(k), f"{k % 4}.png", text) for k, text in enumerate(texts)])
    return folder


@pytest.fixture(scope="module")
def llms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An LLM of each family: the demo's, cut to two blocks; Qwen2 has biases, no start token and a template."""
    found = {}
    for family in FAMILIES:
        found[family] = folder = tmp_path_factory.mktemp(family)
        names = ("tokenizer.json", "tokenizer_config.json", "config.json")
        tokenizer, named, config = (json.loads((LLM / name).read_text(encoding="utf-8")) for name in names)
        config |= {"model_type": family, "num_hidden_layers": 2, "sliding_window": None}
        del config["architectures"]
        weights = {name: one for name, one in load_file(LLM / "model.safetensors").items() if ".layers.3" not in name}
        weights = {name: one for name, one in weights.items() if ".layers.2" not in name}
        if family == "qwen2":
            for name in [name for name in weights if name.rpartition(".")[0].endswith(("q_proj", "k_proj", "v_proj"))]:
                weights[name.replace("weight", "bias")] = torch.full((weights[name].shape[0],), 0.1)
            tokenizer["post_processor"] = None
            named = {**named, "chat_template": OWN_TEMPLATE, "bos_token": None}
        for name, content in zip(names, (tokenizer, named, config), strict=True):
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return found


def tune(connector: Path, tuned: Path, method: str, llm: Path = LLM, kind: Any = "linear") -> None:
    """Write a connector, and what a method tunes, each weight by something."""
    model = assemble(llm, WEIGHTS / "clip", "open_clip", seed=0, connector=kind)
    connector.mkdir(parents=True, exist_ok=True)
    tuned.mkdir(parents=True, exist_ok=True)
    save_connector({f"connector.{name}": value for name, value in model.connector.state_dict().items()}, connector)
    apply_method(model, method, LORA, seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: (value + 0.05 * torch.randn(value.shape, generator=generator)).contiguous()
        for name, value in trainable_state(model).items()
    }
    save_file(state, tuned / "tuned.safetensors")


def job_of(folder: Path, method: str, asked: Path, *, llm: Path = LLM, shots: Any = (), **chosen: Any) -> PredictJob:
    """A predict job of a model that the method tuned, each weight by something."""
    given = {"template": "v1", "system": "", **chosen}
    settings = predict.Settings(
        method=method, lora=LORA, library="open_clip", seed=0, temperature=0.0, top_k=None, min_new_tokens=0,
        blind=False, prompting=Prompting(max_new_tokens=8, shots=shots), **given,
    )  # fmt: skip
    tune(folder / "connector", folder / "tuned", method, llm, settings.connector)
    inputs = {
        "llm": llm, "vision": WEIGHTS / "clip", "connector": folder / "connector", "tuned": folder / "tuned",
        "questions": asked, "images": asked,
    }  # fmt: skip
    execution = Execution(batch_size=16, threads=1)
    return Job(f"a {method}", settings, execution, inputs, folder / "out", folder / "scratch")


def logits(model: Any, processor: Any, asked: Path) -> torch.Tensor:
    """What a published model says to the last question, as its card asks."""
    with zipfile.ZipFile(asked / "images.zip").open("3.png") as file:
        picture = Image.open(file).convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "Is there a cat near the tree ?"}]
    given = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        found: torch.Tensor = model(**given).logits[0, -1]
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_and_its_adapter_say_the_same_and_merged_and_saved_too(
    family: str, method: str, asked: Path, tmp_path: Path, llms: dict[str, Path]
) -> None:
    job = job_of(tmp_path, method, asked, llm=llms[family], **FAMILIES[family])
    whole, adapter, merged = (tmp_path / name for name in ("whole", "adapter", "merged"))
    found = write_checked(job, whole, adapter=False, activation="linear")
    assert (found.questions, found.adapter, found.beside) == (60, False, 0)
    assert found.difference < 1e-4
    expected = logits(*load_published(whole), asked)
    found = write_checked(job, adapter, adapter=True, activation="linear")
    assert found.adapter == (method != "finetune"), "which tunes every weight, so there is nothing smaller"
    assert found.difference < 1e-4
    model, processor = load_published(adapter)
    assert (logits(model, processor, asked) - expected).abs().max() < 1e-4
    if found.adapter:
        untuned = AutoModelForImageTextToText.from_pretrained(adapter / BASE).eval()
        assert (logits(untuned, processor, asked) - expected).abs().max() > 1e-2, "the base lacks what was tuned"
        model.merge_and_unload().save_pretrained(merged)
        again = AutoModelForImageTextToText.from_pretrained(merged).eval()
        assert (logits(again, processor, asked) - expected).abs().max() < 1e-4


def test_generate_gives_the_answers_of_predict(asked: Path, tmp_path: Path) -> None:
    """In the form with GELU, with shots, and with an end of two tokens."""
    shots = (Shot(question="Is it red ?", answer="yes"),)
    job = job_of(tmp_path, "layernorm", asked, template="v0", shots=shots)
    found = write_checked(job, tmp_path / "gelu", adapter=False, activation="gelu")
    assert found.difference < CLOSE / 10
    job.out.mkdir()
    predict.run(job)
    answers = read_answers(job.out)
    model, processor = load_published(tmp_path / "gelu")
    archive, questions = read_questions(asked)
    for question in questions[:6]:
        turns = messages(job.settings.turns(question), ImageArchive(asked / archive).image(question.image))
        given = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
        said = model.generate(**given, tokenizer=processor.tokenizer)[0, given["input_ids"].shape[1] :]
        text = processor.decode(said, skip_special_tokens=True)
        assert text.partition("###")[0].strip() == answers[question.id]


def test_what_would_not_load_identically_is_refused(asked: Path, tmp_path: Path) -> None:
    """A question that says </s>: here its characters, to transformers' processor the end of a sequence."""
    job = job_of(tmp_path, "layernorm-simp", asked)
    shutil.copytree(asked, tmp_path / "odd")
    write_questions(tmp_path / "odd", "images.zip", [Question("7", "0.png", "What does </s> mean ?")])
    odd = replace(job, inputs={**job.inputs, "questions": tmp_path / "odd"})
    with pytest.raises(UserError, match="not written: question 7 has other token ids in transformers' processor than"):
        write_checked(odd, tmp_path / "whole", adapter=False, activation="linear")


def test_quick_gelu_is_published_as_such_and_a_timm_encoder_is_refused(asked: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, "layernorm-simp", asked)
    shutil.copytree(WEIGHTS / "clip", tmp_path / "quick")
    config = json.loads((tmp_path / "quick" / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"], config["preprocess_cfg"]["resize_mode"] = True, "shortest"
    (tmp_path / "quick" / "open_clip_config.json").write_text(json.dumps(config))
    quick = replace(job, inputs={**job.inputs, "vision": tmp_path / "quick"})
    found = write_checked(quick, tmp_path / "whole", adapter=False, activation="linear")
    assert found.difference < 1e-4
    assert found.beside == 15, "of one picture in four, 50 x 70, half a pixel is rounded otherwise"
    written = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert written["vision_config"]["hidden_act"] == "quick_gelu"
    names = load_file(tmp_path / "whole" / "model.safetensors").keys()
    assert len(names) == len(set(names)) and "lm_head.weight" in {
        name.removeprefix("language_model.") for name in names
    }
    vit = replace(
        job,
        settings=job.settings.model_copy(update={"library": "timm"}),
        inputs={**job.inputs, "vision": WEIGHTS / "imagenet-vit"},
    )
    with pytest.raises(UserError, match="only open_clip's CLIP can be published"):
        write_checked(vit, tmp_path / "vit", adapter=False, activation="linear")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- rows of a store -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, asked: Path) -> Path:
    """A checkout whose store holds the models of two rows, with their answers to the questions of ``asked``."""
    checkout = copy_checkout(tmp_path_factory.mktemp("stored") / "checkout")
    plan = Plan(Study.read(checkout.root))
    finish(plan, "tiny", lambda node: 1.0)
    for row, method in ((ROW, "layernorm"), (OTHER, "finetune")):
        item, _, by_column = predictions(plan, row)
        node = by_column["MME"]
        folders = {role: one for role, one in input_folders(plan.store, node).items() if isinstance(one, Path)}
        for role, source in {"llm": LLM, "vision": WEIGHTS / "clip", "questions": asked, "images": asked}.items():
            shutil.copytree(source, folders[role], dirs_exist_ok=True)
        tune(folders["connector"], folders["tuned"], method)
        assert isinstance(node.settings, predict.Settings) and isinstance(node.execution, Execution)
        out = result_folder(plan.store, node)
        predict.run(Job(node.label, node.settings, node.execution, folders, out, out))
        cells = [{"row": one.name, "column": "POPE", "value": "<b>71.5|"} for one in item.settings.rows]
        (result_folder(plan.store, item) / "cells.json").write_text(json.dumps(cells))
    return checkout.root


def posed(root: Path) -> tuple[list[tuple[Question, bytes]], dict[str, str]]:
    """The questions with the bytes of their pictures, and the answers that the stage predict gave."""
    plan = Plan(Study.read(root))
    node = predictions(plan, ROW)[2]["MME"]
    folders = input_folders(plan.store, node)
    assert isinstance(folders["questions"], Path) and isinstance(folders["images"], Path)
    archive, questions = read_questions(folders["questions"])
    with zipfile.ZipFile(folders["images"] / archive) as pictures:
        found = [(one, pictures.read(one.image)) for one in questions]
    return found, read_answers(result_folder(plan.store, node))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # read once; the stand-in has git-lfs
    with LocalHub(tmp_path / "hub") as started:
        for name, value in (started.environment | {"HF_TOKEN": TOKEN}).items():
            monkeypatch.setenv(name, value)
        yield started


def test_a_row_becomes_a_folder_with_a_card_on_the_hub(stored: Path, tmp_path: Path, hub: LocalHub) -> None:
    from huggingface_hub import ModelCard

    out = tmp_path / "published"
    printed = publish(stored, ROW, out, repo=REPO)
    assert re.search(r"published: a LLaVA for transformers; .* logits within \d", printed), printed
    card = ModelCard.load(out / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "transformers", "image-text-to-text", "other",
    )  # fmt: skip
    assert "layernorm" in card.data.tags
    assert r"| POPE | \<b\>71.5\| |" in card.text, "what comes from data is escaped"
    assert "Scale: tiny" in card.text
    sent = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert hub.pushed[REPO].keys() - {".gitattributes"} == sent.keys()
    assert all(hub.pushed[REPO][name] == content for name, content in sent.items())
    assert f"sent to {hub.endpoint}/{REPO}" in printed
    for name, content in sent.items():
        assert TOKEN.encode() not in content, name
        assert str(stored).encode() not in content and b"/results/" not in content, f"{name} names a path of ours"
    assert TOKEN not in printed
    assert not list(tmp_path.glob(".*")), "no part is left"
    with pytest.raises(UserError, match="is there already; name a new folder"):
        publish(stored, ROW, out)


def test_a_hub_that_refuses_and_rows_that_are_none_are_one_line(
    stored: Path, tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"tiny has no row 'LayerNorm-80'; did you mean 'LayerNorm-Conv. 20K'"):
        publish(stored, "tiny LayerNorm-80", tmp_path / "none")
    plan = Plan(Study.read(stored))
    assert predictions(plan, ROW.lower())[1] == predictions(plan, ROW)[1], "as trace takes it"
    with pytest.raises(UserError, match="--benchmark FUN: is no such column; there are MME, VQAv2"):
        load_models(stored, [ROW], "FUN")
    hub.writers = {"another"}
    with pytest.raises(UserError, match=f"{REPO}: the hub refuses .HTTP 403.; HF_TOKEN must be allowed") as refused:
        publish(stored, ROW, tmp_path / "adapter", adapter=True, repo=REPO)
    assert TOKEN not in str(refused.value)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file(), "what was written stays"
    card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "PeftModel.from_pretrained(model, name)" in card and "base_model: base" in card
    # It can be sent later, elsewhere too, as it is; what is of another row, or is none of ours, is not.
    hub.writers, again = None, "another/layernorm"
    printed = publish(stored, ROW, tmp_path / "adapter", adapter=True, repo=again)
    assert "was there already, of this row" in printed and f"sent to {hub.endpoint}/{again}" in printed
    assert f'name = "{again}"'.encode() in hub.pushed[again]["README.md"] and "base/config.json" in hub.pushed[again]
    with pytest.raises(UserError, match="adapter: holds no model of this row as it is now; name a new folder"):
        publish(stored, OTHER, tmp_path / "adapter", repo=again)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is there already; name a new folder, or with --push"):
        publish(stored, ROW, tmp_path / "mine", repo=again)


def test_answers_are_those_that_were_scored(
    stored: Path, models: list[Asked], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (asked, scored), model = posed(stored), models[0]
    assert [model.answer(picture, one.text) for one, picture in asked[:12]] == [scored[one.id] for one, _ in asked[:12]]
    (tmp_path / "one.png").write_bytes(asked[0][1])
    ask([model], tmp_path / "one.png", asked[0][0].text)
    assert capsys.readouterr().out == scored[asked[0][0].id] + "\n"
    (tmp_path / "typed").write_text(f"{asked[0][0].text}\nand what else ?\n\n", encoding="utf-8")
    with (tmp_path / "typed").open(encoding="utf-8") as typed:
        monkeypatch.setattr("sys.stdin", typed)
        ask([model], tmp_path / "one.png")
    first, second = capsys.readouterr().out.splitlines()
    assert first == scored[asked[0][0].id]
    assert second == model.answer(asked[0][1], "and what else ?", [(asked[0][0].text, first)])
    (tmp_path / "none.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="the picture is not a readable image"):
        ask([model], tmp_path / "none.png", "What is it ?")


@pytest.fixture(scope="module")
def models(stored: Path) -> list[Asked]:
    """Two models, to be asked side by side."""
    return load_models(stored, [ROW, OTHER], "MME")


@pytest.fixture
def address(models: list[Asked]) -> Iterator[str]:
    """Where the page of the two is served."""
    with page_server(models, 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def post(address: str, picture: bytes, text: str, **headers: str) -> str:
    """The page that answers a form as a browser sends it."""
    parts = [b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n' + picture]
    parts += [b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\n' + text.encode(), b"--b--\r\n"]
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(address, b"\r\n".join(parts), kind | headers)
    with urllib.request.urlopen(request) as answered:
        return str(answered.read().decode())


def test_the_page(stored: Path, models: list[Asked], address: str) -> None:
    """Two models side by side; what is typed is text; a request from elsewhere is none of ours."""
    asked, scored = posed(stored)
    question, picture = asked[0]
    page = post(address, picture, question.text)
    assert f"<td>{models[0].title}</td><td>{scored[question.id]}</td>" in page
    assert page.count("<tr><td>") == 2
    assert "<script>" not in post(address, picture, "<script>alert(1)</script>")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(address, picture, question.text, Host="elsewhere.example")


def test_the_page_in_a_browser(stored: Path, models: list[Asked], address: str, tmp_path: Path) -> None:
    """Debian's Chromium; where it is missing (.ci/install-chromium) skipped, or with LNTUNE_REQUIRE_CHROMIUM failed."""
    browser = find_chromium()

    def shown(page: str) -> str:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        done = subprocess.run([*command, "--dump-dom", page], capture_output=True, text=True, timeout=300, check=True)
        return done.stdout

    dom = shown(address)
    assert f"<td>{models[1].title}</td>" in dom and 'type="file"' in dom
    asked, scored = posed(stored)
    question, picture = asked[0]
    (tmp_path / "answered.html").write_text(post(address, picture, question.text), encoding="utf-8")
    assert f"<td>{scored[question.id]}</td>" in shown((tmp_path / "answered.html").as_uri())

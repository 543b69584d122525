"""Kinds of bad input that are no mistakes in a YAML file (tests/unit/config has those): each is one line.

It names the file and the record, or the argument, and what to do; and what was finished is still there.
"""

import io
import json
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT, Checkout
from lntune import cli
from lntune.errors import UserError
from lntune.jobs.run import main as run_job
from lntune.model.llm import load_llm, load_tokenizer
from lntune.model.vision import load_vision
from stage_runs import draw_small, run

WEIGHTS = ROOT / "workflow" / "weights"
INSTRUCT = {"format": "llava-instruct", "types": (), "samples": None, "broken_share": 0.0, "seed": 0}
PRETRAIN = INSTRUCT | {"format": "llava-pretrain"}
CAPTIONS = {"dataset": "coco", "split": "test", "request": "Describe it.", "broken_share": 0.0}
VQA = {"questions": None, "broken_share": 0.0, "seed": 0}
MME = {"subtasks": ("OCR",), "broken_share": 0.0}
POPE = {"broken_share": 0.0}
ASKED, ANNOTATED = "v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip"
SPLITS, LLAVA, POPULAR = "caption_datasets.zip", "llava_instruct_80k.json", "coco_pope_popular.json"
MME_ZIP = "MME_Benchmark_release_version.zip"
MME_JOB, POPE_JOB = (f"results/.jobs/score-{name}/*.json" for name in ("mme", "pope"))

Change = bytes | Callable[[bytes], bytes] | None


def spoil(path: Path, change: Change) -> None:
    """Put other bytes in place of a file, never into it (it may be a hard link), or none."""
    content = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True)
    if change is not None:
        path.write_bytes(change(content) if callable(change) else change)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without(*keys: str | int) -> Callable[[bytes], bytes]:
    """The JSON in a file without what these keys lead to."""

    def changed(content: bytes) -> bytes:
        value = json.loads(content)
        holder = reduce(getitem, keys[:-1], value)
        del holder[keys[-1]]
        return json.dumps(value).encode()

    return changed


def packed(change: Callable[[bytes], bytes], ending: str = "", more: tuple[str, ...] = ()) -> Callable[[bytes], bytes]:
    """A zip in which the first member of that ending is changed, with ``more`` empty members."""

    def changed(content: bytes) -> bytes:
        result = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
            first = next(name for name in old.namelist() if name.endswith(ending))
            for name in old.namelist():
                new.writestr(name, change(old.read(name)) if name == first else old.read(name))
            for name in more:
                new.writestr(name, b"")
        return result.getvalue()

    return changed


def encrypted(content: bytes) -> bytes:
    """A zip whose list says that each member is encrypted."""
    found, place = bytearray(content), content.find(b"PK\1\2")
    while place >= 0:
        found[place + 8] |= 1
        place = content.find(b"PK\1\2", place + 1)
    return bytes(found)


# What is spoilt: stage, settings, drawn set, file, how, and what the line says behind the path of the set's folder.
IN_STAGES: dict[str, tuple[str, dict[str, Any], str, str, Change, str]] = {
    "LLaVA's JSON missing": (
        "prepare", INSTRUCT, "instruct", LLAVA, None,
        "/llava_instruct_80k.json: no such file; download it",
    ),
    "LLaVA's JSON truncated": (
        "prepare", INSTRUCT, "instruct", LLAVA, cut,
        f"/{LLAVA}: not valid JSON (*; download it again",
    ),
    "LLaVA's JSON is an object": (
        "prepare", INSTRUCT, "instruct", LLAVA, b"{}",
        f"/{LLAVA}: holds no list of records but a dict; download it again",
    ),
    "LLaVA's JSON is a web page": (
        "prepare", INSTRUCT, "instruct", LLAVA, b"<!DOCTYPE html>",
        f"/{LLAVA}: not valid JSON (*; download it again",
    ),
    "LLaVA's JSON is a Git LFS pointer": (
        "prepare", INSTRUCT, "instruct", LLAVA, b"version https://git-lfs.github.com/spec/v1\n",
        f"/{LLAVA}: not valid JSON (*; download it again",
    ),
    "LLaVA's JSON in Latin-1": (
        "prepare", INSTRUCT, "instruct", LLAVA, '["é"]'.encode("latin-1"),
        f"/{LLAVA}: not valid JSON (*; download it again",
    ),
    "LLaVA's JSON empty": (
        "prepare", INSTRUCT, "instruct", LLAVA, b"",
        f"/{LLAVA}: not valid JSON (*; download it again",
    ),
    "LLaVA's JSON of another set": (
        "prepare", INSTRUCT, "instruct", LLAVA, b"[1, 2]",
        "out: no sample is left after the filters; are the files those of one set?",
    ),
    "image archive missing": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", None,
        "/train2017.zip: no such archive; download it",
    ),
    "image archive truncated": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", cut,
        "/train2017.zip: not a readable zip (*; download it again",
    ),
    "image archive is no zip": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", b"no",
        "/train2017.zip: not a readable zip (*; download it again",
    ),
    "image archive encrypted": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", encrypted,
        "/train2017.zip: *000000000018.jpg of llava_instruct_80k.json[[]0] is broken: encrypted; fix the archive, or *",
    ),
    "an image damaged": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", packed(cut),
        "/train2017.zip: the images of 1 of 24 samples *train2017/000000000001.jpg of * is *; fix the archive, or *",
    ),
    "images under other names": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", lambda old: old.replace(b"train2017/", b"train2018/"),
        "/train2017.zip: *000000000018.jpg of * is missing: no member of train2017.zip; fix the archive, or *",
    ),
    "an image's name leads out of the archive": (
        "prepare", INSTRUCT, "instruct", "train2017.zip", lambda old: old.replace(b"train2017/", b"../../x17/"),
        "/train2017.zip: *000000000018.jpg of * is missing: no member of train2017.zip; fix the archive, or *",
    ),
    "Karpathy's archive missing": (
        "questions-captions", CAPTIONS, "coco", SPLITS, None,
        f"/{SPLITS}: no such archive; download it",
    ),
    "Karpathy's archive truncated": (
        "questions-captions", CAPTIONS, "coco", SPLITS, cut,
        f"/{SPLITS}: not a readable zip (*; download it again",
    ),
    "Karpathy's file truncated": (
        "questions-captions", CAPTIONS, "coco", SPLITS, packed(cut),
        f"/{SPLITS}/dataset_coco.json: line 1: not JSON (*; mend it, or get the file again",
    ),
    "Karpathy's file without images": (
        "questions-captions", CAPTIONS, "coco", SPLITS, packed(lambda _: b"{}"),
        f"/{SPLITS}/dataset_coco.json: 'images' is missing*; mend it, or get the file again",
    ),
    "Karpathy's image without sentences": (
        "questions-captions", CAPTIONS, "coco", SPLITS, packed(without("images", 3, "sentences")),
        f"/{SPLITS}/dataset_coco.json: images[[]3]: not as in Karpathy's files (KeyError*); get it again",
    ),
    "Karpathy's file of another set": (
        "questions-captions", CAPTIONS, "flickr30k", SPLITS, lambda old: old,
        f"/{SPLITS}/dataset_coco.json: no image belongs to the split 'test'; *",
    ),
    "VQAv2's questions missing": (
        "questions-vqav2", VQA, "vqav2", ASKED, None,
        f"/{ASKED}: no such archive; download it",
    ),
    "VQAv2's questions truncated": (
        "questions-vqav2", VQA, "vqav2", ASKED, cut,
        f"/{ASKED}: not a readable zip (*; download it again",
    ),
    "VQAv2's zip of two files": (
        "questions-vqav2", VQA, "vqav2", ASKED, packed(lambda old: old, more=("b.json",)),
        f"/{ASKED}: holds 2 .json files instead of one; give it unpacked",
    ),
    "VQAv2's questions as a list": (
        "questions-vqav2", VQA, "vqav2", ASKED, packed(lambda _: b"[]"),
        f"/{ASKED}: a list where an object with 'questions' is expected*; mend it, or get the file again",
    ),
    "VQAv2's question without an image": (
        "questions-vqav2", VQA, "vqav2", ASKED, packed(without("questions", 1, "image_id")),
        f"/{ASKED}: question 2: 'image_id' is missing*; mend it, or get the file again",
    ),
    "VQAv2's annotations of other questions": (
        "questions-vqav2", VQA, "vqav2", ANNOTATED, packed(without("annotations", 0)),
        f"/{ANNOTATED}: no record for question_id *",
    ),
    "VQAv2's test questions, which have no annotations": (
        "questions-vqav2", VQA, "vqav2", ANNOTATED, packed(lambda _: b'{"annotations": []}'),
        f"/{ANNOTATED}: no record for question_id *",
    ),
    "MME's zip missing": (
        "questions-mme", MME, "mme", MME_ZIP, None,
        "/MME_Benchmark_release_version.zip: no such archive; download it",
    ),
    "MME's zip without a subtask": (
        "questions-mme", MME, "mme", MME_ZIP, lambda old: old.replace(b"/OCR/", b"/OCX/"),
        "*: holds no questions of MME's subtask OCR; it holds *",
    ),
    "MME's text with one question": (
        "questions-mme", MME, "mme", MME_ZIP, packed(lambda old: old.splitlines(True)[0], ".txt"),
        "*: 1 questions; MME has two to an image; download it again",
    ),
    "POPE's questions missing": ("questions-pope", POPE, "pope", POPULAR, None, f"/{POPULAR}: no such file; *"),
    "POPE's line truncated": (
        "questions-pope", POPE, "pope", POPULAR, lambda old: old[:-20],
        f"/{POPULAR}: line *: not JSON (*; mend it, or get the file again",
    ),
    "POPE's label misspelt": (
        "questions-pope", POPE, "pope", POPULAR, lambda old: old.replace(b'"yes"', b'"yess"'),
        f"/{POPULAR}: line *: 'label' is 'yess', neither yes nor no*; mend it, or get the file again",
    ),
    "POPE's question twice": (
        "questions-pope", POPE, "pope", POPULAR, lambda old: old + old,
        f"/{POPULAR}: question_id * appears twice; remove one",
    ),
}  # fmt: skip


def check(said: object, says: str, folder: Path | None = None) -> None:
    """One line, of the pattern ``says``, whose beginning is a folder where that begins with a slash or a colon."""
    line = str(said)
    start = str(folder) if folder and says[0] in "/:" else ""
    assert "\n" not in line and line.startswith(start)
    assert fnmatchcase(line.removeprefix(start), says), line


def damaged(folder: Path, source: str, files: dict[str, Change]) -> Path:
    shutil.copytree(WEIGHTS / source, folder)
    for name, change in files.items():
        spoil(folder / name, change)
    return folder


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A safetensors file with another header."""

    def changed(content: bytes) -> bytes:
        (size,) = struct.unpack("<Q", content[:8])
        value = json.loads(content[8 : 8 + size])
        change(value)
        new = json.dumps(value).encode()
        return struct.pack("<Q", len(new)) + new + content[8 + size :]

    return changed


def load_clip(folder: Path) -> object:
    return load_vision(folder, "open_clip")


MODEL, CONFIG = "model.safetensors", "config.json"
# Folders of weights: what loads them, whose copy, what is spoilt, what the line says behind the folder.
IN_WEIGHTS: dict[str, tuple[Callable[[Path], object], str, dict[str, Change], str]] = {
    "an LLM without weights": (
        load_llm, "vicuna-7b", {MODEL: None},
        ": holds no .safetensors named *; nothing else is read",
    ),
    "an LLM of pickles": (
        load_llm, "vicuna-7b", {MODEL: None, "pytorch_model.bin": b"pickle"},
        ": holds no .safetensors named *; nothing else is read",
    ),
    "an LLM's weights truncated in the header": (
        load_llm, "vicuna-7b", {MODEL: lambda old: old[:100]},
        "/model.safetensors: is not a whole safetensors file (*; get it again",
    ),
    "an LLM's weights truncated": (
        load_llm, "vicuna-7b", {MODEL: cut},
        "/model.safetensors: is not a whole safetensors file (*; get it again",
    ),
    "an LLM's weights a Git LFS pointer": (
        load_llm, "vicuna-7b", {MODEL: b"version https://git-lfs.github.com/spec/v1"},
        "/model.safetensors: is not a whole safetensors file (*; get it again",
    ),
    "an LLM's weights without the head": (
        load_llm, "vicuna-7b", {MODEL: header(lambda one: one.pop("lm_head.weight"))},
        "/model.safetensors: is not a whole safetensors file (*; get it again",
    ),
    "an LLM without its config": (
        load_llm, "vicuna-7b", {CONFIG: None},
        "/config.json: names no model_type (*; an LLM's folder needs it",
    ),
    "an LLM's config truncated": (
        load_llm, "vicuna-7b", {CONFIG: cut},
        "/config.json: names no model_type (*; an LLM's folder needs it",
    ),
    "an LLM's config is a list": (
        load_llm, "vicuna-7b", {CONFIG: b"[]"},
        "/config.json: names no model_type (*; an LLM's folder needs it",
    ),
    "an LLM of another kind": (
        load_llm, "vicuna-7b", {CONFIG: lambda old: old.replace(b'"llama"', b'"gpt2"')},
        "/config.json: model_type is gpt2, a family that is not declared; choose llama, *",
    ),
    "an LLM without its tokenizer": (
        load_tokenizer, "vicuna-7b", {"tokenizer.json": None},
        "/tokenizer.json: missing; an LLM's folder needs its tokenizer",
    ),
    "an LLM's tokenizer truncated": (
        load_tokenizer, "vicuna-7b", {"tokenizer.json": cut},
        "/tokenizer.json: it or tokenizer_config.json is not a tokenizer's (*); get both again",
    ),
    "a tokenizer's config truncated": (
        load_tokenizer, "vicuna-7b", {"tokenizer_config.json": cut},
        "/tokenizer.json: it or tokenizer_config.json is not a tokenizer's (*); get both again",
    ),
    "a vision encoder without weights": (
        load_clip, "clip", {"open_clip_model.safetensors": None},
        "/open_clip_model.safetensors: missing; *needs *",
    ),
    "a vision encoder's weights truncated": (
        load_clip, "clip", {"open_clip_model.safetensors": cut},
        "/open_clip_model.safetensors: *incomplete metadata*; *get both again*",
    ),
    "a vision encoder's weights of pickles": (
        load_clip, "clip", {"open_clip_model.safetensors": b"\x80\x02}q\x00."},
        "/open_clip_model.safetensors: *header too small*; *get both again*",
    ),
    "a vision encoder's config truncated": (
        load_clip, "clip", {"open_clip_config.json": cut},
        "/open_clip_config.json: not valid JSON (*",
    ),
    "a vision encoder's config of another kind": (
        load_clip, "clip", {"open_clip_config.json": b"{}"},
        "/open_clip_model.safetensors: *missing 'model_cfg'*; *get both again*",
    ),
}  # fmt: skip

THINGS = ("dog", "cat")
ASKS = b"".join(
    b'{"question_id": %d, "text": "Is there a %s?", "label": "yes"}\n' % (n, one.encode())
    for n, one in enumerate(THINGS)
)
SAID = b"".join(b'{"question": "Is there a %s? Yes or no.", "answer": "yes"}\n' % one.encode() for one in THINGS)
SHIFTED = b"".join(SAID.splitlines(keepends=True)[::-1])

# In a checkout whose table is made: files that are spoilt (the first of a pattern), the command, what it says.
IN_CHECKOUT: dict[str, tuple[dict[str, Change], tuple[str, ...], str]] = {
    "plan of a misspelt table": ({}, ("plan", "tinny"), "tinny: there is no such table or figure; there are *"),
    "plan of a misspelt file": (
        {}, ("plan", "tables/tinny.csv"),
        "tinny: there is no such table or figure; there are *",
    ),
    "trace of a misspelt table": (
        {}, ("trace", "tinny", "a", "MME"),
        "tinny: there is no such table or figure; there are *",
    ),
    "trace of a misspelt row": (
        {}, ("trace", "tiny", "LayerNorm-Conv20K", "MME"),
        "tables/tiny: has no row 'LayerNorm-Conv20K'; did you mean *",
    ),
    "trace of a misspelt column": (
        {}, ("trace", "tiny", "Finetune-80K", "MEM"),
        "tables/tiny: has no column 'MEM'; did you mean 'MME'?",
    ),
    "trace of a table that is not made": (
        {}, ("trace", "table3", "a", "MME"),
        "tables/table3.csv: not made yet under this config; run `snakemake tables/table3.csv`",
    ),
    "verify of a misspelt target": (
        {}, ("verify", "tables/tiny.tsv"),
        "tables/tiny.tsv: there is none; there are tables/tiny.csv, *",
    ),
    "verify of a result that is none": (
        {}, ("verify", "results/finetune/x-000000000000/manifest.json"),
        "finetune/x-000000000000: is no result of this config; *",
    ),
    "plan of the site": (
        {}, ("plan", "site/index.html"),
        "site/index.html: shows what is finished, and nothing is made for it; name the tables and figures",
    ),
    "export of a misspelt table": (
        {}, ("export", "tinny", "x.zip"),
        "tinny: there is no such table or figure; there are *",
    ),
    "export into a folder that is none": (
        {}, ("export", "tiny", "nowhere/x.zip"),
        "nowhere/x.zip: there is no folder nowhere; make it first, or name another file",
    ),
    "export of an edited table": (
        {"tables/tiny.csv": b"edited"}, ("export", "tiny", "x.zip"),
        "tables/tiny.csv: differs from the result that it should show; run `snakemake tables/tiny.csv` first",
    ),
    "compare of a table that the paper lacks": ({}, ("compare", "tiny"), "tiny: is no table of the paper; there are *"),
    "memory of a misspelt method": (
        {}, ("memory", "--method", "layernrom"),
        "*: unknown method 'layernrom' (did you mean 'layernorm'?*",
    ),
    "memory of an unknown LLM": (
        {}, ("memory", "--llm", "8B"),
        "workflow/scales/tiny.yaml: llms: unknown llm '8B' (known: *)",
    ),
    "accept of a misspelt stage": (
        {}, ("accept", "finetun", "--because", "x"),
        "accept: there is no stage 'finetun'; did you mean 'finetune'?",
    ),
    "accept without a reason": (
        {}, ("accept", "finetune", "--because", " "),
        "--because is empty; say why the results are the same",
    ),
    "pin of a folder that is none": (
        {}, ("pin", "x", "nowhere"),
        "nowhere: no such folder; name the one that holds the files of x",
    ),
    "forget an unknown checkout": (
        {}, ("gc", "--forget", "nowhere"),
        "--forget nowhere: has no lease on results; there are: *",
    ),
    "a misspelt profile": (
        {}, ("plan", "--profile", "slrum"),
        "--profile slrum: there is no slrum/config.yaml; there are slurm",
    ),
    "an override without a value": ({}, ("plan", "--config", "scale"), "--config: 'scale' is not KEY=VALUE"),
    "an override of a misspelt key": (
        {}, ("plan", "--config", "scael=demo"),
        "config.yaml: scael: unknown key (did you mean scale?)*",
    ),
    "score of a file that is none": ({}, ("score", "pope", "q.json", "a.jsonl"), "q.json: no such file; download *"),
    "score of MME's folder that is none": (
        {}, ("score", "mme", "nowhere"),
        "nowhere: no folder; *makes one, of a <subtask>.txt each",
    ),
    "answers shifted by one": (
        {"q.json": ASKS, "a.jsonl": SHIFTED}, ("score", "pope", "q.json", "a.jsonl"),
        "a.jsonl: answer 1 is to 'Is there a cat? Yes or no.', not to 'Is there a dog?' of q.json; the order *",
    ),
    "answers one short": (
        {"q.json": ASKS, "a.jsonl": cut(SAID)}, ("score", "pope", "q.json", "a.jsonl"),
        "a.jsonl: 1 answers to the 2 questions of q.json; with each one's question_id, --subset scores *",
    ),
    "answers in Excel": (
        {"q.json": ASKS, "a.jsonl": b"PK\3\4\xff"}, ("score", "pope", "q.json", "a.jsonl"),
        "a.jsonl: not UTF-8 text at byte 4; save it as UTF-8 text",
    ),
    "questions in place of answers": (
        {"q.json": ASKS, "a.jsonl": ASKS}, ("score", "pope", "q.json", "a.jsonl"),
        "a.jsonl: answer 1: 'answer' is missing; mend it, or get the file again",
    ),
    "a manifest truncated": (
        {"results/finetune/*/manifest.json": cut}, ("export", "tiny", "x.zip"),
        "results/finetune/*/manifest.json: damaged manifest (*); `rm -r *snakemake *` makes it again",
    ),
    "a manifest empty": (
        {"results/table/*/manifest.json": b""}, ("trace", "tiny", "Finetune-80K", "MME"),
        "results/table/*/manifest.json: damaged manifest (*); `rm -r *snakemake *` makes it again",
    ),
    "a manifest that is a list": (
        {"results/table/*/manifest.json": b"[]"}, ("export", "tiny", "x.zip"),
        "results/table/*/manifest.json: damaged manifest (*); `rm -r *snakemake *` makes it again",
    ),
    "the lock of the catalogue truncated": (
        {"workflow/catalog.lock.yaml": b"entries: {a"}, ("plan",),
        "workflow/catalog.lock.yaml: line 2, column 1: not valid YAML: *",
    ),
    "accepted edits of a misspelt stage": (
        {"workflow/accepted.yaml": b"accepted: [{stage: finetun}]"}, ("plan",),
        "workflow/accepted.yaml: accepted[[]0].because: missing key; add it (text) (and 3 more)",
    ),
    "the paper's table truncated": (
        {"workflow/paper/table1.csv": cut}, ("plan", "table1"),
        "workflow/paper/table1.csv: line *: 10 fields are expected; quote a field that holds commas",
    ),
    "a site of a misspelt name": (
        {"slurm/site.yaml": b"cluster: {partitoin: a}"}, ("plan", "--profile", "slurm"),
        "slurm/site.yaml: partitoin: unknown key (did you mean partition?)",
    ),
    "a lease damaged": (
        {"results/.leases/x.json": b"{"}, ("gc",),
        "results/.leases/x.json: damaged lease; delete it if you know whose it was",
    ),
    "a site of misspelt keys": (
        {"slurm/site.yaml": b"clster: {}"}, ("plan", "--profile", "slurm"),
        "slurm/site.yaml: unknown key 'clster' (did you mean 'cluster'?*",
    ),
    "the config in Latin-1": (
        {"config.yaml": "scale: dém".encode("latin-1")}, ("plan",),
        "config.yaml: byte 8 is not UTF-8; save the file as UTF-8",
    ),
    "the config missing": ({"config.yaml": None}, ("plan",), "config.yaml: no such file; `git restore` *"),
    "the catalogue missing": (
        {"workflow/catalog.yaml": None}, ("plan",),
        "workflow/catalog.yaml: no such file; `git restore` brings back what the repository holds",
    ),
    "a job spec missing": (
        {}, ("job", "results/.jobs/finetune/x-000000000000.json"),
        "results/.jobs/*: no such job spec; it is written when snakemake starts, so run that",
    ),
    "a job spec truncated": (
        {POPE_JOB: cut}, ("job", POPE_JOB),
        "*: damaged job spec (*); run snakemake again, which writes it anew",
    ),
    "a job spec without its stage": (
        {POPE_JOB: without("stage")}, ("job", POPE_JOB),
        "*: damaged job spec (*); run snakemake again, which writes it anew",
    ),
    "a job spec edited": (
        {MME_JOB: without("identity", "settings", "subtasks", 0)}, ("job", MME_JOB),
        "*: damaged job spec (*); run snakemake again, which writes it anew",
    ),
    "a job spec without its settings": (
        {MME_JOB: without("identity", "settings", "subtasks")}, ("job", MME_JOB),
        "*: damaged job spec (*); run snakemake again, which writes it anew",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def checkout(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(Path(shutil.copytree(made.root, tmp_path_factory.mktemp("bad") / "checkout")))


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_CHECKOUT)
def test_a_checkouts_files_and_commands(
    name: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, command, says = IN_CHECKOUT[name]
    monkeypatch.chdir(checkout.root)
    before, kept = results(checkout.root), dict[Path, bytes | None]()
    for pattern, change in files.items():
        path = min(checkout.root.glob(pattern), default=checkout.root / pattern)
        kept[path] = path.read_bytes() if path.is_file() else None
        spoil(path, change)
    if command[0] == "job":
        code: Any = run_job([str(min(Path().glob(command[1]), default=command[1]))])
    else:
        monkeypatch.setattr(sys, "argv", ["lntune", *command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
    for path, content in kept.items():
        spoil(path, content)
    assert code == 1
    check(capsys.readouterr().err.removeprefix("error: ").removesuffix("\n"), says)
    assert results(checkout.root) == before


@pytest.mark.slow
def test_nothing_is_to_be_made_again_after_all_that(checkout: Checkout) -> None:
    assert not checkout.pending()
    assert len(IN_STAGES) + len(IN_WEIGHTS) + len(IN_CHECKOUT) > 90


def results(root: Path) -> dict[str, bytes]:
    """The manifests of all finished results."""
    return {str(path): path.read_bytes() for path in root.glob("results/*/*/manifest.json")}


@pytest.mark.parametrize("name", IN_WEIGHTS)
def test_a_folder_of_weights(name: str, tmp_path: Path) -> None:
    load, source, files, says = IN_WEIGHTS[name]
    folder = damaged(tmp_path / "weights", source, files)
    with pytest.raises(UserError) as raised:
        load(folder)
    check(raised.value, says, folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", IN_STAGES)
def test_a_stages_files(name: str, world: Path, tmp_path: Path) -> None:
    stage, settings, source, file, change, says = IN_STAGES[name]
    raw = Path(shutil.copytree(world / source, tmp_path / "raw"))
    spoil(raw / file, change)
    images = raw if (raw / "val2014.zip").exists() or source in ("mme", "instruct") else world / "coco"
    with pytest.raises(UserError) as raised:
        run(tmp_path / "out", stage, settings, {"raw": raw, "images": images})
    check(raised.value, says, raw)

"""The catalogue and its lock: what there is, what is refused, what many jobs record at once."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
import yaml

from checkout import ROOT
from lntune.benchmarks.mme.release import ALL as MME_SUBTASKS
from lntune.benchmarks.registry import by_name
from lntune.commands.plan import pending_json, pending_text
from lntune.config.catalog import CATALOG, Catalog, CatalogLock, LockedFile, read_lock, record_found, web_address
from lntune.config.load import load
from lntune.config.study import ScaleSettings
from lntune.data.llava import TYPE_FILES
from lntune.errors import UserError
from lntune.estimate.hours import SAMPLES
from lntune.plan.pending import pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study

ENTRIES = load(ROOT / CATALOG, Catalog).entries
STUDY = {
    "llava-pretrain": {"chat.json", "images.zip"},
    "llava-instruct": {
        "llava_instruct_80k.json", "conversation_58k.json", "detail_23k.json", "complex_reasoning_77k.json",
        "train2017.zip",
    },
    "coco": {"val2014.zip", "caption_datasets.zip"},
    "flickr30k": {"flickr30k-images.zip", "caption_datasets.zip"},
    "vqav2": {"v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip"},
    "pope": {"coco_pope_random.json", "coco_pope_popular.json", "coco_pope_adversarial.json"},
    "mme": {"MME_Benchmark_release_version.zip"},
    "clip-vit-l-14": {"open_clip_config.json", "open_clip_model.safetensors"},
    "imagenet-vit-l-16": {"config.json", "model.safetensors"},
}  # fmt: skip


def test_the_study_has_all_its_files() -> None:
    for name, files in STUDY.items():
        assert set(ENTRIES[name].files) == files
    for name, shards in {"llama2-7b": 2, "llama2-chat-7b": 2, "llama2-13b": 3, "llama2-chat-13b": 3}.items():
        entry = ENTRIES[name]
        assert entry.gated and entry.page and entry.manual and entry.hub
        assert entry.page.endswith(entry.hub.repo)
        weights = [file for file in entry.files if file.endswith(".safetensors")]
        assert weights == [f"model-{k + 1:05}-of-{shards:05}.safetensors" for k in range(shards)]
        assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} < set(entry.files)
    assert {"tokenizer.model", "pytorch_model.bin.index.json"} < set(ENTRIES["vicuna-7b-v1.1"].files)


def test_every_file_can_be_had_and_every_revision_is_a_commit() -> None:
    revisions = set()
    for entry in ENTRIES.values():
        assert entry.licence and entry.licence != "unknown" and entry.about
        for name in entry.files:
            place = entry.place(name)
            assert place.address is not None
            if place.hub is not None:
                revisions.add((place.hub.repo, place.hub.revision))
    branches = {repo for repo, revision in revisions if not re.fullmatch(r"[0-9a-f]{40}", revision)}
    assert not branches
    urls = [file.url for file in ENTRIES["pope"].files.values()]
    assert all(url and "/109985c74a00a88ba5341f9b0c1d4900f2a1f789/output/coco/" in url for url in urls)


def test_the_same_file_in_two_entries_is_told_alike() -> None:
    """But for what each reads of it."""
    coco, flickr30k = (
        ENTRIES[name].files["caption_datasets.zip"].model_copy(update={"holds": None}) for name in ("coco", "flickr30k")
    )
    assert coco == flickr30k


def known(entry: str, file: str) -> dict[str, int]:
    holds = ENTRIES[entry].files[file].holds
    assert holds is not None and holds.source
    return holds.counts


def test_what_files_are_known_to_hold_is_what_the_benchmarks_and_forecasts_say() -> None:
    mme = known("mme", "MME_Benchmark_release_version.zip")
    assert {f"questions of {name}" for name in MME_SUBTASKS} == mme.keys() - {"questions", "subtasks"}
    assert sum(mme[f"questions of {name}"] for name in MME_SUBTASKS) == mme["questions"] == by_name()["mme"].size[0]
    assert mme["subtasks"] == len(MME_SUBTASKS)
    assert sum(known("pope", file)["questions"] for file in STUDY["pope"]) == by_name()["pope"].size[0]
    for file in STUDY["vqav2"]:
        assert list(known("vqav2", file).values()) == [by_name()["vqav2"].size[0]]
    for entry, benchmark in (("coco", "mscoco"), ("flickr30k", "flickr30k")):
        splits = known(entry, "caption_datasets.zip")
        parts = [number for what, number in splits.items() if what.startswith("images of ")]
        assert sum(parts) == splits["images"] and splits["images of test"] == by_name()[benchmark].size[0]
    assert known("llava-pretrain", "chat.json")["records"] == SAMPLES["llava-pretrain"]
    assert known("llava-instruct", "llava_instruct_80k.json")["records"] == SAMPLES["llava-instruct"]


def test_every_type_of_the_papers_scale_has_as_many_records_as_are_asked_for() -> None:
    scale = load(ROOT / "workflow/scales/paper.yaml", ScaleSettings)
    typed = [data for data in scale.data.values() if data.types]
    assert len(typed) == 3
    for data in typed:
        held = sum(known("llava-instruct", TYPE_FILES[name])["records"] for name in data.types)
        assert data.samples is not None and data.samples <= held


def test_the_table_of_data_knows_what_public_files_hold_and_nothing_of_drawn_ones() -> None:
    of_paper, of_demo = (
        Plan(Study.read(ROOT, {"scale": scale})).report_item("data").settings.rows for scale in ("paper", "demo")
    )
    assert all(row.known for row in of_paper) and not any(row.known for row in of_demo)
    (chat,) = of_paper[0].known
    assert (chat.file, chat.counts) == ("chat.json", {"records": 595_375})


def test_the_plan_of_the_study_tells_what_is_to_be_downloaded() -> None:
    study = Study.read(ROOT, {"scale": "paper"})
    plan = Plan(study)
    llm, data = plan.fetched("llama2-chat-13b"), plan.fetched("coco")
    assert llm.settings.model_dump() == {
        "files": {},
        "addresses": {name: ENTRIES["llama2-chat-13b"].place(name).address for name in llm.execution.places},
    }  # fmt: skip
    assert data.settings.model_dump()["addresses"] == {} and len(data.settings.files) == 2
    assert data.execution.lock == str(ROOT / "workflow" / "catalog.lock.yaml")
    found = pending(Plan(Study.read(ROOT, {"scale": "paper", "copies": {"coco": "/nowhere/at/all"}})), ["table3"])
    sums = pending_json(found)["fetch"]
    known = [file.bytes for name in STUDY for file in ENTRIES[name].files.values() if file.bytes and name != "coco"]
    assert sums["copy"] == 0 and sums["unknown"] > 20 and sums["download"] > sum(known) - 200_000_000
    assert re.search(
        r"^fetch: \d+ GB and \d+ files of unknown size to download, 0 B to copy$", pending_text(found), re.M
    )


def test_copies_are_of_entries_that_there_are() -> None:
    with pytest.raises(UserError) as raised:
        Study.read(ROOT, {"copies": {"flicker30k": "/data"}})
    line = str(raised.value)
    assert "config.yaml: copies.flicker30k: unknown catalogue entry 'flicker30k' (did you mean 'flickr30k'?" in line
    given = {"coco": "~/coco", "mme": "data/mme", "pope": "/data/pope"}
    study = Study.read(ROOT, {"copies": given})
    assert study.copies_folder("coco") == Path.home() / "coco"
    assert study.copies_folder("mme") == ROOT / "data" / "mme" and study.copies_folder("pope") == Path("/data/pope")
    assert study.copies_folder("vqav2") is None


@pytest.mark.parametrize(("on_disk", "written"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_folder_of_copies_is_found_in_any_form_of_unicode(tmp_path: Path, on_disk: str, written: str) -> None:
    folder = tmp_path / normalize(on_disk, "données")
    folder.mkdir()
    study = Study.read(ROOT, {"copies": {"coco": str(tmp_path / normalize(written, "données"))}})
    assert study.copies_folder("coco") == folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"../x": {"url": "https://a.org/x"}}, "a file cannot be called '../x'"),
        ({"/x": {"url": "https://a.org/x"}}, "a file cannot be called '/x'"),
        ({"origins.json": {"url": "https://a.org/x"}}, "a file cannot be called 'origins.json'"),
        ({"manifest.json": {"url": "https://a.org/x"}}, "a file cannot be called 'manifest.json'"),
        ({"x": {"url": "https://me:secret@a.org/x"}}, "expected an address for HTTP, without a password in it"),
        ({"x": {"url": "ftp://a.org/x"}}, "expected an address for HTTP, without a password in it"),
        ({"x": {"member": "y"}}, "x is a member of a hub repository; say which under hub"),
        ({"x": {"url": "https://a.org/x", "path": "y"}}, "give one of path, url and member"),
        ({}, "expected at least 1 entry"),
    ],
)
def test_an_entry_that_cannot_be_is_one_line(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"entries": {"data": {"about": "a", "licence": "b", "files": files}}}))
    with pytest.raises(UserError) as raised:
        load(path, Catalog)
    assert said in str(raised.value) and "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_addresses_as_a_browser_takes_them() -> None:
    place = ENTRIES["llava-pretrain"].place("chat.json")
    commit = "814894e93db9e12a1dee78b9669e20e8606fd590"
    assert place.address == f"hf://datasets/liuhaotian/LLaVA-CC3M-Pretrain-595K@{commit}/chat.json"
    assert web_address(place.address) == (
        f"https://huggingface.co/datasets/liuhaotian/LLaVA-CC3M-Pretrain-595K/resolve/{commit}/chat.json"
    )
    assert web_address("http://a.org/x") == "http://a.org/x" and web_address("workflow/weights/x") is None


# --- the lock ---------------------------------------------------------------------------------------------------------


def found(number: int) -> LockedFile:
    return LockedFile(bytes=number, sha256=f"{number:064x}", origin=f"https://a.org/{number}")


RECORDER = """
import sys
from pathlib import Path
from lntune.config.catalog import LockedFile
from lntune.config.catalog import record_found
for number in range(15):
    entry = f"entry{(int(sys.argv[2]) + number) % 3}"
    name = f"{number:02}-{sys.argv[2]}"
    record_found(Path(sys.argv[1]), entry, name, LockedFile(bytes=number, sha256=f"{number:064x}", origin="https://a.org"))
"""


@pytest.mark.slow
def test_jobs_that_record_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.lock.yaml"
    processes = [subprocess.Popen([sys.executable, "-c", RECORDER, str(path), str(k)]) for k in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    lock = read_lock(path)
    assert sum(len(files) for files in lock.entries.values()) == 6 * 15
    assert list(lock.entries) == sorted(lock.entries)
    assert all(list(files) == sorted(files) for files in lock.entries.values())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    before = path.read_bytes()
    assert record_found(path, "entry1", "00-1", found(7)).bytes == 0  # what is recorded stays
    assert path.read_bytes() == before


def test_the_order_of_recording_does_not_show(tmp_path: Path) -> None:
    texts = []
    for order in ([1, 2, 3], [3, 1, 2]):
        path = tmp_path / f"{order[0]}.yaml"
        for number in order:
            record_found(path, f"e{number % 2}", f"f{number}", found(number))
        texts.append(path.read_text())
    assert texts[0] == texts[1]


def test_a_damaged_lock_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "catalog.lock.yaml"
    assert read_lock(path) == CatalogLock()
    path.write_text("entries:\n  a:\n    x: {bytes: 1, sha256: 12ab, origin: b}\n")
    with pytest.raises(UserError, match=r"catalog\.lock\.yaml: entries\.a\.x\.sha256: expected text of the form"):
        record_found(path, "a", "y", found(1))
    path.write_text("entries: {}\n")
    assert read_lock(path) == CatalogLock()


def test_reading_the_catalogue_and_its_lock_loads_nothing_heavy() -> None:
    names = "lntune.plan.models, lntune.plan.fetched, lntune.plan.study"
    code = f"import sys, json, {names}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"torch", "transformers", "huggingface_hub", "requests", "urllib3", "httpx2", "rich"}

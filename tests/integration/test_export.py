"""The exported crate of a table: whole, true to its hashes, the same bytes anywhere, and readable without lntune."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from blake3 import blake3

from checkout import ROOT, Checkout
from lntune.commands.export.contents import Contents, Result, fetched, is_copied, licences_of
from lntune.commands.export.metadata import made_text
from lntune.store.manifest import AcceptedEdit, Manifest

pytestmark = pytest.mark.slow

TABLE = "tables/tiny.csv"
CODE = """
import sys
from pathlib import Path
from lntune.commands.export import export
from lntune.errors import UserError
try:
    print(export(Path("."), sys.argv[1], Path(sys.argv[2])))
except UserError as error:
    sys.exit(f"error: {error}")
"""


def export(checkout: Checkout, out: Path, table: str = TABLE, code: int = 0) -> str:
    """Export with the checkout's own code; standard output, or the error."""
    environment = os.environ | {"PYTHONPATH": str(checkout.root / "src")}
    command = [sys.executable, "-c", CODE, table, str(out)]
    done = subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr.splitlines()[-1]


class Crate:
    """An exported crate as someone without lntune sees it: a zip and JSON."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            self.order = archive.namelist()
            self.files = {name: archive.read(name) for name in self.order}
        self.document = self.json("ro-crate-metadata.json")
        self.entities = {entity["@id"]: entity for entity in self.document["@graph"]}

    def json(self, path: str) -> Any:
        return json.loads(self.files[path])

    def manifest(self, record: dict[str, Any]) -> tuple[str, Any]:
        """The folder of an input and its manifest."""
        folder = f"results/{record['stage']}/{record['label']}-{record['id']}"
        return folder, self.json(f"{folder}/manifest.json")

    def of_type(self, name: str) -> list[dict[str, Any]]:
        return [entity for entity in self.entities.values() if name in several(entity["@type"])]


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def ids(value: Any) -> list[str]:
    return [one["@id"] for one in several(value)]


@pytest.fixture(scope="module")
def zipped(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crate of the tiny table."""
    out = tmp_path_factory.mktemp("crate") / "tiny.zip"
    text = export(made, out)
    assert text.startswith(f"{out}: 55 results, ")
    assert not out.with_name("tiny.zip.part").exists()
    return out


@pytest.fixture(scope="module")
def crate(zipped: Path) -> Crate:
    return Crate(zipped)


def test_every_local_file_is_described_and_every_description_is_true(crate: Crate) -> None:
    described = {}
    for entity in crate.of_type("File"):
        if not entity["@id"].startswith("#"):
            described[unquote(entity["@id"])] = entity
    assert {*described, "ro-crate-metadata.json"} == set(crate.files)
    for path, entity in described.items():
        content = crate.files[path]
        assert entity["contentSize"] == str(len(content))
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["blake3"] == blake3(content).hexdigest()
    assert set(ids(crate.entities["./"]["hasPart"])) == {entity["@id"] for entity in described.values()}


def test_every_reference_leads_to_an_entity(crate: Crate) -> None:
    away = ("https://bioschemas.org", "https://doi.org", "https://w3id.org/ro/crate/", "https://snakemake")
    for entity in crate.entities.values():
        for value in entity.values():
            for one in several(value):
                if isinstance(one, dict):
                    assert one["@id"] in crate.entities or one["@id"].startswith(away), (entity["@id"], one)


def test_every_result_is_an_action_on_its_inputs_files(crate: Crate) -> None:
    folders = {path.removesuffix("/manifest.json") for path in crate.files if path.endswith("/manifest.json")}
    actions = {ids(one["subjectOf"])[0]: one for one in crate.of_type("CreateAction") if one["@id"] != "#run"}
    assert {f"{folder}/manifest.json" for folder in folders} == set(actions)
    for path, action in actions.items():
        folder, manifest = path.removesuffix("/manifest.json"), crate.json(path)
        made = [name.removeprefix("#").removeprefix("results/") for name in ids(action["result"])]
        assert made == [f"{folder.removeprefix('results/')}/{name}" for name in manifest["outputs"]]
        assert action["startTime"][:19] == manifest["started"][:19] and action["endTime"][:19] == manifest["ended"][:19]
        assert f"{manifest['wall_seconds']:g} s" in action["description"]
        assert ids(action["instrument"])[0].startswith(f"#stage/{manifest['stage']}/")
        if manifest["stage"] == "predict":
            tuned = manifest["inputs"]["tuned"]
            used = f"#{tuned['stage']}/{tuned['label']}-{tuned['id']}/{tuned['part'] + '/' if tuned['part'] else ''}"
            assert f"{used}tuned.safetensors" in ids(action["object"])
            assert not any(name.endswith("selection.json") for name in ids(action["object"]))  # outside of the part
    run = crate.entities["#run"]
    assert run["instrument"] == crate.entities["./"]["mainEntity"] == {"@id": "Snakefile"}
    assert ids(run["result"]) == ["tables/tiny.csv", "tables/tiny.md", "tables/tiny.tex"]
    assert run["startTime"] == min(action["startTime"] for action in actions.values())
    assert crate.entities["./"]["datePublished"] == max(action["endTime"] for action in actions.values())
    linked = [action for action in actions.values() if "linked from predict/" in action["description"]]
    assert linked, "the tiny scale has a variant with one candidate, whose answers on Flickr30k are linked"


def test_a_reader_without_lntune_gets_from_a_cell_to_the_checkpoint(crate: Crate, made: Checkout) -> None:
    rows = list(csv.DictReader(crate.files[TABLE].decode().splitlines()))
    table = next(path for path in crate.files if path.startswith("results/table/") and path.endswith("cells.json"))
    cells, manifest = crate.json(table), crate.json(table.replace("cells.json", "manifest.json"))
    assert len(cells) == 10
    for cell in cells:
        row = next(row for row in rows if f"{row['model']}: {row['method']}" == cell["row"])
        assert row[cell["column"]] == cell["value"]
        (place,) = cell["scores"]
        folder, score = crate.manifest(manifest["inputs"]["scores"][place])
        assert crate.json(f"{folder}/scores.json") and crate.json(f"{folder}/per_item_scores.json")
        folder, answers = crate.manifest(score["inputs"]["answers"])
        said = [json.loads(line) for line in crate.files[f"{folder}/answers.jsonl"].splitlines()]
        assert len(said) == answers["metrics"]["questions"]
        folder, selection = crate.manifest(answers["inputs"]["tuned"])
        chosen = selection["outputs"]["chosen/tuned.safetensors"]
        entity = crate.entities[f"#{folder.removeprefix('results/')}/chosen/tuned.safetensors"]
        assert (entity["blake3"], entity["contentSize"]) == (chosen["blake3"], str(chosen["bytes"]))
        assert blake3((made.root / entity["localPath"]).read_bytes()).hexdigest() == chosen["blake3"]
        candidates = [crate.manifest(one)[1] for one in selection["inputs"]["candidates"]]
        assert chosen["blake3"] in [one["outputs"]["tuned.safetensors"]["blake3"] for one in candidates]


def test_the_readme_follows_the_first_cell(crate: Crate) -> None:
    text = crate.files["README.md"].decode()
    cell = next(crate.json(path)[0] for path in crate.files if path.endswith("/cells.json"))
    assert f"{cell['row']!r}, {cell['column']}, {cell['value']}" in text
    way = [line.split() for line in text.splitlines() if line.startswith("    ")]
    assert [role for role, _ in way] == [
        "scores",
        "answers",
        "tuned",
        "candidates",
        "connector",
        "samples",
        "samples",
        "raw",
    ]
    assert all(f"{folder}/manifest.json" in crate.files for _, folder in way)
    selection, candidate = (crate.json(f"{way[k][1]}/manifest.json")["outputs"] for k in (2, 3))
    assert selection["chosen/tuned.safetensors"] == candidate["tuned.safetensors"]


def test_weights_images_and_raw_data_are_named_and_not_copied(crate: Crate, made: Checkout) -> None:
    assert {Path(name).suffix for name in crate.files} <= {
        ".csv",
        ".json",
        ".jsonl",
        ".md",
        ".smk",
        ".tex",
        ".txt",
        ".yaml",
        "",
    }
    assert not any("\0" in content.decode() for content in crate.files.values())
    raw = [path for path in crate.files if path.startswith(("results/fetch/", "results/draw/"))]
    assert all(path.endswith("/manifest.json") for path in raw) and len(raw) == 2 + 7
    catalog = made.yaml("workflow/catalog.yaml")["entries"]["demo-vicuna-7b"]
    weights = next(one for id, one in crate.entities.items() if id.startswith("#fetch/demo-vi") and "model.s" in id)
    expected = catalog["files"]["model.safetensors"]
    assert (weights["sha256"], weights["contentSize"]) == (expected["sha256"], str(expected["bytes"]))
    assert catalog["about"] in weights["description"] and expected["path"] in weights["description"]
    assert crate.entities[weights["license"]["@id"]]["name"] == catalog["licence"]
    assert not is_copied("questions-vqav2", "annotations.json", 1 << 30)
    assert is_copied("score-vqav2", "answers.json", 1 << 30)
    assert is_copied("finetune", "metrics.jsonl", 1 << 16) and not is_copied("finetune", "metrics.jsonl", 10 << 20)


def test_the_definition_is_there_and_no_path_of_the_machine_outside_of_manifests(crate: Crate, made: Checkout) -> None:
    for path in ("Snakefile", "config.yaml", "workflow/rules/tables.smk", "workflow/scales/tiny.yaml"):
        assert crate.files[path] == (made.root / path).read_bytes()
    for path, content in crate.files.items():
        if path.endswith("/manifest.json"):
            assert content == (made.root / path).read_bytes()
        else:
            assert str(made.root).encode() not in content, path


def test_the_bytes_are_the_same_again_and_elsewhere(copy: Checkout, zipped: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.zip"
    out.write_text("what lay there before")
    export(copy, out, "tiny")
    assert out.read_bytes() == zipped.read_bytes()
    assert Crate(out).order == [*sorted(Crate(out).order[:-1]), "ro-crate-metadata.json"]


def test_rocrate_reads_it(zipped: Path) -> None:
    from rocrate.rocrate import ROCrate

    found = ROCrate(zipped)
    assert found.mainEntity.id == "Snakefile" and found.mainEntity["programmingLanguage"]["name"] == "Snakemake"
    assert len(found.get_by_type("CreateAction")) == 56
    assert all((Path(found.source) / unquote(one.id)).is_file() for one in found.data_entities)


def _unpublished(checkout: Checkout) -> None:
    (checkout.root / TABLE).unlink()


def _edited(checkout: Checkout) -> None:
    with (checkout.root / "tables/tiny.md").open("a") as file:
        file.write("a remark\n")


def _unmade(checkout: Checkout) -> None:
    checkout.edit("workflow/report_items/tiny.yaml", "two ways to tune", "two ways")


def _gone(checkout: Checkout) -> None:
    shutil.rmtree(checkout.results("connector")[0])


def _changed(checkout: Checkout) -> None:
    file = checkout.results("predict")[0] / "answers.jsonl"
    file.chmod(0o644)
    file.write_text("{}\n")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_unpublished, "tables/tiny.csv: is not there; run `snakemake tables/tiny.csv` first"),
        (_edited, "tables/tiny.md: differs from the result that it should show; run `snakemake tables/tiny.md` first"),
        (_unmade, "tables/tiny.csv: not made yet under this config; run `snakemake tables/tiny.csv`"),
        (_gone, "/manifest.json: is gone, and "),
        (_changed, "answers.jsonl: is not what its manifest says"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(
    copy: Checkout, tmp_path: Path, edit: Callable[[Checkout], None], message: str
) -> None:
    edit(copy)
    assert message in export(copy, tmp_path / "out.zip", code=1)
    assert not list(tmp_path.glob("*.zip*"))


def test_a_place_that_cannot_be_written_is_refused(made: Checkout, tmp_path: Path) -> None:
    assert export(made, tmp_path / "no/out.zip", code=1).startswith(f"error: {tmp_path}/no/out.zip: there is no folder")
    assert export(made, tmp_path, code=1).startswith(f"error: {tmp_path}: is a folder")
    assert "there is no such table" in export(made, tmp_path / "out.zip", "tables/table9.csv", code=1)


def test_an_accepted_edit_is_mentioned(crate: Crate) -> None:
    path = next(path for path in crate.files if path.startswith("results/score-pope/"))
    manifest = Manifest.model_validate_json(crate.files[path.rpartition("/")[0] + "/manifest.json"])
    edit = AcceptedEdit.model_construct(because="a name was changed.")
    assert "change no result: a name was changed." in made_text(manifest.model_copy(update={"accepted": (edit,)}))
    assert made_text(manifest).startswith("No seed; ")


def test_licences_and_addresses_of_fetched_files_are_those_of_the_manifest(crate: Crate) -> None:
    path = next(path for path in crate.files if path.startswith("results/fetch/demo-clip"))
    manifest = Manifest.model_validate_json(crate.files[path])
    url = "https://example.org/config.json"
    execution = {"licence": "Some Licence 2", "about": "another", "places": {"open_clip_config.json": {"url": url}}}
    changed = manifest.model_copy(update={"execution": execution})
    contents = Contents("t", ("tables/t.csv",), {changed.name: Result(changed, ROOT)}, (), {})
    (licence,) = licences_of(contents)[changed.name]
    assert (licence.name, licence.id) == ("Some Licence 2", "#licence/Some-Licence-2")
    found = fetched(Result(changed, ROOT))
    assert (found.licence, found.about) == ("Some Licence 2", "another")
    assert {name: file.url for name, file in found.files.items()} == {"open_clip_config.json": url}
    hub = {"hub": {"repo": "a/b", "type": "model", "revision": "main"}, "member": "config.json"}
    execution = {"licence": "MIT", "about": "another", "places": {"open_clip_config.json": hub}}
    unpinned = {"settings": {"files": {}, "addresses": {"open_clip_config.json": "hf://a/b@main/config.json"}}}
    found = fetched(Result(manifest.model_copy(update={"execution": execution, **unpinned}), ROOT))
    properties = found.properties("open_clip_config.json")
    assert list(found.files) == ["open_clip_config.json"]
    assert properties["contentUrl"] == "https://huggingface.co/a/b/resolve/main/config.json"
    assert properties["description"] == "another; sha256 recorded at the first download"
    local = {"licence": "MIT", "about": "a CLIP", "places": {"clip.bin": {"path": "/data/clip.bin"}}}
    found = fetched(Result(manifest.model_copy(update={"execution": local}), ROOT))
    assert found.properties("clip.bin")["description"].startswith("a CLIP;")  # and no path of the machine
    assert "/data" not in found.properties("clip.bin")["description"]

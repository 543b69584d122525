"""The stages that move files: the choice of a learning rate, and what the catalogue pins and fetches."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import ROOT
from lntune.commands.pin import pin
from lntune.config.catalog import CATALOG, Catalog, Place
from lntune.config.load import load
from lntune.errors import UserError
from lntune.training.endings import Divergence, Stop, read_endings, write_endings
from stage_runs import Folders, read, refusal, run


def tuned(folder: Path, name: str, cider: float) -> tuple[Path, Path]:
    candidate, score = folder / f"finetune-{name}", folder / f"score-{name}"
    candidate.mkdir()
    score.mkdir()
    (candidate / "tuned.safetensors").write_text(f"weights {name}")
    (candidate / "metrics.jsonl").write_text(f"metrics {name}\n")
    (score / "scores.json").write_text(json.dumps({"CIDEr": cider}))
    return candidate, score


@pytest.mark.parametrize(
    ("rates", "ciders", "best"),
    [((1e-3, 5e-4, 1e-4), (30.0, 41.5, 20.0), 1), ((2e-3, 5e-4), (7.0, 7.0), 1), ((5e-4, 2e-3), (7.0, 7.0), 0),
     ((1e-3,), (0.0,), 0)],
)  # fmt: skip
def test_select_takes_the_best_and_of_equals_the_smaller_rate(
    tmp_path: Path, rates: tuple[float, ...], ciders: tuple[float, ...], best: int
) -> None:
    pairs = [tuned(tmp_path, str(k), cider) for k, cider in enumerate(ciders)]
    inputs: Folders = {"candidates": tuple(c for c, _ in pairs), "scores": tuple(s for _, s in pairs)}
    out = tmp_path / "select"
    metrics = run(out, "select", {"learning_rates": rates, "split": "validation"}, inputs)
    assert metrics == {"learning_rate": rates[best], "CIDEr": ciders[best]}
    assert read(out / "selection.json") == {
        "split": "validation",
        "metric": "Flickr30k CIDEr",
        "learning_rate": rates[best],
        "candidates": [{"learning_rate": r, "CIDEr": c} for r, c in zip(rates, ciders, strict=True)],
    }
    for name in ("tuned.safetensors", "metrics.jsonl"):
        assert os.path.samefile(out / "chosen" / name, pairs[best][0] / name)


def test_the_best_go_on_and_the_others_say_in_which_place_they_stopped(tmp_path: Path) -> None:
    """Of equals the smaller rate goes on; one that diverged is never kept, and no place is counted for it."""
    rates, ciders = (2e-3, 1e-3, 5e-4, 1e-4), (7.0, 7.0, 9.0, 1.0)
    pairs = [tuned(tmp_path, str(k), cider) for k, cider in enumerate(ciders)]
    diverged = Divergence(learning_rate=1e-4, step=1, steps=9, loss="nan", grad_norm="nan")
    write_endings(pairs[3][1], [diverged])
    inputs: Folders = {"candidates": tuple(c for c, _ in pairs), "scores": tuple(s for _, s in pairs)}
    out = tmp_path / "halve"
    metrics = run(out, "halve", {"learning_rates": rates, "split": "test", "keep": 2}, inputs)
    assert metrics == {"kept": 2, "stopped": 1}
    stop = Stop(learning_rate=2e-3, step=1, score=7.0, place=3, candidates=3)
    assert [read_endings(out / str(rate)) for rate in rates] == [[stop], [], [], [diverged]]
    assert [path.name for path in (out / "0.001").iterdir()] == ["kept"] and not (out / "0.001" / "kept").read_bytes()
    places = read(out / "places.json")
    assert places["candidates"][0] == {"learning_rate": 2e-3, "CIDEr": 7.0, "stopped_at": 1, "place": 3}
    assert places["candidates"][3] == {"learning_rate": 1e-4, "CIDEr": None, "diverged_at": 1}

    for (candidate, score), rate in zip(pairs, rates, strict=True):  # as the next round passes it on
        for folder in (candidate, score) if read_endings(out / str(rate)) else ():
            write_endings(folder, read_endings(out / str(rate)))
    chosen = run(tmp_path / "select", "select", {"learning_rates": rates, "split": "test", "search": "halving"}, inputs)
    assert chosen == {"learning_rate": 5e-4, "CIDEr": 9.0}
    selection = read(tmp_path / "select" / "selection.json")
    assert selection["search"] == "halving"
    assert selection["candidates"][0] == {"learning_rate": 2e-3, "CIDEr": None, "stopped_at": 1, "place": 3}


def test_where_all_that_were_kept_diverged_the_choice_says_so(tmp_path: Path) -> None:
    pairs = [tuned(tmp_path, str(k), 1.0) for k in range(2)]
    diverged = Divergence(learning_rate=2e-3, step=8, steps=9, loss="nan", grad_norm="nan")
    write_endings(pairs[0][1], [diverged])
    write_endings(pairs[1][1], [Stop(learning_rate=1e-3, step=4, score=7.0, place=2, candidates=2)])
    inputs: Folders = {"candidates": tuple(c for c, _ in pairs), "scores": tuple(s for _, s in pairs)}
    metrics = run(tmp_path / "select", "select", {"learning_rates": (2e-3, 1e-3), "split": "test"}, inputs)
    why = "diverged at every learning rate that was kept: 0.002 at step 8 (stopped before: 0.001 at step 4)"
    assert metrics == {"no_model": why}
    assert len(read_endings(tmp_path / "select" / "chosen")) == 2


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def execution(root: Path, paths: dict[str, str]) -> dict[str, Any]:
    """What a fetch of files on disk is told."""
    places = {name: Place(path=path) for name, path in paths.items()}
    lock = str(root / "catalog.lock.yaml")
    return {"entry": "llm", "about": "weights", "licence": "MIT", "root": str(root), "lock": lock, "places": places}


def test_fetch_copies_what_has_the_right_digest(tmp_path: Path) -> None:
    contents = {"config.json": b"{}", "shards/model.safetensors": bytes(range(256)) * 9000}
    paths = {name: f"source{k}" for k, name in enumerate(contents)}
    for name, path in paths.items():
        (tmp_path / path).write_bytes(contents[name])
    settings = {"files": {name: sha256(content) for name, content in contents.items()}}
    metrics = run(tmp_path / "out", "fetch", settings, {}, **execution(tmp_path, paths))
    assert metrics == {"bytes": sum(map(len, contents.values()))}
    found = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    origins = json.loads(found.pop("origins.json"))
    assert found == contents
    assert origins["config.json"] == {"bytes": 2, "sha256": sha256(b"{}"), "origin": "source0"}
    assert not (tmp_path / "catalog.lock.yaml").exists()  # what is pinned needs no record
    assert not any(os.path.samefile(tmp_path / path, tmp_path / "out" / name) for name, path in paths.items())


def test_fetch_refuses_what_has_not_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"other weights")
    settings, wanted = {"files": {"model.safetensors": sha256(b"weights")}}, sha256(b"weights")
    given = execution(tmp_path, {"model.safetensors": "model.safetensors"})
    assert refusal(tmp_path / "out", "fetch", settings, {}, **given) == (
        f"{source}: its sha256 is {sha256(b'other weights')}, workflow/catalog.yaml says {wanted}; "
        "restore the file, or pin it again with `lntune pin`"
    )
    assert list((tmp_path / "out").iterdir()) == []
    source.unlink()
    assert refusal(tmp_path / "again", "fetch", settings, {}, **given) == (
        f"{source}: no such file; the catalogue lists it (workflow/catalog.yaml)"
    )
    assert list((tmp_path / "again").iterdir()) == []


def test_a_pinned_folder_can_be_fetched(tmp_path: Path) -> None:
    root, outside = tmp_path / "checkout", tmp_path / "elsewhere"
    weights = root / "workflow" / "weights" / "llm"
    for folder in (weights, outside):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
    (weights / "record.json").write_text("left out")
    (weights / ".hidden").write_text("")
    pin(root, "demo-llm", weights, "an LLM", "Apache-2.0", leave_out={"record.json"})
    pin(root, "a-far-llm", outside, "another", "MIT")
    catalog = load(root / CATALOG, Catalog)
    assert list(catalog.entries) == ["a-far-llm", "demo-llm"]
    entry = catalog.entries["demo-llm"]
    assert (entry.about, entry.licence, list(entry.files)) == (
        "an LLM", "Apache-2.0", ["config.json", "model.safetensors"],
    )  # fmt: skip
    file = entry.files["model.safetensors"]
    assert (file.path, file.bytes, file.sha256) == ("workflow/weights/llm/model.safetensors", 7, sha256(b"weights"))
    assert catalog.entries["a-far-llm"].files["config.json"].path == str(outside / "config.json")
    settings = {"files": {name: one.sha256 for name, one in entry.files.items()}}
    given = execution(root, {name: str(one.path) for name, one in entry.files.items()})
    assert run(tmp_path / "fetched", "fetch", settings, {}, **given) == {"bytes": 9}


def test_pinning_again_replaces_one_entry_and_repeats_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    folder.mkdir()
    (tmp_path / "workflow").mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    pin(tmp_path, "b", folder, "first", "MIT")
    pin(tmp_path, "a", folder, "first", "MIT")
    before = (tmp_path / CATALOG).read_bytes()
    pin(tmp_path, "a", folder, "first", "MIT")
    assert (tmp_path / CATALOG).read_bytes() == before
    assert b"&" not in before.split(b"entries:")[1], "no YAML anchors"
    (folder / "model.safetensors").write_bytes(b"another")
    pin(tmp_path, "a", folder, "second", "MIT")
    entries = yaml.safe_load((tmp_path / CATALOG).read_text())["entries"]
    assert entries["a"]["about"] == "second" and entries["b"]["about"] == "first"
    assert entries["a"]["files"]["model.safetensors"]["bytes"] == 7
    assert [path.name for path in (tmp_path / "workflow").iterdir()] == ["catalog.yaml"]


CONFIG = "open_clip_config.json"


@pytest.mark.parametrize(
    ("config", "held"),
    [({"model_cfg": {"embed_dim": 768}}, "null"), ({"model_cfg": {"quick_gelu": False}}, "false"), ({}, "null"),
     ([], "null")],
)  # fmt: skip
def test_a_config_without_quick_gelu_is_refused_for_openais_weights(tmp_path: Path, config: Any, held: str) -> None:
    place = load(ROOT / CATALOG, Catalog).entries["clip-vit-l-14"].place(CONFIG)
    given = execution(tmp_path, {}) | {"entry": "clip-vit-l-14", "places": {CONFIG: place}, "copies": {CONFIG: CONFIG}}
    settings = {"addresses": {CONFIG: str(place.address)}}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert refusal(tmp_path / "out", "fetch", settings, {}, **given) == (
        f"clip-vit-l-14: {CONFIG}: model_cfg.quick_gelu is {held}, workflow/catalog.yaml says true: it belongs to "
        "other weights or is of another version; name the right revision or file in the catalogue"
    )
    assert not (tmp_path / "catalog.lock.yaml").exists(), "what is refused is not recorded"
    assert (tmp_path / CONFIG).read_text() == json.dumps(config), "a person's own copy stays"
    (tmp_path / CONFIG).unlink()
    (tmp_path / CONFIG).write_text('{"model_cfg": {"quick_gelu": true}}')
    run(tmp_path / "right", "fetch", settings, {}, **given)
    assert read(tmp_path / "right" / CONFIG) == {"model_cfg": {"quick_gelu": True}}


def test_pinning_keeps_what_a_file_must_hold(tmp_path: Path) -> None:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "clip").mkdir()
    shutil.copy(ROOT / CATALOG, tmp_path / CATALOG)
    (tmp_path / "clip" / CONFIG).write_text("{}")
    before = load(ROOT / CATALOG, Catalog).entries["clip-vit-l-14"]
    pin(tmp_path, "clip-vit-l-14", tmp_path / "clip", before.about, before.licence)
    after = load(tmp_path / CATALOG, Catalog).entries["clip-vit-l-14"].place(CONFIG)
    assert after.path is not None and after.fields == before.place(CONFIG).fields == {"model_cfg.quick_gelu": True}


def test_pinning_keeps_the_comments_and_the_entries_of_others(tmp_path: Path) -> None:
    """On the real catalogue: an entry that is pinned again repeats its bytes, a new one is the only difference."""
    (tmp_path / "workflow" / "weights").mkdir(parents=True)
    text = (ROOT / CATALOG).read_text()
    (tmp_path / CATALOG).write_text(text)
    shutil.copytree(ROOT / "workflow" / "weights" / "clip", tmp_path / "workflow" / "weights" / "clip")
    about = "the demo's CLIP, trained contrastively on drawn pictures and their captions"
    pin(tmp_path, "demo-clip", tmp_path / "workflow" / "weights" / "clip", about, "Apache-2.0", {"record.json"})
    assert (tmp_path / CATALOG).read_text() == text
    pin(tmp_path, "my-llm", tmp_path / "workflow" / "weights" / "clip", "mine", "MIT", {"record.json"})
    after = (tmp_path / CATALOG).read_text()
    start = after.index("  my-llm:\n")
    end = after.index("  # Bytes and sha256: computed from a clone.")
    assert start < end and after[:start] + after[end:] == text
    changed = load(tmp_path / CATALOG, Catalog).entries
    assert {name: entry for name, entry in changed.items() if name != "my-llm"} == load(ROOT / CATALOG, Catalog).entries


def test_pinning_into_a_catalogue_in_another_style_rewrites_it(tmp_path: Path) -> None:
    (tmp_path / "workflow").mkdir()
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "model.safetensors").write_bytes(b"one")
    (tmp_path / CATALOG).write_text(
        "entries: {b: {about: a b, licence: MIT, files: {x.json: {url: 'https://example.org/x.json'}}}}\n"
    )
    pin(tmp_path, "a", tmp_path / "llm", "an a", "MIT")
    catalog = load(tmp_path / CATALOG, Catalog)
    assert list(catalog.entries) == ["a", "b"]
    assert catalog.entries["b"].files["x.json"].url == "https://example.org/x.json"
    assert "null" not in (tmp_path / CATALOG).read_text()


def test_pinning_refuses_an_empty_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder; name the one that holds the files of a$"):
        pin(tmp_path, "a", tmp_path / "nowhere", "", "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds no files$"):
        pin(tmp_path, "a", tmp_path / "empty", "", "")

"""What nothing needs is found and deleted, and nothing else: with real stores, and with a whole checkout."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT, Checkout, ask_for
from lntune.commands.gc import collect, garbage
from lntune.commands.gc.garbage import Deleted, Garbage, Item, delete, document, text
from lntune.errors import UserError
from lntune.plan.node import Node, closure, input_folders
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import FIGURES, FORMATS
from lntune.snakefile.workflow import write_specs
from lntune.stages.select import CHOSEN
from lntune.store.identity import Identity, hash_tree
from lntune.store.job import LEFT
from lntune.store.leases import Lease, forget_lease, read_leases, write_lease
from lntune.store.manifest import Manifest, Store, read_manifest, write_manifest
from lntune.store.record import record
from lntune.store.reuse import mark

REPORT_ITEM = """\
title: "Toy"
columns: [Flickr30k]
llms: [vicuna-7b]
rows:
  - {title: LayerNorm-Conv. 20K, method: layernorm, data: Conv.20K}
"""
HOST = re.sub("[^A-Za-z0-9-]", "-", socket.gethostname())


def lease_elsewhere(
    store: Store, checkout: Path, names: list[str], user: str = "alice", host: str = "elsewhere"
) -> Lease:
    """What another user leases on another host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("getpass.getuser", lambda: user)
        patch.setattr("socket.gethostname", lambda: host)
        return write_lease(store, checkout, names)


class Toy:
    """A checkout of YAML alone, and its store, where each result is a file or two that say what they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "workflow" / "report_items").mkdir(parents=True)
        for name in ("scales", "protocols"):
            shutil.copytree(ROOT / "workflow" / name, root / "workflow" / name)
        shutil.copytree(ROOT / "workflow/weights", root / "workflow/weights")  # whose shapes a rehearsal needs
        shutil.copy(ROOT / "workflow" / "catalog.yaml", root / "workflow")
        (root / "workflow" / "report_items" / "toy.yaml").write_text(REPORT_ITEM)
        shutil.copy(ROOT / "config.yaml", root)
        ask_for(root / "config.yaml", "toy")
        self.store = Store(Path("results"))
        checkout = Checkout(root)
        self.yaml, self.write_yaml, self.edit = checkout.yaml, checkout.write_yaml, checkout.edit
        self.rates(5e-3)

    def rates(self, *rates: float) -> None:
        scale = self.yaml("workflow/scales/demo.yaml")
        scale["methods"]["layernorm"]["learning_rates"] = list(rates)
        self.write_yaml("workflow/scales/demo.yaml", scale)

    def plan(self) -> tuple[Plan, list[Node]]:
        plan = Plan(Study.read(self.root))
        return plan, closure([plan.report_item(name) for name in plan.study.report_items()])

    def make(self, publish: bool = True) -> list[str]:
        """Make all results of all tables, and publish these; return the results' names."""
        plan, nodes = self.plan()
        write_specs(plan.store, nodes)
        for node in nodes:
            make(plan.store, node)
        if publish:
            (self.root / "tables").mkdir(exist_ok=True)
            for node in (node for node in nodes if node.stage == "table"):
                for name in (f"{node.label}.csv", f"{node.label}.md"):
                    shutil.copyfile(self.store.folder(node.stage, node.label, node.id) / name, f"tables/{name}")
        return sorted(f"{node.stage}/{node.name}" for node in nodes)

    def present(self) -> list[str]:
        return sorted(
            path.parent.relative_to("results").as_posix() for path in Path("results").glob("[!.]*/[!.]*/man*")
        )

    def verify(self, names: Sequence[str]) -> None:
        for name in names:
            folder = Path("results") / name
            assert read_manifest(folder / "manifest.json").outputs == hash_tree(folder, {"manifest.json"}), name


def make(store: Store, node: Node) -> None:
    settings = json.dumps(node.identity.settings)
    said = f"{node.stage} {node.label} {settings}"
    if node.stage == "table":
        said += json.dumps(node.identity.inputs)

    def work(out: Path, scratch: Path) -> dict[str, Any]:
        names = {"table": [f"{node.label}.csv", f"{node.label}.md"], "select": [f"{CHOSEN}/tuned.safetensors"]}
        for name in names.get(node.stage, ["file"]):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(f"{name}: {said}")
        return {}

    record(store, node.identity, node.label, work, inputs=input_folders(store, node))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    root = tmp_path / "toy"
    root.mkdir()
    monkeypatch.chdir(root)
    return Toy(root)


def names(found: Garbage, kind: str = "result") -> list[str]:
    return sorted(f"{item.stage}/{item.path.name}" for item in found.items if item.kind == kind)


def stages(found: Garbage) -> Counter[str]:
    return Counter(item.stage for item in found.items)


def simple(
    store: Store, stage: str, label: str, content: str, settings: dict[str, Any], **inputs: Path
) -> tuple[Path, Manifest]:
    """A result that holds one file, and its manifest."""

    def work(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "file").write_text(content)
        return {}

    ids = {role: folder.name.rpartition("-")[2] for role, folder in inputs.items()}
    identity = Identity(stage, settings, {"toy": "ab" * 32}, {}, ids)
    manifest = record(store, identity, label, work, inputs=inputs)
    return store.folder(stage, label, identity.id), manifest


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


# --- what stays and what goes --------------------------------------------------------------------------------------


def test_right_after_a_run_there_is_nothing_but_specs(toy: Toy) -> None:
    made = toy.make()
    found = collect(Path("."))
    assert found.items == () and {one.kind for one in found.small} == {"job spec"}
    assert len(found.small) == len(made)
    assert found.stays == dict.fromkeys(made, "needed by a table or figure of today's config")
    assert text(found).splitlines()[-1].startswith(f"{len(made)} small files, ")
    done = delete(found)
    assert (done.folders, done.small, done.failures) == (0, len(made), ())
    assert toy.present() == made
    again = collect(Path("."))
    assert text(again).splitlines()[-1] == "nothing to collect" and again.small == ()


def test_an_empty_store(toy: Toy) -> None:
    found = collect(Path("."))
    assert text(found) == "no result stays\n\nnothing to collect"
    assert not Path("results").exists()
    assert delete(found) == Deleted(0, 0, 0, ())


def test_one_more_learning_rate_and_back(toy: Toy) -> None:
    first = toy.make()
    toy.rates(5e-3, 1e-3)
    second = toy.make(publish=False)
    assert len(set(second) - set(first)) == 7
    toy.rates(5e-3)
    toy.make()
    found = collect(Path("."))
    assert names(found) == sorted(set(second) - set(first))
    reasons = {item.stage: item.reason for item in found.items if "0.001" in item.path.name}
    assert reasons == dict.fromkeys(("finetune", "predict", "score-captions"), "no table or figure needs it")
    others = {item.stage: item.reason for item in found.items if "0.001" not in item.path.name}
    assert others == {
        "select": "today's differs: learning_rates [0.005, 0.001] -> [0.005]; follows from candidates; "
        "follows from scores",
        "predict": "today's differs: follows from tuned",
        "score-captions": "today's differs: follows from answers",
        "table": "today's differs: follows from scores; follows from selections",
    }
    spec = [item.stage for item in found.items]
    assert spec.index("table") == 0 and spec.index("select") < spec.index("finetune")
    done = delete(found)
    assert (done.folders, done.failures) == (7, ()) and done.freed == found.freed > 0
    assert toy.present() == first
    toy.verify(first)
    assert collect(Path(".")).items == ()
    assert toy.make(publish=False) == first


def test_the_reasons_name_settings_code_packages_and_a_new_label(toy: Toy) -> None:
    toy.make(publish=False)
    plan, nodes = toy.plan()
    node = next(node for node in nodes if node.stage == "finetune")
    inputs = input_folders(plan.store, node)

    def other(**changes: Any) -> str:
        identity, label = replace(node.identity, **changes), changes.pop("label", node.label)
        record(plan.store, identity, label, lambda out, scratch: {}, inputs=inputs)
        return f"finetune/{label}-{identity.id}"

    code = dict(node.identity.code)
    a = other(settings={**node.identity.settings, "seed": 9, "method": "lora"})
    b = other(code=code | {"lntune.training.loop": "0" * 64})
    c = other(packages=dict(node.identity.packages) | {"torch": "0"}, code=code | {"lntune.gone": "0" * 64})
    d = other(code={name: "0" * 64 for name in code})
    record(plan.store, node.identity, "old-name", lambda out, scratch: {}, inputs=inputs)
    found = {f"{item.stage}/{item.path.name}": item.reason for item in collect(Path(".")).items}
    more = "; ".join(f"{name} changed" for name in sorted(code)[:3])
    assert found == {
        a: 'today\'s differs: method "lora" -> "layernorm"; seed 9 -> 0',
        b: "today's differs: lntune.training.loop changed",
        c: f"today's differs: lntune.gone is gone; torch 0 -> {node.identity.packages['torch']}",
        d: f"today's differs: {more}; and {len(code) - 3} more",
        f"finetune/old-name-{node.id}": f"today it is called {node.label}",
    }


def test_what_a_needed_result_names_as_its_input_stays_under_its_old_label(toy: Toy) -> None:
    toy.make(publish=False)
    _, nodes = toy.plan()
    node = next(node for node in nodes if node.stage == "connector")
    folder = toy.store.folder("connector", node.label, node.id)
    folder.rename(folder.with_name(f"renamed-{node.id}"))
    manifest = folder.with_name(f"renamed-{node.id}") / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace(f'"label": "{node.label}"', '"label": "renamed"'))
    child = toy.store.manifest("finetune", *next((n.label, n.id) for n in nodes if n.stage == "finetune"))
    child.write_text(child.read_text().replace(f'"label": "{node.label}"', '"label": "renamed"'))
    found = collect(Path("."))
    assert found.items == () and f"connector/renamed-{node.id}" in found.stays


def test_a_published_table_of_an_older_config_keeps_its_derivation(toy: Toy) -> None:
    old = toy.make()
    toy.rates(1e-3)
    new = toy.make(publish=False)
    found = collect(Path("."))
    assert found.items == ()
    assert {name for name, why in found.stays.items() if why == "needed by tables/toy.csv"} == set(old) - set(new)
    Path("tables/toy.csv").write_text("edited by hand", encoding="utf-8")
    found = collect(Path("."))
    assert found.items == () and found.notes == (
        "tables/toy.csv: no result holds these bytes, so what it rests on is not known",
    )
    Path("tables/toy.md").unlink()
    found = collect(Path("."))
    assert set(names(found)) == set(old) - set(new)
    delete(found)
    assert toy.present() == new
    toy.verify(new)


def test_a_published_table_that_is_todays_keeps_no_other_of_the_same_bytes(toy: Toy) -> None:
    toy.make()
    plan, nodes = toy.plan()
    table = nodes[-1]
    csv = Path("tables/toy.csv").read_bytes()

    def work(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "toy.csv").write_bytes(csv)
        return {}

    identity = replace(table.identity, settings={})
    record(plan.store, identity, "toy", work, inputs=input_folders(plan.store, table))
    found = collect(Path("."))
    assert names(found) == [f"table/toy-{identity.id}"]
    shutil.rmtree(toy.store.folder("table", "toy", table.id))
    assert collect(Path(".")).stays[f"table/toy-{identity.id}"] == "needed by tables/toy.csv"


def test_a_published_figure_keeps_its_derivation(toy: Toy) -> None:
    score, _ = simple(toy.store, "score-pope", "one", "s", {})

    def draw(out: Path, scratch: Path) -> dict[str, Any]:
        for suffix in FORMATS[FIGURES]:
            (out / f"bars.{suffix}").write_bytes(f"drawn as {suffix}".encode() + b"\xff")
        return {}

    identity = Identity("figure-bars", {}, {"toy": "ab" * 32}, {}, {"scores": [score.name.rpartition("-")[2]]})
    record(toy.store, identity, "bars", draw, inputs={"scores": (score,)})
    figure = toy.store.folder("figure-bars", "bars", identity.id)
    Path(FIGURES).mkdir()
    for suffix in ("pdf", "png"):
        shutil.copyfile(figure / f"bars.{suffix}", f"figures/bars.{suffix}")
    Path("figures/bars.txt").write_text("a remark on them", encoding="utf-8")
    kept = [name_of(figure), name_of(score)]
    assert collect(Path(".")).stays == dict.fromkeys(kept, "needed by figures/bars.pdf")
    Path("figures/bars.pdf").unlink()
    found = collect(Path("."))
    assert found.items == () and found.notes == () and set(found.stays.values()) == {"needed by figures/bars.png"}
    Path("figures/bars.png").write_bytes(b"another picture")
    found = collect(Path("."))
    assert names(found) == kept
    assert found.notes == ("figures/bars.png: no result holds these bytes, so what it rests on is not known",)


def test_a_published_table_whose_derivation_cannot_be_read_refuses_deletion(toy: Toy) -> None:
    old = toy.make()
    toy.rates(1e-3)
    new = toy.make(publish=False)
    simple(toy.store, "finetune", "unneeded", "x", {})
    selection = next(name for name in set(old) - set(new) if name.startswith("select/"))
    (Path("results") / selection / "manifest.json").chmod(0o644)
    (Path("results") / selection / "manifest.json").write_text("{")
    found = collect(Path("."))
    refusal = f"results/{selection}: its manifest cannot be read, so what tables/toy.csv rests on is not known"
    assert found.refusal == refusal and text(found).splitlines()[-1].endswith(f"; not now: {refusal}")
    with pytest.raises(UserError, match="cannot be read"):
        delete(found)
    assert set(toy.present()) >= {*old, *new}


def test_a_broken_report_item_or_lease_is_an_error(toy: Toy) -> None:
    toy.make()
    (toy.root / "workflow/report_items/broken.yaml").write_text(REPORT_ITEM.replace("layernorm", "layer-norm"))
    with pytest.raises(UserError, match="layer-norm"):
        collect(Path("."))
    (toy.root / "workflow/report_items/broken.yaml").unlink()
    write_lease(toy.store, toy.root, [])
    next(Path("results/.leases").iterdir()).write_text("{}")
    with pytest.raises(UserError, match="damaged lease"):
        collect(Path("."))


def test_the_demos_weights_stay(toy: Toy) -> None:
    shutil.copy(ROOT / "workflow/demo_weights.yaml", toy.root / "workflow")
    from lntune.snakefile.demo_weights import DemoWeightsPlan

    node = DemoWeightsPlan(toy.root).node("vicuna-7b")
    for one in closure([node]):
        make(toy.store, one)
    assert Counter(collect(Path(".")).stays.values()) == {"one of the demo's weights": len(closure([node]))}
    (toy.root / "workflow/demo_weights.yaml").unlink()
    assert len(collect(Path(".")).items) == len(closure([node]))


def test_what_is_not_understood_stays(toy: Toy, tmp_path: Path) -> None:
    unreadable, _ = simple(toy.store, "finetune", "unreadable", "x", {})
    (unreadable / "manifest.json").chmod(0o644)
    (unreadable / "manifest.json").write_text('{"of": "a later lntune"}')
    moved, _ = simple(toy.store, "finetune", "moved", "x", {"a": 1})
    moved.rename(moved.with_name("by-hand-0123456789ab"))
    away, _ = simple(Store(tmp_path / "other"), "finetune", "away", "x", {})
    (toy.store.root / "finetune" / away.name).symlink_to(away)
    (toy.store.root / "linked").symlink_to(away.parent)
    for name in ("finetune/notes", "mine/backup-0123456789ab", ".scratch/mine"):
        (toy.store.root / name).mkdir(parents=True)
    found = collect(Path("."))
    assert found.items == () and [one.path.name for one in found.small] == [moved.name]  # the mark of its old name
    assert Counter(found.stays.values()) == {"with a manifest that cannot be read": 2}


# --- links ---------------------------------------------------------------------------------------------------------


def test_a_linked_result_outlives_its_origin_and_shared_files_are_not_counted(toy: Toy) -> None:
    before, _ = simple(toy.store, "prepare", "data", "the same", {"filter": "old"})
    after, _ = simple(toy.store, "prepare", "data", "the same", {"filter": "new"})
    origin, _ = simple(toy.store, "finetune", "model", "w" * 1000, {}, samples=before)
    copy, manifest = simple(toy.store, "finetune", "model", "never made", {}, samples=after)
    assert manifest.origin is not None and (origin / "file").stat().st_nlink == 2
    lease_elsewhere(toy.store, Path("/elsewhere"), [name_of(copy)])
    found = {item.path: item for item in collect(Path(".")).items}
    assert set(found) == {before, origin}
    noted = (origin / "manifest.json").stat().st_size
    assert (found[origin].bytes, found[origin].freed) == (1000 + noted, noted)
    assert found[before].bytes == found[before].freed
    assert delete(collect(Path("."))).failures == ()
    toy.verify([name_of(copy), name_of(after)])
    forget_lease(toy.store, "/elsewhere")
    left = {item.path: item for item in collect(Path(".")).items}
    assert left[copy].freed == left[copy].bytes > 1000


def test_files_that_are_shared_within_the_garbage_count_once(toy: Toy, tmp_path: Path) -> None:
    one, _ = simple(toy.store, "prepare", "one", "a" * 500, {"n": 1})
    two, _ = simple(toy.store, "prepare", "two", "never made", {"n": 2})
    (two / "file").unlink()
    os.link(one / "file", two / "file")
    found = collect(Path("."))
    manifests = sum((folder / "manifest.json").stat().st_size for folder in (one, two))
    assert sum(item.bytes for item in found.items) == 1000 + manifests
    assert sum(item.freed for item in found.items) == 500 + manifests
    os.link(one / "file", tmp_path / "a third name outside the store")
    assert sum(item.freed for item in collect(Path(".")).items) == manifests


def test_links_in_garbage_are_deleted_and_not_followed(toy: Toy, tmp_path: Path) -> None:
    folder, _ = simple(toy.store, "prepare", "one", "a", {})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("b" * 9999)
    (folder / "link").symlink_to(outside)
    (folder / "another").symlink_to(outside / "precious")
    found = collect(Path("."))
    assert found.items[0].bytes < 9999
    assert delete(found).failures == () and not folder.exists()
    assert (outside / "precious").stat().st_size == 9999


# --- leases --------------------------------------------------------------------------------------------------------


def test_another_checkouts_lease_protects_and_is_forgotten_on_request(toy: Toy, tmp_path: Path) -> None:
    raw, _ = simple(toy.store, "draw", "raw", "r", {})
    data, _ = simple(toy.store, "prepare", "data", "d", {}, raw=raw)
    other, _ = simple(toy.store, "prepare", "other", "o", {"x": 1})
    lease = lease_elsewhere(toy.store, Path("/shared/lntune"), [name_of(data), "finetune/pending-0123456789ab"])
    (toy.store.root / "finetune/pending-0123456789ab").mkdir(parents=True)  # Snakemake has made it for a job
    (toy.store.root / ".scratch/finetune-0123456789ab").mkdir()
    found = collect(Path("."))
    assert names(found) == [name_of(other)] and len(found.items) == 1
    assert set(found.stays.values()) == {f"leased by {lease.text}"}
    assert re.fullmatch(r"/shared/lntune of alice on elsewhere on \d{4}-\d\d-\d\d", lease.text)
    assert lease.text in text(found) and found.notes == ()
    with pytest.raises(UserError, match=r"--forget /nowhere: has no lease on results; there are: elsewhere:/shared/l"):
        forget_lease(toy.store, "/nowhere")
    lease_elsewhere(toy.store, Path("/shared/lntune"), [], "bob", "third")
    with pytest.raises(UserError, match="several hosts have such a checkout; name one of: elsewhere:/shared/lntune; "):
        forget_lease(toy.store, "/shared/lntune")
    assert forget_lease(toy.store, "elsewhere:/shared/lntune") == lease
    found = collect(Path("."))
    assert names(found) == sorted(map(name_of, (raw, data, other)))
    assert [item.kind for item in found.items if item.kind != "result"] == ["scratch", "unfinished"]
    assert [one.user for one in read_leases(toy.store)] == ["bob"]


def test_a_checkout_that_is_no_longer_there_is_protected_until_it_is_forgotten(toy: Toy, tmp_path: Path) -> None:
    data, _ = simple(toy.store, "prepare", "data", "d", {})
    (tmp_path / "gone").mkdir()
    write_lease(toy.store, tmp_path / "gone", [name_of(data)])
    (tmp_path / "gone").rmdir()
    found = collect(Path("."))
    assert found.items == () and f"leased by {tmp_path / 'gone'} of " in text(found)
    forget_lease(toy.store, str(tmp_path / "gone"))
    assert names(collect(Path("."))) == [name_of(data)]


def test_this_checkouts_last_run_is_kept_until_the_next(toy: Toy) -> None:
    data, _ = simple(toy.store, "prepare", "data", "d", {})
    write_lease(toy.store, toy.root, [name_of(data)])
    found = collect(Path("."))
    assert found.items == ()
    (lease,) = read_leases(toy.store)
    assert found.stays[name_of(data)] == f"needed by this checkout's last run, on {lease.written:%Y-%m-%d}"
    write_lease(toy.store, toy.root, ["prepare/other-0123456789ab"])
    assert len(read_leases(toy.store)) == 1 and names(collect(Path("."))) == [name_of(data)]
    write_lease(toy.store, toy.root, [name_of(data)])
    forget_lease(toy.store, ".")
    assert names(collect(Path("."))) == [name_of(data)]


def test_a_second_run_in_this_checkout_leaves_the_first_ones_lease(toy: Toy) -> None:
    write_lease(toy.store, toy.root, ["a/first-0123456789ab"])
    first = hold(toy.root / ".snakemake/runs/host.1.0")
    assert len(write_lease(toy.store, toy.root, ["b/second-0123456789ab"]).names) == 2
    os.close(first)
    assert write_lease(toy.store, toy.root, ["c/third-0123456789ab"]).names == ("c/third-0123456789ab",)


def test_leases_are_whole_or_not_at_all_and_later_versions_are_read(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = write_lease(toy.store, toy.root, ["b/b-0123456789ab", "a/a-0123456789ab", "a/a-0123456789ab"])
    assert lease.names == ("a/a-0123456789ab", "b/b-0123456789ab") and lease.checkout == str(toy.root)
    (path,) = Path("results/.leases").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"added": "by a later version"}))
    assert read_leases(toy.store) == [lease]

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("lntune.files.os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_lease(toy.store, toy.root, [])
    assert read_leases(toy.store) == [lease] and list(Path("results/.leases").iterdir()) == [path]


# --- processes at work, and what dead ones left -------------------------------------------------------------------


def test_deletion_refuses_while_a_workflow_runs_here(toy: Toy) -> None:
    simple(toy.store, "prepare", "data", "d", {})
    found = collect(Path("."))
    sign = Path(".snakemake/runs/host.1.0")
    held = hold(sign)
    with pytest.raises(UserError, match=r"\.snakemake/runs: a workflow runs here \(host\.1\.0\); wait") as raised:
        delete(found)
    assert "\n" not in str(raised.value) and len(toy.present()) == 1
    last = text(collect(Path("."))).splitlines()[-1]
    assert last.startswith("1 result, ") and ".snakemake/runs: a workflow runs here" in last
    os.close(held)


def test_a_workflow_that_was_killed_keeps_nobody_from_deletion(toy: Toy) -> None:
    simple(toy.store, "prepare", "data", "d", {})
    os.close(hold(Path(".snakemake/runs/host.1.0")))
    Path(".snakemake/locks").mkdir()  # and what Snakemake left, when it still had locks of its own
    Path(".snakemake/locks/0.output.lock").write_text("results/x\n", encoding="utf-8")
    assert delete(collect(Path("."))).folders == 1


@pytest.mark.parametrize("disturb", ["lock", "lease"])
def test_deletion_stops_when_a_workflow_starts(disturb: str, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        simple(toy.store, "prepare", f"data-{number}", "d", {"n": number})
    found, remove = collect(Path(".")), shutil.rmtree

    def removed(path: Path) -> None:
        remove(path)
        if disturb == "lease":
            lease_elsewhere(toy.store, Path("/other"), [])
        else:
            hold(Path(".snakemake/runs/host.1.0"))

    monkeypatch.setattr(garbage.shutil, "rmtree", removed)
    done = delete(found)
    assert done.folders == 1 and len(done.failures) == 1 and len(toy.present()) == 3
    assert ("has started meanwhile" if disturb == "lease" else "a workflow runs here") in done.failures[0]


def hold(lock: Path) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def test_what_a_process_is_making_and_reading_stays(toy: Toy) -> None:
    raw, _ = simple(toy.store, "draw", "raw", "r", {})
    data, _ = simple(toy.store, "prepare", "data", "d", {}, raw=raw)
    done, _ = simple(toy.store, "prepare", "just-done", "d", {"n": 1})
    id = "0123456789ab"
    spec = toy.store.root / f".jobs/finetune/model-{id}.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"store": "results", "inputs": {"samples": str(data), "all": [f"{data}/chosen"]}}))
    places = (f"finetune/model-{id}", f"finetune/.model-{id}.{HOST}.999999999.01234567", f".scratch/finetune-{id}")
    for name in places:
        (toy.store.root / name).mkdir(parents=True)
    scratch = toy.store.root / ".scratch"
    handles = [hold(scratch / f"finetune-{id}.lock"), hold(scratch / f"prepare-{done.name[-12:]}.lock")]
    found = collect(Path("."))
    assert found.items == () and found.small == ()
    assert found.stays == dict.fromkeys(map(name_of, (raw, data, done)), "needed by a process at work")
    for handle in handles:
        os.close(handle)
    found = collect(Path("."))
    assert Counter(item.kind for item in found.items) == {"result": 3, "unfinished": 1, "temporary": 1, "scratch": 1}
    assert Counter(one.kind for one in found.small) == {"job spec": 1, "lock": 2, "mark": 3}
    handle = hold(scratch / f"finetune-{id}.lock")  # in the moment before deletion
    failures = delete(found).failures
    assert len(failures) == 3 and all("a process has begun to work on it; left as it is" in line for line in failures)
    assert all((toy.store.root / name).is_dir() for name in places)
    os.close(handle)
    delete(collect(Path(".")))
    files = [path for path in toy.store.root.rglob("*") if path.is_file()]
    assert files == [] and not any((toy.store.root / name).exists() for name in places)


def test_temporary_folders_go_with_their_processes(toy: Toy) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = "data-0123456789ab"
    gone = [f".{name}.{HOST}.{dead.pid}.01234567", f".{name}.{HOST}.{dead.pid}.01234567.old"]
    old = f".{name}.elsewhere.{os.getpid()}.76543210"
    stay = [f".{name}.{HOST}.{os.getpid()}.01234567", f".{name}.elsewhere.{dead.pid}.01234567", ".data", f".{name}.tmp"]
    for folder in [*gone, old, *stay]:
        (toy.store.root / "prepare" / folder).mkdir(parents=True)
        (toy.store.root / "prepare" / folder / "half").write_text("half")
    (toy.store.root / ".scratch" / f".prepare-0123456789ab.{HOST}.{dead.pid}.01234567.old").mkdir(parents=True)
    week = time.time() - 8 * 24 * 3600
    for path in (toy.store.root / "prepare" / old / "half", toy.store.root / "prepare" / old):
        os.utime(path, (week, week))
    found = collect(Path("."))
    reasons = {item.path.name: item.reason for item in found.items if item.stage == "prepare"}
    assert reasons == {
        **dict.fromkeys(gone, "left by a process that died"),
        old: "left by a process of another host over a week ago",
    }
    assert len(found.items) == 4 and delete(found).failures == ()
    assert sorted(path.name for path in (toy.store.root / "prepare").iterdir()) == sorted(stay)
    os.utime(toy.store.root / "prepare" / stay[1] / "half", (week, week))
    os.utime(toy.store.root / "prepare" / stay[1], (week, week))
    (toy.store.root / ".scratch/prepare-0123456789ab").mkdir()
    (toy.store.root / ".scratch/prepare-0123456789ab/checkpoint").touch()  # its training goes on there
    assert not any(item.kind == "temporary" for item in collect(Path(".")).items)


def test_scratch_and_specs_of_what_is_still_to_be_made_stay(toy: Toy) -> None:
    plan, nodes = toy.plan()
    write_specs(plan.store, nodes)
    pending = next(node for node in nodes if node.stage == "finetune")
    finished = next(node for node in nodes if node.stage == "draw" and not node.inputs)
    make(plan.store, finished)
    left_to_another = next(node for node in nodes if node.stage == "draw" and node is not finished)
    make(plan.store, left_to_another)
    unneeded = "connector-0123456789ab"
    for name in (f"finetune-{pending.id}", f"draw-{finished.id}", f"draw-{left_to_another.id}", unneeded):
        (toy.store.root / ".scratch" / name).mkdir()
        (toy.store.root / ".scratch" / name / "checkpoint").write_text("7")
    (toy.store.root / f".scratch/draw-{left_to_another.id}" / LEFT).touch()
    half = toy.store.root / ".jobs/draw/.half-0123456789ab.json.77"
    half.touch()
    spec = toy.store.root / f".jobs/draw/{finished.name}.json"
    spec.with_suffix(".state").write_text("{}")  # its job was killed, another run made the result
    found = collect(Path("."))
    assert {item.path.name: item.reason for item in found.items} == {
        f"draw-{finished.id}": "scratch of a result that is finished",
        unneeded: "scratch of a result that nothing needs",
    }
    spent = {spec.name, spec.with_suffix(".state").name, f"{left_to_another.name}.json"}
    assert {one.path.name for one in found.small} == spent
    delete(found)
    assert (toy.store.root / f".scratch/draw-{left_to_another.id}/checkpoint").exists()
    assert (toy.store.root / f".scratch/finetune-{pending.id}/checkpoint").read_text() == "7"
    assert len(list(toy.store.root.glob(".jobs/*/*.json"))) == len(nodes) - 2 and half.exists()
    os.utime(half, (0, 0))
    assert [one.path for one in collect(Path(".")).small] == [half]


def test_a_job_spec_that_another_checkouts_job_may_wait_with_stays_for_a_week(toy: Toy) -> None:
    data, _ = simple(toy.store, "prepare", "data", "d", {})
    lease_elsewhere(toy.store, Path("/other"), [name_of(data)])
    spec = toy.store.root / f".jobs/prepare/{data.name}.json"
    spec.parent.mkdir(parents=True)
    spec.write_text("{}")
    assert collect(Path(".")).small == ()
    os.utime(spec, (0, 0))
    assert [one.path for one in collect(Path(".")).small] == [spec]


def test_marks_that_lead_nowhere_go_and_lost_results_are_still_found(toy: Toy) -> None:
    one, _ = simple(toy.store, "prepare", "one", "d", {})
    two, _ = simple(toy.store, "prepare", "two", "d", {"n": 2})
    lease_elsewhere(toy.store, Path("/other"), [name_of(two)])
    (kept,) = toy.store.root.glob(f".works/prepare/*/{two.name}")
    lost = kept.with_name("lost-0123456789ab")
    lost.touch()
    found = collect(Path("."))
    assert sorted(small.path.name for small in found.small) == sorted([one.name, lost.name])
    simple(toy.store, "prepare", "lost", "d", {})  # someone makes results between listing and deletion
    delete(found)
    assert kept.exists() and not lost.exists()


def test_folders_of_works_go_with_their_last_mark(toy: Toy) -> None:
    gone, _ = simple(toy.store, "prepare", "gone", "d", {})
    kept, _ = simple(toy.store, "prepare", "kept", "d", {"n": 2})
    lease_elsewhere(toy.store, Path("/other"), [name_of(kept)])
    works = toy.store.root / ".works/prepare"
    (of_gone,), (of_kept,) = works.glob(f"*/{gone.name}"), works.glob(f"*/{kept.name}")
    of_kept.with_name("lost-0123456789ab").touch()
    assert delete(collect(Path("."))).failures == ()
    assert [path.parent for path in works.glob("*/*")] == [of_kept.parent] == list(works.iterdir())
    assert not of_gone.exists() and not (of_kept.parent / "lost-0123456789ab").exists()


def test_a_mark_is_made_though_its_folder_is_deleted_meanwhile(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = simple(toy.store, "prepare", "data", "d", {})
    manifest, write, deleted = read_manifest(data / "manifest.json"), write_manifest, []

    def late(path: Path, manifest: Manifest) -> None:
        if not deleted:
            path.parent.rmdir()
            deleted.append(path)
        write(path, manifest)

    with monkeypatch.context() as patched:
        patched.setattr("lntune.store.reuse.write_manifest", late)
        mark(toy.store, "a" * 64, manifest)
    assert len(deleted) == 1 and read_manifest(deleted[0]) == manifest


# --- deleting ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_deleted_is_a_line_and_the_rest_goes(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [simple(toy.store, "prepare", f"data-{n}", "d", {"n": n})[0] for n in range(3)]
    (folders[1] / "inner").mkdir()
    access = os.access

    def shut(path: str, mode: int) -> bool:
        return Path(path) != folders[1] / "inner" and access(path, mode)

    monkeypatch.setattr(garbage.os, "access", shut)
    found = collect(Path("."))
    done = delete(found)
    assert done.failures == (f"{folders[1]}: Permission denied; left as it is",) and done.folders == 2
    assert toy.present() == [name_of(folders[1])]
    toy.verify(toy.present())
    assert done.freed < found.freed and done.text.startswith("2 folders and 3 small files deleted, ")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is shut to root")
def test_folders_without_the_right_to_write(toy: Toy) -> None:
    folder, _ = simple(toy.store, "prepare", "data", "d", {})
    (folder / "inner").mkdir()
    (folder / "inner").chmod(0o555)
    assert delete(collect(Path("."))).failures == (f"{folder}: Permission denied; left as it is",)
    assert toy.present() == [name_of(folder)]
    (folder / "inner").chmod(0o755)
    assert delete(collect(Path("."))).failures == () and toy.present() == []


def test_a_removal_that_fails_halfway_leaves_nothing_to_be_believed(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = simple(toy.store, "prepare", "data", "d", {})

    def fail(path: Path) -> None:
        (path / "file").unlink()
        raise OSError(5, "Input/output error", "manifest.json")

    with monkeypatch.context() as patched:
        patched.setattr(garbage.shutil, "rmtree", fail)
        (line,) = delete(collect(Path("."))).failures
    assert re.fullmatch(rf"{folder}: Input/output error; what is left of it lies in results/prepare/\..*\.old", line)
    assert toy.present() == []


SLOW = """
import os, sys, time
from pathlib import Path
from lntune.commands.gc import collect
from lntune.commands.gc.garbage import delete

unlink = os.unlink
def slowly(*given, **named):
    unlink(*given, **named)
    print("unlinked", flush=True)
    time.sleep(0.05)
os.unlink = slowly
delete(collect(Path(".")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 3, 12])
def test_killed_in_the_middle_of_deletion(moment: int, toy: Toy) -> None:
    kept, _ = simple(toy.store, "prepare", "kept", "k", {})
    lease_elsewhere(toy.store, Path("/other"), [name_of(kept)])
    raw = kept
    for number in range(6):
        raw, _ = simple(toy.store, "prepare", f"data-{number}", "d", {"n": number}, raw=raw)
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(moment):
            assert process.stdout.readline() == "unlinked\n"
        process.send_signal(signal.SIGKILL)
    left = toy.present()
    toy.verify(left)
    for name in left:  # whatever is left has all that it was made from
        manifest = read_manifest(Path("results") / name / "manifest.json")
        assert all((Path("results") / one.name / "manifest.json").exists() for _, one in manifest.parents())
    assert delete(collect(Path("."))).failures == ()
    assert toy.present() == [name_of(kept)]
    assert [path.name for path in Path("results/prepare").iterdir()] == [kept.name]
    assert list(Path("results/.scratch").iterdir()) == []


# --- the listing ---------------------------------------------------------------------------------------------------


def listed(items: Sequence[Item]) -> Garbage:
    return Garbage(Path("."), Store(Path("results")), tuple(items), (), {"a/b": "why"}, (), None, frozenset())


def item(stage: str, number: int, reason: str, size: int) -> Item:
    path = Path("results") / stage / f"label-{number}-0123456789ab"
    return Item("result", stage, path, Path("lock"), reason, size, size // 2)


def test_a_listing_of_two() -> None:
    why = "no table or figure needs it"
    both = [item("predict", 1, why, 3000), item("finetune", 2, why, 8_000_000)]
    assert text(listed(both)).splitlines() == [
        "1 result stays:",
        "      1  why",
        "",
        "   freed       of  folders  stage     why",
        "  4.0 MB   8.0 MB        1  finetune  no table or figure needs it",
        "  4.0 MB   8.0 MB             label-2-0123456789ab",
        "  1.5 kB   3.0 kB        1  predict   no table or figure needs it",
        "  1.5 kB   3.0 kB             label-1-0123456789ab",
        "",
        "2 results, 4.0 MB would be freed; `lntune gc --delete` deletes them",
    ]


def test_a_listing_of_two_thousand_fits_on_a_page() -> None:
    many = [item(f"stage-{n % 40:02}", n, f"reason {n % 2}", 1000 * (n + 1)) for n in range(2000)]
    lines = text(listed(many)).splitlines()
    assert len(lines) < 60 and max(map(len, lines)) < 100
    assert lines[-1] == "2,000 results, 1.0 GB would be freed; `lntune gc --delete` deletes them"
    assert lines[4].split()[:6] == ["26", "MB", "51", "MB", "50", "stage-39"]
    assert "and 49 more" in lines[5] and "in 15 smaller groups" in text(listed(many))
    assert "(`--json` names every folder)" in lines[-3]
    assert len(document(listed(many))["items"]) == 2000
    json.dumps(document(listed(many)))


# --- a whole checkout ----------------------------------------------------------------------------------------------

COLLECT = """
import json, sys
from pathlib import Path
from lntune.commands.gc import collect
from lntune.commands.gc.garbage import delete, document

found = collect(Path("."))
done = delete(found) if "--delete" in sys.argv else None
print(json.dumps(document(found) | {"failures": done.failures if done else []}))
"""


def gc(checkout: Checkout, *arguments: str) -> Any:
    """Collect with the checkout's own code."""
    printed = subprocess.run(
        [sys.executable, "-c", COLLECT, *arguments], cwd=checkout.root, stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(checkout.root / "src")},
    )  # fmt: skip
    return json.loads(printed.stdout)


@pytest.fixture
def copy(copy: Checkout) -> Checkout:
    """A copy in which nothing is leased: its lease names the folder that it was made in."""
    shutil.rmtree(copy.root / "results/.leases")
    return copy


@pytest.mark.slow
def test_a_checkout_with_one_more_learning_rate_and_back(copy: Checkout) -> None:
    table = (copy.root / "tables/tiny.csv").read_bytes()
    scale = copy.yaml("workflow/scales/tiny.yaml")
    before = {path for path in copy.root.glob("results/[!.]*/*/manifest.json")}
    found = gc(copy)
    assert found["items"] == [] and {one["kind"] for one in found["small"]} <= {"job spec"}
    assert len(found["stays"]) == len(before) and found["notes"] == [] and found["refusal"] is None
    scale["methods"]["layernorm"]["learning_rates"] = [5.0e-3, 1.0e-3]
    copy.write_yaml("workflow/scales/tiny.yaml", scale)
    copy.edit("workflow/report_items/tiny.yaml", "two ways to tune", "two ways")  # for it may choose the same rate
    copy.snakemake("-c2")
    scale["methods"]["layernorm"]["learning_rates"] = [5.0e-3]
    copy.write_yaml("workflow/scales/tiny.yaml", scale)
    copy.edit("workflow/report_items/tiny.yaml", "two ways", "two ways to tune")
    kept = gc(copy)["stays"]
    assert any("0.001" in name for name in kept) and gc(copy)["items"] == []  # it is published still
    copy.snakemake("-c2")
    found = gc(copy, "--delete")
    assert found["failures"] == [] and found["freed"] > 0
    added = {one["stage"]: one["reason"] for one in found["items"] if "0.001" in one["path"]}
    assert added == dict.fromkeys(("finetune", "predict", "score-captions"), "no table or figure needs it")
    assert {path for path in copy.root.glob("results/[!.]*/*/manifest.json")} == before
    for path in before:
        assert read_manifest(path).outputs == hash_tree(path.parent, {"manifest.json"}), path
    assert (copy.root / "tables/tiny.csv").read_bytes() == table and copy.pending() == {}
    traced = copy.run("lntune", "trace", "tiny", "LayerNorm-Conv. 20K", "POPE")
    assert all(f"{stage}/" in traced for stage in ("score-pope", "predict", "finetune", "connector", "draw", "fetch"))
    assert gc(copy)["items"] == [] and gc(copy)["small"] == []

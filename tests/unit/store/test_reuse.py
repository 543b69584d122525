"""Early cut-off: work that has been done is linked, whatever the inputs are called, and nothing else is."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lntune.errors import UserError
from lntune.files import link_or_copy
from lntune.store.identity import Identity, hash_tree
from lntune.store.job import EARLIER, LEFT
from lntune.store.manifest import AcceptedEdit, Change, Manifest, Store, read_manifest, undone
from lntune.store.record import record
from lntune.store.reuse import check_whole

CODE = {"toy.train": "ab" * 32}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def write(text: str) -> Callable[[Path, Path], dict[str, object]]:
    def work(out: Path, scratch: Path) -> dict[str, object]:
        (out / "chosen").mkdir()
        (out / "chosen" / "data.txt").write_text(text)
        (out / "report.txt").write_text(f"all about {text}")
        return {"length": len(text)}

    return work


def refuse(out: Path, scratch: Path) -> dict[str, object]:
    raise AssertionError("this work has been done")


def source(store: Store, text: str, version: int) -> Path:
    """A result whose name depends on ``version`` and whose files do not."""
    identity = Identity("filter", {"version": version}, CODE, {}, {})
    record(store, identity, "source", write(text))
    return store.folder("filter", "source", identity.id)


def train(store: Store, folder: Path, *, part: str | None = None, work=refuse, label="model", **other) -> Manifest:
    """Train on a result, or on a part of one."""
    given = folder if part is None else folder / part
    name = folder.name.rpartition("-")[2] + (f"/{part}" if part else "")
    identity = Identity("train", {"rate": 0.1, **other.get("settings", {})}, CODE, {"torch": "2"}, {"data": name})
    return record(store, identity, label, work, inputs={"data": given}, announce=other.get("announce", print))


def test_equal_bytes_under_another_name_are_linked(store: Store) -> None:
    one, two = source(store, "abc", 1), source(store, "abc", 2)
    first = train(store, one, work=write("weights"))
    said: list[str] = []
    second = train(store, two, label="again", announce=said.append)
    assert said == [f"linked from train/model-{first.id}"]
    assert second.id != first.id and (second.content, second.metrics) == (first.content, first.metrics)
    assert second.origin is not None and (second.origin.label, second.origin.id) == ("model", first.id)
    assert second.identity().id == second.id
    here, there = store.folder("train", "again", second.id), store.folder("train", "model", first.id)
    assert read_manifest(here / "manifest.json") == second
    for name in second.outputs:
        assert os.path.samefile(here / name, there / name)
        assert stat.S_IMODE((here / name).stat().st_mode) & 0o222 == 0


def test_a_copy_of_a_copy_names_who_did_the_work(store: Store) -> None:
    first = train(store, source(store, "abc", 1), work=write("weights"))
    train(store, source(store, "abc", 2), label="second")
    shutil.rmtree(store.folder("train", "model", first.id))
    third = train(store, source(store, "abc", 3), label="third")
    assert third.origin is not None and third.origin.id == first.id
    folder = store.folder("train", "third", third.id)
    assert hash_tree(folder, ignore={"manifest.json"}) == third.outputs


@pytest.mark.parametrize("linked", [False, True])
def test_a_job_begins_with_what_the_earlier_one_left_and_leaves_nothing(store: Store, linked: bool) -> None:
    """Also where the earlier result is a link to another."""

    def leave(out: Path, scratch: Path) -> dict[str, object]:
        (scratch / "step-3").touch()
        (scratch / LEFT).touch()
        return write("part")(out, scratch)

    def go_on(out: Path, scratch: Path) -> dict[str, object]:
        assert [path.name for path in scratch.iterdir()] == ["step-3"]
        return write("whole")(out, scratch)

    earlier = train(store, source(store, "abc", 1), work=leave)
    if linked:
        earlier = train(store, source(store, "abc", 2))
    assert [path.name for path in store.scratch("train", earlier.id).glob("step-*")] == ["step-3"]
    identity = Identity("train", {"rate": 0.2}, CODE, {}, {EARLIER: earlier.id})
    record(store, identity, "whole", go_on, inputs={EARLIER: store.folder("train", "model", earlier.id)})
    assert [path for path in (store.root / ".scratch").iterdir() if path.is_dir()] == []


def test_a_job_whose_earlier_ones_checkpoint_is_gone_begins_anew(store: Store) -> None:
    earlier = train(store, source(store, "abc", 1), work=write("part"))
    identity = Identity("train", {"rate": 0.2}, CODE, {}, {EARLIER: earlier.id})
    folder = store.folder("train", "model", earlier.id)
    manifest = record(store, identity, "whole", write("whole"), inputs={EARLIER: folder})
    assert manifest.metrics == {"length": 5}


@pytest.mark.parametrize("change", ["bytes", "settings"])
def test_other_work_is_not_linked(store: Store, change: str) -> None:
    train(store, source(store, "abc", 1), work=write("weights"))
    folder = source(store, "abd" if change == "bytes" else "abc", 2)
    settings = {"rate": 0.2} if change == "settings" else {}
    assert train(store, folder, work=write("other"), settings=settings).origin is None


def test_what_a_search_kept_is_the_work_that_it_would_have_been_without_it(store: Store) -> None:
    """Either links the other's files. One that was not kept is other work, whatever lies in the store."""

    def gate(name: str, content: str) -> Path:
        def work(out: Path, scratch: Path) -> dict[str, object]:
            (out / "0.1").mkdir()
            (out / "0.1" / name).write_text(content)
            return {}

        identity = Identity("halve", {"name": name}, CODE, {}, {})
        record(store, identity, "halve", work)
        return store.folder("halve", "halve", identity.id)

    def gated(rate: float, halving: Path | None, work=refuse) -> Manifest:
        inputs = {"data": data}
        if halving:
            inputs |= {"kept": halving / "0.1", "earlier": earlier}
        names = {role: f"{(p.parent if role == 'kept' else p).name[-12:]}" for role, p in inputs.items()}
        names |= {"kept": f"{names['kept']}/0.1"} if halving else {}
        identity = Identity("train", {"rate": rate}, CODE, {}, names)
        return record(store, identity, "model", work, inputs=inputs)

    data, earlier = source(store, "abc", 1), source(store, "def", 2)
    kept, stopped = gate("kept", ""), gate("stopped.json", "[]")
    for rate, first, second in ((0.1, None, kept), (0.2, kept, None)):
        made = gated(rate, first, write("model"))
        again = gated(rate, second)
        assert again.origin and again.origin.id == made.id and again.outputs == made.outputs
        other = gated(rate, stopped, write("no model"))
        assert other.origin is None and other.outputs != made.outputs
    shutil.rmtree(store.root / ".works")
    assert gated(0.3, stopped, write("no model")).origin is None
    assert gated(0.3, kept, write("model")).origin is None, "nothing was linked from what did not do the work"


def test_a_part_is_as_good_as_a_result_with_the_same_files(store: Store) -> None:
    """What else a selection holds does not matter to whoever reads its chosen candidate."""
    whole = Identity("filter", {"alone": True}, CODE, {}, {})

    def alone(out: Path, scratch: Path) -> dict[str, object]:
        (out / "data.txt").write_text("abc")
        return {}

    record(store, whole, "alone", alone)
    first = train(store, store.folder("filter", "alone", whole.id), work=write("weights"))
    second = train(store, source(store, "abc", 1), part="chosen", label="part")
    assert second.origin is not None and second.origin.id == first.id
    noted = second.inputs["data"]
    assert not isinstance(noted, tuple) and noted.part == "chosen"
    assert second.identity().id == second.id


@pytest.mark.parametrize(
    "damage", ["file gone", "file cut", "bit flipped", "manifest gone", "manifest damaged", "manifest edited"]
)
def test_what_is_not_whole_is_not_linked(store: Store, damage: str) -> None:
    first = train(store, source(store, "abc", 1), work=write("weights"))
    folder = store.folder("train", "model", first.id)
    if damage == "file gone":
        (folder / "report.txt").unlink()
    elif damage == "file cut":
        (folder / "report.txt").chmod(0o644)
        (folder / "report.txt").write_text("all")
    elif damage == "bit flipped":
        (folder / "report.txt").chmod(0o644)
        (folder / "report.txt").write_text("all about weightr")
    elif damage == "manifest gone":
        (folder / "manifest.json").unlink()
    elif damage == "manifest damaged":
        (folder / "manifest.json").write_text("{")
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["settings"]["rate"] = 0.3
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert train(store, source(store, "abc", 2), work=write("weights"), label="again").origin is None


@pytest.mark.parametrize("part", [None, "chosen"])
def test_a_flipped_bit_in_what_is_about_to_be_read_is_named_with_the_remedy(store: Store, part: str | None) -> None:
    folder = source(store, "abc", 1)
    given = folder / (part or "")
    check_whole(given)
    path = folder / "chosen/data.txt"
    path.chmod(0o644)
    path.write_text("abb")
    told = f"does not hold the bytes that its manifest says; `rm -r {folder} && snakemake {folder}/manifest.json` makes"
    with pytest.raises(UserError, match=re.escape(f"{path}: {told}")):
        check_whole(given)
    path.unlink()
    with pytest.raises(UserError, match=re.escape(f"{path}: cannot be read (No such file or directory)")):
        check_whole(given)
    path.write_text("abc")
    (folder / "report.txt").unlink()
    if part:
        check_whole(given)  # what else the result holds does not matter to the reader


def test_a_manifest_that_a_flipped_bit_gave_another_name_is_no_input(store: Store) -> None:
    folder = source(store, "abc", 1)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"label": "source"', '"label": "sourbe"'))
    with pytest.raises(UserError, match=r"damaged manifest \(it says filter/sourbe-\w+\); `rm -r"):
        train(store, folder)


def test_an_origin_that_goes_while_it_is_linked_is_computed_again(store: Store, monkeypatch) -> None:
    train(store, source(store, "abc", 1), work=write("weights"))

    def gone(found: Path, target: Path) -> None:
        if target.name == "report.txt":
            raise FileNotFoundError(found)
        link_or_copy(found, target)

    monkeypatch.setattr("lntune.store.reuse.link_or_copy", gone)
    made = train(store, source(store, "abc", 2), work=write("weights"), label="again")
    assert made.origin is None
    assert hash_tree(store.folder("train", "again", made.id), ignore={"manifest.json"}) == made.outputs


def test_marks_that_were_lost_are_written_again(store: Store) -> None:
    train(store, source(store, "abc", 1), work=write("weights"))
    shutil.rmtree(store.root / ".works")
    assert train(store, source(store, "abc", 2), label="again").origin is not None


def test_files_are_copied_where_they_cannot_be_linked(store: Store, monkeypatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError("fs.protected_hardlinks")

    train(store, source(store, "abc", 1), work=write("weights"))
    monkeypatch.setattr(os, "link", forbidden)
    copied = train(store, source(store, "abc", 2), label="again")
    folder = store.folder("train", "again", copied.id)
    assert hash_tree(folder, ignore={"manifest.json"}) == copied.outputs


LINKER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_reuse import *
store = Store(Path({root!r}))
for version in range({start}, {start} + 20):
    assert train(store, source(store, "abc", version)).origin is not None
"""


def test_many_processes_link_in_one_store(store: Store) -> None:
    """Four at a time, each twenty results, two of them the same twenty."""
    train(store, source(store, "abc", 0), work=write("weights"))
    starts = (1, 1, 21, 41)
    code = [LINKER.format(tests=str(Path(__file__).parent), root=str(store.root), start=start) for start in starts]
    running = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.DEVNULL) for text in code]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0, 0]
    results = list((store.root / "train").iterdir())
    assert len(results) == 61 and not any(path.name.startswith(".") for path in results)
    for folder in results:
        manifest = read_manifest(folder / "manifest.json")
        assert hash_tree(folder, ignore={"manifest.json"}) == manifest.outputs


def test_linking_is_fast(store: Store) -> None:
    train(store, source(store, "abc", 0), work=write("weights"))
    folders = [source(store, "abc", version) for version in range(1, 101)]
    started = time.process_time()
    for folder in folders:
        train(store, folder)
    assert time.process_time() - started < 5  # a tenth of this as a rule; the issue is seconds, not minutes


def edit(stage: str, was: str | None, now: str | None, module: str = "m") -> AcceptedEdit:
    return AcceptedEdit(
        stage=stage, because="renamed", date="2026-01-01", code={module: Change(was=was, now=now)}, packages={}
    )


def test_accepted_edits_are_undone_and_chained() -> None:
    a_to_b, b_to_c = edit("train", "a", "b"), edit("train", "b", "c")
    assert undone("train", {"m": "c", "n": "x"}, {}, [a_to_b, b_to_c]) == ({"m": "a", "n": "x"}, {}, (b_to_c, a_to_b))
    assert undone("train", {"m": "a"}, {}, [a_to_b, b_to_c]) == ({"m": "a"}, {}, ())
    assert undone("train", {"m": "d"}, {}, [a_to_b, b_to_c]) == ({"m": "d"}, {}, ())
    assert undone("score", {"m": "b"}, {}, [a_to_b]) == ({"m": "b"}, {}, ())


def test_an_accepted_edit_that_came_late_goes_first() -> None:
    """Results that are older still: b was accepted for a, and later a for z."""
    a_to_b, z_to_a = edit("train", "a", "b"), edit("train", "z", "a")
    assert undone("train", {"m": "b"}, {}, [a_to_b, z_to_a])[0] == {"m": "z"}


def test_modules_that_come_and_go_are_accepted() -> None:
    split = AcceptedEdit(
        stage="train",
        because="split in two",
        date="2026-01-01",
        code={"m": Change(was="a", now="b"), "new": Change(was=None, now="c"), "old": Change(was="d", now=None)},
        packages={"torch": Change(was="2.14", now="2.15")},
    )
    after = undone("train", {"m": "b", "new": "c"}, {"torch": "2.15"}, [split])
    assert after == ({"m": "a", "old": "d"}, {"torch": "2.14"}, (split,))
    assert undone("train", {"m": "b", "new": "c"}, {"torch": "2.16"}, [split])[2] == ()


def test_accepting_two_edits_in_turns_ends() -> None:
    there, back = edit("train", "a", "b"), edit("train", "b", "a")
    assert undone("train", {"m": "a"}, {}, [there, back])[0] in ({"m": "a"}, {"m": "b"})

"""What is cached between processes is what would be computed, after every kind of edit."""

import os
import time
from pathlib import Path

import pytest

from lntune.store import fingerprint
from lntune.store.fingerprint import PackageCode
from toy_package import write_package

FILES = {
    "__init__.py": "",
    "a.py": '"""Words."""\nfrom toys.inside import b\n\n\ndef run():\n    return b.VALUE\n',
    "inside/__init__.py": "",
    "inside/b.py": "VALUE = 1\n",
    "c.py": "import toys.a\n",
}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_package(tmp_path / "toys", FILES, monkeypatch)


def _all(package: PackageCode) -> dict[str, dict[str, str]]:
    return {module: package.fingerprint(module) for module in package._imports}


def _fresh(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """As worked out with nothing kept, and nothing written."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
        return _all(PackageCode("toys"))


EDITS = {
    "a value": lambda root: (root / "inside/b.py").write_text("VALUE = 2\n"),
    "a comment": lambda root: (root / "inside/b.py").write_text("VALUE = 1  # one\n"),
    "an import that goes": lambda root: (root / "a.py").write_text("def run():\n    return 1\n"),
    "an import that comes": lambda root: (root / "inside/b.py").write_text("import toys.c\nVALUE = 1\n"),
    "a new module": lambda root: (root / "inside/d.py").write_text("X = 1\n"),
    "a module that goes": lambda root: (root / "c.py").unlink(),
    "another name": lambda root: (root / "inside/b.py").rename(root / "inside/e.py"),
    "two that change places": lambda root: _swap(root / "c.py", root / "inside/b.py"),
    "an __init__ that does something": lambda root: (root / "inside/__init__.py").write_text("import toys.c\n"),
    "a folder that is no package any more": lambda root: (root / "inside/__init__.py").unlink(),
    "a package that is a link": lambda root: _linked(root),
}


def _swap(one: Path, other: Path) -> None:
    texts = one.read_text(encoding="utf-8"), other.read_text(encoding="utf-8")
    one.write_text(texts[1], encoding="utf-8")
    other.write_text(texts[0], encoding="utf-8")


def _linked(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "__init__.py").write_text("Y = 1\n")
    (root / "linked").symlink_to(outside)
    (root / "c.py").write_text("import toys.linked\n")
    PackageCode("toys")
    (outside / "__init__.py").write_text("Y = 2\n")


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_kept_fingerprints_are_those_of_the_files(toys: Path, edit: object, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _all(PackageCode("toys"))
    assert before == _all(PackageCode("toys")) == _fresh(monkeypatch)
    times = {path: path.stat() for path in toys.rglob("*.py")}
    assert callable(edit)
    edit(toys)
    for path, stat in times.items():
        if path.exists():  # an edit that leaves times and sizes as they were is none the less one
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    first, second = _all(PackageCode("toys")), _all(PackageCode("toys"))
    assert first == second == _fresh(monkeypatch)


def test_a_file_that_does_not_parse_is_told_of_each_time(toys: Path) -> None:
    PackageCode("toys")
    (toys / "inside/b.py").write_text("VALUE = \n")
    for _ in range(2):
        with pytest.raises(fingerprint.UserError, match=r"b\.py:1: does not parse as Python"):
            PackageCode("toys")


def test_what_was_kept_is_used_and_a_damaged_one_is_not(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _all(PackageCode("toys"))
    (file,) = (toys.parent / "cache/lntune/code").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_imports", lambda name: pytest.fail("it was kept"))
        assert _all(PackageCode("toys")) == right
    whole = file.read_text()
    for damaged in ("", whole[:-1], whole.replace(right["toys.inside.b"]["toys.inside.b"], "0" * 64)):
        assert damaged != whole
        file.write_text(damaged)
        assert _all(PackageCode("toys")) == right
        assert file.read_text() == whole


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(fingerprint.NEWEST + 3):
        fingerprint.write_cached("it", f"{number:064d}", {"number": number})
        time.sleep(0.002)
    assert [fingerprint.read_cached("it", f"{number:064d}") for number in (0, 2, 3)] == [None, None, {"number": 3}]
    assert len(list((tmp_path / "lntune/it").iterdir())) == fingerprint.NEWEST


def test_without_a_folder_to_write_to_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    fingerprint.write_cached("it", "0" * 64, 1)
    assert fingerprint.read_cached("it", "0" * 64) is None

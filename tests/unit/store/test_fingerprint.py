"""Fingerprints change exactly with the meaning of the code that a stage imports."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lntune
from lntune.errors import UserError
from lntune.store.fingerprint import PackageCode, code_fingerprint, source_digest
from toy_package import write_package

FILES = {
    "__init__.py": "",
    "stages/__init__.py": '"""Only words."""\n',
    "stages/train.py": '''"""Train."""

from toy.model import net


def run(rate: float = 0.1) -> float:
    """Run it."""
    from toy.data.draw import scene  # late, and counts all the same

    return net.step(scene(), rate)
''',
    "stages/score.py": "from toy.stages import train as _unused\n",
    "stages/other.py": "import typing\nif typing.TYPE_CHECKING:\n    import toy.unused\nVALUE = 1\n",
    "model/__init__.py": "import toy.defaults\n",
    "model/net.py": "from .. import constants\ndef step(x, rate):\n    return x * rate * constants.SCALE\n",
    "constants.py": "SCALE = 2\n",
    "defaults.py": "DEPTH = 4\n",
    "data/__init__.py": "",
    "data/draw.py": "def scene():\n    return 1\n",
    "unused.py": "X = 1\n",
}  # fmt: skip
CLOSURE = {
    "toy.constants", "toy.data.draw", "toy.defaults", "toy.model", "toy.model.net", "toy.stages.train",
}  # fmt: skip


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_package(tmp_path / "toy", FILES, monkeypatch)


def fingerprint(module: str = "toy.stages.train") -> dict[str, str]:
    return PackageCode("toy").fingerprint(module)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_it_covers_the_imports_and_the_packages_on_the_way(toy: Path) -> None:
    assert set(fingerprint()) == CLOSURE
    assert set(fingerprint("toy.stages.score")) == CLOSURE | {"toy.stages.score"}
    assert set(fingerprint("toy.stages.other")) == {"toy.stages.other"}


def test_it_is_pinned(toy: Path) -> None:
    assert source_digest(toy / "constants.py") == "f13f3b1bdbf0128951e7d1c528d42937853e7e3c50b8eb60b91a3947628cd6ae"
    assert (
        source_digest(toy / "stages" / "train.py") == "4a97689fba5c8168b93d7ee1f0739c50580c335e6b7dfd921d03d59bea5bd86a"
    )


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/train.py", '"""Run it."""', '"""Run it twice over."""'),
        ("stages/train.py", '    """Run it."""\n', ""),
        ("stages/train.py", '"""Train."""\n', "# words\n\n\n"),
        ("stages/train.py", "  # late, and counts all the same", ""),
        ("stages/train.py", "net.step(scene(), rate)", "(net.step(\n        scene(),\n        rate,\n    ))"),
        ("constants.py", "SCALE = 2", "SCALE=0x2"),
        ("stages/__init__.py", "Only words", "Other words"),
        ("data/draw.py", "def scene():\n", "def scene():\n    '''A scene.'''\n    pass\n"),
        ("unused.py", "X = 1", "X = 2"),
    ],
)
def test_cosmetic_edits_change_nothing(toy: Path, file: str, old: str, new: str) -> None:
    before = fingerprint()
    edit(toy / file, old, new)
    os.utime(toy / "model" / "net.py", (1, 1))
    assert fingerprint() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("constants.py", "2", "2.0", {"toy.constants"}),
        ("constants.py", "SCALE = 2", "SCALE = 2\n'no docstring here'", {"toy.constants"}),
        ("data/draw.py", "return 1", "return True", {"toy.data.draw"}),
        ("data/draw.py", "return 1", "return None", {"toy.data.draw"}),
        ("data/draw.py", "return 1", "return", {"toy.data.draw"}),
        ("stages/train.py", "rate: float", "rate: int", {"toy.stages.train"}),
        ("model/net.py", "x * rate", "rate * x", {"toy.model.net"}),
        ("defaults.py", "4", "'4'", {"toy.defaults"}),
        ("data/draw.py", "def scene", "import toy.unused\ndef scene", {"toy.data.draw", "toy.unused"}),
        ("data/__init__.py", "", "import os\n", {"toy.data"}),
    ],
)
def test_edits_of_meaning_change_that_module_alone(toy: Path, file: str, old: str, new: str, changed: set[str]) -> None:
    before = fingerprint()
    (toy / file).write_text(FILES[file].replace(old, new) if old else new)
    after = fingerprint()
    assert {name for name in after if after[name] != before.get(name)} == changed
    assert set(before) <= set(after)


def test_none_and_nothing_differ_where_they_mean_different_things(tmp_path: Path) -> None:
    texts = [
        "{**a}",
        "{None: a}",
        "f(x=None)",
        "f(x)",
        "'a'",
        "b'a'",
        "1",
        "1.0",
        "True",
        "x: int",
        "x: int = 1",
    ]
    digests = set()
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.py"
        path.write_text(f"y = 1\n{text}\n")
        digests.add(source_digest(path))
    assert len(digests) == len(texts)


def test_a_broken_file_is_named(toy: Path) -> None:
    (toy / "data" / "draw.py").write_text("x = 1\ndef scene(:\n")
    with pytest.raises(UserError, match=r"draw\.py:2: does not parse as Python"):
        fingerprint()
    with pytest.raises(UserError, match=r"draw\.py:2: does not parse as Python"):
        source_digest(toy / "data" / "draw.py")


def test_a_module_that_does_not_exist_is_refused(toy: Path) -> None:
    with pytest.raises(ValueError, match=r"no module toy\.stages\.nothing"):
        fingerprint("toy.stages.nothing")
    with pytest.raises(ValueError, match="not an importable package"):
        PackageCode("no_such_package_here")


PRINT = "from lntune.store.fingerprint import code_fingerprint as c; print(c('lntune.store.record'))"


def fingerprint_of_copy(root: Path) -> str:
    """The fingerprint that a fresh process computes when it imports lntune from ``root``."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PRINT], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_imported_lntune_is_read_wherever_it_lies(tmp_path: Path) -> None:
    folder = Path(lntune.__file__).parent
    shutil.copytree(folder, tmp_path / "lntune", ignore=shutil.ignore_patterns("__pycache__"))
    here = fingerprint_of_copy(tmp_path)
    assert here == f"{code_fingerprint('lntune.store.record')}\n"
    identity = tmp_path / "lntune" / "store" / "identity.py"
    identity.write_text(identity.read_text() + "\n\n# a comment\n")
    assert fingerprint_of_copy(tmp_path) == here
    identity.write_text(identity.read_text() + "\n_ANOTHER = 1\n")
    assert fingerprint_of_copy(tmp_path) != here
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lntune"]  # no cache left behind


def test_all_modules_of_the_project_are_quick_and_light() -> None:
    code = (
        "import sys, time; from lntune.store.fingerprint import PackageCode\n"
        "start = time.perf_counter(); package = PackageCode('lntune')\n"
        "for name in package._imports: package.fingerprint(name)\n"
        "print(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    best = 9.0
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, torch_loaded = done.stdout.split()
        assert torch_loaded == "False"
        best = min(best, float(seconds))
    assert best < 2.0  # 0.2 s on an idle machine; the rest is for a busy one
    start = time.perf_counter()
    code_fingerprint("lntune.store.record")
    code_fingerprint("lntune.config.load")
    assert time.perf_counter() - start < 2.0

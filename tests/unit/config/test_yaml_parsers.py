"""libyaml and PyYAML's own parser read the same wherever the first is asked; of mistakes the second one tells."""

import random
import re
from pathlib import Path

import pytest
import yaml

from checkout import ROOT
from lntune.config import load

FILES = [*sorted((ROOT / "workflow").rglob("*.yaml")), ROOT / "config.yaml", *sorted((ROOT / "slurm").glob("*.yaml"))]
EXTRA = """\
a: [b, {c: d, e: [1, 2.5]}]
f: |
  x
    y

g: >-
  z
  1:30

h: 'it''s'
i: "x\\n\\u0041"
j: &x {k: 010, l: 2024-01-01}
m: *x
n: {<<: *x, y: true}
o:
- 1
-   - ~
    - 3 # three
"""
SIGNS = "abc01 :,-[]{}#'\"\n|>&*%@`\\/.~=<^$+;()_ \n  "


def _read(text: str, reader: object) -> tuple[str, str]:
    assert callable(reader)
    try:
        return "read", repr(reader(text))
    except yaml.YAMLError as error:
        return "refused", str(error)
    except (ValueError, TypeError, AttributeError) as error:
        return "failed", type(error).__name__


def _mutants(number: int) -> list[str]:
    """Pieces of the project's files and of a text with much of YAML in it, each edited in one to three places."""
    rng = random.Random(0)
    texts = [file.read_text() for file in FILES]
    found = []
    for _ in range(number):
        lines = rng.choice([*texts, *[EXTRA] * len(texts)]).splitlines(keepends=True)
        start = rng.randrange(len(lines))
        text = "".join(lines[start : start + rng.randint(1, 10)])
        for _ in range(rng.randint(1, 3)):
            place, more = rng.randrange(len(text) + 1), rng.choice(("", rng.choice(SIGNS), rng.choice(SIGNS) * 2))
            text = text[:place] + more + text[place + rng.randint(0, 1) :]
        found.append(text)
    return found


def _pythons(text: str) -> object:
    return yaml.load(text, load._Loader)


def test_libyaml_is_there_and_reads_most_files() -> None:
    assert yaml.__with_libyaml__
    quick = [file for file in FILES if not load._READ_OTHERWISE.search(file.read_text())]
    assert len(quick) > len(FILES) * 0.9


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_every_file_of_the_project_is_read_the_same(file: Path) -> None:
    assert repr(load._read_quickly(file.read_text())) == repr(_pythons(file.read_text()))


def test_edited_pieces_are_read_or_refused_the_same() -> None:
    outcomes = []
    for text in _mutants(2500):
        found = _read(text, load._read_quickly)
        assert found == _read(text, _pythons), text
        outcomes.append(found[0])
    assert outcomes.count("read") > 500 and outcomes.count("refused") > 500


@pytest.mark.parametrize(
    "text", ["a:\tb", "a: [x?y]", "a: !", "a: |#\n", "a: ä", "%YAML 1.1\n---\na: 1", "a: 1\r\nb: 2"]
)
def test_what_the_two_read_otherwise_is_left_to_one(text: str) -> None:
    assert load._READ_OTHERWISE.search(text)
    assert _read(text, load._read_quickly) == _read(text, _pythons)


def test_a_key_given_twice_is_told_of_with_its_lines() -> None:
    with pytest.raises(yaml.YAMLError, match=re.escape("a.b: key given twice (lines 2 and 4); keep one")):
        load._read_quickly("a:\n  b: 1\n  c: 2\n  b: 3\n")

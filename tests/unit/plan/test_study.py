"""Folders that a config names: home folders, variables and odd names work or are one line."""

from pathlib import Path

import pytest

from checkout import ROOT
from lntune.errors import UserError
from lntune.plan.study import Study


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/results", "/home/me/results"),
        ("$HOME/r", "/home/me/r"),
        ("${HOME}/r", "/home/me/r"),
        ("my store/r", "my store/r"),
        ("über [a] 'b' \"c\" *", "über [a] 'b' \"c\" *"),
        ("../results/", "../results"),
    ],
)
def test_a_store_as_people_write_it(given: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Study.read(ROOT, {"store": given}).store == Path(meant)
    copies = Study.read(ROOT, {"copies": {"demo-clip": given}}).copies_folder("demo-clip")
    assert copies == ROOT / meant


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("st{user}", "name a folder without '{'"),
        ("a<stage>", "name a folder without '<'"),
        ("s3://bucket/r", "name a folder without '://'"),
        ("two\nlines", "name a folder without"),
        ("$NOT_SET_HERE/r", "the variable NOT_SET_HERE is not set"),
        ("~nobody-of-this-name/r", "no home folder is known"),
    ],
)
def test_a_store_that_is_none_is_one_line(given: str, told: str) -> None:
    study = Study.read(ROOT, {"store": given})
    with pytest.raises(UserError, match="store: ") as raised:
        _ = study.store
    assert told in str(raised.value) and "config.yaml" in str(raised.value)

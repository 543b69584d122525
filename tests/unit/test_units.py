"""Amounts as people read them."""

from lntune.units import counted


def test_a_count_has_its_noun_in_the_right_number() -> None:
    assert [counted(number, "file") for number in (0, 1, 2, 1504)] == ["0 files", "1 file", "2 files", "1,504 files"]

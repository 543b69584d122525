"""The benchmarks of speed: rounds are taken in turn, rows say what was reached, and the page says it of each."""

import json
from pathlib import Path

import pytest

from races import hashing
from races.page import page
from races.rounds import Measured, Row, in_turn
from races.workers import Worker


def row(**changes: object) -> Row:
    given = {
        "work": "sorting", "rival": "by hand", "unit": "s", "target": 2.5, "reason": "Too few cards.",
        "rival_rounds": (4.0, 6.0, 8.0), "our_rounds": (2.0, 2.0, 2.0),
    }  # fmt: skip
    return Row.model_validate(given | changes)


def measured(*rows: Row) -> Measured:
    return Measured(
        date="2030-01-02",
        commit="abc",
        machine="a machine",
        versions={"Python": "3"},
        rows=rows,
        note="Of all of them.",
    )


def test_rounds_are_taken_in_turn_after_one_that_does_not_count() -> None:
    taken: list[str] = []

    def contestant(name: str) -> float:
        taken.append(name)
        return float(len(taken))

    said: list[str] = []
    found = in_turn("x", lambda: contestant("rival"), lambda: contestant("ours"), said.append, rounds=3)
    assert taken == ["rival", "ours"] * 4 and len(said) == 4
    assert found == {"rival_rounds": (3.0, 5.0, 7.0), "our_rounds": (4.0, 6.0, 8.0)}


def test_a_row_is_judged_by_its_median() -> None:
    assert row().ratios() == [2.0, 3.0, 4.0] and row().reached() and not row(target=3.1).reached()
    assert row(unit="tokens/s").ratios() == [0.5, 2 / 6, 0.25] and not row(unit="tokens/s").reached()
    assert row(bound="at most", target=2.0).reached() and not row(bound="at most", target=1.9).reached()


def test_the_page_gives_the_reason_where_a_target_is_missed() -> None:
    reached = page({"card_games": measured(row(profile=("| a |", "| - |")))})
    assert "## Card games" in reached and "Of all of them." in reached and "Too few cards" not in reached
    assert "| sorting | by hand | 6 s (4 to 8) | 2 s (2 to 2) | **3 (2 to 4)** | 2.5 times | yes |  |" in reached
    assert "| a |" in reached, "where the time goes is told in any case"
    missed = page({"cards": measured(row(target=3.5))})
    assert "| **no** |" in missed and "**Missed: sorting.** Too few cards." in missed
    alone = page({"cards": measured(row(rival="", rival_rounds=(), bound="at most", target=5.0))})
    assert "| sorting |  |  | 2 s (2 to 2) |  | at most 5 s | yes |  |" in alone
    once = page({"cards": measured(row(rival="", rival_rounds=(), our_rounds=(2.0,), bound="at most", target=5.0))})
    assert "| sorting |  |  | 2 s, one run |  |" in once


def test_what_was_measured_survives_being_written(tmp_path: Path) -> None:
    found = measured(row(), row(unit="tokens/s"))
    assert Measured.model_validate_json(json.dumps(found.model_dump(mode="json"))) == found


def test_a_worker_answers_each_round_and_may_print(tmp_path: Path) -> None:
    script = tmp_path / "double.py"
    script.write_text(
        "from races.workers import serve\n"
        "def double(number):\n"
        "    print('noise')\n"
        "    if number > 9: raise SystemExit(3)\n"
        "    return {'found': 2 * number}\n"
        "serve(double)\n"
    )
    with Worker(script) as worker:
        assert [worker(number=number) for number in (1, 4)] == [{"found": 2}, {"found": 8}]
        with pytest.raises(RuntimeError, match="ended with exit code 3"):
            worker(number=10)


def test_the_hashing_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "LARGE_BYTES", hashing.BLOCK)
    monkeypatch.setattr(hashing, "SMALL_FILES", 50)
    said: list[str] = []
    found = hashing.rows(tmp_path, said.append)
    assert [len(one.our_rounds) for one in found] == [5, 5, 5]
    assert (tmp_path / "large" / "file.bin").stat().st_size == hashing.BLOCK
    assert len(hashing.sha256_tree(tmp_path / "small")) == 50
    assert all(figure > 0 for one in found for figure in (*one.our_rounds, *one.rival_rounds))

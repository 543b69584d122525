"""A few of the rounds of measurements/faults.py: what runs under faults lose, what differs, what needs a hand."""

import random
from pathlib import Path

import pytest

import faulty_disk
from checkout import Checkout
from fault_rounds import DATA, FAULTS, Finished, Round, damage_and_mend, play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(faulty_disk.missing()), reason=str(faulty_disk.missing())),
]


@pytest.fixture(scope="module")
def finished(made: Checkout) -> Finished:
    return Finished(made)


@pytest.mark.parametrize(
    ("fault", "seed"), [("disk full", 57), ("power cut", 3), ("wrong clock", 4)]
)  # from call 65 on; a year ahead
def test_a_plain_snakemake_puts_right_what_a_fault_left(
    fault: str, seed: int, finished: Finished, tmp_path: Path
) -> None:
    def light(round: Round) -> None:
        round.part = DATA
        FAULTS[fault](round)

    outcome = play(fault, finished, tmp_path / "round", random.Random(seed), light)
    assert outcome.right and outcome.met, outcome


@pytest.mark.parametrize(
    ("pattern", "pending", "shown"),
    [
        ("results/draw/instruct-*/detail_23k.json", ["prepare/Detail*", "data-table/*"], ["data"]),
        ("results/table/*/tiny.csv", [], []),
    ],
    ids=["an input of what is to be made", "a table that was published"],
)
def test_a_damaged_result_is_named_with_the_command_that_puts_it_right(
    pattern: str, pending: list[str], shown: list[str], finished: Finished, tmp_path: Path
) -> None:
    def damaged(round: Round) -> None:
        root = finished.checkout.root
        missing = [path.relative_to(root) for one in pending for path in root.glob(f"results/{one}")]
        finished.without(round.root, missing, shown)
        damage_and_mend(round, pattern)

    outcome = play("damaged file", finished, tmp_path / "round", random.Random(3), damaged)
    assert outcome.right and outcome.told.startswith("rm -r results/"), outcome

"""What is read of one full search about searches by halving: whom each chooses, what it loses, what it costs."""

import json
from pathlib import Path

import pytest
from measurements.halving import AT, Search, page

from lntune.config.study import Halving
from lntune.training.endings import Divergence, write_endings

RATES = (0.3, 0.2, 0.1)
CURVES = {0.1: (1.0, 5.0, 5.0), 0.2: (2.0, 5.0, 4.0), 0.4: (None, 6.0, 7.0), 1.0: (None, 9.0, 8.0)}
"""CIDEr by share of the steps and rate; the first diverges between 0.2 and 0.4."""


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """A search in which a part of the training takes 10 seconds, and asking one; three parts lead to the end."""
    folders = {}
    for at, scores in CURVES.items():
        folders[at] = tuple(tmp_path / f"{at}-{rate}" for rate in RATES)
        for folder, score, rate in zip(folders[at], scores, RATES, strict=True):
            folder.mkdir()
            if score is None:
                write_endings(folder, [Divergence(learning_rate=rate, step=3, steps=9, loss="nan", grad_norm="nan")])
            else:
                items = {"": {"Flickr30k": {str(image): [score] for image in range(4)}}}
                (folder / "scores.json").write_text(json.dumps({"CIDEr": score}))
                (folder / "per_item_scores.json").write_text(json.dumps({"parts": items}))
    return Search("llm", "method", RATES, folders, dict.fromkeys(CURVES, (10.0, 1.0) * len(RATES)))


def test_a_full_search_trains_all_to_the_end_and_asks_there(search: Search) -> None:
    assert tuple(search.folders) == (*AT, 1.0)
    assert search.chosen(None) == (0.2, 3.0, 3 * (3 * 10 + 1))


def test_halving_chooses_among_those_that_were_best_on_the_way(search: Search) -> None:
    """Of equals the smaller rate, as in a search; the winner's place is lost at 0.4, where it costs one CIDEr."""
    early, late = Halving(keep=(2,), at=(0.1,)), Halving(keep=(2, 1), at=(0.1, 0.4))
    assert search.chosen(early) == (0.2, pytest.approx(3 * 0.1 + 2 * 0.9), 3 * 11 + 2 * 21)
    assert search.lost(early) == 0 and search.difference(early) == ""
    assert search.chosen(late) == (0.1, pytest.approx(3 * 0.1 + 2 * 0.3 + 0.6), 3 * 11 + 2 * 11 + 11)
    assert search.lost(late) == 1.0 and search.difference(late) == "1.00 (1.00 to 1.00)"
    assert search.chosen(Halving(keep=(1,), at=(0.1,)))[0] == 0.1


def test_the_page_says_how_often_the_winner_is_the_same(search: Search) -> None:
    text = page([search, search])
    assert "2 searches of 3 learning rates" in text
    assert "| 1 at 0.4 | 0 of 2 | 1.00 (1.00 to 1.00) | 1.00 |" in text and "| 2 at 0.4 | 2 of 2 | 0.00" in text
    assert "| llm | method | 2e-1 |" in text and "1e-1: 1.00 (1.00 to 1.00)" in text

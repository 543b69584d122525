"""Progress: a line now and then."""

import io

import pytest

from lntune.progress import duration, rate_text, track


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("lntune.progress.time.monotonic", found)
    return found


def test_lines_come_every_ten_seconds_and_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    with track(40, "finetune", "steps", stream=stream) as progress:
        for step in range(40):
            clock.now += 0.5
            progress.advance(1, loss=2.0 / (step + 1))
    assert stream.getvalue().splitlines() == [
        "finetune: 20/40 steps (50%), 2 steps/s, 0:10 left, loss 0.1",
        "finetune: 40/40 steps (100%), 2 steps/s, 0:20 in all, loss 0.05",
    ]


def test_steps_of_an_earlier_attempt_do_not_count_as_speed(clock: Clock) -> None:
    stream = io.StringIO()
    with track(100, "finetune", "steps", done=80, stream=stream) as progress:
        clock.now += 10
        progress.advance(10)
        clock.now += 10
        progress.advance(10)
    assert stream.getvalue().splitlines() == [
        "finetune: 90/100 steps (90%), 1 steps/s, 0:10 left",
        "finetune: 100/100 steps (100%), 1 steps/s, 0:20 in all",
    ]


def test_an_exception_is_seen_in_the_last_line(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError), track(4, "score", "answers", stream=stream) as progress:
        clock.now += 2
        progress.advance(1)
        raise KeyError
    assert stream.getvalue() == "score: 1/4 answers (25%), 30 answers/min, stopped, 0:02 in all\n"


def test_nothing_to_do_is_no_error(clock: Clock) -> None:
    stream = io.StringIO()
    with track(0, "fetch", "files", stream=stream):
        pass
    assert stream.getvalue() == "fetch: 0/0 files (100%), 0 files/s, 0:00 in all\n"


def test_numbers_are_readable() -> None:
    assert [duration(7.4), duration(725), duration(11045)] == ["0:07", "12:05", "3:04:05"]
    assert [rate_text(rate, "steps") for rate in (12.345, 0.5, 0.001)] == [
        "12.3 steps/s",
        "30 steps/min",
        "3.6 steps/h",
    ]

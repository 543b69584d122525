"""Trackers: what a growing log sends, and that nothing of it can touch the training or an id."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from checkout import copy_checkout
from lntune.config.study import TrackingSettings
from lntune.errors import UserError
from lntune.jobs import track
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.workflow import spec_path, write_specs

NAME, ID = "a-0.001-0123456789ab", "0123456789ab"
STEPS = [
    {"step": step, "loss": 1 / step, "grad_norm": 2.0, "norm_gradients": {"1.input": [0.0]}} for step in range(1, 6)
]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a training fills, in the folder of its run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def sent(out: Path, *trackers: str) -> int:
    """The exit code of the process that tracks a whole training."""
    about: dict[str, Any] = {"to": trackers, "project": "lntune", "online": False}
    spec = {"stage": "finetune", "id": ID, "tracking": about, "identity": {"settings": {"seed": 0}}}
    path = out.parent / f"{NAME}.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    process = track.start(path, out)
    (out / track.METRICS).write_text("".join(json.dumps(step) + "\n" for step in STEPS), encoding="utf-8")
    track.finish(process)
    return process.returncode


def test_a_log_is_followed_while_it_grows_into_the_folder_that_gets_another_name(out: Path) -> None:
    text = "".join(json.dumps(step) + "\n" for step in STEPS)
    pieces = [text[:10], text[10:150], text[150:-20], text[-20:]]

    def is_over(seconds: float) -> bool:
        if len(pieces) == 2:
            out.rename(out.with_name("final"))
        folder = out if out.exists() else out.with_name("final")
        with (folder / track.METRICS).open("a", encoding="utf-8") as file:
            file.write(pieces.pop(0))
        return not pieces

    expected = [(step["step"], {"loss": step["loss"], "grad_norm": 2.0}) for step in STEPS]
    assert list(track.follow(out / track.METRICS, is_over)) == expected


def test_a_training_that_never_wrote_a_log_sends_nothing(out: Path) -> None:
    assert list(track.follow(out / track.METRICS, lambda seconds: True)) == []


def test_a_tracker_that_fails_is_a_line_of_warning(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert sent(out, "no-such-tracker") == 0
    said = capfd.readouterr().err
    assert said.startswith(f"warning: tracking of {NAME}: KeyError: ") and said.endswith("; the training goes on\n")


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard, which the environment does not lock")
def test_tensorboard_reads_every_step_once_though_the_training_was_tried_twice(out: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    assert sent(out, "tensorboard") == sent(out, "tensorboard") == 0
    (file,) = (out.parent / "tracking" / "tensorboard" / "finetune" / NAME).iterdir()
    events = [event for event in LegacyEventFileLoader(str(file)).Load() if event.summary.value]
    found = [(event.step, {one.tag: one.simple_value for one in event.summary.value}) for event in events]
    assert found == [(one["step"], pytest.approx({"loss": one["loss"], "grad_norm": 2.0})) for one in STEPS]


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb, which the environment does not lock")
def test_wandb_keeps_one_run_offline_though_the_training_was_tried_twice(out: Path) -> None:
    assert sent(out, "wandb") == sent(out, "wandb") == 0
    (folder,) = (out.parent / "tracking" / "wandb").glob("offline-run-*")
    assert folder.name.endswith(f"-finetune-{ID}") and (folder / f"run-finetune-{ID}.wandb").stat().st_size > 0


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs trackio, which the environment does not lock")
def test_trackio_keeps_its_runs_in_the_folder_of_the_run(out: Path) -> None:
    assert sent(out, "trackio") == 0
    assert (out.parent / "tracking" / "trackio" / "lntune.db").stat().st_size > 0


def test_a_tracker_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_checkout(tmp_path / "checkout").root
    monkeypatch.setattr("lntune.config.study.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"tracking\.to: trackio is not installed here: `pip install trackio`"):
        Study.read(root, {"tracking": {"to": ["trackio"]}})


def test_only_trainings_are_tracked_and_no_id_knows(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path / "checkout").root
    store = {"store": str(tmp_path / "results")}
    plan, tracked = (Plan(Study.read(root, store | more)) for more in ({}, {"tracking": {"project": "other"}}))
    connectors = [one.connector("vicuna-7b", "clip", 0) for one in (plan, tracked)]
    assert connectors[0].id == connectors[1].id
    nodes = [connectors[0], *connectors[0].parents()]
    write_specs(plan.store, nodes, tracking=TrackingSettings.model_construct(to=("wandb",)))
    named = [node.stage for node in nodes if "tracking" in json.loads(spec_path(plan.store, node).read_bytes())]
    assert named == ["connector"]
    write_specs(plan.store, nodes, tracking=TrackingSettings())
    assert "tracking" not in json.loads(spec_path(plan.store, nodes[0]).read_bytes())

"""Training: the schedule, the batches, gradients, what stays as it is, runs that are killed and resumed."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkout import ROOT
from forked import forked_processes
from lntune.config.training import Execution, Passes, TrainingSettings
from lntune.model.encode import IMAGE_ID, EncodedSample
from lntune.model.features import EncodedImages, FeatureSource
from lntune.model.multimodal import MultimodalModel
from lntune.training.checkpoint import save_checkpoint
from lntune.training.endings import Diverged
from lntune.training.engine import PlainEngine
from lntune.training.loop import Recorder, TrainingResult, accumulate, train
from lntune.training.norm_gradients import norm_gradient_recorder
from lntune.training.schedule import epoch_batches, learning_rate, rank_passes, step_batches, total_steps
from tiny_multimodal import image, random_samples, tiny_model

SETTINGS = TrainingSettings(
    learning_rate=1e-2,
    epochs=1,
    global_batch=8,
    warmup_ratio=0.03,
    weight_decay=0.0,
    max_length=64,
    precision="fp32",
)
EXECUTION = Execution(micro_batch=3, threads=1)


def changed(**changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate(SETTINGS.model_dump() | changes)


def image_features(model: MultimodalModel) -> FeatureSource:
    return EncodedImages(model.vision, image, count=7, cache=True, block=3)


def norms_and_connector(dropout: float = 0.0) -> MultimodalModel:
    """A model of which the norms of the blocks and the connector train."""
    model = tiny_model(attention_dropout=dropout)
    model.llm.requires_grad_(False)
    for layer in model.llm.model.layers:
        layer.input_layernorm.requires_grad_(True)
        layer.post_attention_layernorm.requires_grad_(True)
    return model


def run(
    model: MultimodalModel,
    folder: Path,
    settings: TrainingSettings = SETTINGS,
    execution: Execution = EXECUTION,
    seed: int = 0,
    samples: int = 40,
    recorder: Recorder | None = None,
    until: float | None = None,
) -> TrainingResult:
    data, log = random_samples(samples), folder / "metrics.jsonl"
    source = image_features(model)
    scratch = folder / "scratch"
    return train(model, data, source, settings, execution, seed, scratch, log, "test", recorder, until)


# --- schedule and batches


@pytest.mark.parametrize(("ratio", "total"), [(0.03, 100), (0.03, 7), (0.0, 9), (1.0, 5), (0.1, 1)])
def test_schedule_is_that_of_hugging_face(ratio: float, total: int) -> None:
    import math

    from transformers.optimization import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-3)
    theirs = get_cosine_schedule_with_warmup(optimizer, math.ceil(ratio * total), total)
    settings = changed(learning_rate=2e-3, warmup_ratio=ratio)
    for step in range(total):
        assert learning_rate(step, total, settings) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("samples", "epochs", "batch", "limit", "steps"),
    [
        (100, 1.0, 8, None, 13),
        (96, 3.0, 8, None, 36),
        (100, 0.5, 8, None, 7),
        (100, 3.0, 8, 5, 5),
        (3, 1.0, 8, 9, 1),
    ],
)
def test_total_steps(samples: int, epochs: float, batch: int, limit: int | None, steps: int) -> None:
    settings = changed(epochs=epochs, global_batch=batch, max_steps=limit)
    assert total_steps(samples, settings) == steps


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own() -> None:
    lengths = [random.Random(5).randint(5, 80) for _ in range(203)]
    first = epoch_batches(lengths, 8, seed=1, epoch=0)
    assert sorted(index for batch in first for index in batch) == list(range(203))
    assert sorted(len(batch) for batch in first) == [3] + [8] * 25
    assert first == epoch_batches(lengths, 8, seed=1, epoch=0)
    assert first != epoch_batches(lengths, 8, seed=2, epoch=0)
    assert first != epoch_batches(lengths, 8, seed=1, epoch=1)


def test_batches_hold_samples_of_similar_length_and_come_in_random_order() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(20, 200) for _ in range(4096)]
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)

    def padded(groups: Sequence[Sequence[int]]) -> int:
        return sum(len(group) * max(lengths[index] for index in group) for group in groups)

    assert padded(batches) < 1.05 * sum(lengths)
    assert padded([range(start, start + 32) for start in range(0, 4096, 32)]) > 1.6 * sum(lengths), (
        "unsorted, for comparison"
    )
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest != sorted(longest) and all(
        [lengths[i] for i in batch] == sorted((lengths[i] for i in batch), reverse=True) for batch in batches
    )


def test_steps_started_in_the_middle_continue_the_same_batches() -> None:
    lengths = [10 + index % 7 for index in range(50)]
    whole = list(step_batches(lengths, 8, seed=3, start=0, stop=20))
    assert whole[:7] == epoch_batches(lengths, 8, 3, 0) and whole[7:14] == epoch_batches(lengths, 8, 3, 1)
    assert list(step_batches(lengths, 8, seed=3, start=9, stop=20)) == whole[9:]


@pytest.mark.parametrize("key", ["learning_rate", "epochs", "global_batch"])
def test_settings_refuse_what_is_not_positive(key: str) -> None:
    with pytest.raises(ValidationError):
        changed(**{key: 0})


def test_passes_are_filled_by_positions_and_all_ranks_recompute_in_the_same_ones() -> None:
    lengths = [90, 50, 40, 40, 30, 20, 10]
    given = Passes(micro_batch=3, positions=80, recompute_above=60)
    first, second = (rank_passes(lengths, given, int, rank, 2) for rank in (0, 1))
    assert [one.samples for one in first] == [[90], [40, 30], [10]]
    assert [one.samples for one in second] == [[50], [40, 20], []]
    assert [one.recompute for one in first] == [one.recompute for one in second] == [True, True, False]
    assert [one.samples for one in rank_passes(lengths, Passes(micro_batch=3), int)] == [
        [90, 50, 40],
        [40, 30, 20],
        [10],
    ]


# --- gradients


def gradients(model: MultimodalModel, given: Passes) -> tuple[Tensor, dict[str, Tensor]]:
    engine = PlainEngine(model, SETTINGS)
    model.train()
    loss = accumulate(engine, random_samples(11), image_features(model), given)
    return loss, {name: parameter.grad.clone() for name, parameter in engine.named.items()}


def test_the_split_into_micro_batches_does_not_change_the_gradient() -> None:
    loss, whole = gradients(tiny_model(), Passes(micro_batch=11))
    for given in (Passes(micro_batch=1), Passes(micro_batch=4), Passes(micro_batch=11, positions=40)):
        other_loss, split = gradients(tiny_model(), given)
        torch.testing.assert_close(other_loss, loss, rtol=1e-6, atol=1e-6)
        for name, gradient in whole.items():
            assert (split[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    plain = gradients(tiny_model(), Passes(micro_batch=4))[1]
    for above in (0, 60):
        model = tiny_model()
        model.llm.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        recomputed = gradients(model, Passes(micro_batch=4, recompute_above=above))[1]
        assert all(torch.equal(gradient, plain[name]) for name, gradient in recomputed.items())


def test_training_with_gradient_checkpointing_is_the_same_training(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    run(norms_and_connector(0.1), one)
    run(norms_and_connector(0.1), other, execution=Execution(**dict(EXECUTION) | {"recompute_above": 0}))
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()


def test_only_what_requires_gradients_changes(tmp_path: Path) -> None:
    model = norms_and_connector()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    seen: list[set[str]] = []

    def recorder(step: int, gradients: Mapping[str, Tensor]) -> dict[str, object]:
        seen.append(set(gradients))
        return {}

    run(model, tmp_path, recorder=recorder)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 6 and all(names == trained for names in seen)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in trained), name
        assert parameter.grad is None
    assert not model.training


def test_weight_decay_falls_on_matrices_alone() -> None:
    model = tiny_model()
    engine = PlainEngine(model, changed(weight_decay=0.5))
    weight, bias = model.connector.weight.detach().clone(), model.connector.bias.detach().clone()
    for parameter in engine.named.values():
        parameter.grad = torch.zeros_like(parameter)
    engine.step(0.1)
    torch.testing.assert_close(model.connector.weight, weight * 0.95)
    assert torch.equal(model.connector.bias, bias)


def test_clipping_scales_gradients_to_the_limit() -> None:
    """Adam's first moment after one step is a tenth of the gradient that it was given."""
    norms = {}
    for limit in (None, 0.25):
        model = norms_and_connector()
        engine = PlainEngine(model, changed(max_grad_norm=limit))
        accumulate(engine, random_samples(11), image_features(model), Passes(micro_batch=4))
        before = float(engine.step(1e-3))
        given = [10 * value.norm() for key, value in engine.state() if key.startswith("exp_avg/")]
        norms[limit] = float(torch.stack(given).norm())
        assert before > 0.25
    assert norms[0.25] == pytest.approx(0.25, rel=1e-4) and norms[None] == pytest.approx(before, rel=1e-4)


# --- runs


def test_training_learns_and_logs_each_step(tmp_path: Path) -> None:
    result = run(tiny_model(), tmp_path, changed(epochs=12))
    assert len(result.losses) == 60
    assert sum(result.losses[-5:]) < 0.7 * sum(result.losses[:5])
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 61))
    assert set(records[0]) == {"step", "loss", "learning_rate", "answer_tokens", "grad_norm"}
    assert [record["loss"] for record in records] == result.losses
    answer_tokens = sum(sum(label >= 0 for label in sample.labels) for sample in random_samples(40))
    assert sum(record["answer_tokens"] for record in records) == 12 * answer_tokens


def test_bf16_keeps_weights_in_float32_and_comes_close(tmp_path: Path) -> None:
    exact, rough = norms_and_connector(), norms_and_connector()
    (tmp_path / "rough").mkdir()
    wanted = run(exact, tmp_path).losses
    losses = run(rough, tmp_path / "rough", changed(precision="bf16")).losses
    assert losses == pytest.approx(wanted, rel=0.03) and losses != wanted
    assert rough.connector.weight.dtype == torch.float32


def test_a_run_that_diverges_says_at_which_rate(tmp_path: Path) -> None:
    model = norms_and_connector()
    with torch.no_grad():
        model.connector.weight.fill_(float("nan"))
    with pytest.raises(
        Diverged, match=r"test: training diverged at step 1 of 5 at learning rate 0.01 \(loss nan,"
    ) as ended:
        run(model, tmp_path)
    assert (ended.value.run.step, ended.value.run.learning_rate) == (1, 0.01)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_numerics_are_restored(tmp_path: Path) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    run(norms_and_connector(), tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


class WaitingEngine(PlainEngine):
    """Finishes a micro batch only once the images of the next one are being loaded."""

    begun: set[int]
    upcoming: list[set[int]]

    def backward(
        self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int, last: bool = True
    ) -> Tensor:
        awaited, deadline = self.upcoming.pop(0), time.monotonic() + 20
        while not awaited <= self.begun:
            assert time.monotonic() < deadline, f"pictures {awaited - self.begun} are not being loaded"
            time.sleep(0.001)
        return super().backward(samples, features, answer_tokens, last)


def test_the_next_images_load_while_the_engine_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seeing = [sample for sample in random_samples(40) if sample.image is not None]
    data = [replace(sample, image=place) for place, sample in enumerate(seeing)]
    begun: set[int] = set()

    def load(index: int) -> Tensor:
        begun.add(index)
        return image(index)

    micro_batches = [
        set(share.samples)
        for batch in step_batches([len(one.input_ids) for one in data], 8, 0, 0, 4)
        for share in rank_passes(batch, Passes(micro_batch=3), lambda index: len(data[index].input_ids))
    ]
    WaitingEngine.begun, WaitingEngine.upcoming = begun, [*micro_batches[1:], set()]
    results = []
    for engine, workers in ((PlainEngine, 1), (WaitingEngine, 3)):
        monkeypatch.setattr("lntune.training.loop.PlainEngine", engine)
        begun.clear()
        model = norms_and_connector()
        source = EncodedImages(model.vision, load, len(data), cache=False, workers=workers)
        folder = tmp_path / engine.__name__
        folder.mkdir()
        log = folder / "metrics.jsonl"
        train(model, data, source, SETTINGS, EXECUTION, 0, folder / "scratch", log, "test")
        results.append(log.read_bytes())
    assert not WaitingEngine.upcoming and results[0] == results[1] and results[0].count(b"\n") == 4


# --- killed and resumed: real processes, ended by SIGKILL

RESUMABLE = Execution(micro_batch=3, threads=1, checkpoint_steps=4)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlySource:
    """Features of images, and death at a given request: the first one of a step is at its boundary."""

    def __init__(self, source: FeatureSource, request: int) -> None:
        self.source, self.request = source, request

    def features(self, indices: Sequence[int]) -> Tensor:
        self.request -= 1
        if self.request < 0:
            kill_self()
        return self.source.features(indices)

    def prefetch(self, indices: Sequence[int]) -> None:
        self.source.prefetch(indices)


def child(folder: Path, requests: int, kill_in_step: int) -> None:
    """Train 14 steps (three epochs of 5, less one) with dropout; die at a request, or in a step, if given."""
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    model = norms_and_connector(dropout=0.1)

    record = norm_gradient_recorder(model)
    assert record is not None

    def recorder(step: int, gradients: Mapping[str, Tensor]) -> Mapping[str, object]:
        if step == kill_in_step:
            kill_self()
        return record(step, gradients)

    source = DeadlySource(image_features(model), requests)
    scratch, log = folder / "scratch", folder / "metrics.jsonl"
    settings = changed(epochs=3, max_steps=14)
    train(model, random_samples(40), source, settings, RESUMABLE, 0, scratch, log, "child", recorder=recorder)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, folder / "weights.safetensors")


@pytest.fixture
def spawn() -> Iterator[Callable[..., int]]:
    """Run ``child`` in a process of its own and return its exit code."""
    folders = (ROOT / "src", ROOT / "tests" / "helpers", Path(__file__).parent)
    environment = {"PYTHONPATH": os.pathsep.join(map(str, folders))}

    def start(folder: Path, requests: int = 10**6, kill_in_step: int = -1) -> int:
        command = [sys.executable, "-m", "test_loop", str(folder), str(requests), str(kill_in_step)]
        return subprocess.run(command, env=os.environ | environment, timeout=120).returncode

    with forked_processes("test_loop"):
        yield start


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(tmp_path: Path, spawn: Callable[..., int | None]) -> None:
    assert spawn(tmp_path / "undisturbed") == 0
    wanted = [(tmp_path / "undisturbed" / name).read_bytes() for name in ("weights.safetensors", "metrics.jsonl")]
    assert wanted[1].count(b"\n") == 14 and wanted[1].count(b"norm_gradients") == 14

    # Every step has three micro batches, each asking for features once: request 18 opens step 6.
    deaths = {"boundary": {"requests": 18}, "within": {"kill_in_step": 9}, "early": {"requests": 7}}
    for name, death in deaths.items():
        folder = tmp_path / name
        assert spawn(folder, **death) == -signal.SIGKILL
        logged = (folder / "metrics.jsonl").read_bytes()
        assert 0 < len(logged) < len(wanted[1]) and wanted[1].startswith(logged)
        if name == "boundary":
            (folder / "metrics.jsonl").unlink()  # the log is whole again even if the output folder is a new one
            assert logged.count(b"\n") == 6 and [p.name for p in (folder / "scratch").iterdir()] == ["step-4"]
        assert spawn(folder) == 0
        found = [(folder / part).read_bytes() for part in ("weights.safetensors", "metrics.jsonl")]
        assert found == wanted, name


@pytest.mark.parametrize(("minutes", "steps"), [(1e-9, [1, 2, 3]), (1e9, []), (None, [])])
def test_checkpoints_by_time(
    minutes: float | None, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr("lntune.training.loop.save_checkpoint", lambda *given: written.append(given[2]))
    model, given = norms_and_connector(), Execution(micro_batch=3, threads=1, checkpoint_minutes=minutes)
    settings, log = changed(epochs=1, max_steps=4), tmp_path / "metrics.jsonl"
    train(model, random_samples(40), image_features(model), settings, given, 0, tmp_path / "scratch", log, "test")
    assert written == steps


def test_an_unfinished_checkpoint_is_as_good_as_none(tmp_path: Path) -> None:
    unfinished = tmp_path / "scratch" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "tensors.safetensors").write_bytes(b"cut off in the mid")
    whole = tmp_path / "whole"
    whole.mkdir()
    wanted = run(norms_and_connector(), whole).losses
    assert run(norms_and_connector(), tmp_path, execution=RESUMABLE).losses == wanted
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["step-4"]


@pytest.mark.parametrize("what", ["settings", "seed", "samples", "base"])
def test_a_checkpoint_of_another_run_is_left_out(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(norms_and_connector(), tmp_path, execution=RESUMABLE)
    model, settings = norms_and_connector(), SETTINGS
    seed, samples = 0, 40
    if what == "settings":
        settings = changed(learning_rate=1.1e-2)
    elif what == "seed":
        seed = 1
    elif what == "samples":
        samples = 39
    else:
        with torch.no_grad():
            model.llm.lm_head.weight[3, 3] += 1
    started: list[int] = []

    def recorder(step: int, gradients: Mapping[str, Tensor]) -> dict[str, object]:
        started.append(step)
        return {}

    with caplog.at_level(logging.WARNING):
        run(model, tmp_path, settings, RESUMABLE, seed, samples, recorder)
    assert started == list(range(5)), "from the start"
    assert "step-4: ignored, made with other settings, seed, samples or base weights" in caplog.text


def test_the_same_run_resumes_with_another_micro_batch(tmp_path: Path) -> None:
    run(norms_and_connector(), tmp_path, execution=RESUMABLE)
    started: list[int] = []

    def recorder(step: int, gradients: Mapping[str, Tensor]) -> dict[str, object]:
        started.append(step)
        return {}

    run(norms_and_connector(), tmp_path, execution=EXECUTION, recorder=recorder)
    assert started == [4]


def test_a_run_that_is_looked_at_on_the_way_ends_with_the_bytes_of_a_whole_one(tmp_path: Path) -> None:
    """Its schedule is that of the whole run from the start; a part begun anew ends as one that went on from another."""
    folders = {name: tmp_path / name for name in ("whole", "first", "second", "again", "last", "anew")}
    settings, dropout = changed(warmup_ratio=0.4, weight_decay=0.1), 0.1
    parts, left = {}, {}
    for name, until, before in (
        ("whole", None, None), ("first", 0.2, None), ("second", 0.7, "first"), ("again", 0.7, "second"),
        ("last", None, "again"), ("anew", 0.7, None),
    ):  # fmt: skip
        scratch = folders[name] / "scratch"
        folders[name].mkdir()
        if before:
            shutil.copytree(folders[before] / "scratch", scratch)
        parts[name] = run(norms_and_connector(dropout), folders[name], settings, until=until)
        if until:
            (checkpoint,) = scratch.iterdir()
            left[name] = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    done = [(len(one.losses), one.resumed_at) for one in parts.values()]
    assert done == [(5, 0), (1, 0), (4, 1), (4, 4), (5, 4), (4, 0)]
    for one, other in (("last", "whole"), ("second", "anew")):
        assert (folders[one] / "metrics.jsonl").read_bytes() == (folders[other] / "metrics.jsonl").read_bytes()
        assert parts[one].weights.keys() == parts[other].weights.keys()
        assert all(torch.equal(value, parts[other].weights[name]) for name, value in parts[one].weights.items())
    assert left["second"] == left["again"] == left["anew"] and len(left["anew"]) == 3


def test_saving_a_checkpoint_replaces_the_older_one(tmp_path: Path) -> None:
    for step in (3, 20, 9):
        save_checkpoint(tmp_path, "digest", step, ["{}\n"] * step, [("a", torch.full((2,), step))])
        assert [path.name for path in tmp_path.iterdir()] == [f"step-{step}"]
        assert load_file(tmp_path / f"step-{step}" / "tensors-0-0.safetensors")["a"].tolist() == [step, step]


def test_text_only_samples_need_no_features(tmp_path: Path) -> None:
    samples = [sample for sample in random_samples(40) if sample.image is None]
    assert all(IMAGE_ID not in sample.input_ids for sample in samples)
    model = norms_and_connector()
    source = DeadlySource(image_features(model), 0)
    result = train(model, samples, source, SETTINGS, EXECUTION, 0, tmp_path / "scratch", tmp_path / "log.jsonl", "text")
    assert len(result.losses) == 1


if __name__ == "__main__":  # for ``spawn``
    child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

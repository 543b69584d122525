"""The gradients of norms over training: what is recorded, held against plain loops and known answers; reading it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lntune.config.training import Execution, LoraSettings, TrainingSettings
from lntune.errors import UserError
from lntune.model.features import EncodedImages
from lntune.model.multimodal import MultimodalModel, count_answer_tokens
from lntune.model.tuning import METHODS, apply_method
from lntune.stages.figure_gradients import layer_at, pooled_variance, read_norm_gradients, recorded_layers
from lntune.store.fingerprint import code_fingerprint
from lntune.training.engine import PlainEngine
from lntune.training.loop import Recorder, train
from lntune.training.norm_gradients import norm_gradient_recorder, trained_norms
from lntune.training.schedule import step_batches
from tiny_multimodal import image, random_samples, tiny_model

SETTINGS = TrainingSettings(
    learning_rate=1e-2,
    epochs=1,
    global_batch=8,
    warmup_ratio=0.03,
    weight_decay=0.0,
    max_length=64,
    precision="fp32",
    max_grad_norm=0.1,
)
SAMPLES = random_samples(40)
NAMES = ["1.input", "1.post", "2.input", "2.post"]
RECORDING = ("finetune", "layernorm", "layernorm-simp", "layernorm-without-connector", "layernorm-all")


def tuned(method: str) -> MultimodalModel:
    model = tiny_model()
    apply_method(model, method, LoraSettings(rank=2, alpha=4, dropout=0.0), seed=0)
    return model


def run(
    model: MultimodalModel, folder: Path, recorder: Recorder | None, execution: Execution | None = None
) -> list[dict[str, dict[str, list[float]]]]:
    """Train five steps; return the log."""
    folder.mkdir(exist_ok=True)
    log = folder / "metrics.jsonl"
    source = EncodedImages(model.vision, image, count=7, cache=True, block=3)
    execution = execution or Execution(micro_batch=3, threads=1)
    train(model, SAMPLES, source, SETTINGS, execution, 0, folder / "scratch", log, "test", recorder=recorder)
    return [json.loads(line) for line in log.read_text().splitlines()]


# --- what is recorded


def plain_gradients(model: MultimodalModel, batch: list[int]) -> list[list[float]]:
    """The norms' gradients of the batch's mean loss an answer token, in NAMES' order: sample by sample, in float64."""
    layers = model.llm.model.layers
    norms = [norm.weight for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    sums = [[0.0] * norm.numel() for norm in norms]
    tokens = count_answer_tokens([SAMPLES[index] for index in batch])
    for index in batch:
        sample = SAMPLES[index]
        features = None if sample.image is None else model.vision.encode(image(sample.image)[None])
        loss = model([sample], features, 1)
        for total, gradient in zip(sums, torch.autograd.grad(loss, norms), strict=True):
            for place, value in enumerate(gradient.tolist()):
                total[place] += value / tokens
    return sums


def plain_summary(values: list[float]) -> list[float]:
    mean = 0.0
    for value in values:
        mean += value
    mean /= len(values)
    variance = 0.0
    for value in values:
        variance += (value - mean) ** 2
    return [mean, variance / len(values), min(values), max(values)]


def test_every_step_holds_what_plain_loops_find(tmp_path: Path) -> None:
    """Of the whole batch, before clipping: the limit here is under a tenth of the gradients' norm."""
    model = tuned("finetune")
    batches = list(step_batches([len(sample.input_ids) for sample in SAMPLES], 8, 0, 0, 5))
    recorder = norm_gradient_recorder(model)
    assert recorder is not None
    expected: list[list[list[float]]] = []

    def beside(step: int, gradients: Mapping[str, Tensor]) -> Mapping[str, object]:
        expected.append([plain_summary(values) for values in plain_gradients(model, batches[step])])
        return recorder(step, gradients)

    records = run(model, tmp_path, beside)
    assert len(records) == len(expected) == 5
    for record, wanted in zip(records, expected, strict=True):
        assert record["grad_norm"] > 10 * SETTINGS.max_grad_norm
        found = record["norm_gradients"]
        assert list(found) == NAMES
        for row, numbers in zip(found.values(), wanted, strict=True):
            scale = max(abs(numbers[2]), abs(numbers[3]))
            assert row == pytest.approx(numbers, rel=1e-4, abs=1e-5 * scale)


def test_a_loss_that_is_linear_in_the_norms_weights() -> None:
    """Its gradient is its coefficients: 0 to 15 times a factor, whose moments are known."""
    model = tuned("layernorm-simp")
    recorder = norm_gradient_recorder(model)
    engine = PlainEngine(model, SETTINGS)
    factors = dict(zip(trained_norms(model).values(), (1.0, -2.0, 0.0, 1e-4), strict=True))
    coefficients = torch.arange(16.0)
    loss = sum((factors[name] * coefficients * weight).sum() for name, weight in engine.named.items())
    loss.backward()
    variance = (16**2 - 1) / 12
    assert recorder is not None and recorder(0, engine.gradients()) == {
        "norm_gradients": {
            "1.input": [7.5, variance, 0, 15],
            "1.post": [-15, 4 * variance, -30, 0],
            "2.input": [0, 0, 0, 0],
            "2.post": [7.5e-4, float(f"{1e-8 * variance:.6g}"), 0, 1.5e-3],
        }
    }


def test_a_small_variance_beside_a_large_mean_is_not_lost_in_rounding() -> None:
    model = tuned("layernorm-simp")
    recorder = norm_gradient_recorder(model)
    values = torch.full((16,), 1000.0)
    values[:8] += 2**-10
    found = recorder(0, {name: values for name in trained_norms(model).values()}) if recorder else {}
    assert found["norm_gradients"]["1.input"][1] == pytest.approx(2**-22, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_norm_of_the_decoder_layers_that_trains_and_nothing_else(method: str, tmp_path: Path) -> None:
    model = tuned(method)
    recorder = norm_gradient_recorder(model)
    for record in run(model, tmp_path, recorder):
        assert list(record.get("norm_gradients", {})) == (NAMES if method in RECORDING else [])
        assert ("norm_gradients" in record) == (method in RECORDING)


def test_norms_are_found_in_a_model_that_peft_has_wrapped() -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny_model()
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["post_attention_layernorm"])
    model.llm = get_peft_model(model.llm, config)
    assert trained_norms(model) == {
        f"{layer + 1}.post": f"llm.base_model.model.model.layers.{layer}.post_attention_layernorm"
        ".modules_to_save.default.weight"
        for layer in range(2)
    }


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    def recorded(micro_batch: int) -> list[dict[str, list[float]]]:
        model = tuned("layernorm")
        execution = Execution(micro_batch=micro_batch, threads=1)
        records = run(model, tmp_path / str(micro_batch), norm_gradient_recorder(model), execution)
        return [record["norm_gradients"] for record in records]

    whole = recorded(8)
    for micro_batch in (1, 3):
        for found, wanted in zip(recorded(micro_batch), whole, strict=True):
            for name, row in found.items():
                scale = max(map(abs, wanted[name]))
                assert row == pytest.approx(wanted[name], rel=1e-3, abs=1e-4 * scale)


def test_recording_changes_nothing_else_and_a_run_that_broke_off_ends_with_the_same_bytes(tmp_path: Path) -> None:
    silent = run(tuned("finetune"), tmp_path / "silent", None)
    model = tuned("finetune")
    whole = run(model, tmp_path / "whole", norm_gradient_recorder(model))
    assert [{key: value for key, value in record.items() if key != "norm_gradients"} for record in whole] == silent

    saving = Execution(micro_batch=3, threads=1, checkpoint_steps=2)
    model = tuned("finetune")
    recorder = norm_gradient_recorder(model)
    assert recorder is not None

    def broken(step: int, gradients: Mapping[str, Tensor]) -> Mapping[str, object]:
        if step == 3:
            raise InterruptedError
        return recorder(step, gradients)

    with pytest.raises(InterruptedError):
        run(model, tmp_path / "broken", broken, saving)
    assert [path.name for path in (tmp_path / "broken" / "scratch").iterdir()] == ["step-2"]
    steps: list[int] = []
    model = tuned("finetune")

    def resumed(step: int, gradients: Mapping[str, Tensor]) -> Mapping[str, object]:
        steps.append(step)
        return recorder(step, gradients)

    run(model, tmp_path / "broken", resumed, saving)
    assert steps == [2, 3, 4]
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_the_connectors_code_does_not_hold_the_recorder() -> None:
    assert "lntune.training.norm_gradients" in code_fingerprint("lntune.stages.finetune")
    assert "lntune.training.norm_gradients" not in code_fingerprint("lntune.stages.connector")
    assert not [name for name in code_fingerprint("lntune.stages.figure_gradients") if "lntune.model" in name]


# --- reading


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    model = tuned("layernorm")
    records = run(model, tmp_path, norm_gradient_recorder(model))
    log = tmp_path / "metrics.jsonl"
    assert recorded_layers(log) == 2
    for layer, norm in ((1, "input"), (2, "post")):
        steps, found = read_norm_gradients(log, layer, norm)
        assert steps == (1, 2, 3, 4, 5)
        assert found.tolist() == [record["norm_gradients"][f"{layer}.{norm}"] for record in records]
        mean, _, minimum, maximum = found.T
        assert np.all(minimum <= mean) and np.all(mean <= maximum)
    one, other = (read_norm_gradients(log, 1, norm)[1] for norm in ("input", "post"))
    assert np.any(one[:, 0] != other[:, 0])


def test_the_variance_over_a_whole_run() -> None:
    """Against all elements of all steps, and where the answer is known: 1 within each step, 4 between two steps."""
    elements = np.random.default_rng(0).normal(size=(7, 12)) + np.arange(7)[:, None]
    assert pooled_variance(of_elements(elements)) == pytest.approx(float(elements.var()))
    known = of_elements(np.array([[-1.0, 1.0], [3.0, 5.0]]))
    assert pooled_variance(known) == 5.0


def of_elements(elements: np.ndarray) -> np.ndarray:
    return np.stack([elements.mean(1), elements.var(1), elements.min(1), elements.max(1)], axis=1)


def test_the_layer_that_lies_as_deep() -> None:
    for layers in (1, 2, 32, 40):
        assert [layer_at(k, layers, layers) for k in range(1, layers + 1)] == list(range(1, layers + 1))
    assert (layer_at(11, 32, 32), layer_at(21, 32, 32)) == (11, 21)
    assert [(layer_at(11, 32, layers), layer_at(21, 32, layers)) for layers in (1, 2, 4, 5, 40)] == [
        (1, 1), (1, 2), (2, 3), (2, 4), (14, 26),
    ]  # fmt: skip
    for layers in range(1, 50):
        found = [layer_at(k, 32, layers) for k in range(1, 33)]
        assert found == sorted(found) and found[0] >= 1 and found[-1] <= layers
        for k, layer in enumerate(found, start=1):
            middle = (k - 0.5) / 32
            assert (layer - 1) / layers <= middle < layer / layers
    for wrong in ((0, 32, 4), (33, 32, 4), (1, 32, 0)):
        with pytest.raises(UserError, match="there is no layer"):
            layer_at(*wrong)


def test_a_log_without_gradients_of_norms_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text(json.dumps({"step": 1, "loss": 1.0}))
    with pytest.raises(UserError, match=r"metrics\.jsonl: no gradients of norms; show a row whose method trains norms"):
        read_norm_gradients(log, 3, "input")


def test_a_step_of_7b_is_as_large_as_the_documentation_says() -> None:
    """64 norms of random numbers: about 4 kB a step."""
    model = tiny_model()
    model.llm.model.layers = torch.nn.ModuleList([tiny_model().llm.model.layers[0] for _ in range(32)])
    recorder = norm_gradient_recorder(model)
    generator = torch.Generator().manual_seed(0)
    gradients = {name: 1e-4 * torch.randn(4096, generator=generator) for name in trained_norms(model).values()}
    line = json.dumps(recorder(0, gradients) if recorder else {})
    assert len(gradients) == 64 and math.isclose(len(line), 4000, rel_tol=0.15), len(line)

"""Memory: predicted by a dry run, against real steps on the CPU and traces of the real sizes; and what fits a GPU."""

import json
from pathlib import Path

import pytest
import torch

import memory
from checkout import ROOT
from forked import forked_processes
from lntune.config.llm_shape import LlmShape
from lntune.config.study import GpuSettings
from lntune.config.training import LoraSettings, Passes, Schedule
from lntune.errors import UserError
from lntune.estimate.hours import (
    RECOMPUTED,
    SLOW,
    prediction_seconds,
    step_operations,
    training_seconds,
    training_waste,
)
from lntune.estimate.jobs import Fit, TrainingJob, choose, largest, prediction_batch, prediction_bytes, usable
from lntune.estimate.memory import Setup, predict_memory
from lntune.estimate.shapes import LLMS, VISIONS, Skeleton, VisionShape, llm_on_disk, vision_on_disk
from lntune.estimate.training_step import LiveTensors, build_model, run_steps, trace_memory
from lntune.model.tuning import METHODS, apply_method, trainable_report
from lntune.model.vision import load_vision
from lntune.paper.memory import TABLE, read_rows
from lntune.report.cells import _memory
from real_shapes import paper_model
from stage_runs import read, run

LORA = LoraSettings(rank=16, alpha=16, dropout=0.05)
VISION = VisionShape(width=128, intermediate=512, layers=3, image=56, patch=14, pre_norm=True)
PATCHES_OF_16 = VisionShape(width=128, intermediate=512, layers=3, image=64, patch=16, pre_norm=False)
WEIGHTS = ROOT / "workflow" / "weights"


def llama(hidden: int, layers: int, vocabulary: int, kv_heads: int = 0) -> LlmShape:
    heads = hidden // 32
    return LlmShape(
        hidden=hidden, intermediate=hidden * 11 // 4, layers=layers, heads=heads, kv_heads=kv_heads or heads,
        head_dim=32, vocabulary=vocabulary,
    )  # fmt: skip


def setup(llm: LlmShape, method: str, **other: object) -> Setup:
    given = {
        "llm": llm, "vision": VISION, "method": method, "lora": LORA if method == "lora" else None,
        "precision": "fp32", "checkpointing": False, "engine": "plain", "device": "cpu",
        "micro_batch": 8, "length": 128, "answer_tokens": 60,
    }  # fmt: skip
    return Setup(**(given | other))


DEEP, WIDE = llama(128, 6, 1000), llama(256, 2, 8000)


# --- parameters


@pytest.mark.parametrize("size", LLMS)
def test_the_skeleton_counts_what_the_real_model_has(size: str) -> None:
    model = paper_model(size)
    for method in sorted(METHODS, key="lora".__eq__):  # LoRA last: it changes the model
        apply_method(model, method, LORA)
        report = trainable_report(model)
        skeleton = Skeleton(LLMS[size], VISIONS["open_clip"], method, LORA if method == "lora" else None)
        assert (skeleton.trainable, skeleton.numel) == (report.trainable, report.total), method


def test_shapes_are_read_from_the_demos_configs() -> None:
    llm = llm_on_disk(WEIGHTS / "llama2-13b")
    assert (llm.hidden, llm.layers, llm.heads, llm.head_dim, llm.vocabulary) == (112, 5, 4, 28, 202)
    for name, library in (("clip", "open_clip"), ("imagenet-vit", "timm")):
        shape, encoder = vision_on_disk(WEIGHTS / name, library), load_vision(WEIGHTS / name, library)
        assert shape.parameters == sum(parameter.numel() for parameter in encoder.parameters())
        assert (shape.tokens, shape.width) == (encoder.tokens, encoder.width)
    with pytest.raises(UserError, match=r"nowhere/config\.json: cannot be read"):
        llm_on_disk(Path("nowhere"))


def test_a_shape_may_leave_out_what_is_usual(tmp_path: Path) -> None:
    given = {"hidden": 2048, "intermediate": 5632, "layers": 22, "heads": 32, "vocabulary": 32000}
    assert LlmShape.model_validate(given).parameters - LlmShape.model_validate(given | {"tied": True}).parameters == (
        32000 * 2048
    )
    tiny_llama = LlmShape.model_validate(given | {"kv_heads": 4})
    assert (tiny_llama.head_dim, tiny_llama.parameters) == (64, 1_100_048_384)
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 9, "tie_word_embeddings": True}))
    assert llm_on_disk(tmp_path).tied and Skeleton(llm_on_disk(tmp_path), VISION, "finetune", None).llm.numel == (
        llm_on_disk(tmp_path).parameters
    )


def test_an_unknown_method_has_no_skeleton() -> None:
    with pytest.raises(UserError, match="there is no tuning method 'norms'"):
        Skeleton(DEEP, VISION, "norms", None)


# --- the prediction against real steps


CASES = {
    "layernorm": setup(DEEP, "layernorm", micro_batch=32),
    "layernorm-simp, checkpoints": setup(DEEP, "layernorm-simp", checkpointing=True, micro_batch=64),
    "finetune": setup(WIDE, "finetune"),
    "finetune, accumulated": setup(WIDE, "finetune", accumulation=True, checkpointing=True),
    "attn-qv, bf16": setup(WIDE, "attn-qv", precision="bf16", micro_batch=4),
    "attn-mlp, bf16, checkpoints": setup(
        WIDE, "attn-mlp", precision="bf16", checkpointing=True, accumulation=True, micro_batch=2
    ),
    "lora": setup(DEEP, "lora", micro_batch=16),
    "connector-only, timm": setup(DEEP, "connector-only", vision=PATCHES_OF_16, micro_batch=16),
    "finetune, tied": setup(WIDE.model_copy(update={"tied": True}), "finetune"),
    "layernorm, shared keys": setup(llama(256, 3, 2000, kv_heads=2), "layernorm", micro_batch=16),
}


@pytest.mark.parametrize("name", CASES)
def test_a_real_step_takes_what_was_predicted(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = build_model(case)
    with LiveTensors(model.parameters()) as live:
        run_steps(model, case, live.restart)
    account = predict_memory(case)
    assert live.peak > 20e6, "so large that small things do not matter"
    assert account.peak == pytest.approx(live.peak, rel=0.02)
    assert sum(account.parts.values()) == account.peak


def test_a_trace_of_the_real_7b_finds_what_was_predicted() -> None:
    case = setup(
        LLMS["7B"], "layernorm", vision=VISIONS["open_clip"], precision="bf16-weights", checkpointing=True,
        micro_batch=1, length=512, answer_tokens=200,
    )  # fmt: skip
    account = predict_memory(case)
    untraced = account.parts["AdamW's moments"]  # the update with bfloat16 weights is DeepSpeed's
    assert account.peak - untraced == pytest.approx(trace_memory(case).peak, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small-zero2-2-ranks", "small-zero3-2-ranks"])
def test_real_deepspeed_takes_what_was_predicted(name: str) -> None:
    pytest.importorskip("lntune.training.deepspeed_engine")
    with forked_processes("memory"):
        measured = memory.run_case(name)
    assert predict_memory(memory.FOR_TESTS[name]).peak == pytest.approx(measured["live"], rel=0.02)


def test_deepspeed_is_not_traced() -> None:
    with pytest.raises(UserError, match="a trace follows the plain engine"):
        trace_memory(setup(DEEP, "layernorm", engine="deepspeed"))


def test_live_tensors_follow_a_storage_to_its_end() -> None:
    with LiveTensors() as live:
        first = torch.zeros(1000)
        view = first[10:].view(-1)
        assert live.now == 4000
        second = torch.zeros(500)
        del first
        assert live.now == 6000, "the view keeps the whole"
        del view, second
        assert (live.now, live.peak) == (0, 6000)
        live.restart()
        torch.empty(10**6, device="meta")
        assert live.peak == 0


def test_more_samples_and_words_take_more_and_sharing_takes_less() -> None:
    def peak(method: str, **other: object) -> int:
        return predict_memory(setup(LLMS["7B"], method, engine="deepspeed", device="cuda", **other)).peak

    norms = "layernorm"
    assert peak(norms, micro_batch=1) < peak(norms, micro_batch=2) < peak(norms, micro_batch=2, length=256)
    assert peak(norms, checkpointing=True) < peak(norms, checkpointing=False)
    stages = [peak("finetune", zero_stage=stage, ranks=4, precision="bf16-weights") for stage in (1, 2, 3)]
    assert stages[0] > stages[1] > stages[2]
    assert peak("finetune", zero_stage=3, ranks=8) < peak("finetune", zero_stage=3, ranks=4)


# --- the paper's Table 2


def test_the_papers_file_holds_seven_figures_and_five_ooms(tmp_path: Path) -> None:
    rows = read_rows(ROOT / TABLE)
    assert len(rows) == 12 and sum(row.printed is None for row in rows) == 5
    lines = (ROOT / TABLE).read_text().splitlines(keepends=True)
    (tmp_path / "table2.csv").write_text("".join(line for line in lines if "LoRA" not in line))
    with pytest.raises(UserError, match=r"table2\.csv: cannot be read as the paper's Table 2 .*LoRA"):
        read_rows(tmp_path / "table2.csv")


# --- what fits a GPU


A100 = GpuSettings(name="a100", memory_gb=85.0, teraflops=156.0)


def job(method: str, size: str = "13B", **other: object) -> TrainingJob:
    schedule = Schedule(
        epochs=1.0, global_batch=32, warmup_ratio=0.03, weight_decay=0.0, max_length=2048, precision="tf32",
    )  # fmt: skip
    given = {
        "label": f"finetune llama2-{size.lower()} {method}", "stage": "finetune", "llm": LLMS[size],
        "vision": VISIONS["open_clip"], "method": method, "lora": None, "schedule": schedule, "engine": "deepspeed",
        "ranks": 4, "zero_stage": 2,
    }  # fmt: skip
    return TrainingJob(**(given | other))


def peak_of(one: TrainingJob, fit: Fit) -> int:
    return largest(one, *fit).account.peak


def test_the_largest_passes_that_fit_are_chosen_and_keep_their_activations_where_memory_lets_them() -> None:
    norms = job("layernorm", "7B")
    kept = choose(norms, A100, limit=32)
    assert kept.zero_stage == 2 and kept.passes.recompute_above is None
    assert peak_of(norms, kept) <= usable(A100)
    more = kept.passes.model_copy(update={"positions": (kept.passes.positions or 0) + 256})
    assert peak_of(norms, Fit(more, 2)) > usable(A100)


def test_a_sample_too_long_to_keep_its_activations_recomputes_them_in_a_pass_of_its_own() -> None:
    small = A100.model_copy(update={"memory_gb": 66.0})
    (passes, zero_stage) = choose(job("layernorm"), small, limit=16)
    assert zero_stage == 2 and passes.recompute_above is not None and passes.recompute_above < 2048
    assert peak_of(job("layernorm"), Fit(passes, zero_stage)) <= usable(small)
    alone = largest(job("layernorm"), passes, zero_stage).setup
    assert alone.length <= 2048


def test_recomputation_can_be_asked_for_and_forbidden() -> None:
    always = choose(job("layernorm", "7B", recompute=True), A100, limit=32).passes
    assert always.recompute_above == 0 and (always.positions or 0) > 2048
    with pytest.raises(UserError, match=r"leave execution\.gradient_checkpointing to the plan"):
        choose(job("layernorm", ranks=1, recompute=False), A100.model_copy(update={"memory_gb": 62.0}), limit=16)


def test_the_zero_stage_is_raised_where_nothing_else_fits() -> None:
    assert predict_memory(job("finetune").setup(2048, 2, recompute=True)).peak > usable(A100)
    assert choose(job("finetune"), A100, limit=16).zero_stage == 3


@pytest.mark.parametrize("limit", [1, 3, 16])
def test_passes_keep_to_the_limit_of_samples(limit: int) -> None:
    passes = choose(job("layernorm-simp", "7B", ranks=1), A100, limit=limit).passes
    assert passes.micro_batch == limit and (passes.positions or 0) <= limit * 2048


def test_a_job_that_cannot_fit_is_refused_in_one_line() -> None:
    with pytest.raises(UserError) as raised:
        choose(job("finetune", ranks=1), A100, limit=16)
    text = str(raised.value)
    assert text.startswith("finetune llama2-13b finetune on 1 x a100 85 GB: needs ") and "\n" not in text
    assert "(predicted) for one sample of 2048 positions, ZeRO 3" in text and "execution.stages.finetune.gpus" in text
    with pytest.raises(UserError, match=r"choose execution\.engine: deepspeed"):
        choose(job("finetune", ranks=1, engine="plain"), A100, limit=16)


def test_questions_are_asked_in_batches_that_fit() -> None:
    clip = VISIONS["open_clip"]
    assert prediction_batch("predict x", LLMS["7B"], clip, 10, A100, 32) == 32
    assert prediction_batch("predict x", LLMS["13B"], clip, 100, A100, 64) < 64
    small = A100.model_copy(update={"memory_gb": 40.0})
    with pytest.raises(UserError, match=r"predict x on 1 x a100 40 GB: needs 5\d GB \(predicted\)"):
        prediction_batch("predict x", LLMS["13B"], clip, 10, small, 32)


def test_asking_in_bf16_takes_half_the_memory_and_a_fraction_of_the_time() -> None:
    clip, small = VISIONS["open_clip"], A100.model_copy(update={"memory_gb": 25.0})
    full, half = (prediction_bytes(LLMS["7B"], clip, 10, 32, precision=one) for one in ("fp32", "bf16"))
    assert full - half == pytest.approx(half - 4 * clip.parameters)
    with pytest.raises(UserError, match="name a larger GPU"):
        prediction_batch("predict x", LLMS["7B"], clip, 10, small, 32)
    assert prediction_batch("predict x", LLMS["7B"], clip, 10, small, 8, precision="bf16") == 8
    with pytest.raises(UserError, match=r"to ask 64 questions in bf16, has 21; .* lower prediction\.batch of"):
        prediction_batch("predict x", LLMS["7B"], clip, 10, small, 64, precision="bf16")
    slow, fast = (
        prediction_seconds(job("layernorm", "7B"), 10_000, 10_000, 10, 32, A100, precision=one)
        for one in ("fp32", "bf16")
    )
    assert 8 < slow / fast < 16, "images are seen in float32"


def test_waste_is_what_would_be_saved() -> None:
    asked = 20_000, "llava-instruct", A100
    norms, given = job("layernorm", "7B"), Passes(micro_batch=8, recompute_above=0)
    whole = training_seconds(norms, *asked, given)
    found = training_waste(norms, *asked, given)
    assert 0.2 < found[RECOMPUTED] / whole < 0.35 and 0.35 < found[SLOW] / whole < 0.5
    assert training_waste(norms, *asked, Passes(micro_batch=8))[RECOMPUTED] == 0


def test_seconds_follow_from_operations() -> None:
    four = training_seconds(
        job("layernorm", "7B"), 20_000, "llava-instruct", A100, Passes(micro_batch=8, recompute_above=0)
    )
    two = training_seconds(
        job("layernorm", "7B", ranks=2), 20_000, "llava-instruct", A100, Passes(micro_batch=8, recompute_above=0)
    )
    assert 3600 < 4 * four < 20 * 3600 and two / four == pytest.approx(2)
    operations = {
        method: step_operations(job(method, "7B"), 300, 200, recompute=True)
        for method in ("layernorm-simp", "finetune")
    }
    forward = 2 * 6.5e9 * 556
    assert operations["layernorm-simp"] == pytest.approx(3 * forward, rel=0.1)
    assert operations["finetune"] == pytest.approx(4 * forward, rel=0.1)


# --- the stage


def test_measure_labels_every_number(tmp_path: Path) -> None:
    inputs = {"llm": WEIGHTS / "llama2-13b", "vision": WEIGHTS / "clip"}
    settings = {
        "method": "layernorm", "lora": None, "library": "open_clip", "engine": "plain", "precision": "fp32",
        "gradient_checkpointing": False, "zero_stage": 0, "micro_batch": 4, "length": 256, "seed": 0,
        "paper": {"memory_gb": None, "trainable_percent": 2.5},
    }  # fmt: skip
    metrics = run(tmp_path / "measure", "measure", settings, inputs, micro_batch=4, threads=1)
    found = read(tmp_path / "measure" / "measure.json")
    numbers = {(number["name"], number["label"]): number["value"] for number in found["numbers"]}
    assert {label for _, label in numbers} == {"measured", "predicted", "paper"}
    assert numbers["memory_gb", "paper"] == "OOM" and numbers["trainable_percent", "paper"] == "2.50"
    assert numbers["trainable", "measured"] == metrics["trainable"]
    percent = 100 * numbers["trainable", "measured"] / numbers["parameters", "measured"]
    assert numbers["trainable_percent", "measured"] == f"{percent:.2f}"
    assert numbers["peak_bytes", "predicted"] == pytest.approx(numbers["peak_bytes", "measured"], rel=0.05)
    assert _memory(tmp_path / "measure").beside["precision"] == "fp32"
    run(tmp_path / "again", "measure", settings, inputs, micro_batch=4, threads=1)
    assert (tmp_path / "again" / "measure.json").read_bytes() == (tmp_path / "measure" / "measure.json").read_bytes()


@pytest.mark.slow
def test_measure_takes_the_papers_step_with_bfloat16_weights_on_deepspeed(tmp_path: Path) -> None:
    inputs = {"llm": WEIGHTS / "llama2-13b", "vision": WEIGHTS / "clip"}
    settings = {
        "method": "layernorm", "lora": None, "library": "open_clip", "engine": "deepspeed", "zero_stage": 2,
        "gradient_checkpointing": True, "micro_batch": 4, "length": 256, "seed": 0, "paper": None,
    }  # fmt: skip
    peaks = {}
    for precision in ("tf32", "bf16-weights"):
        out = tmp_path / precision
        given = {"engine": "deepspeed", "zero_stage": 2, "micro_batch": 4, "threads": 1}
        with forked_processes():
            run(out, "measure", settings | {"precision": precision}, inputs, **given)
        numbers = {(one["name"], one["label"]): one["value"] for one in read(out / "measure.json")["numbers"]}
        assert numbers["peak_bytes", "predicted"] == pytest.approx(numbers["peak_bytes", "measured"], rel=0.05)
        assert _memory(out).beside["precision"] == precision
        peaks[precision] = numbers["peak_bytes", "measured"]
    assert peaks["bf16-weights"] < 0.8 * peaks["tf32"]

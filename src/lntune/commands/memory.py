"""``lntune memory``: what training takes on a GPU, predicted from the models' sizes; every number says so.

No torch is imported unless a case is also traced.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lntune.config.study import GpuSettings
from lntune.config.training import Passes, Precision
from lntune.errors import UserError
from lntune.estimate.jobs import TrainingJob, choose, largest, predicted, usable
from lntune.estimate.memory import MemoryAccount, Setup
from lntune.plan.memory_fit import job_of
from lntune.plan.study import Study, check_known
from lntune.units import counted


@dataclass(frozen=True)
class Question:
    """What is asked: None is what the scale says."""

    method: str | None = None
    llm: str | None = None
    gpus: int | None = None
    micro_batch: int | None = None
    length: int | None = None
    precision: Precision | None = None
    zero_stage: int | None = None


@dataclass(frozen=True)
class Answer:
    """One case: its passes, the step among them that takes most, its account, and what stands against it."""

    llm: str
    method: str
    passes: Passes
    setup: Setup
    account: MemoryAccount
    fits: bool | None
    refusal: str = ""


def report(
    root: Path, question: Question, overrides: Mapping[str, Any] | None = None, *, trace: bool, as_json: bool
) -> str:
    """What the command prints: a table of all cases, or each of those that are asked about part by part, or JSON."""
    study = Study.read(root, overrides)
    cases = [(answer, _traced(answer) if trace else None) for answer in answers(study, question)]
    if as_json:
        return json.dumps([_document(*case) for case in cases], indent=1)
    if question.method is None and question.llm is None and not trace:
        return _table(study, [answer for answer, _ in cases])
    return "\n".join(_itemised(study, *case) for case in cases)


def answers(study: Study, question: Question) -> list[Answer]:
    """A case for every method and LLM that is asked about."""
    scale, file = study.scale, study.scale_file
    methods = [question.method] if question.method is not None else [*scale.methods]
    llms = [question.llm] if question.llm is not None else [*scale.llms]
    if question.method is not None:
        check_known(file, "methods", question.method, scale.methods, "method")
    if question.llm is not None:
        check_known(file, "llms", question.llm, scale.llms, "llm")
    return [_answer(study, question, llm, method) for llm in llms for method in methods]


def _answer(study: Study, question: Question, llm: str, method: str) -> Answer:
    job = _job(study, question, llm, method)
    gpu, limit = study.scale.execution.gpu, study.scale.execution.micro_batch
    passes = Passes(micro_batch=question.micro_batch or limit, recompute_above=0 if job.recompute else None)
    zero_stage, refusal = job.zero_stage, ""
    if gpu is not None and question.micro_batch is None:
        try:
            passes, zero_stage = choose(job, gpu, limit)
        except UserError as error:
            passes, refusal = Passes(micro_batch=1, recompute_above=None if job.recompute is False else 0), str(error)
            zero_stage = 3 if job.engine == "deepspeed" else zero_stage
    setup, account = largest(job, passes, zero_stage)
    fits = None if gpu is None else account.peak <= usable(gpu)
    return Answer(llm, method, passes, setup, account, fits, refusal)


def _job(study: Study, question: Question, llm: str, method: str) -> TrainingJob:
    """The scale's finetuning, changed as asked."""
    job, execution = job_of(study, "finetune", llm, study.scale.vision, method), study.scale.execution
    precision, length = question.precision or job.schedule.precision, question.length or job.schedule.max_length
    if length < job.vision.tokens + 2:
        raise UserError(f"--length {length}: the image alone takes {job.vision.tokens} positions; give more")
    gpus = question.gpus or execution.of("finetune").gpus or 1
    sharing = gpus > 1 or question.zero_stage is not None or precision == "bf16-weights"
    return replace(
        job,
        schedule=job.schedule.model_copy(update={"precision": precision, "max_length": length}),
        engine="deepspeed" if sharing else execution.engine,
        ranks=gpus,
        zero_stage=job.zero_stage if question.zero_stage is None else question.zero_stage,
    )


def _table(study: Study, found: Sequence[Answer]) -> str:
    """A line a case."""
    head = f"{'LLM':<18}{'method':<29}{'predicted peak':>15}  {'fits':<5}{'positions':>9}  {'recomputed':<12}engine"
    lines = [_gpu_text(study.scale.execution.gpu), "", head]
    for answer in found:
        fits = "?" if answer.fits is None else "yes" if answer.fits else "no"
        lines.append(
            f"{answer.llm:<18}{answer.method:<29}{answer.account.peak / 1e9:>12.2f} GB  {fits:<5}"
            f"{_positions(answer):>9,}  {_recomputed(answer.passes):<12}{_engine(answer.setup)}"
        )
    precision = found[0].setup.precision
    lines += [
        "",
        f"Predicted, per GPU, at {precision}, for the positions that a pass has at most, and whether it recomputes its "
        "activations; nothing was measured (docs/memory.md).",
    ]
    return "\n".join([*lines, *(f"refused: {answer.refusal}" for answer in found if answer.refusal)])


def _itemised(study: Study, answer: Answer, trace: Mapping[str, Any] | None) -> str:
    """One case, part by part."""
    setup, account = answer.setup, answer.account
    lines = [
        f"{answer.llm}, {answer.method}: {account.peak / 1e9:.2f} GB a GPU (predicted), in {account.moment}",
        f"  {_engine(setup)}, passes of {_positions(answer):,} positions, recomputed: {_recomputed(answer.passes)}",
        f"  this: {counted(setup.micro_batch, 'sample')} of {setup.length} positions, {setup.answer_tokens} of them "
        f"answer, {setup.precision}, {'with' if setup.checkpointing else 'without'} gradient checkpointing",
    ]
    parts = sorted(account.parts.items(), key=lambda part: -part[1])
    lines += [f"  {size / 1e9:>9.3f} GB  {part}" for part, size in parts]
    share = 100 * account.trainable / account.parameters
    lines.append(f"  {account.trainable:,} of {account.parameters:,} parameters train ({share:.4g}%)")
    gpu = study.scale.execution.gpu
    if gpu is not None:
        lines.append(f"  {_gpu_text(gpu)}: {'fits' if answer.fits else 'does not fit'}")
    if answer.refusal:
        lines.append(f"  refused: {answer.refusal}")
    if trace:
        predicted, peak = trace["predicted_bytes"], trace["traced_bytes"]
        lines.append(
            f"  traced: {peak / 1e9:.3f} GB, at {trace['operation']} ({trace['seconds']} s); predicted for the same, "
            f"one process of plain PyTorch: {predicted / 1e9:.3f} GB ({predicted / peak - 1:+.2%})"
        )
    return "\n".join(lines)


def _gpu_text(gpu: GpuSettings | None) -> str:
    if gpu is None:
        return "this scale names no GPU (execution.gpu), so nothing is chosen to fit one"
    return f"{gpu.name} {gpu.memory_gb:g} GB, of which tensors may take {usable(gpu) / 1e9:g} GB"


def _engine(setup: Setup) -> str:
    if setup.stage is None:
        return "plain, 1 GPU"
    return f"deepspeed ZeRO {setup.stage}, {counted(setup.ranks, 'GPU')}"


def _positions(answer: Answer) -> int:
    """Of one pass, at most."""
    return answer.passes.positions or answer.setup.micro_batch * answer.setup.length


def _recomputed(passes: Passes) -> str:
    """Which passes recompute their activations."""
    return {None: "none", 0: "all"}.get(passes.recompute_above, f"above {passes.recompute_above or 0:,}")


def _document(answer: Answer, trace: Mapping[str, Any] | None) -> dict[str, Any]:
    """One case for scripts."""
    return {
        "llm": answer.llm,
        "method": answer.method,
        "predicted_bytes": answer.account.peak,
        "predicted_parts": answer.account.parts,
        "moment": answer.account.moment,
        "fits": answer.fits,
        "refused": answer.refusal,
        "passes": answer.passes.model_dump(mode="json"),
        "setup": answer.setup.model_dump(mode="json"),
        **({"traced": trace} if trace else {}),
    }


def _traced(answer: Answer) -> dict[str, Any]:
    """The case's plain step run on tensors without numbers, and predicted alike; imports torch, takes seconds."""
    from lntune.estimate.training_step import trace_memory

    setup = answer.setup.model_copy(update={"engine": "plain", "device": "cpu", "ranks": 1})
    started = time.monotonic()
    trace = trace_memory(setup)
    seconds, account = time.monotonic() - started, predicted(setup)
    unseen = account.parts.get("AdamW's moments", 0) if setup.precision == "bf16-weights" else 0
    return {
        "traced_bytes": trace.peak,
        "operation": trace.operation,
        "seconds": round(seconds, 1),
        "predicted_bytes": account.peak - unseen,
    }

"""rehearse: one LLM and method tried for minutes on this machine before it trains for hours, and what was measured.

The job needs no download: the weights are those that are there already, or random ones of the same shape; samples,
questions and images are made up. It runs in ranks of its own, so whatever ends them is a finding, not a failed job:

    first   load, tokenize, one batch of each benchmark's questions, a trial (lntune.training.trial); then SIGKILL
    again   load, and what the trial does from its checkpoint
"""

import io
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lntune.config import Frozen
from lntune.config.protocol import TemplateName
from lntune.config.study import GpuSettings
from lntune.config.training import Execution as TrainingExecution
from lntune.config.training import Library, Passes
from lntune.data.archives import write_zip
from lntune.data.samples import Question, Sample
from lntune.errors import UserError
from lntune.estimate.hours import step_operations
from lntune.estimate.jobs import TrainingJob, largest
from lntune.estimate.memory import predict_memory
from lntune.model.chat import layout
from lntune.model.prompts import CHAT, Layout, stop_strings
from lntune.stages import predict
from lntune.stages.encode import rendered
from lntune.stages.predict import Settings as Asked
from lntune.stages.rank import run_on_ranks
from lntune.store.job import Job, Metrics
from lntune.training.gpus import out_of_memory
from lntune.training.launch import RANK_FOLDER, RankCrash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from lntune.model.features import EncodedImages
    from lntune.model.multimodal import MultimodalModel

PACKAGES = ("torch", "transformers", "tokenizers", "open_clip_torch", "timm", "peft", "deepspeed", "pillow")

REHEARSAL = "rehearsal.json"

SECONDS = 600.0
"""A rehearsal ends after this long, and says in which part."""

IMAGES, ARCHIVE = 64, "images.zip"
QUESTION = Question("0", "0.jpg", "Is there a red bicycle in the picture?")
_TEXT = (
    "A person on a red bicycle waits at the crossing while two dogs sleep beside an old wooden bench. Behind them "
    "there are several houses, and the sky above the street is grey and cloudy. "
)
_REMEDIES = {
    "SIGKILL": "raise mem_mb of finetune and rehearse (execution.stages), if the host's memory did not do",
    "did not end within": "see in the log how far it came; with NCCL_DEBUG=INFO a collective that hangs shows",
    "NCCL": "run it again with NCCL_DEBUG=INFO in the environment; the log then names the link that fails",
    "": "its log in logs/rehearse has the traceback",
}


class Settings(Frozen):
    """What is trained, how, on which tokens a sample; how each benchmark asks. Another ``round`` is another try."""

    training: TrainingJob
    passes: Passes
    library: Library
    template: TemplateName
    system: str | None
    lowest_rate: float
    highest_rate: float
    text: int
    answers: int
    gpu: GpuSettings | None
    asked: dict[str, Asked]
    questions: int
    seed: int
    round: int


class Execution(TrainingExecution):
    """The folders of LLM and vision encoder, if their weights are there, and which of the two attempts is made."""

    weights: tuple[Path, Path] | None = None
    attempt: Literal["first", "again"] = "first"


AnyJob = Job[Settings, Execution]


def run(job: AnyJob) -> Metrics:
    """Write rehearsal.json: what was measured, part by part, and what failed, with a remedy."""
    from PIL import Image

    if RANK_FOLDER in os.environ:
        return _on_rank(job)
    shutil.rmtree(job.scratch, ignore_errors=True)
    job.scratch.mkdir(parents=True)
    buffer = io.BytesIO()  # of COCO's usual size and, by its noise, about the bytes
    Image.effect_noise((640, 480), 32).convert("RGB").save(buffer, "JPEG", quality=80)
    write_zip(job.scratch / ARCHIVE, [(f"{number}.jpg", buffer.getvalue()) for number in range(IMAGES)])
    ends, parts, failures = time.monotonic() + SECONDS, dict[str, Any](), list[dict[str, str]]()
    for attempt in ("first", "again"):
        text, path = "", job.scratch / f"{attempt}.json"
        execution = job.execution.model_copy(update={"attempt": attempt})
        try:
            run_on_ranks(replace(job, execution=execution), __name__, ends - time.monotonic())
        except (RankCrash, UserError) as error:
            text = str(error).removeprefix(f"{job.label}: ")
        notes: Any = json.loads(path.read_bytes()) if path.is_file() else {"parts": {}, "doing": "the ranks' start"}
        parts |= {f"{name} again" if name in parts else name: found for name, found in notes["parts"].items()}
        if text and notes["doing"] != "kill":
            failures.append(_failure(job.settings, notes["doing"] or "the end", text))
            break
    if text := parts.get("questions", {}).pop("failed", ""):
        failures.append(_failure(job.settings, "questions", text))
    document = {"parts": parts, "failures": failures, "compared": _compared(job.settings, parts)}
    (job.out / REHEARSAL).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return {"parts": len(parts), "failures": len(failures)}


def _compared(settings: Settings, parts: dict[str, Any]) -> dict[str, Any]:
    """What follows from what was measured: memory beside the prediction, share of the GPU's peak, equal or not."""
    on_gpu, training = bool(parts.get("load", {}).get("gpu")), settings.training
    setup, _ = largest(training, settings.passes, training.zero_stage)
    predicted = predict_memory(setup.model_copy(update={"device": "cuda" if on_gpu else "cpu"})).peak
    found: dict[str, Any] = {"predicted_bytes": predicted}
    peaks = [parts[name]["peak_bytes"] for name in ("longest", "typical") if name in parts]
    if peaks:  # on the CPU, what the process grew by
        found["peak_bytes"] = max(peaks) - (0 if on_gpu else parts["load"]["bytes_before"])
    if "typical" in parts and on_gpu and settings.gpu:
        most = settings.gpu.teraflops * 1e12 * training.ranks * parts["typical"]["seconds"]
        above = settings.passes.recompute_above
        again = above is not None and parts["typical"]["positions"] > above
        for name, recompute in (("mfu", False), ("utilisation", again)):  # the second with what is computed again
            operations = step_operations(training, settings.text, settings.answers, recompute=recompute)
            found[name] = training.schedule.global_batch * operations / most
    first, again, repeat = (parts.get(name, {}).get("steps") for name in ("more", "resume", "repeat"))
    return found | ({"equal_after_resume": first == again, "repeats": again == repeat} if repeat else {})


def _failure(settings: Settings, part: str, text: str) -> dict[str, str]:
    """What failed, in which part, what to do, and whether training fits for all that."""
    fits, remedy = "not known", next(what for mark, what in _REMEDIES.items() if mark in text)
    asking, training = {"batch_size": settings.questions}, settings.training
    given = {"engine": training.engine, "zero_stage": training.zero_stage, **dict(settings.passes)}
    if lacked := out_of_memory(text, asking if part == "questions" else given, training.method):
        fits = "yes" if part == "questions" else "no"
        text, _, remedy = lacked.partition("; ")
    return {"part": part, "text": text, "remedy": remedy, "fits": fits}


def _on_rank(job: AnyJob) -> Metrics:
    from lntune.model.device import set_precision
    from lntune.model.encode import encode_whole
    from lntune.model.features import images_of
    from lntune.training import ranks
    from lntune.training.trial import Notes, Trial, machine, peak_bytes

    settings, given = job.settings, job.execution
    notes, schedule = Notes(job.scratch / f"{given.attempt}.json"), settings.training.schedule
    with notes.part("load") as found:
        found |= {"bytes_before": peak_bytes(), "weights": "real" if given.weights else "random", **machine()}
        model = _model(job)
    if any(one.precision == "bf16" for one in settings.asked.values()):
        set_precision(model, "bf16-weights")
    members, archive = [f"{number}.jpg" for number in range(IMAGES)], job.scratch / ARCHIVE
    features = images_of(model.vision, archive, members, cache=given.cache_features, workers=given.workers)
    if given.attempt == "first":
        tokenizer = _tokenizer(job)
        answer = " ".join((_TEXT * settings.text).split()[: settings.text * 3 // 4])  # a word is 4/3 tokens
        sample = Sample("0", "0.jpg", ("<image>\nWhat is going on in this picture?", answer), "made up")
        with notes.part("tokenize") as found:
            text = rendered(sample, _layout(job, settings.template, tokenizer), settings.system)
            found["samples"] = len(list(encode_whole(tokenizer, [(text, 0)] * 100)))
        with notes.part("questions") as found:
            if ranks.rank() == 0:
                found |= _ask(job, model, tokenizer, features)
            ranks.barrier()
    for part in (model.connector, model.llm):  # training's own precision again
        part.float()
    set_precision(model, schedule.precision)
    trial = Trial(
        model, features, schedule.at(settings.lowest_rate), given, settings.text, settings.answers,
        settings.highest_rate, job.scratch / "checkpoints", settings.seed,
    )  # fmt: skip
    if given.attempt == "again":
        trial.again(notes)
    else:
        trial.first(notes)
        with notes.part("kill"):
            ranks.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _model(job: AnyJob) -> "MultimodalModel":
    """The model in float32 where it computes, with a fresh connector; random weights are drawn there."""
    import torch

    from lntune.estimate.training_step import build_model
    from lntune.model.device import device, place
    from lntune.model.multimodal import assemble
    from lntune.model.tuning import apply_method

    settings, training = job.settings, job.settings.training
    if job.execution.weights is None:
        from open_clip import image_transform

        torch.manual_seed(settings.seed)
        setup = training.setup(1, 0, recompute=False).model_copy(update={"precision": "fp32"})
        with torch.device(device()):
            see = image_transform(training.vision.image, is_train=False)
            return build_model(setup, attention="sdpa", preprocess=see)
    model = assemble(
        *job.execution.weights, settings.library, seed=settings.seed, device=device(), connector=training.connector
    )
    apply_method(model, training.method, training.lora, seed=settings.seed)
    return place(model)


def _tokenizer(job: AnyJob) -> "PreTrainedTokenizerFast":
    """The LLM's tokenizer; without its files, a byte-pair one of the words that are used here."""
    from lntune.model.llm import load_tokenizer

    if job.execution.weights:
        return load_tokenizer(
            job.execution.weights[0], *stop_strings([one.template for one in job.settings.asked.values()])
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    size, special = min(job.settings.training.llm.vocabulary, 2000), ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([_TEXT, *(one.prompt(QUESTION).text for one in job.settings.asked.values())], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def _layout(job: AnyJob, template: TemplateName, tokenizer: "PreTrainedTokenizerFast") -> Layout:
    """A template's layout; v1 in place of that of a tokenizer that is not there."""
    return layout("v1" if template == CHAT and not job.execution.weights else template, tokenizer)


def _ask(
    job: AnyJob, model: "MultimodalModel", tokenizer: "PreTrainedTokenizerFast", features: "EncodedImages"
) -> dict[str, Any]:
    """Have one batch of each benchmark's kind of question answered, about different images."""
    import torch

    from lntune.model.device import numerics
    from lntune.model.encode import encode_prompt
    from lntune.model.prefix_cache import Prompt
    from lntune.training.trial import restart_peak

    restart_peak()
    found: dict[str, Any] = {"questions": job.settings.questions}
    try:
        for one in job.settings.asked.values():
            template = _layout(job, one.template, tokenizer)
            ids = encode_prompt(tokenizer, one.prompt(QUESTION, template))
            prompts = [Prompt(ids, place % IMAGES) for place in range(job.settings.questions)]
            with numerics(job.execution.threads, "fp32"):
                predict.answer(
                    one, model, tokenizer, prompts, features, stop=template.stop, seeds=range(len(prompts)),
                    batch_size=len(prompts),
                )  # fmt: skip
    except Exception as error:  # of any kind: it is what is looked for
        found["failed"] = " ".join(f"{type(error).__name__}: {error}".split())
    if torch.cuda.is_available():
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
    return found

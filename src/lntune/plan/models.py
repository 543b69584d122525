"""The graph of models: from raw files to the score of a tuned model, a node for each result.

Settings are objects of the stages' own models, so that mypy sees a value travel from the scale to its stage.
Tables and figures, which show what is here, are in :mod:`lntune.plan.plan`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from lntune.benchmarks.prompting import Execution as QuestionsExecution
from lntune.benchmarks.registry import Benchmark, by_name, drawn_with
from lntune.config import Frozen
from lntune.config.catalog import LOCK
from lntune.config.report_item import RowSettings
from lntune.config.study import SelectionSplit
from lntune.config.training import EngineName, Execution, OnDevice, Passes, PlannedGpu, Precision
from lntune.estimate.hours import SAMPLES, checkpoint_minutes
from lntune.estimate.jobs import Fit
from lntune.plan.memory_fit import batch_of_questions, fitted, job_of, papers_row, prompt_tokens
from lntune.plan.node import Inputs, Node, Part, is_done, is_without_model, make_node
from lntune.plan.stages import code_version, read_accepted, stage_module
from lntune.plan.study import Study, once
from lntune.stages import (
    connector,
    convert,
    draw,
    encode,
    fetch,
    finetune,
    measure,
    predict,
    prepare,
    select,
    similarity,
)
from lntune.stages.asked import DecodingSettings
from lntune.stages.asked import Execution as PromptingExecution
from lntune.stages.halve import Settings as HalveSettings
from lntune.stages.tuned_model import TunedModelSettings
from lntune.store.job import EARLIER, KEPT
from lntune.store.manifest import AcceptedEdit, Store

SELECTED_BY = "flickr30k"
"""The benchmark by whose CIDEr a learning rate is chosen, as in the paper."""

MEASURED_BATCH, MEASURED_LENGTH = 4, 1024
"""Samples and positions of the step whose memory is measured; the paper does not tell its own."""


@dataclass(frozen=True)
class Variant:
    """One model to tune: an LLM, a vision encoder, a method, a training set, and the seed of its training."""

    llm: str
    vision: str
    method: str
    data: str
    seed: int


class Models:
    """All that tables and figures can show. Each result is made once, so equal results are the same Node."""

    def __init__(self, study: Study, edits: Sequence[AcceptedEdit] | None = None) -> None:
        """``edits`` that were accepted, if not those of the checkout's file."""
        self.study = study
        self.scale = study.scale
        self.protocol = study.protocol
        self.seeds = study.settings.seeds
        self.seed = self.seeds[0]  # of what all models share: data and questions
        self.store = Store(study.store)
        accepted = read_accepted(study.root) if edits is None else edits
        self._code_version = cache(partial(code_version, edits=accepted))
        self._nodes: dict[tuple[str, str], Node] = {}

    # --- nodes -----------------------------------------------------------------------------------------------

    def node(
        self,
        stage: str,
        label: Sequence[object],
        settings: Frozen,
        inputs: Inputs | None = None,
        execution: Frozen | None = None,
    ) -> Node:
        """A result of a stage, from objects of that stage's models; the one that is there already if it is equal."""
        portable = self.scale.numerics == "portable"
        node = make_node(self._code_version(stage), label, settings, inputs, execution, portable=portable)
        return self._nodes.setdefault((stage, node.id), node)

    def find(self, stage: str, name: str) -> Node | None:
        """The node of this stage whose folder has this name, among those made so far."""
        node = self._nodes.get((stage, name.rpartition("-")[2]))
        return node if node is not None and node.name == name else None

    def nodes(self) -> list[Node]:
        """All nodes made so far."""
        return list(self._nodes.values())

    # --- raw files, weights, data --------------------------------------------------------------------------------

    @once
    def source(self, name: str) -> Node:
        """Raw files: drawn, or fetched."""
        settings = self.scale.sources[name]
        if settings.fetch is not None:
            return self.fetched(settings.fetch)
        assert settings.draw is not None
        images = drawn_with().get(settings.draw.set)
        inputs = {images: self.source(images)} if images else {}
        drawn = draw.Settings(set=settings.draw.set, images=settings.draw.images, seed=self.seed)
        return self.node("draw", [name], drawn, inputs)

    @once
    def fetched(self, entry: str) -> Node:
        """One entry of the catalogue."""
        chosen = self.study.catalog_entry(entry)
        places = {name: chosen.place(name) for name in chosen.files}
        pinned = {name: file.sha256 for name, file in chosen.files.items() if file.sha256 is not None}
        others = {
            name: place.address or f"by hand: {entry}/{name}" for name, place in places.items() if name not in pinned
        }
        folder = self.study.copies_folder(entry)
        execution = fetch.Execution(
            entry=entry,
            about=chosen.about,
            licence=chosen.licence,
            gated=chosen.gated,
            page=chosen.page,
            manual=chosen.manual,
            places=places,
            root=str(self.study.root.resolve()),
            lock=str(self.study.root.resolve() / LOCK),
            copies={name: str(folder / name) for name in places} if folder else {},
        )
        return self.node("fetch", [entry], fetch.Settings(files=pinned, addresses=others), execution=execution)

    def llm(self, name: str) -> Node:
        """An LLM's weights."""
        settings = self.scale.llms[name]
        weights = self.fetched(settings.weights)
        return self.node("convert", [name], convert.Settings(), {"llm": weights}) if settings.convert else weights

    def vision(self, name: str) -> Node:
        """A vision encoder's weights."""
        return self.fetched(self.scale.visions[name].weights)

    @once
    def samples(self, data: str) -> Node:
        """The samples of a training set."""
        chosen = self.scale.data[data]
        settings = prepare.Settings(
            format=chosen.format,
            types=chosen.types,
            samples=chosen.samples,
            broken_share=self.scale.broken_share,
            seed=self.seed,
        )
        execution = prepare.Execution(workers=self.threads("prepare"))  # as many decode images
        return self.node("prepare", [data], settings, {"raw": self.source(chosen.source)}, execution)

    @once
    def encoded(self, llm: str, data: str, *, plain: bool = False) -> Node:
        """The samples of a training set in an LLM's tokens; ``plain`` as the connector learns from them."""
        chosen, asked = self.scale.llms[llm], self.protocol.template
        settings = encode.Settings(
            template="plain" if plain else chosen.template, system=None if plain else chosen.system
        )
        execution = encode.Execution(templates=(chosen.template, *([asked] if asked else [])))
        inputs = {"llm": self.llm(llm), "samples": self.samples(data)}
        return self.node("encode", [llm, data], settings, inputs, execution)

    def threads(self, stage: str) -> int:
        return self.scale.execution.of(stage).threads

    def on_device(self, stage: str) -> OnDevice:
        """Where a stage's jobs compute."""
        execution = self.scale.execution
        if execution.device == "cpu" or not execution.of(stage).gpus:
            return OnDevice(device=execution.device)
        gpu = execution.gpu
        return OnDevice(device="gpu", gpu=gpu and PlannedGpu(name=gpu.name, memory_gb=gpu.memory_gb))

    @once
    def questions(self, benchmark: str, split: SelectionSplit = "test") -> Node:
        """The questions of a benchmark; ``split`` counts for those alone that have a validation split."""
        sources = self.scale.benchmarks[benchmark]
        inputs = {"raw": self.source(sources[0]), "images": self.source(sources[-1])}
        known = by_name()[benchmark]
        label = [benchmark, *([split] if known.split else [])]
        stage, options = known.questions.name, self.protocol.options(known.protocol)
        chosen = known.question_settings(options, self.seed, split)
        settings = stage_module(stage).Settings(**chosen, broken_share=self.scale.broken_share)
        return self.node(stage, label, settings, inputs, QuestionsExecution(workers=self.threads(stage)))

    # --- training --------------------------------------------------------------------------------------------------

    @once
    def training_execution(self, stage: str, llm: str, vision: str, method: str) -> Execution:
        """How a training job is carried out; where there is a GPU, so that it fits (UserError if it cannot)."""
        execution, threads = self.scale.execution, self.threads(stage)
        fit = Fit(Passes(micro_batch=execution.micro_batch), 0)
        if execution.gradient_checkpointing:
            fit = Fit(Passes(micro_batch=execution.micro_batch, recompute_above=0), 0)
        minutes: float | str | None = execution.checkpoint_minutes
        if isinstance(minutes, str):  # auto
            minutes = round(checkpoint_minutes(job_of(self.study, stage, llm, vision, method)), 1)
        engine: EngineName = "plain"
        ranks = 1
        if execution.gpu:
            job, fit = fitted(self.study, stage, llm, vision, method)
            engine, ranks, threads = job.engine, job.ranks, self.scale.execution.of(stage).on(job.ranks).threads
        return Execution(
            **dict(self.on_device(stage)),
            **dict(fit.passes),
            engine=engine,
            ranks=ranks,
            zero_stage=fit.zero_stage,
            threads=max(1, threads // ranks),
            workers=max(1, threads // ranks),
            checkpoint_steps=execution.checkpoint_steps,
            checkpoint_minutes=minutes,
            cache_features=execution.cache_features,
        )

    @once
    def connector(self, llm: str, vision: str, seed: int) -> Node:
        """The pretrained connector of an LLM and a vision encoder."""
        stage = self.scale.connector
        settings = connector.Settings(
            training=stage.schedule.at(stage.learning_rate),
            library=self.scale.visions[vision].library,
            misaligned_share=self.scale.misaligned_share,
            seed=seed,
            connector=stage.kind,
        )
        inputs = {
            "llm": self.llm(llm),
            "vision": self.vision(vision),
            "samples": self.encoded(llm, stage.data, plain=True),
            "images": self.source(self.scale.data[stage.data].source),
        }
        execution = self.training_execution("connector", llm, vision, "connector-only")
        return self.node("connector", [llm, vision, *seed_label(seed)], settings, inputs, execution)

    def rounds(self, method: str) -> tuple[tuple[int, float], ...]:
        """How many candidates of a method its search keeps, and at which share of the steps; none if it is full."""
        search = self.study.search
        return search.rounds(len(self.scale.methods[method].learning_rates)) if search else ()

    def search_text(self, methods: Iterable[str]) -> str:
        """How the learning rates of some methods are searched; empty where every candidate is trained to its end."""
        search = self.study.search
        return search.text if search and any(map(self.rounds, methods)) else ""

    @once
    def halving(self, variant: Variant, until: float) -> Node:
        """Which candidates of a variant go on when this share of the steps is done."""
        split, rates = self.study.selection_split, self.scale.methods[variant.method].learning_rates
        keep = next(keep for keep, at in self.rounds(variant.method) if at == until)
        inputs = {
            "candidates": tuple(self.candidate(variant, rate, until) for rate in rates),
            "scores": tuple(self.score(variant, SELECTED_BY, rate, split, until=until) for rate in rates),
        }
        settings = HalveSettings(learning_rates=rates, keep=keep, split=split)
        return self.node("halve", [*self._label(variant), f"at-{until:g}"], settings, inputs)

    @once
    def candidate(self, variant: Variant, learning_rate: float, until: float | None = None) -> Node:
        """A variant tuned at one learning rate, if its search keeps it; ``until`` a share of the steps is done."""
        settings = finetune.Settings(
            method=variant.method,
            lora=self.scale.methods[variant.method].lora,
            training=self.scale.finetune.at(learning_rate),
            library=self.scale.visions[variant.vision].library,
            misaligned_share=self.scale.misaligned_share,
            seed=variant.seed,
            connector=self.scale.connector.kind,
            until=until,
        )
        images = self.source(self.scale.data[variant.data].source)
        inputs = self._inputs(variant, samples=self.encoded(variant.llm, variant.data), images=images)
        searched = learning_rate in self.scale.methods[variant.method].learning_rates
        before = [at for _, at in self.rounds(variant.method) if searched and (until is None or at < until)]
        if before:
            inputs[EARLIER] = self.candidate(variant, learning_rate, before[-1])
            inputs[KEPT] = Part(self.halving(variant, before[-1]), str(learning_rate))
        label = [*self._label(variant), f"{learning_rate:g}", *_until_label(until)]
        execution = self.training_execution("finetune", variant.llm, variant.vision, variant.method)
        return self.node("finetune", label, settings, inputs, execution)

    @property
    def measured_precision(self) -> Precision:
        """Of the training step whose memory is measured."""
        return (self.scale.measure or self.scale.finetune).precision

    @once
    def measure(self, llm: str, vision: str, method: str) -> Node:
        """What one LLM, encoder and method take: parameters that train, and memory (a row of the paper's Table 2)."""
        chosen = self.scale.methods[method]
        schedule, engine = self.scale.finetune, self.scale.execution.engine
        settings = measure.Settings(
            method=method,
            lora=chosen.lora,
            library=self.scale.visions[vision].library,
            engine=engine,
            precision=self.measured_precision,
            gradient_checkpointing=self.scale.measure is not None and self.scale.measure.gradient_checkpointing,
            zero_stage=chosen.zero_stage,
            micro_batch=MEASURED_BATCH,
            length=min(schedule.max_length, MEASURED_LENGTH),
            paper=papers_row(self.study, llm, method),
            seed=self.seed,
            connector=self.scale.connector.kind,
        )
        given = Execution(
            **dict(self.on_device("measure")),
            micro_batch=MEASURED_BATCH,
            threads=self.threads("measure"),
            engine=engine,
            zero_stage=chosen.zero_stage,
        )
        inputs = {"llm": self.llm(llm), "vision": self.vision(vision)}
        label = [llm, *([] if vision == self.scale.vision else [vision]), method]
        return self.node("measure", label, settings, inputs, given)

    def _label(self, variant: Variant) -> list[str]:
        vision = [] if variant.vision == self.scale.vision else [variant.vision]
        return [variant.llm, *vision, variant.method, variant.data, *seed_label(variant.seed)]

    # --- evaluation ------------------------------------------------------------------------------------------------

    def _asked(self, variant: Variant, benchmark: str) -> TunedModelSettings:
        llm = self.scale.llms[variant.llm]
        return TunedModelSettings(
            method=variant.method,
            lora=self.scale.methods[variant.method].lora,
            template=self.protocol.template or llm.template,
            system=llm.system,
            library=self.scale.visions[variant.vision].library,
            prompting=self.protocol.prompting(by_name()[benchmark].protocol),
            seed=variant.seed,
            connector=self.scale.connector.kind,
        )

    def _inputs(self, variant: Variant, **others: Node | Part) -> dict[str, Node | Part]:
        return {
            "llm": self.llm(variant.llm),
            "vision": self.vision(variant.vision),
            "connector": self.connector(variant.llm, variant.vision, variant.seed),
            **others,
        }

    def _tuned_inputs(
        self, variant: Variant, rate: float | None, benchmark: str, questions: Node, until: float | None = None
    ) -> Inputs:
        """What asking takes a variant's chosen candidate, or that of a learning rate, a benchmark's questions."""
        tuned = Part(self.selection(variant), select.CHOSEN) if rate is None else self.candidate(variant, rate, until)
        images = self.source(self.scale.benchmarks[benchmark][-1])
        return self._inputs(variant, images=images, tuned=tuned, questions=questions)

    def asked(self, variant: Variant, benchmark: str, blind: bool = False) -> predict.Settings:
        """How a tuned model is asked a benchmark's questions."""
        return predict.Settings(
            **dict(self._asked(variant, benchmark)),
            **dict(self.decoding),
            blind=blind,
        )

    @property
    def decoding(self) -> DecodingSettings:
        """How tokens of answers are chosen."""
        return DecodingSettings(
            temperature=self.protocol.temperature,
            top_k=self.protocol.top_k,
            min_new_tokens=self.protocol.min_new_tokens,
            precision=self.scale.prediction.precision,
            batch_size=self.scale.prediction.batch,
        )

    @once
    def _prompting_execution(self, stage: str, llm: str, vision: str, new_tokens: int, text: int) -> PromptingExecution:
        batch, threads = batch_of_questions(self.study, llm, vision, new_tokens, text), self.threads(stage)
        on = dict(self.on_device(stage))
        return PromptingExecution(**on, batch_size=batch, threads=threads, workers=threads)

    @once
    def selection(self, variant: Variant) -> Node:
        """The learning rate of a variant, chosen among its candidates."""
        split = self.study.selection_split
        rates = self.scale.methods[variant.method].learning_rates
        scores = tuple(self.score(variant, SELECTED_BY, rate, split) for rate in rates)
        inputs = {"candidates": tuple(self.candidate(variant, rate) for rate in rates), "scores": scores}
        settings = select.Settings(learning_rates=rates, split=split, search=self.search_text([variant.method]))
        return self.node("select", self._label(variant), settings, inputs)

    @once
    def score(
        self, variant: Variant, benchmark: str, rate: float | None = None, split: SelectionSplit = "test",
        blind: bool = False, until: float | None = None,
    ) -> Node:  # fmt: skip
        """The score of a variant's chosen candidate on one benchmark, or that of the candidate of a learning rate."""
        known, label = by_name()[benchmark], self._label(variant)
        label += [] if rate is None else [f"{rate:g}", *_until_label(until)]
        label += [*(["blind"] if blind else []), benchmark, *([split] if known.split and rate is not None else [])]
        settings, questions = self.asked(variant, benchmark, blind), self.questions(benchmark, split)
        inputs = self._tuned_inputs(variant, rate, benchmark, questions, until)
        (text, _), tokens = prompt_tokens(settings, self.protocol, known.protocol), settings.prompting.max_new_tokens
        given = self._prompting_execution("predict", variant.llm, variant.vision, tokens, text)
        return self.scored(known, label, self.node("predict", label, settings, inputs, given), questions)

    def scored(self, known: Benchmark, label: Sequence[object], answers: Node, questions: Node) -> Node:
        """The score of somebody's answers to a benchmark's questions."""
        scored = {"answers": answers, "questions": questions}
        if known.references:  # made once for all models
            stage = known.references.name
            no_settings = stage_module(stage).Settings()
            scored["references"] = self.node(stage, [questions.label], no_settings, {"questions": questions})
        chosen = known.score_settings(self.protocol.options(known.protocol))
        return self.node(known.score.name, label, stage_module(known.score.name).Settings(**chosen), scored)

    @once
    def similarity(self, variant: Variant) -> Node:
        """How alike the layers of a variant's chosen candidate are."""
        chosen = self.scale.similarity
        asked = self._asked(variant, chosen.benchmark)
        settings = similarity.Settings(**dict(asked), questions=chosen.questions)
        inputs = self._tuned_inputs(variant, None, chosen.benchmark, self.questions(chosen.benchmark))
        text, _ = prompt_tokens(asked, self.protocol, by_name()[chosen.benchmark].protocol)
        given = self._prompting_execution("similarity", variant.llm, variant.vision, 1, text)
        return self.node("similarity", self._label(variant), settings, inputs, given)

    def variant(self, llm: str, row: RowSettings, seed: int) -> Variant:
        """The variant of a row in an LLM's group; of a row without data, one that only measurements are made of."""
        return Variant(llm, row.vision or self.scale.vision, row.method, row.data or "", seed)


def seed_label(seed: int) -> list[str]:
    """What a folder's name says of a seed: nothing of the usual one."""
    return [f"seed-{seed}"] if seed else []


def _until_label(until: float | None) -> list[str]:
    return [] if until is None else [f"at-{until:g}"]


def share_of(node: Node) -> float:
    """The share of a whole run's steps that a finetuning does: less than all where a search looks at it on the way."""
    end, *start = (getattr(one.settings, "until", None) or 1.0 for one in (node, *node.players(EARLIER)))
    return end - sum(start)


def chance(store: Store, node: Node) -> float:
    """How likely a job is to have any work: of those that wait for a search's choice, the share that this keeps."""
    kept = node.inputs.get(KEPT)
    if not isinstance(kept, Part):
        resting_on = (node.inputs.get(role) for role in ("tuned", "answers"))
        return next((chance(store, one) for one in resting_on if isinstance(one, Node)), 1.0)
    if is_without_model(store, node):
        return 0.0
    left = [one for one in kept.node.players("candidates") if not is_without_model(store, one)]
    assert isinstance(kept.node.settings, HalveSettings)
    return 1.0 if is_done(store, kept.node) else min(1.0, kept.node.settings.keep / len(left))


def samples_of(node: Node) -> tuple[int, str]:
    """How many samples a node of ``prepare`` or ``encode`` will hold (of a drawn set, one an image), their format."""
    node = node if node.stage == "prepare" else node.players("samples")[0]
    settings, raw = node.settings, node.players("raw")[0].settings
    assert isinstance(settings, prepare.Settings)
    drawn = raw.images if isinstance(raw, draw.Settings) else None
    return settings.samples or drawn or SAMPLES[settings.format], settings.format

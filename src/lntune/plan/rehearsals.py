"""The rehearsals of a study: a result for each LLM and method, the table that shows them, and what they measured."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lntune.benchmarks.registry import by_name
from lntune.config.training import Passes
from lntune.estimate.hours import TEXT_TOKENS
from lntune.plan.memory_fit import batch_of_questions, job_of, model_name, prompt_tokens, with_usual_shots
from lntune.plan.models import Models, Variant, chance, samples_of, share_of
from lntune.plan.node import Node, is_done, result_folder
from lntune.plan.study import once
from lntune.stages import rehearsal, rehearse
from lntune.training.schedule import total_steps


@once
def rehearse_node(plan: Models, llm: str, method: str) -> Node:
    """One LLM, the scale's vision encoder and one method, tried; UserError if they are predicted not to fit at all."""
    scale, chosen, model = plan.scale, plan.study.settings.rehearsal, plan.scale.llms[llm]
    vision, tuning = scale.vision, scale.methods[method]
    given = plan.training_execution("finetune", llm, vision, method)
    if chosen.ranks is not None:
        shared = {"engine": "deepspeed", "ranks": chosen.ranks, "zero_stage": tuning.zero_stage}
        given = given.model_copy(update=shared)
    job = job_of(plan.study, "finetune", llm, vision, method)
    variant = Variant(llm, vision, method, "", plan.seed)
    asked = {
        name: with_usual_shots(plan.asked(variant, name), plan.protocol, one.protocol)
        for name, one in by_name().items()
    }
    lengths = [prompt_tokens(asked[name], plan.protocol, one.protocol)[0] for name, one in by_name().items()]
    text, answers = TEXT_TOKENS["llava-instruct"]
    settings = rehearse.Settings(
        training=replace(job, engine=given.engine, ranks=given.ranks, zero_stage=given.zero_stage),
        passes=Passes(**{name: getattr(given, name) for name in Passes.model_fields}),
        library=scale.visions[vision].library,
        template=model.template,
        system=model.system,
        lowest_rate=min(tuning.learning_rates),
        highest_rate=max(tuning.learning_rates),
        text=text,
        answers=answers,
        gpu=scale.execution.gpu,
        asked=asked,
        questions=min(
            batch_of_questions(plan.study, llm, vision, one.prompting.max_new_tokens, length)
            for one, length in zip(asked.values(), lengths, strict=True)
        ),
        seed=plan.seed,
        round=chosen.round,
    )
    folders = [
        _folder(plan, plan.llm(llm), model.weights),
        _folder(plan, plan.vision(vision), scale.visions[vision].weights),
    ]
    weights = (folders[0], folders[1]) if folders[0] and folders[1] else None
    return plan.node("rehearse", [llm, method], settings, execution=rehearse.Execution(**dict(given), weights=weights))


def _folder(plan: Models, node: Node, entry: str) -> Path | None:
    """Where weights lie that need no download: in the store, or as files of the checkout, if they are not converted."""
    if is_done(plan.store, node):
        return result_folder(plan.store, node).absolute()
    files = plan.study.catalog_entry(entry).files.values() if node.stage == "fetch" else ()
    folders = {(plan.study.root / file.path).parent.absolute() if file.path is not None else None for file in files}
    return folders.pop() if len(folders) == 1 else None


def rehearsal_table(plan: Models, name: str, nodes: Sequence[Node]) -> Node:
    """The table of the chosen rehearsals; a cell's trainings are those among ``nodes``."""
    chosen, scale = plan.study.settings.rehearsal, plan.scale
    rows, tried = [], []
    for llm in chosen.llms or tuple(scale.llms):
        for method in chosen.methods or tuple(scale.methods):
            asked = [
                (likely := chance(plan.store, node), likely * steps(plan, node))
                for node in nodes
                if node.stage == "finetune" and node.players("llm") == (plan.llm(llm),)
                and getattr(node.settings, "method", "") == method
            ]  # fmt: skip
            title = scale.llms[llm].title
            trainings, count = (round(sum(one[place] for one in asked)) for place in (0, 1))
            rows.append(rehearsal.Row(model=title, method=method, trainings=trainings, steps=count))
            tried.append(rehearse_node(plan, llm, method))
    named = plan.study.settings.scale
    settings = rehearsal.Settings(name=name, rows=tuple(rows), scale=named, scale_note=scale.note)
    return plan.node("rehearsal", [name], settings, {"rehearsals": tuple(tried)})


def steps(plan: Models, node: Node) -> int:
    """How many optimiser steps a finetuning does."""
    samples, _ = samples_of(node.players("samples")[0])
    return round(share_of(node) * total_steps(samples, plan.scale.finetune.at(1.0)))


def measured(plan: Models, node: Node) -> tuple[float, str] | None:
    """Seconds of a finetuning by its rehearsal, and on which GPU; None without one on the scale's kind of GPU."""
    gpu, llm = plan.scale.execution.gpu, model_name(plan.scale.llms, node.players("llm")[0])
    if gpu is None or llm is None or node.stage != "finetune":
        return None
    tried = rehearse_node(plan, llm, str(getattr(node.settings, "method", "")))
    if node.players("vision") != (plan.vision(plan.scale.vision),) or not is_done(plan.store, tried):
        return None
    parts = _parts(result_folder(plan.store, tried))
    name = str(parts.get("load", {}).get("gpu"))
    found = rehearsal.seconds(parts, 1, steps(plan, node))
    return (found, name) if found is not None and gpu.is_kind_of(name) else None


@once
def _parts(folder: Path) -> Any:
    """What a rehearsal measured, read once for all trainings of its LLM and method."""
    return rehearsal.read(folder)["parts"]

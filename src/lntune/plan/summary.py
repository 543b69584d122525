"""A result summarised in a few lines of words, from its facts (lntune.plan.derivation)."""

from collections import Counter
from collections.abc import Iterator

from lntune.benchmarks.registry import benchmarks, question_stages, reference_stages
from lntune.plan.derivation import Facts
from lntune.training.endings import NO_MODEL

_MEANING = {
    **{one.score.name: one.meaning for one in benchmarks()},
    "similarity": "the mean cosine similarity between the hidden states of all pairs of layers",
}
_TRAINED = (
    "{steps:,} steps on {samples:,} samples ({samples_truncated} truncated, {samples_misaligned} misaligned), "
    "final loss {final_loss:.4g}, {trainable_percent:.4g}% of {parameters:,} parameters trained"
)
_SENTENCES = {
    "connector": _TRAINED,
    "finetune": _TRAINED,
    **dict.fromkeys(("predict", "predict-other"), "{questions:,} questions, {empty_answers} empty answers"),
    "prepare": "{samples:,} samples kept",
    "encode": "{tokens:,} tokens in {samples:,} samples, {misaligned} misaligned",
    **{name: stage.summary for name, stage in {**question_stages(), **reference_stages()}.items()},
}


def done_by(result: Facts) -> str:
    """The result that did the work: this one, or that which it was linked from."""
    by = result["origin"] or result
    return f"{result['stage']}/{by['label']}-{by['id']}"


def summary(result: Facts) -> Iterator[str]:
    """What a result's stage made, in words."""
    stage, metrics = result["stage"], dict(result["metrics"])
    if ended := metrics.get(NO_MODEL):
        yield f"training {ended}, so there is no model"
    elif stage in _MEANING:
        in_form = f"; {metrics['followed']:.0%} of the answers are captions in form" if "followed" in metrics else ""
        yield f"the value is {_MEANING[stage]}{in_form}"
    elif stage in ("select", "halve"):
        how = f"; {search}" if (search := result["settings"].get("search")) else ""
        how += f"; the best {metrics['kept']} go on" if stage == "halve" else ""
        yield f"by {result['selection']['metric']}{how}"
    elif stage == "measure":
        yield from _measured(result)
    elif stage not in ("fetch", "draw"):
        parts = []
        dropped = {k.removeprefix("dropped: "): metrics.pop(k) for k in list(metrics) if k.startswith("dropped: ")}
        if dropped or stage == "prepare":
            parts.append(f"dropped: {', '.join(f'{n} {why}' for why, n in dropped.items()) or 'none'}")
        if training := result["settings"].get("training"):
            parts.append(f"learning rate {training['learning_rate']:g}")
        if whole := metrics.get("of_steps"):
            parts.append(f"until its search looked at it; {whole} steps in all")
        if result["settings"].get("blind"):
            parts.append("blind: the image features are zeroed")
        yield ", ".join([_sentence(stage, metrics), *parts])


def _measured(result: Facts) -> Iterator[str]:
    """What a training step was measured to take, what was predicted, and what the paper prints."""
    known = {(one["name"], one["label"]): one for one in result["numbers"]}
    if not known:
        yield "what was measured is deleted or damaged since"
        return
    peak = known["peak_bytes", "measured"]
    parts = [
        f"memory: {_bytes(peak['value'])} measured ({peak['how']})",
        f"{_bytes(known['peak_bytes', 'predicted']['value'])} predicted",
    ]
    if ("memory_gb", "paper") in known:
        printed = known["memory_gb", "paper"]["value"]
        parts.append(f"the paper prints {printed}{' GB' * (printed != 'OOM')}")
    yield "; ".join(parts)
    counts = [known[name, "measured"]["value"] for name in ("trainable", "parameters", "trainable_percent")]
    share = f"{counts[0]:,} of {counts[1]:,} parameters train, {counts[2]}%"
    of_paper = known.get(("trainable_percent", "paper"))
    yield share + (f"; the paper prints {of_paper['value']}%" if of_paper else "")
    step = "a step of {micro_batch} samples of {length:,} positions, engine {engine}, {precision}"
    yield step.format_map(result["settings"])


def _bytes(size: int | str) -> str:
    return size if isinstance(size, str) else f"{size:,} bytes"


def _sentence(stage: str, metrics: Facts) -> str:
    """The metrics in words; those of a stage that has none, or of older results, by their names."""
    try:
        return _SENTENCES[stage].format_map(metrics)
    except KeyError:
        return ", ".join(f"{name.replace('_', ' ')} {_figure(value)}" for name, value in metrics.items())


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def machine_text(result: Facts) -> str:
    """Where a result was made: the host, its CPU and its GPUs."""
    machine = result["machine"]
    kinds = [f"{number} x {gpu}" if number > 1 else gpu for gpu, number in Counter(machine["gpus"]).items()]
    return f"{machine['host']} ({machine['cpu']}, {' and '.join(kinds) or 'no GPU'})"

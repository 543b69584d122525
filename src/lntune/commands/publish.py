"""``lntune publish``: the tuned model behind a row as Hugging Face's LLaVA or a PEFT adapter, with a model card.

What is written is loaded again, by transformers and PEFT alone, and asked questions of the row's benchmark as their own
processor lays them out. Unless it gives the token ids and logits that the model here gives, nothing is left of it.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lntune.data.samples import Question, read_questions
from lntune.download.hub import push
from lntune.errors import UserError
from lntune.plan.node import Node, closure, manifest_path, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import PredictJob, predict_job, predictions
from lntune.report.published import shown_in
from lntune.report.rows import CELLS, LEARNING_RATE, Row
from lntune.stages.asked import messages
from lntune.store.manifest import read_manifest

if TYPE_CHECKING:
    from torch import Tensor

    from lntune.model.llava import Activation
    from lntune.model.multimodal import MultimodalModel
    from lntune.model.vision import VisionEncoder

ASKED = 60
"""Questions whose logits are compared, spread over all of the benchmark's."""

CLOSE = 1e-3
"""How far logits may be apart, in float32: other kernels round otherwise, by some 1e-5, as in lntune.model.generate."""

BASE = "base"
"""The folder, beside an adapter, of the untuned model."""


def publish(
    root: Path, row: str, out: Path, *, adapter: bool = False, gelu: bool = False, repo: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Write the model of "TABLE ROW" (its first seed) to the new folder ``out``; return what was done, in lines.

    ``adapter`` writes what was tuned for PEFT, beside the untuned model; ``gelu`` the form that vLLM takes, too.
    ``repo`` is a repository of the hub to send it to; what an earlier call wrote of this row is sent as it is.
    UserError if the row has no model, if something else is there, or if what was written would not load identically.
    """
    card_file = out / "README.md"
    if out.exists() and not (repo and card_file.is_file()):
        raise UserError(f"{out}: is there already; name a new folder, or with --push one that was published before")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or name another")
    plan = Plan(Study.read(root, overrides))
    item, shown, by_column = predictions(plan, row)
    node = next(iter(by_column.values()))
    if out.exists():
        card = card_file.read_text(encoding="utf-8")
        if f"Answers: `{node.path}`;" not in card:
            raise UserError(f"{out}: holds no model of this row as it is now; name a new folder")
        card_file.write_text(re.sub("(?m)^name = .*$", f"name = {json.dumps(repo)}", card, count=1), encoding="utf-8")
        return f"{out}: was there already, of this row\nsent to {push(out, repo)}"
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        checked = write_checked(
            predict_job(plan, node, part), part, adapter=adapter, activation="gelu" if gelu else "linear"
        )
        card = card_text(plan, item, shown, node, repo or out.name, checked)
        (part / "README.md").write_text(card, encoding="utf-8")
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    lines = [f"{out}: {checked.what}; {checked.text}"]
    return "\n".join([*lines, *([f"sent to {push(out, repo)}"] if repo else [])])


@dataclass(frozen=True)
class Checked:
    """What was written, how many questions it was asked, and how far its logits are from ours at most.

    Of ``beside`` questions transformers' processor crops the image one pixel beside; there it was given our pixels.
    """

    what: str
    adapter: bool
    questions: int
    difference: float
    beside: int

    @property
    def text(self) -> str:
        """How it was compared, in words."""
        crop = f"; the images of {self.beside} are cropped a pixel beside by transformers, and were given as here"
        return (
            f"token ids and arg-max of {self.questions} questions equal, logits within {self.difference:.1e}"
            f"{crop * bool(self.beside)}"
        )


def write_checked(job: PredictJob, folder: Path, *, adapter: bool, activation: "Activation") -> Checked:
    """Write the model that a predict job asks, or its adapter, load it again and compare; UserError if it differs."""
    import torch

    from lntune.model.device import numerics
    from lntune.model.llava import write_adapter, write_llava
    from lntune.model.multimodal import assemble, load_connector
    from lntune.model.tuning import trainable_state
    from lntune.stages.tuned_model import load

    settings = job.settings
    if settings.blind:
        raise UserError(f"{job.label}: the row's model does not see the images; name a row whose model does")
    archive, questions = read_questions(job.folder("questions"))
    questions = questions[:: -(-len(questions) // ASKED)]
    with numerics(job.execution.threads, "fp32"), torch.no_grad():
        model, tokenizer, prompts, images = load(job, archive, questions)
        expected = [_logits(model, prompt.ids, images.features([prompt.image or 0])) for prompt in prompts]
        rows = [model.connector(images.features([prompt.image or 0]).to(model.connector_dtype)) for prompt in prompts]
        form: dict[str, Any] = {
            "template": settings.template, "system": settings.system, "activation": activation,
            "max_new_tokens": settings.prompting.max_new_tokens, "largest": max(float(z.abs().max()) for z in rows),
        }  # fmt: skip
        trained, vision = trainable_state(model), model.vision
        whole = {f"llm.{name}" for name, _ in model.llm.named_parameters()} <= trained.keys()
        if adapter and not whole:
            del model
            untuned = assemble(
                job.folder("llm"), job.folder("vision"), settings.library, seed=settings.seed,
                connector=settings.connector,
            )  # fmt: skip
            load_connector(untuned, job.folder("connector"))
            write_llava(untuned, tokenizer, folder / BASE, **form)
            del untuned
            write_adapter(trained, folder / BASE, folder, settings.lora)
        else:
            write_llava(model, tokenizer, folder, **form)
            del model
        del trained
        number, beside = _compared(job, folder, vision, archive, questions, [one.ids for one in prompts], expected)
    kind = "an adapter for PEFT beside the untuned model" if adapter and not whole else "a LLaVA for transformers"
    if adapter and whole:
        kind += " (the method tunes every weight of the LLM, so no adapter is smaller)"
    return Checked(kind, adapter and not whole, len(questions), number, beside)


def _logits(model: "MultimodalModel", ids: Sequence[int], features: "Tensor") -> "Tensor":
    embedded, _ = model.embed([ids], features)
    logits: Tensor = model.llm(inputs_embeds=embedded).logits[0, -1].float().cpu()
    return logits


def load_published(folder: Path) -> tuple[Any, Any]:
    """A published model and its processor, as the card says that they are to be loaded."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    base = folder / BASE if (folder / BASE).is_dir() else folder
    model: Any = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    if base != folder:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    return model.eval(), AutoProcessor.from_pretrained(base, backend="pil")


def _compared(
    job: PredictJob, folder: Path, vision: "VisionEncoder", archive: str, questions: Sequence[Question],
    ids: Sequence[Sequence[int]], expected: "Sequence[Tensor]",
) -> tuple[float, int]:  # fmt: skip
    """How far the logits of what was written are from those expected, at most; UserError if that is too far.

    And of how many questions the image is cropped a pixel beside.
    """
    from lntune.data.images import ImageArchive
    from lntune.model.device import device
    from lntune.model.encode import IMAGE_ID
    from lntune.model.llava import crops_beside
    from lntune.model.multimodal import splice_image

    model, processor = load_published(folder)
    model, image = model.to(device()), model.config.image_token_index
    pictures, largest, beside = ImageArchive(job.folder("images") / archive), 0.0, 0
    for question, ours, logits in zip(questions, ids, expected, strict=True):
        picture = pictures.image_or_refuse(question.image)
        asked = messages(job.settings.turns(question), picture)
        given = processor.apply_chat_template(
            asked, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        ).to(model.device)
        theirs, differs = given["input_ids"][0].tolist(), f"{job.label}: not written: question {question.id} has other"
        whole = splice_image(ours, theirs.count(image))
        if theirs != [image if token == IMAGE_ID else token for token in whole]:
            raise UserError(f"{differs} token ids in transformers' processor than here")
        if crops_beside(vision, *picture.size):
            given["pixel_values"] = vision.preprocess(picture)[None].to(model.device)
            beside += 1
        found = model(**given).logits[0, -1].float().cpu()[: len(logits)]
        largest = max(largest, apart := float((found - logits).abs().max()))
        best = logits.topk(2).values
        if not apart <= CLOSE or (found.argmax() != logits.argmax() and best[0] - best[1] > 2 * CLOSE):
            raise UserError(f"{differs} logits in transformers than here, by {apart:.2g}, where {CLOSE:g} is allowed")
    return largest, beside


# --- the card --------------------------------------------------------------------------------------------------------

_LOAD = """\
from transformers import AutoModelForImageTextToText, AutoProcessor
{imports}
name = {name}
model = AutoModelForImageTextToText.from_pretrained({base})
{wrap}processor = AutoProcessor.from_pretrained({base}, backend="pil")   # Pillow's pixels, as in training
content = [{{"type": "image", "path": "picture.jpg"}}, {{"type": "text", "text": "What is in the image?"}}]
asked = [{{"role": "user", "content": content}}]
inputs = processor.apply_chat_template(asked, tokenize=True, return_dict=True, return_tensors="pt")
answer = model.generate(**inputs, tokenizer=processor.tokenizer)[0, inputs["input_ids"].shape[1]:]
print(processor.decode(answer, skip_special_tokens=True))
"""


def card_text(plan: Plan, item: Node, row: Row, node: Node, name: str, checked: Checked) -> str:
    """The model card: what the model is, its scores, what it was made from and under which licences, how to load it."""
    from huggingface_hub import ModelCardData

    settings: Any = item.settings
    asked, git = predict_job(plan, node).settings, read_manifest(manifest_path(plan.store, node)).git
    data = ModelCardData(
        license="other", library_name="peft" if checked.adapter else "transformers",
        pipeline_tag="image-text-to-text", tags=["lntune", "llava", asked.method],
        base_model=BASE if checked.adapter else None,
    )  # fmt: skip
    values = dict(_scores(plan, item, row))
    rate = values.pop(LEARNING_RATE, "")
    lines = [f"| {_text(column)} | {_text(value)} |" for column, value in values.items() if value]
    sources = [f"| {_text(about)} | {_text(licence)} |" for about, licence in dict.fromkeys(_sources(node))]
    wrap = "model = PeftModel.from_pretrained(model, name)\n" if checked.adapter else ""
    code = _LOAD.format(
        imports="from peft import PeftModel\n" if checked.adapter else "", name=json.dumps(name), wrap=wrap,
        base='name, subfolder="base"' if checked.adapter else "name",
    )  # fmt: skip
    commit = f"commit `{git.commit}`{' with uncommitted changes' if git.dirty else ''}" if git else "no commit recorded"
    return "\n".join([
        "---", data.to_yaml(), "---", "",
        f"# {_text(row.name)}", "",
        f"A vision-language model tuned by the method {_text(asked.method)}, "
        f"{_text(rate and f'learning rate {rate}, ')}seed {asked.seed}, with lntune, a reproduction of "
        "[Tuning LayerNorm in Attention](https://arxiv.org/abs/2312.11420).", "",
        f"Form: {checked.what}. Before it was written, it was loaded as below, in float32: {checked.text}.", "",
        "## Scores", "", f"From {_text(settings.title)}. Scale: {_text(settings.scale)}; protocol: "
        f"{_text(settings.protocol)}. {_text(settings.scale_note)}", "",
        "| | value |", "| --- | --- |", *lines, "",
        "## How to load it", "", "```python", code.rstrip(), "```", "",
        "## Data, weights and licences", "", "| made from | licence |", "| --- | --- |", *sources, "",
        f"Answers: `{node.path}`; tuned weights: `{node.players('tuned')[0].path}`; {commit}.", "",
    ])  # fmt: skip


def _scores(plan: Plan, item: Node, row: Row) -> Iterator[tuple[str, str]]:
    """What the table says of a row, column by column, its intervals and learning rate among them."""
    folder, name = result_folder(plan.store, item), getattr(item.settings, "name", "")
    cells = json.loads((folder / CELLS).read_bytes())
    yield from ((one["column"], str(one["value"])) for one in cells if one["row"] == row.name)
    with suppress(OSError, ValueError):  # a figure's CSV may be a list of points
        yield from ((of[1], value) for of, value in shown_in(folder / f"{name}.csv").items() if of[0] == row.name)


def _sources(node: Node) -> Iterator[tuple[str, str]]:
    """What came from elsewhere or was drawn, of all that a model was made from and asked, and its licence."""
    for one in closure([node]):
        if one.stage == "fetch":
            yield getattr(one.execution, "about", one.label), getattr(one.execution, "licence", "unknown")
        elif one.stage == "draw":
            yield f"{one.label}, drawn by lntune", "Apache-2.0"


def _text(value: str) -> str:
    """A text from data that Markdown and HTML leave as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~$])", r"\\\1", " ".join(str(value).split()))

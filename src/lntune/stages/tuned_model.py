"""What the stages that give a tuned model questions have in common: settings, and how model and prompts are loaded.

The roles are llm, vision, connector, tuned, questions and images. What plays ``tuned`` is a finetune's folder, or the
folder in a selection that holds the chosen finetune's files.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from lntune.config.protocol import TemplateName
from lntune.config.training import AnswerPrecision, Library, LoraSettings, Precision, UsualConnector
from lntune.data.samples import Question
from lntune.model.chat import layout
from lntune.model.prompts import CHAT, Layout, Rendered, render_prompt, stop_strings
from lntune.stages.asked import AskedSettings, Execution
from lntune.store.job import Job

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from lntune.model.features import EncodedImages
    from lntune.model.multimodal import MultimodalModel
    from lntune.model.prefix_cache import Prompt


class TunedModelSettings(AskedSettings):
    """How the model was tuned, as far as loading it needs, and how it is asked."""

    method: str
    lora: LoraSettings | None
    template: TemplateName
    system: str | None
    library: Library
    seed: int
    connector: UsualConnector = "linear"

    def prompt(self, question: Question, laid_out: Layout | None = None) -> Rendered:
        """The text that the model continues: its turns, laid out.

        ``laid_out`` is the template's layout for a tokenizer; without it, ``chat`` is laid out as v1.
        """
        usual = "v1" if self.template == CHAT else self.template
        return render_prompt(laid_out or usual, self.turns(question), system=self.system)


AnySettings = TypeVar("AnySettings", bound=TunedModelSettings)


def load(
    job: Job[AnySettings, Execution], archive: str, questions: Sequence[Question], precision: AnswerPrecision = "fp32"
) -> "tuple[MultimodalModel, PreTrainedTokenizerFast, list[Prompt], EncodedImages]":
    """The tuned model, where it computes; tokenizer, prompts, images. UserError if parts do not fit."""
    from lntune.model import device
    from lntune.model.encode import encode_prompt
    from lntune.model.features import images_of
    from lntune.model.llm import load_tokenizer
    from lntune.model.multimodal import assemble, load_connector
    from lntune.model.prefix_cache import Prompt
    from lntune.model.tuning import apply_method, load_trainable

    settings = job.settings
    tokenizer = load_tokenizer(job.folder("llm"), *stop_strings([settings.template]))
    template = layout(settings.template, tokenizer)
    weights: Precision = "bf16-weights" if precision == "bf16" else "fp32"
    model = assemble(
        job.folder("llm"), job.folder("vision"), settings.library, seed=settings.seed, precision=weights,
        device=device.device(), connector=settings.connector,
    )  # fmt: skip
    load_connector(model, job.folder("connector"))
    apply_method(model, settings.method, settings.lora, seed=settings.seed)
    load_trainable(model, job.folder("tuned") / "tuned.safetensors")
    model = device.place(model, weights).eval()
    members = list(dict.fromkeys(question.image for question in questions))
    place = {member: number for number, member in enumerate(members)}
    path = job.folder("images") / archive
    images = images_of(model.vision, path, members, cache=True, workers=job.execution.workers)
    prompts = [Prompt(encode_prompt(tokenizer, settings.prompt(one, template)), place[one.image]) for one in questions]
    return model, tokenizer, prompts, images

"""lntune's side of the training races: the steps of its own training loop.

    python lntune_worker.py RACE VISION

RACE is a race as JSON, VISION the folder of the demo's vision encoder. Nothing in the samples asks for that.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from lntune.config.training import Execution, LoraSettings, TrainingSettings
from lntune.model.device import numerics
from lntune.model.features import EncodedImages
from lntune.model.multimodal import assemble
from lntune.model.tuning import apply_method
from lntune.training.loop import Run, accumulate, do_step, make_engine, training_mode
from lntune.training.norm_gradients import norm_gradient_recorder
from lntune.training.schedule import epoch_batches
from races.mixed_lengths import Race, Told, draw, of_all_lengths
from races.operations import profiled
from races.workers import serve


class Ours:
    """A model that one method tunes, and how far it is."""

    def __init__(self, race: Race, vision: Path) -> None:
        self.race, self.vision = race, vision
        self.samples = draw(race)
        self.entered = ExitStack()
        self.scratch = Path(self.entered.enter_context(tempfile.TemporaryDirectory()))

    def prepare(self, method: str) -> Mapping[str, object]:
        """Load the LLM afresh; return the loss and the gradients' norm of the first samples."""
        race = self.race
        self.entered.close()
        model = assemble(race.llm, self.vision, "open_clip", seed=race.seed)
        apply_method(model, method, LoraSettings(rank=race.lora_rank, alpha=16, dropout=0.0), seed=race.seed)
        settings = TrainingSettings(
            learning_rate=race.learning_rate, epochs=1.0, global_batch=race.global_batch, warmup_ratio=0.0,
            weight_decay=0.0, max_length=2048, precision="fp32",
        )  # fmt: skip
        execution = Execution(micro_batch=race.global_batch, threads=1)
        self.entered.enter_context(numerics(execution.threads, settings.precision))
        self.entered.enter_context(training_mode(model, recompute=False))
        features = EncodedImages(model.vision, no_image, count=0, cache=False)
        self.engine, self.step = make_engine(model, settings, execution), 0
        steps = race.pool // race.global_batch
        self.run = Run(
            self.samples, features, settings, execution, race.seed, self.scratch, "", total=steps, last=steps,
            label="race", recorder=norm_gradient_recorder(model),
        )  # fmt: skip
        llm = model.llm
        last = llm.model.layers[-1]
        matrices, *read = (
            [one.weight.numel() for one in part.modules() if isinstance(one, nn.Linear)]
            for part in (llm.model.layers, last.self_attn.q_proj, last.self_attn.o_proj, last.mlp)
        )
        tables = {id(part.weight): part.weight.numel() for part in (llm.get_input_embeddings(), llm.lm_head)}
        sizes = {"blocks": sum(matrices), "last": sum(map(sum, read)), "head": llm.lm_head.weight.numel()}
        return self.first_loss() | sizes | {"tables": sum(tables.values())}

    def first_loss(self) -> dict[str, object]:
        """Loss and gradient norm of the first global batch of samples; the weights stay."""
        loss = accumulate(self.engine, self.samples[: self.race.global_batch], self.run.features, self.run.execution)
        gradients = {name: value for name, value in self.engine.gradients().items() if name.startswith("llm.")}
        norm = torch.stack([value.norm() for value in gradients.values()]).norm()
        for value in self.engine.gradients().values():
            value.zero_()
        self.engine.model.zero_grad(set_to_none=True)
        return {"loss": loss.item(), "norm": norm.item(), "trainable": sum(map(Tensor.numel, gradients.values()))}

    def train(self) -> Mapping[str, object]:
        """Do one round."""
        lengths = [len(sample.input_ids) for sample in self.samples]
        epoch = epoch_batches(lengths, self.race.global_batch, self.race.seed, epoch=0)
        batches: Sequence[Sequence[int]] = of_all_lengths(epoch, lengths, self.race.steps)
        started = time.perf_counter()
        for batch in batches:
            do_step(self.run, self.engine, self.step, [self.samples[index] for index in batch])
            self.step += 1
        return Told.of(time.perf_counter() - started, batches, lengths).model_dump()

    def profile(self) -> Mapping[str, object]:
        """Do one round, and tell what it was spent on."""
        return profiled(self.train)


def no_image(index: int) -> Tensor:
    """No sample has one."""
    raise AssertionError("the samples are text alone")


if __name__ == "__main__":
    ours = Ours(Race.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
    serve(lambda task, **given: getattr(ours, task)(**given))
    ours.entered.close()

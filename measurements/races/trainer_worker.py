"""The rival's side of the training races: Hugging Face's Trainer, with PEFT for LNTuning and LoRA.

    python trainer_worker.py RACE TOKENIZER

RACE is a race as JSON, TOKENIZER a folder with a tokenizer, which is asked for nothing but padding.
"""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LNTuningConfig, LoraConfig, get_peft_model
from torch.utils.data import Sampler
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import set_seed

from lntune.model.llm import load_tokenizer
from races.mixed_lengths import Race, Told, draw, of_all_lengths
from races.operations import profiled
from races.workers import serve

NORMS = ["input_layernorm", "post_attention_layernorm"]

TRAINED = {
    "attn-qv": ["q_proj", "v_proj"],
    "attn-mlp": ["mlp"],
    "layernorm": NORMS,
    "layernorm-simp": NORMS,
}
"""The parts of every block that a method trains."""


class Some(Sampler[int]):
    """Those of an epoch's batches that a round takes, one after another."""

    def __init__(self, batches: Sequence[Sequence[int]]) -> None:
        self.indices = [index for batch in batches for index in batch]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class RoundTrainer(Trainer):
    """A Trainer whose epoch is cut down to a round; its own sampler makes the batches."""

    race: Race
    lengths: Sequence[int]

    def _get_train_sampler(self, train_dataset: Any = None) -> Some:
        indices = list(super()._get_train_sampler(train_dataset))
        size = self.race.global_batch
        batches = [indices[start : start + size] for start in range(0, len(indices), size)]
        self.batches = of_all_lengths(batches, self.lengths, self.race.steps)
        return Some(self.batches)


class Clock(TrainerCallback):
    """Takes the time from just before the first step to just after the last."""

    started = ended = 0.0

    def on_train_begin(self, *given: Any, **named: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *given: Any, **named: Any) -> None:
        self.ended = time.perf_counter()


class Rival:
    """A model that one method tunes."""

    def __init__(self, race: Race, tokenizer: Path, folder: Path) -> None:
        self.race, self.folder = race, folder
        samples = draw(race)
        self.lengths = [len(sample.input_ids) for sample in samples]
        self.data = [{"input_ids": sample.input_ids, "labels": sample.labels} for sample in samples]
        padding = load_tokenizer(tokenizer)
        padding.padding_side = "right"
        self.collator = DataCollatorForSeq2Seq(padding)

    def prepare(self, method: str) -> Mapping[str, object]:
        """Load the LLM afresh; return the loss and the gradients' norm of the first samples."""
        llm = LlamaForCausalLM.from_pretrained(self.race.llm, dtype=torch.float32)
        self.model = tuned(llm, method, self.race)
        return self.first_loss()

    def first_loss(self) -> Mapping[str, object]:
        """Loss and gradient norm of the first global batch of samples; the weights stay."""
        trainer = self.trainer("random")
        batch = self.collator(self.data[: self.race.global_batch])
        self.model.train()
        items = sum((row[1:] != -100).sum() for row in batch["labels"])
        loss = trainer.compute_loss(self.model, dict(batch), num_items_in_batch=items)
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        self.model.zero_grad()
        return {"loss": loss.item(), "norm": norm.item(), "trainable": sum(map(torch.Tensor.numel, gradients))}

    def trainer(self, strategy: str) -> RoundTrainer:
        """A Trainer with its defaults, which neither logs nor saves."""
        race = self.race
        arguments = TrainingArguments(
            output_dir=str(self.folder), per_device_train_batch_size=race.global_batch, max_steps=race.steps,
            learning_rate=race.learning_rate, train_sampling_strategy=strategy, use_cpu=True, seed=race.seed,
            logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = RoundTrainer(self.model, arguments, data_collator=self.collator, train_dataset=self.data)
        trainer.race, trainer.lengths = race, self.lengths
        return trainer

    def train(self, strategy: str) -> Mapping[str, object]:
        """Do one round."""
        clock, trainer = Clock(), self.trainer(strategy)
        trainer.add_callback(clock)
        trainer.train()
        return Told.of(clock.ended - clock.started, trainer.batches, self.lengths).model_dump()

    def profile(self, strategy: str) -> Mapping[str, object]:
        """Do one round, and tell what it was spent on."""
        return profiled(lambda: self.train(strategy))


def tuned(llm: LlamaForCausalLM, method: str, race: Race) -> Any:
    """The LLM, of which that trains what lntune's method of this name trains in it."""
    if method == "layernorm-simp":
        return get_peft_model(llm, LNTuningConfig(task_type="CAUSAL_LM", target_modules=NORMS))
    if method == "lora":
        set_seed(race.seed)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=race.lora_rank, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear"
        )
        model = get_peft_model(llm, config)
    elif method == "finetune":
        return llm
    else:
        model = llm.requires_grad_(False)
        for layer in llm.model.layers:
            train(part for name, part in layer.named_modules() if name.split(".")[-1] in TRAINED[method])
    train([llm.get_input_embeddings(), llm.get_output_embeddings()])
    return model


def train(parts: Iterable[torch.nn.Module]) -> None:
    """Let these parts train."""
    for part in parts:
        part.requires_grad_(True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        rival = Rival(Race.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(folder))
        serve(lambda task, **given: getattr(rival, task)(**given))

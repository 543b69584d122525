"""The engine that shares a training run among ranks: DeepSpeed with ZeRO, stages 0 to 3.

It trains what :class:`~lntune.training.engine.PlainEngine` trains, up to rounding: a global batch's gradient is the
sum over its samples whatever the number of ranks, and learning rate, clipping and AdamW are the loop's own. DeepSpeed
is left to do one thing, to lay gradients, optimiser state and weights out over the ranks.

What its documentation does not say, and this module heeds:

- The mean over ranks is DeepSpeed's; ours is a sum, so losses are multiplied by the number of ranks first. That is
  exact for powers of two.
- ``engine.forward`` switches an autocast off that surrounds it. Ours is inside the module that it wraps.
- Under ZeRO-3 a forward pass is a collective operation. So all ranks pass as many micro batches, each through all
  parts of the model; and the vision encoder, which ranks use as often as their images need, stays outside.
- Weights that are frozen count as trained to nobody: what is saved is read parameter by parameter, and every shape is
  checked against the one before DeepSpeed partitioned it (its issues 3090 and 3205: saved with size 0).
- Naming an optimiser in its config compiles one, and initialising the CPU's communication compiles another; neither
  happens here.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lntune.config.training import Execution, TrainingSettings
from lntune.model.device import device
from lntune.model.encode import IGNORE, EncodedSample
from lntune.model.multimodal import MultimodalModel
from lntune.training import ranks
from lntune.training.engine import LazyTensors, adamw, clip, some_features, trainable

PADDING = [EncodedSample([0, 0], [IGNORE, 0], None)]
"""What a rank without samples passes through the model while others have some; its loss is multiplied by zero."""

MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepSpeedEngine:
    """DeepSpeed over the parameters that require gradients, as an :class:`lntune.training.engine.Engine`.

    The ranks must have been joined (:func:`lntune.training.ranks.start`). After this the model's own parameters are
    DeepSpeed's: with ZeRO-3 they are empty, so read results through :meth:`weights`.
    """

    def __init__(self, model: MultimodalModel, settings: TrainingSettings, execution: Execution) -> None:
        self.model, self.settings = model, settings
        self.named = trainable(model)
        self.shapes = {name: parameter.shape for name, parameter in self.named.items()}
        # DeepSpeed's bfloat16 weights have float32 masters from stage 1 on.
        self.stage = max(execution.zero_stage, 1 if settings.precision == "bf16-weights" else 0)
        self.dtype = next(iter(self.named.values())).dtype
        self.deepspeed = import_deepspeed()
        wrapped = TunedPart(model, autocast=settings.precision == "bf16", cache=self.stage < 3)
        numbers = sum(shape.numel() for shape in self.shapes.values())
        config = configuration(settings, execution.micro_batch, self.stage, numbers)
        optimizer = adamw(self.named.values(), settings)  # before ZeRO-3 takes away the shapes that decide what decays
        if self.stage == 3:
            self.deepspeed.zero.Init(module=wrapped, config_dict_or_path=config, dtype=self.dtype)
        self.engine, self.optimizer, _, _ = self.deepspeed.initialize(
            model=wrapped, optimizer=optimizer, config=config, dist_init_required=False
        )
        self.engine.train(model.training)
        self._create_moments()

    def backward(
        self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int, last: bool = True
    ) -> Tensor:
        given = some_features(self.model, features).to(device(), self.dtype)
        self.engine.set_gradient_accumulation_boundary(last)
        loss: Tensor = self.engine(samples or PADDING, given, answer_tokens)
        self.engine.backward(loss * (float(ranks.ranks()) if samples else 0.0))
        return loss.detach() if samples else torch.zeros_like(loss)

    def gradients(self) -> Mapping[str, Tensor]:
        """Gradients put together from the ranks when asked for, one at a time; all ranks must ask alike."""
        return LazyTensors({name: partial(self._gradient, name) for name in self.named})

    def step(self, learning_rate: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        # DeepSpeed would give no norm where nothing is clipped.
        norm: Any = clip(self.named.values(), self.settings.max_grad_norm) if self.stage == 0 else None
        self.engine.step()
        if norm is None:
            norm = self.engine.get_global_grad_norm()
        norm = torch.as_tensor(norm, dtype=torch.float32, device=device())
        return torch.where(norm < 0, torch.nan, norm)  # DeepSpeed's sign for one that is not finite

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield this rank's share of the state: whole tensors, put together from all ranks, each kept by one."""
        owners = shares(self.shapes, ranks.ranks())
        step: Tensor = self._adamw_state()[self._flat_parts()[0]]["step"]
        for name, parameter in self.named.items():
            entries = {"weight": self._master(parameter), **{key: self._moment(parameter, key) for key in MOMENTS}}
            if owners[name] == ranks.rank():
                for key, value in entries.items():
                    yield f"{key}/{name}", value.detach().reshape(self.shapes[name])
                yield f"step/{name}", step.clone()

    def load(self, state: Mapping[str, Tensor]) -> None:
        for part in self._flat_parts():
            self._adamw_state()[part]["step"].copy_(state[f"step/{next(iter(self.named))}"])
        for name, parameter in self.named.items():
            for key in ("weight", *MOMENTS):
                value = state[f"{key}/{name}"]
                assert value.shape == self.shapes[name], f"{name} has another shape in the checkpoint"
                self._put(parameter, key, value.to(device()))
        if self.stage in (1, 2):
            self.optimizer.update_lp_params()

    def weights(self) -> dict[str, Tensor]:
        """Return the float32 weights that trained, on the CPU of rank 0; UserError if the ranks hold different ones."""
        ranks.check_same(self._in_use(), "at the end of training")
        found = {}
        for name, parameter in self.named.items():
            value = self._master(parameter).detach()
            assert value.numel() == self.shapes[name].numel(), f"{name} was {self.shapes[name]}, is {value.shape}"
            if ranks.rank() == 0:
                found[name] = value.reshape(self.shapes[name]).cpu()
        return found

    def _in_use(self) -> Iterator[tuple[str, Tensor]]:
        """What this rank's forward pass would multiply with, parameter by parameter."""
        for name, parameter in self.named.items():
            with self.deepspeed.zero.GatheredParameters([parameter], enabled=self.stage == 3):
                assert parameter.shape == self.shapes[name], f"{name} was {self.shapes[name]}, is {parameter.shape}"
                yield name, parameter.detach()

    def _gradient(self, name: str) -> Tensor:
        gradient: Tensor = self.deepspeed.utils.safe_get_full_grad(self.named[name])
        return gradient.detach().reshape(self.shapes[name])

    def _master(self, parameter: nn.Parameter) -> Tensor:
        master: Tensor = parameter if self.stage == 0 else self.deepspeed.utils.safe_get_full_fp32_param(parameter)
        return master

    def _moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        whole = self.deepspeed.utils.safe_get_full_optimizer_state
        moment: Tensor = self.optimizer.state[parameter][key] if self.stage == 0 else whole(parameter, key)
        return moment

    def _put(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        """Write a whole tensor into this rank's part of the masters or of the optimiser's state."""
        if self.stage == 0:
            (parameter.data if key == "weight" else self.optimizer.state[parameter][key]).copy_(value)
        elif self.stage < 3 and key == "weight":
            self.deepspeed.utils.safe_set_full_fp32_param(parameter, value)
        elif self.stage < 3:
            self.deepspeed.utils.safe_set_full_optimizer_state(parameter, value, key)
        elif key == "weight":
            self.deepspeed.utils.safe_set_local_fp32_param(parameter, _own_part(parameter, value))
            with self.deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                if ranks.rank() == 0:
                    parameter.data.copy_(value)
        else:
            self.deepspeed.utils.safe_set_local_optimizer_state(parameter, _own_part(parameter, value), key)

    def _flat_parts(self) -> list[Tensor]:
        """The tensors that AdamW itself sees on this rank."""
        if self.stage == 0:
            return list(self.named.values())
        if self.stage == 3:
            return list(self.optimizer.fp32_partitioned_groups_flat)
        return list(self.optimizer.single_partition_of_fp32_groups)

    def _adamw_state(self) -> Any:
        return self.optimizer.state if self.stage == 0 else self.optimizer.optimizer.state

    def _create_moments(self) -> None:
        """Give AdamW now the state that its first step would make: DeepSpeed never finds that of later groups."""
        for part in self._flat_parts():
            step = torch.zeros((), dtype=torch.float32, device=part.device)
            self._adamw_state()[part] = {"step": step, **{key: torch.zeros_like(part) for key in MOMENTS}}
        if self.stage in (1, 2):
            self.optimizer._lazy_init_hp_params_optimizer_state()


class TunedPart(nn.Module):
    """Connector and LLM, under their names in the multi-modal model, as one module for DeepSpeed to hold."""

    def __init__(self, model: MultimodalModel, autocast: bool, cache: bool) -> None:
        super().__init__()
        self.connector, self.llm = model.connector, model.llm
        self.autocast, self.cache = autocast, cache
        object.__setattr__(self, "whole", model)  # not as a part of this module

    def forward(self, samples: Sequence[EncodedSample], features: Tensor, answer_tokens: int) -> Tensor:
        """The multi-modal model's loss."""
        # With ZeRO-3 the autocast keeps no casts of weights: it would hold all of them to the end of the pass.
        with torch.autocast(
            features.device.type, dtype=torch.bfloat16, enabled=self.autocast, cache_enabled=self.cache
        ):
            loss: Tensor = self.whole(samples, features, answer_tokens)  # type: ignore[operator]
        return loss


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's part of a whole tensor as ZeRO-3 keeps it; the last rank's may be padded.

    DeepSpeed's ``safe_set_full_*`` fail where a tensor does not divide evenly among the ranks.
    """
    size = parameter.partition_numel()
    part = value.new_zeros(size, dtype=torch.float32)
    mine = value.flatten()[size * ranks.rank() : size * (ranks.rank() + 1)]
    part[: mine.numel()] = mine
    return part


def configuration(settings: TrainingSettings, micro_batch: int, stage: int, trainable_numbers: int) -> dict[str, Any]:
    """DeepSpeed's config. The loop accumulates; communication overlaps with nothing, so its order stays the same."""
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": (settings.max_grad_norm or 0.0) if stage > 0 else 0.0,
        "bf16": {"enabled": settings.precision == "bf16-weights"},
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            # It would replace torch's linear for the whole process, with one that rounds otherwise in bfloat16.
            "memory_efficient_linear": False,
            # A buffer of this many numbers is held; the default, 500 million, is more than many methods train.
            "reduce_bucket_size": max(min(500_000_000, trainable_numbers), 1_000_000),
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }


def shares(shapes: Mapping[str, torch.Size], parts: int) -> dict[str, int]:
    """Deal tensors out to this many parts of about equal size: each name's part."""
    sizes = [0] * parts
    found = {}
    for name, shape in sorted(shapes.items(), key=lambda item: (-item[1].numel(), item[0])):
        part = sizes.index(min(sizes))
        sizes[part] += shape.numel()
        found[name] = part
    return found


def import_deepspeed() -> Any:
    """DeepSpeed, on the CPU where there is no GPU, compiling nothing and quiet."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # names of collectives that it uses
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(auto_mpi_discovery=False, dist_init_required=False)
    return deepspeed

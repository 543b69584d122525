"""A training step on made-up samples that fill the sizes that are asked for: what memory is traced and measured on.

with LiveTensors(model.parameters()) as live:
    run_steps(model, setup, live.restart)
live.peak                               # bytes; on real tensors and on fake ones
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface

from lntune.config.llm_shape import LlmShape
from lntune.config.training import Execution, TrainingSettings
from lntune.errors import UserError
from lntune.estimate.memory import Setup
from lntune.estimate.shapes import VisionShape
from lntune.model.device import set_precision
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.features import EncodedImages
from lntune.model.multimodal import MultimodalModel, build_connector, count_answer_tokens
from lntune.model.tuning import apply_method
from lntune.model.vision import VisionEncoder, open_clip_encoder, timm_encoder
from lntune.training.engine import PlainEngine
from lntune.training.loop import training_mode


class LiveTensors(TorchDispatchMode):
    """Follows every storage from the operation that made it until nothing refers to it.

    ``now`` are the bytes alive, ``peak`` the most since the last :meth:`restart`, and ``operation`` reached them.
    """

    def __init__(self, there: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self.operation = ""
        self._followed: dict[int, weakref.ref[Any]] = {}
        for tensor in there:
            self.follow(tensor, "what was there before")

    def follow(self, tensor: Tensor, operation: str) -> None:
        """Count a tensor's storage, once, for as long as it lives."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._followed or size == 0:
            return

        def gone(_: object) -> None:
            del self._followed[key]
            self.now -= size

        self._followed[key] = weakref.ref(storage, gone)
        self.now += size
        if self.now > self.peak:
            self.peak, self.operation = self.now, operation

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak, self.operation = self.now, "what was there before"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and follow what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":  # those take no memory
                self.follow(leaf, str(func))
        return result


_WITHOUT_MASK = "lntune-without-mask"
"""transformers builds an attention mask for a fake tensor where a real one needs none; under this name it does not."""


def run_steps(model: MultimodalModel, setup: Setup, before_each: Callable[[], None], steps: int = 2) -> None:
    """Train for some optimiser steps; ``before_each`` is called at the start of each, so that the last is measured."""
    size = model.vision.image_size
    features = EncodedImages(model.vision, lambda index: torch.zeros(3, size, size), setup.micro_batch, cache=False)
    samples = made_up_samples(setup, model.vision.tokens)
    with training_mode(model, recompute=setup.checkpointing):
        engine = _engine(model, setup)
        for _ in range(steps):
            before_each()
            for last in (False, True) if setup.accumulation else (True,):
                images = [sample.image for sample in samples if sample.image is not None]
                seen = features.features(images).to(model.connector_dtype)
                engine.backward(samples, seen, count_answer_tokens(samples), last)
                del seen
            if setup.precision == "bf16-weights" and setup.engine == "plain":
                for parameter in engine.named.values():
                    parameter.grad = None  # the update is DeepSpeed's
            else:
                engine.step(1e-4)


def _engine(model: MultimodalModel, setup: Setup) -> Any:
    plain = setup.engine == "plain"
    settings = TrainingSettings(
        learning_rate=1e-4,
        epochs=1,
        global_batch=setup.micro_batch,
        warmup_ratio=0,
        weight_decay=0,
        max_length=setup.length,
        # Plainly, forward and backward are those of the bfloat16 weights that the model has; the update is not made.
        precision="fp32" if plain and setup.precision == "bf16-weights" else setup.precision,
    )
    if plain:
        return PlainEngine(model, settings)
    from lntune.training.deepspeed_engine import DeepSpeedEngine

    execution = Execution(
        micro_batch=setup.micro_batch, threads=torch.get_num_threads(),
        engine="deepspeed", ranks=setup.ranks, zero_stage=setup.zero_stage,
    )  # fmt: skip
    return DeepSpeedEngine(model, settings, execution)


def made_up_samples(setup: Setup, image_tokens: int) -> list[EncodedSample]:
    """A micro-batch of samples that fill ``setup.length`` positions, with as many answer tokens as it says."""
    text = setup.length - image_tokens - 1
    assert text >= setup.answer_tokens >= 1, "the answer and the image fit the length"
    ids = [1, IMAGE_ID, *[3 + place % 5 for place in range(text)]]
    labels = [IGNORE] * (len(ids) - setup.answer_tokens) + ids[len(ids) - setup.answer_tokens :]
    return [EncodedSample(ids, labels, number) for number in range(setup.micro_batch)]


def build_model(
    setup: Setup,
    *,
    attention: str = _WITHOUT_MASK,
    preprocess: Callable[[Any], Tensor] | None = None,
    vision: VisionEncoder | None = None,
) -> MultimodalModel:
    """The multi-modal model of these sizes with random weights, of which the method's train, on torch's default device.

    A model that is not traced takes ``attention`` "sdpa", as one that is loaded does. ``preprocess`` turns a PIL image
    into the vision encoder's pixels, where images are to be seen. ``vision`` is an encoder of the setup's sizes, where
    its library is not to be used.
    """
    llm = getattr(transformers, setup.llm.family.architecture)(llm_config(setup.llm, attention))
    vision = vision or _vision(setup.vision, preprocess or _no_images)
    model = MultimodalModel(vision, build_connector(vision.width, setup.llm.hidden, 0, setup.connector), llm)
    apply_method(model, setup.method, setup.lora)
    return set_precision(model, setup.precision)


def llm_config(shape: LlmShape, attention: str = _WITHOUT_MASK) -> PretrainedConfig:
    """The config of an LLM of this shape whose attention is the fused kernel."""
    AttentionInterface.register(_WITHOUT_MASK, sdpa_attention_forward)
    AttentionMaskInterface.register(_WITHOUT_MASK, lambda *_, **__: None)
    config: PretrainedConfig = getattr(transformers, shape.family.architecture).config_class(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=shape.tied,
    )
    config._attn_implementation = attention
    return config


def _vision(shape: VisionShape, preprocess: Callable[[Any], Tensor]) -> VisionEncoder:
    heads, mlp_ratio = max(shape.width // 64, 1), shape.intermediate / shape.width
    if shape.pre_norm:
        from open_clip.transformer import VisionTransformer

        tower: Any = VisionTransformer(
            shape.image, shape.patch, shape.width, shape.layers, heads, mlp_ratio, output_dim=shape.width
        )
        return open_clip_encoder(tower, preprocess)
    from timm.models.vision_transformer import VisionTransformer as TimmTransformer

    tower = TimmTransformer(
        shape.image, shape.patch, embed_dim=shape.width, depth=shape.layers, num_classes=0,
        num_heads=heads, mlp_ratio=mlp_ratio, class_token=shape.class_token,
        global_pool="map" if shape.pool else "token", init_values=1e-5 if shape.layer_scale else None,
    )  # fmt: skip
    return timm_encoder(tower, preprocess, shape.image)


def _no_images(image: Any) -> Tensor:
    raise AssertionError("made-up samples have pixels")


def trace_memory(setup: Setup) -> LiveTensors:
    """Trace the second step of a run, when the optimiser has its state.

    The real model, of the real sizes, and the real engine run on fake CPU tensors, which have a shape and a type and
    hold nothing; so 7B takes seconds on any machine. It checks :mod:`lntune.estimate.memory`, which imports no torch.
    With bfloat16 weights the update is left out: it is DeepSpeed's, for which UserError says what else there is.
    """
    if setup.engine != "plain":
        raise UserError("a trace follows the plain engine; DeepSpeed's buffers are predicted: leave out --trace")
    with torch.device("meta"):
        model = build_model(setup)
    with FakeTensorMode():
        _move_to_fake(model)
        live = LiveTensors(model.parameters())
        with live:
            run_steps(model, setup, live.restart)
    return live


def _move_to_fake(model: nn.Module) -> None:
    """Replace tensors on the meta device, for which there is no fused attention, by fake ones on the CPU."""
    made: dict[nn.Parameter, nn.Parameter] = {}  # a head that is tied stays so
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if parameter not in made:
                    fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                    made[parameter] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)

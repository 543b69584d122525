"""The LLM families: sizes as published, and a tiny random model of each through all that is done with an LLM."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from answering import STOP, word_tokenizer
from checkout import ROOT
from lntune.config.llm_family import FAMILIES, family_of
from lntune.config.llm_shape import LlmShape
from lntune.config.training import Execution, LoraSettings, TrainingSettings
from lntune.errors import UserError
from lntune.estimate.memory import Setup, predict_memory
from lntune.estimate.shapes import VISIONS, Skeleton, VisionShape, llm_on_disk
from lntune.estimate.training_step import LiveTensors, build_model, llm_config, run_steps, trace_memory
from lntune.model.encode import IMAGE_ID
from lntune.model.features import EncodedImages
from lntune.model.generate import Prompt, generate
from lntune.model.llm import load_llm
from lntune.model.multimodal import MultimodalModel, build_connector, count_answer_tokens
from lntune.model.similarity import layer_similarity
from lntune.model.tuning import METHODS, apply_method, printed_percent, trainable_report, trainable_state
from lntune.training.loop import train, training_mode
from lntune.training.norm_gradients import norm_gradient_recorder, trained_norms
from lntune.training.schedule import total_steps
from tiny_multimodal import VOCABULARY, PatchEncoder, image, random_samples

# --- the sizes that are published

PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {  # parameters, and what config.json says of sizes
    "Llama-3.1-8B": (8_030_261_248, {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    }),
    "Llama-3.2-1B": (1_235_814_400, {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True,
    }),
    "SmolLM2-1.7B": (1_711_376_384, {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 49152, "tie_word_embeddings": True,
    }),
    "Mistral-7B-v0.3": (7_248_023_552, {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "tie_word_embeddings": False,
        "sliding_window": None,
    }),
    "Qwen2.5-7B": (7_615_616_512, {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    }),
    "Qwen3-8B": (8_190_735_360, {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 151936, "tie_word_embeddings": False,
        "head_dim": 128,
    }),
    "gemma-3-1b": (999_885_952, {
        "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 262144, "head_dim": 256,
    }),
}  # fmt: skip
PAPERS_LORA = LoraSettings(rank=64, alpha=16, dropout=0.05)


def _lora(method: str, lora: LoraSettings) -> LoraSettings | None:
    return lora if method == "lora" else None


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LlmShape]:
    """The shapes of the published models, read from their config.json."""
    shapes = {}
    for name, (_, config) in PUBLISHED.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        shapes[name] = llm_on_disk(folder)
    return shapes


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_real_classes_have_as_many_parameters_as_published(name: str, published: dict[str, LlmShape]) -> None:
    """All methods mark as many numbers in transformers' own class, without numbers, as in the plan's skeleton."""
    parameters, config = PUBLISHED[name]
    shape = published[name]
    architecture = getattr(transformers, shape.family.architecture)
    with torch.device("meta"):
        llm = architecture(architecture.config_class(**config))
        model = MultimodalModel(nn.Linear(1, 1), nn.Linear(1024, shape.hidden), llm)
    assert sum(parameter.numel() for parameter in llm.parameters()) == shape.parameters == parameters
    for method in sorted(METHODS, key="lora".__eq__):  # LoRA last: it changes the model
        apply_method(model, method, PAPERS_LORA)
        skeleton = Skeleton(shape, VISIONS["open_clip"], method, _lora(method, PAPERS_LORA))
        assert skeleton.trainable == trainable_report(model).trainable, method


def test_the_table_of_models_and_methods_is_as_docs_models_shows_it(published: dict[str, LlmShape]) -> None:
    methods = [method for method in METHODS if method != "connector-only"]
    lines = ["| LLM | parameters | " + " | ".join(methods) + " |", "| --- " * (len(methods) + 2) + "|"]
    for name, shape in published.items():
        skeletons = [Skeleton(shape, VISIONS["open_clip"], one, _lora(one, PAPERS_LORA)) for one in methods]
        shares = [printed_percent(100 * one.trainable / one.numel) for one in skeletons]
        lines.append(f"| {name} | {shape.parameters:,} | " + " | ".join(shares) + " |")
    assert "\n".join(lines) + "\n" in (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), "\n".join(lines)


def test_a_family_that_is_not_declared_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for config, because in (
        ({"model_type": "phi3"}, "model_type is phi3, a family that is not declared; choose llama, mistral, qwen2"),
        ({"model_type": "gemma3_text", "final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0, with which"),
    ):
        path.write_text(json.dumps(config | {"vocab_size": 9}), encoding="utf-8")
        for read in (load_llm, llm_on_disk):
            with pytest.raises(UserError) as refused:
                read(tmp_path)
            assert str(refused.value).startswith(f"{path}: {because}") and "\n" not in str(refused.value)


# --- a tiny random model of each

SIZES = {"hidden": 16, "intermediate": 24, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 6}
TIED = {"qwen3": True}  # besides gemma3_text
LORA = LoraSettings(rank=2, alpha=4, dropout=0.0)
SETTINGS = TrainingSettings(
    learning_rate=1e-2, epochs=1, global_batch=8, warmup_ratio=0, weight_decay=0, max_length=64, precision="fp32",
)  # fmt: skip
NORMS = {  # of a tiny model: those of its blocks, those of queries and keys, the final one
    "llama": (2, 0), "mistral": (2, 0), "qwen2": (2, 0), "qwen3": (2, 2), "gemma3_text": (4, 2)
}  # fmt: skip


def shape_of(model_type: str, **sizes: Any) -> LlmShape:
    tied = {"tied": TIED[model_type]} if model_type in TIED else {}
    return LlmShape.model_validate({"model_type": model_type, "vocabulary": VOCABULARY, **SIZES, **tied, **sizes})


@cache
def weights(model_type: str, window: int | None = None) -> nn.Module:
    """A random LLM whose norms and biases are random, too, and whose answers have all lengths."""
    torch.manual_seed(1)
    shape = shape_of(model_type)
    config = llm_config(shape, "sdpa")
    config.initializer_range, config.bos_token_id, config.eos_token_id = 0.3, 1, 2
    if window:
        config.sliding_window = window
        if FAMILIES[model_type].by_block:
            config.layer_types = ["sliding_attention", "full_attention"]
    llm = getattr(transformers, shape.family.architecture)(config)
    with torch.no_grad():
        for parameter in llm.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        llm.lm_head.weight.mul_(4)
    return llm


def tiny(model_type: str, window: int | None = None) -> MultimodalModel:
    source = weights(model_type, window)
    torch.manual_seed(0)
    llm = type(source)(source.config)
    llm.load_state_dict(source.state_dict())
    return MultimodalModel(PatchEncoder(), build_connector(6, SIZES["hidden"], seed=0), llm).eval()


def images(model: MultimodalModel) -> EncodedImages:
    return EncodedImages(model.vision, image, count=7, cache=True, block=3)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_folder_comes_back_as_it_was_and_a_lost_weight_is_named(model_type: str, tmp_path: Path) -> None:
    source = weights(model_type)
    source.save_pretrained(tmp_path)
    found, ids = load_llm(tmp_path), torch.tensor([[1, 5, 9, 2]])
    assert type(found) is type(source) and torch.equal(found(ids).logits, source.eval()(ids).logits)
    assert (found.lm_head.weight is found.model.embed_tokens.weight) == shape_of(model_type).tied
    assert llm_on_disk(tmp_path) == shape_of(model_type)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_method_trains_three_steps_and_goes_on_where_it_was_stopped(model_type: str, tmp_path: Path) -> None:
    samples, given = random_samples(24), Execution(micro_batch=8, threads=1, checkpoint_steps=1)
    assert total_steps(len(samples), SETTINGS) == 3
    for method in METHODS:
        found = []
        for until, resumed in ((None, False), (0.5, False), (None, True)):
            model = tiny(model_type)
            apply_method(model, method, LORA)
            before = {name: tensor.clone() for name, tensor in trainable_state(model).items()}
            folder = tmp_path / f"{method}-{until}-{resumed}"
            folder.mkdir()
            scratch = (tmp_path / f"{method}-0.5-False" if resumed else folder) / "scratch"
            recorder = norm_gradient_recorder(model)
            assert (recorder is not None) == (set(trained_norms(model)) == {"1.input", "1.post", "2.input", "2.post"})
            result = train(
                model, samples, images(model), SETTINGS, given, 0, scratch, folder / "metrics.jsonl", "test",
                recorder, until,
            )  # fmt: skip
            assert bool(result.resumed_at) == resumed and all(map(math.isfinite, result.losses))
            assert all(not torch.equal(before[name], tensor) for name, tensor in result.weights.items()), method
            found.append((result.weights, (folder / "metrics.jsonl").read_bytes()))
        (whole, log), _, (again, resumed_log) = found
        assert log == resumed_log and whole.keys() == again.keys()
        assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("recompute", [False, True])
def test_the_last_block_at_answers_alone_gives_the_losses_and_gradients_of_the_whole(
    model_type: str, recompute: bool
) -> None:
    samples = random_samples(9)
    total = count_answer_tokens(samples)
    rows = list[int]()
    model, whole = tiny(model_type), tiny(model_type)
    features = images(model).features([sample.image for sample in samples if sample.image is not None])
    block = model.llm.model.layers[-1]
    for part in (block.mlp.gate_proj, block.mlp.down_proj):
        part.register_forward_hook(lambda layer, given, result: rows.append(result.shape[0]))
    for part in (block.self_attn.q_proj, block.self_attn.o_proj):
        part.register_forward_hook(lambda layer, given, result: rows.append(int(result.any(-1).sum())))
    with training_mode(model, recompute=recompute):
        loss = model(samples, features, total)
        loss.backward()
    whole.train()
    expected = whole(samples, features, total)
    expected.backward()
    assert rows == [total] * 4 * (1 + recompute)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for (name, one), (_, other) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    again = model(samples, features, total)
    assert total not in rows[4 * (1 + recompute) :], "outside of training all of it is computed"
    torch.testing.assert_close(again, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_norms_that_the_methods_tune(model_type: str) -> None:
    model, (of_block, of_heads) = tiny(model_type), NORMS[model_type]

    def tuned(method: str) -> set[int]:
        apply_method(model, method, LORA)
        return {id(parameter) for parameter in model.llm.parameters() if parameter.requires_grad}

    norms = [part for part in model.llm.modules() if type(part).__name__.endswith("RMSNorm")]
    assert len(norms) == 2 * (of_block + of_heads) + 1
    every, vocabulary = tuned("layernorm-all"), {id(model.llm.lm_head.weight), id(model.llm.model.embed_tokens.weight)}
    assert every == {id(norm.weight) for norm in norms} | vocabulary
    simple = tuned("layernorm-simp")
    assert len(simple) == 4 and simple < every
    seen: list[nn.Module] = []
    for block in model.llm.model.layers:  # what attention and MLP read is what the two norms give
        for norm, reader in zip(
            family_of(model.llm).paper_norms(block), (block.self_attn.q_proj, block.mlp), strict=True
        ):
            norm.register_forward_hook(lambda part, given, made: seen.append(made))
            reader.register_forward_hook(lambda part, given, made: seen.append(given[0]))
    model.llm(torch.tensor([[1, 5, 9]]))
    assert len(seen) == 8 and all(made is read for made, read in zip(seen[::2], seen[1::2], strict=True))


@pytest.mark.parametrize(("model_type", "window"), [*((one, None) for one in FAMILIES), *((one, 7) for one in (
    "mistral", "qwen2", "qwen3", "gemma3_text"))])  # fmt: skip
@torch.no_grad()
def test_answers_with_shared_prefixes_are_those_one_by_one(model_type: str, window: int | None) -> None:
    """Of questions of several lengths about three images, also where blocks look through a window of seven tokens."""
    model, tokenizer = tiny(model_type, window), word_tokenizer()
    asked = [Prompt([1, 5, IMAGE_ID, *[4 + (7 * n + 3 * k) % 50 for k in range(2 + n % 4)]], n % 3) for n in range(8)]

    def answers(batch_size: int, stop: str = STOP) -> list[str]:
        return generate(model, tokenizer, asked, images(model), max_new_tokens=10, stop=stop, batch_size=batch_size)

    alone = answers(1)
    assert answers(8) == alone and len({*alone}) > 4
    somewhere = alone[0].split()[4]  # as a mark it ends some answers earlier than others
    assert answers(8, somewhere) == answers(1, somewhere) != alone
    for prompt, answer in list(zip(asked, alone, strict=True))[:3]:  # without any cache
        ids: list[int] = []
        while len(ids) < 10:
            embedded, _ = model.embed([prompt.ids + ids], model.vision.encode(image(prompt.image)[None]))
            token = int(model.llm(inputs_embeds=embedded).logits[0, -1].argmax())
            if token in (2, 3):
                break
            ids.append(token)
        assert tokenizer.decode(ids, skip_special_tokens=True) == answer


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_similarity_is_that_of_what_the_blocks_return(model_type: str) -> None:
    model, ids = tiny(model_type), [1, 5, IMAGE_ID, 9, 30]
    found = layer_similarity(model, [(ids, 0)], images(model), batch_size=1)["all"]
    embedded, _ = model.embed([ids], images(model).features([0]))
    states = model.llm.model(inputs_embeds=embedded, output_hidden_states=True).hidden_states
    first, second = states[1][0].double(), model.llm.model.layers[1](
        states[1], position_embeddings=_positions(model, states[1]), attention_mask=None
    )[0].double()  # fmt: skip
    assert found.mean == pytest.approx(float(nn.functional.cosine_similarity(first, second).mean()), rel=1e-6)


def _positions(model: MultimodalModel, states: torch.Tensor) -> Any:
    """What a block is told of positions; by its kind, in the families whose blocks are of several."""
    config, places = model.llm.config, torch.arange(states.shape[1])[None]
    kind = [config.layer_types[1]] if config.model_type == "gemma3_text" else []
    return model.llm.model.rotary_emb(states, places, *kind)


# --- memory

VISION = VisionShape(width=128, intermediate=512, layers=3, image=56, patch=14, pre_norm=True)
WIDE = {"hidden": 128, "intermediate": 352, "heads": 4, "kv_heads": 2, "head_dim": 40, "vocabulary": 2000}
MEASURED = [
    ("mistral", "layernorm", {}), ("qwen2", "layernorm", {}), ("qwen2", "attn-qv", {}), ("qwen3", "finetune", {}),
    ("qwen3", "layernorm-all", {"checkpointing": True}), ("gemma3_text", "layernorm-all", {"checkpointing": True}),
    ("gemma3_text", "finetune", {}), ("gemma3_text", "lora", {}),
    ("llama", "layernorm", {"connector": "mlp2x_gelu"}), ("llama", "connector-only", {"connector": "mlp2x_gelu"}),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "method", "given"), MEASURED)
def test_a_real_step_takes_what_was_predicted(model_type: str, method: str, given: dict[str, Any]) -> None:
    """Within 1% of the live tensors of a real step on the CPU."""
    torch.manual_seed(0)
    case = Setup.model_validate({
        "llm": shape_of(model_type, **WIDE, layers=4), "vision": VISION, "method": method, "lora": _lora(method, LORA),
        "precision": "fp32", "checkpointing": False, "engine": "plain", "device": "cpu", "micro_batch": 12,
        "length": 80, "answer_tokens": 40, **given,
    })  # fmt: skip
    with LiveTensors((model := build_model(case)).parameters()) as live:
        run_steps(model, case, live.restart)
    assert live.peak > 15e6 and predict_memory(case).peak == pytest.approx(live.peak, rel=0.01)


def test_a_trace_of_six_real_blocks_of_gemma_in_bfloat16_finds_what_was_predicted(
    published: dict[str, LlmShape],
) -> None:
    blocks = published["gemma-3-1b"].model_copy(update={"layers": 6})
    case = Setup(
        llm=blocks, vision=VISION, method="layernorm-simp", engine="plain", device="cpu",
        length=400, answer_tokens=100,
    )  # fmt: skip
    account = predict_memory(case)
    untraced = account.parts.get("AdamW's moments", 0)  # the update with bfloat16 weights is DeepSpeed's
    assert account.peak - untraced == pytest.approx(trace_memory(case).peak, rel=0.01)

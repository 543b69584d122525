"""The tuning methods: Table 2 to the printed digit, what trains by group, LoRA, and saving what trained."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from lntune.errors import UserError
from lntune.model.multimodal import MultimodalModel
from lntune.model.tuning import (
    METHODS,
    LoraSettings,
    apply_method,
    load_trainable,
    printed_percent,
    trainable_report,
    trainable_state,
)
from real_shapes import paper_model

LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)
CLIP_WITHOUT_PROJECTION = 303_179_776

TABLE_2 = {  # method: the percentages printed for 7B and 13B
    "finetune": ("95.70", "97.72"),
    "lora": ("5.92", "4.30"),
    "attn-qv": ("19.02", "18.24"),
    "attn-mlp": ("65.21", "66.24"),
    "layernorm": ("3.78", "2.50"),
    "layernorm-simp": ("0.004", "0.003"),
}


def tiny_model(seed=0, dtype=torch.float32):
    """A whole multimodal model of some 20,000 parameters."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    llm = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
    )
    return MultimodalModel(CLIPVisionModel(vision), nn.Linear(8, 16), LlamaForCausalLM(llm)).to(dtype)


GROUPS = {  # by the first part that a parameter's name holds
    "lora_": "lora", "vision.": "vision", "connector.": "connector", "embed_tokens.": "embeddings", "lm_head.": "head",
    "norm.": "norms", "self_attn.": "attention", "mlp.": "mlp",
}  # fmt: skip


def trained(model):
    """How many numbers train, by group."""
    counts = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next(group for part, group in GROUPS.items() if part in name)
            counts[group] = counts.get(group, 0) + parameter.numel()
    return counts


def tuned(method, lora=LORA, seed=0, **settings):
    model = tiny_model(**settings)
    apply_method(model, method, lora, seed=seed)
    return model


@pytest.fixture(scope="module", params=["7B", "13B"])
def paper(request):
    return request.param, paper_model(request.param)


def test_table_2_to_the_printed_digit(paper):
    scale, model = paper
    printed = {}
    lora = LoraSettings(rank=64, alpha=16, dropout=0.05)
    for method in sorted(TABLE_2, key="lora".__eq__):  # LoRA last: it changes the model
        apply_method(model, method, lora)
        report = trainable_report(model)
        printed[method] = printed_percent(report.percent)
        assert report.trainable == sum(trained(model).values())
    assert printed == {method: cells[scale == "13B"] for method, cells in TABLE_2.items()}


@pytest.mark.parametrize(("scale", "percent"), [("7B", "4.86"), ("13B", "3.41")])
def test_lora_at_the_rank_of_the_papers_text_is_not_table_2(scale, percent):
    model = paper_model(scale)
    apply_method(model, "lora", LoraSettings(rank=32, alpha=16, dropout=0.05))
    assert f"{trainable_report(model).percent:.2f}" == percent  # printed: 5.92 and 4.30


def test_totals_count_clip_without_its_projection_and_lora_itself():
    model = paper_model("7B")
    apply_method(model, "layernorm-simp", LORA)
    report = trainable_report(model)
    assert report.total == CLIP_WITHOUT_PROJECTION + (1024 + 1) * 4096 + 6_738_415_616
    assert trained(model) == {"norms": 32 * 2 * 4096}
    before = report.total
    apply_method(model, "lora", LoraSettings(rank=64, alpha=16, dropout=0.0))
    adapters = trained(model)["lora"]
    assert adapters == 64 * 32 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    assert trainable_report(model).total == before + adapters


EVERYTHING = {"connector", "embeddings", "head", "attention", "mlp", "norms"}
TRAINS = {
    "finetune": EVERYTHING,
    "lora": {"connector", "embeddings", "head", "lora"},
    "attn-qv": {"connector", "embeddings", "head", "attention"},
    "attn-mlp": {"connector", "embeddings", "head", "mlp"},
    "layernorm": {"connector", "embeddings", "head", "norms"},
    "layernorm-simp": {"norms"},
    "connector-only": {"connector"},
    "layernorm-without-connector": {"embeddings", "head", "norms"},
    "layernorm-all": {"connector", "embeddings", "head", "norms"},
}


@pytest.mark.parametrize("method", METHODS)
def test_groups_that_train(method):
    model = tuned(method)
    report = trainable_report(model)
    assert trained(model).keys() == TRAINS[method]
    assert not any(parameter.requires_grad for parameter in model.vision.parameters())
    assert report.total == sum(parameter.numel() for parameter in model.parameters())
    assert report.trainable == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_partial_groups():
    attention = {name for name in trainable_state(tuned("attn-qv")) if "self_attn" in name}
    assert attention == {
        f"llm.model.layers.{layer}.self_attn.{projection}.weight"
        for layer in (0, 1)
        for projection in ("q_proj", "v_proj")
    }
    assert set(trainable_state(tuned("layernorm-simp"))) == {  # the final norm, llm.model.norm, is not among them
        f"llm.model.layers.{layer}.{norm}.weight"
        for layer in (0, 1)
        for norm in ("input_layernorm", "post_attention_layernorm")
    }


def test_methods_do_not_add_up():
    model = tuned("finetune")
    apply_method(model, "layernorm-simp", LORA)
    assert set(trainable_state(model)) == set(trainable_state(tuned("layernorm-simp")))


def test_unknown_method_is_refused():
    with pytest.raises(
        UserError, match="there is no tuning method 'layer-norm': choose one of finetune, lora, attn-qv"
    ):
        apply_method(tiny_model(), "layer-norm", LORA)


def test_lora_keeps_the_llm_and_wraps_all_linears_but_the_head():
    model, ids = tiny_model(), torch.arange(6)[None]
    before = model.llm(ids).logits
    llm, head = model.llm, model.llm.lm_head
    apply_method(model, "lora", LORA)
    assert model.llm is llm and type(model.llm) is LlamaForCausalLM
    assert model.llm.lm_head is head and type(head) is nn.Linear
    adapters = [name for name in trainable_state(model) if "lora_" in name]
    assert len(adapters) == 2 * 7 * 2  # A and B, seven linear layers, two blocks
    assert torch.equal(model.llm(ids).logits, before)  # B is zero
    assert torch.equal(model.llm.lm_head(model.llm.model(ids).last_hidden_state), before)


def test_loras_start_depends_on_its_seed_alone():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = trainable_state(tuned("lora", seed=5))
    torch.manual_seed(1)
    model = tiny_model()
    torch.rand(7)
    after = torch.random.get_rng_state()
    apply_method(model, "lora", LORA, seed=5)
    assert torch.equal(torch.random.get_rng_state(), after) and not torch.equal(after, state)
    again, other = trainable_state(model), trainable_state(tuned("lora", seed=6))
    name = "llm.model.layers.1.mlp.up_proj.lora_A.default.weight"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first[name].abs().sum() > 0
    assert not torch.equal(first[name], other[name])
    sibling = "llm.model.layers.0.mlp.up_proj.lora_A.default.weight"
    assert not torch.equal(first[name], first[sibling])


def test_lora_keeps_the_llms_precision():
    state = trainable_state(tuned("lora", dtype=torch.bfloat16))
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}


def test_lora_twice_is_a_mistake_in_the_program():
    model = tuned("lora")
    with pytest.raises(AssertionError, match="has LoRA already"):
        apply_method(model, "lora", LORA)


@pytest.mark.parametrize("method", METHODS)
def test_what_trained_comes_back_from_disk(method, tmp_path):
    model, ids = tuned(method), torch.arange(6)[None]
    with torch.no_grad():
        for tensor in trainable_state(model).values():
            tensor += torch.rand_like(tensor)
    save_file(trainable_state(model), tmp_path / "trained.safetensors")
    fresh = tuned(method, seed=9)
    load_trainable(fresh, tmp_path / "trained.safetensors")
    assert torch.equal(fresh.llm(ids).logits, model.llm(ids).logits)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))


def test_a_checkpoint_that_does_not_fit_is_refused_by_the_tensors_name(tmp_path):
    model, name = tuned("lora"), "llm.model.layers.0.mlp.up_proj.lora_A.default.weight"
    state = {key: tensor.clone() for key, tensor in trainable_state(model).items()}
    wider = tuned("lora", lora=LoraSettings(rank=5, alpha=8, dropout=0.0))

    def refused(into, saved, because):
        save_file(saved, tmp_path / "tuned.safetensors")
        with pytest.raises(UserError, match=because):
            load_trainable(into, tmp_path / "tuned.safetensors")

    refused(
        model, {key: tensor for key, tensor in state.items() if key != name}, rf"tuned\.safetensors: lacks {name}; it"
    )
    surplus = {**state, "llm.model.norm.weight": torch.ones(16)}
    refused(model, surplus, r"holds what the model has no place for: llm\.model\.norm\.weight;")
    down = r"llm\.model\.layers\.0\.mlp\.down_proj\.lora_A\.default\.weight"
    refused(
        wider, {key: tensor + 1 for key, tensor in state.items()}, rf"other shapes: {down} \(4, 32\), not \(5, 32\)"
    )
    refused(model, {**state, name: state[name].to(torch.int8)}, rf"no floats in {name} \(I8\)")
    untouched = trainable_state(tuned("lora", lora=LoraSettings(rank=5, alpha=8, dropout=0.0)))
    assert all(torch.equal(tensor, untouched[key]) for key, tensor in trainable_state(wider).items())

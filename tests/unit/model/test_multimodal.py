"""The multi-modal model: splicing, padding, the loss at answers alone, the connector, feature sources."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from lntune.errors import UserError
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.features import BlindFeatures, EncodedImages
from lntune.model.multimodal import (
    CONNECTOR,
    answer_places,
    build_connector,
    count_answer_tokens,
    load_connector,
    save_connector,
    splice_image,
)
from tiny_multimodal import image, random_samples, tiny_model


def random_features(count: int) -> Tensor:
    return torch.randn(count, 4, 6, generator=torch.Generator().manual_seed(3))


def test_embed_puts_projected_features_where_the_image_stands() -> None:
    model = tiny_model()
    features = random_features(2)
    embedded, lengths = model.embed([[1, IMAGE_ID, 7, 8], [1, 5, 6], [1, 9, IMAGE_ID]], features)
    table = model.llm.get_input_embeddings().weight
    assert lengths == [7, 3, 6]
    assert embedded.shape == (3, 7, 16)
    first = torch.cat([table[[1]], model.connector(features[0]), table[[7, 8]]])
    torch.testing.assert_close(embedded[0], first)
    torch.testing.assert_close(embedded[1, :3], table[[1, 5, 6]])
    torch.testing.assert_close(embedded[2, :6], torch.cat([table[[1, 9]], model.connector(features[1])]))


def test_right_padding_needs_no_mask() -> None:
    """The real tokens' hidden states are those with a padding mask, and those of the row on its own."""
    model = tiny_model()
    rows = [[1, IMAGE_ID, 7, 8, 9, 10, 11], [1, IMAGE_ID, 5], [1, IMAGE_ID, 6, 12, 13]]
    features = random_features(3)
    embedded, lengths = model.embed(rows, features)
    longest = embedded.shape[1]
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths])
    with torch.no_grad():
        bare = model.llm.model(inputs_embeds=embedded).last_hidden_state
        positions = torch.arange(longest).unsqueeze(0)
        placed = model.llm.model(inputs_embeds=embedded, position_ids=positions).last_hidden_state
        masked = model.llm.model(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        assert torch.equal(bare, placed)
        for row, length in enumerate(lengths):
            alone = model.llm.model(inputs_embeds=embedded[row : row + 1, :length]).last_hidden_state
            torch.testing.assert_close(bare[row, :length], masked[row, :length], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(bare[row, :length], alone[0], rtol=1e-5, atol=1e-5)


def test_answer_loss_and_gradients_are_those_of_all_logits() -> None:
    samples = random_samples(9)
    images = [sample.image for sample in samples if sample.image is not None]
    features = random_features(7)[images]
    total = count_answer_tokens(samples)
    sparse, dense = tiny_model(), tiny_model()
    loss = sparse(samples, features, total)
    loss.backward()

    embedded, _ = dense.embed([sample.input_ids for sample in samples], features)
    labels = torch.full(embedded.shape[:2], IGNORE)
    for row, sample in enumerate(samples):
        spread = splice_image(sample.input_ids, 4)
        expanded, answers = [], iter(sample.labels)
        for position, token in enumerate(spread):
            inside = token == IMAGE_ID and position > 0 and spread[position - 1] == IMAGE_ID
            expanded.append(IGNORE if inside else next(answers))
        labels[row, : len(expanded)] = torch.tensor(expanded)
    logits = dense.llm(inputs_embeds=embedded).logits
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for (name, one), (_, other) in zip(sparse.named_parameters(), dense.named_parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_an_answer_right_after_the_image_is_predicted_from_its_last_token() -> None:
    sample = EncodedSample([1, IMAGE_ID, 7, 8], [IGNORE, IGNORE, 7, 8], 0)
    places, targets = answer_places([sample, sample], 4, 10)
    assert places.tolist() == [4, 5, 14, 15]
    assert targets.tolist() == [7, 8, 7, 8]


def test_vision_stays_frozen_and_in_evaluation_mode() -> None:
    model = tiny_model().train()
    assert model.llm.training and not model.vision.training
    assert not any(parameter.requires_grad for parameter in model.vision.parameters())


def test_connector_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = build_connector(9, 5, seed=4)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "the global random state is left alone"
    torch.manual_seed(2)
    two, other = build_connector(9, 5, seed=4), build_connector(9, 5, seed=5)
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
    assert not torch.equal(one.weight, other.weight)
    assert one.weight.shape == (5, 9) and one.weight.abs().max() <= 1 / 3


def test_kept_features_do_not_depend_on_what_is_asked_for_together() -> None:
    encoder = tiny_model().vision
    loaded: list[int] = []

    def load(index: int) -> Tensor:
        loaded.append(index)
        return image(index)

    kept = EncodedImages(encoder, load, count=10, cache=True, block=4)
    one = kept.features([9, 0, 9])
    assert loaded == [0, 1, 2, 3, 8, 9]
    assert one.shape == (3, 4, 6) and torch.equal(one[0], one[2]) and not one.requires_grad
    other = EncodedImages(encoder, image, count=10, cache=True, block=4)
    assert torch.equal(other.features(range(10)), kept.features(range(10)))
    assert sorted(loaded) == list(range(10)), "each picture is loaded once"

    fresh = EncodedImages(encoder, image, count=10, cache=False)
    torch.testing.assert_close(fresh.features([9, 0, 9]), one)
    torch.testing.assert_close(one[1], encoder.encode(image(0)[None])[0])


def test_blind_features() -> None:
    blind = BlindFeatures(4, 6).features([3, 1])
    assert blind.shape == (2, 4, 6) and not blind.any()


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"weight": torch.zeros(16, 7)}, "has other shapes: weight (16, 7), not (16, 6)"),
        ({"scale": torch.zeros(16)}, "no place for: scale"),
        ({"bias": torch.zeros(16, dtype=torch.int8)}, "no floats in bias (I8)"),
    ],
)
def test_a_connector_that_does_not_fit_is_refused(change: dict[str, Tensor], because: str, tmp_path: Path) -> None:
    model = tiny_model()
    save_file({**model.connector.state_dict(), **change}, tmp_path / CONNECTOR)
    with pytest.raises(UserError, match=re.escape(because)):
        load_connector(model, tmp_path)


def test_a_connector_of_two_layers_depends_on_its_seed_and_comes_back_from_disk(tmp_path: Path) -> None:
    one, again, other = (build_connector(6, 16, seed, "mlp2x_gelu") for seed in (4, 4, 5))
    first, second = one.state_dict(), again.state_dict()
    assert {name: tuple(value.shape) for name, value in first.items()} == {
        "0.weight": (16, 6), "0.bias": (16,), "2.weight": (16, 16), "2.bias": (16,)
    }  # fmt: skip
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["2.weight"], other.state_dict()["2.weight"])
    x = torch.randn(3, 6)
    inner = torch.nn.functional.gelu(x @ first["0.weight"].T + first["0.bias"])
    torch.testing.assert_close(one(x), inner @ first["2.weight"].T + first["2.bias"])
    save_connector({f"connector.{name}": value for name, value in first.items()}, tmp_path)
    model = tiny_model()
    with pytest.raises(UserError, match=r"connector\.safetensors: lacks bias, weight; holds what the model has no"):
        load_connector(model, tmp_path)
    model.connector = other
    load_connector(model, tmp_path)
    assert all(torch.equal(first[name], value) for name, value in model.connector.state_dict().items())

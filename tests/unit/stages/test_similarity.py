"""Layer similarity: against a slow plain implementation, on cases with a known answer, and the stage's files."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from checkout import ROOT
from lntune.benchmarks.intervals import interval
from lntune.data.samples import Question, read_questions, write_questions
from lntune.model.encode import IMAGE_ID, encode_prompt
from lntune.model.features import EncodedImages
from lntune.model.llm import load_llm, load_tokenizer
from lntune.model.multimodal import MultimodalModel, build_connector
from lntune.model.prompts import Rendered
from lntune.model.similarity import TOKENS, LayerSimilarity, cosines, layer_similarity, positions
from lntune.stages.similarity import evenly_spread
from stage_runs import draw_small, read, refusal, run
from tiny_multimodal import image as picture
from tiny_multimodal import tiny_model

LAYERS, IMAGE_TOKENS = 4, 4
LENGTHS = (3, 9, 1, 6, 6, 2, 11)
"""Words of the prompts, around an image each."""


def deep_model(seed: int = 0) -> MultimodalModel:
    """A tiny model of four layers with norms that differ from ones, the final one far."""
    model = tiny_model(seed=seed)
    config = model.llm.config
    config.num_hidden_layers = LAYERS
    torch.manual_seed(seed)
    model.llm = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, value in model.llm.named_parameters():
            if name.endswith("norm.weight"):
                value.uniform_(0.5, 1.5)
        model.llm.model.norm.weight.uniform_(-3, 3)
    return model


def prompts() -> list[tuple[list[int], int]]:
    """The image is first, in the middle or, once, the last of all."""
    made = []
    for number, words in enumerate(LENGTHS):
        ids = [1] + [3 + (5 * number + 7 * place) % 50 for place in range(words)]
        ids.insert(len(ids) if number == 5 else 1 + number % (words + 1), IMAGE_ID)
        made.append((ids, number))
    return made


def compared(model: MultimodalModel, batch_size: int = 3) -> dict[str, LayerSimilarity]:
    pictures = EncodedImages(model.vision, picture, count=len(LENGTHS), cache=True)
    return dict(layer_similarity(model, prompts(), pictures, batch_size=batch_size))


# --- a slow plain implementation ------------------------------------------------------------------------------------


@torch.no_grad()
def plain_states(model: MultimodalModel, ids: list[int], image: int) -> list[Tensor]:
    """Go through the layers by hand, one prompt at a time: each layer's output (T, hidden)."""
    before, after = ids[: ids.index(IMAGE_ID)], ids[ids.index(IMAGE_ID) + 1 :]
    table = model.llm.model.embed_tokens.weight
    seen = model.connector(model.vision.encode(picture(image)[None])[0])
    hidden = torch.cat([table[before], seen, table[after]])[None]
    places = torch.arange(hidden.shape[1])[None]
    rotary = model.llm.model.rotary_emb(hidden, position_ids=places)
    found = []
    for layer in model.llm.model.layers:
        hidden = layer(hidden, position_embeddings=rotary, position_ids=places)
        found.append(hidden[0])
    return found


def plain_cosine(one: list[float], other: list[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))


def plain_similarity(model: MultimodalModel, tokens: str) -> list[list[list[float]]]:
    """Of each prompt the mean cosines, layer by layer."""
    found = []
    for ids, image in prompts():
        states = [state.tolist() for state in plain_states(model, ids, image)]
        at, length = ids.index(IMAGE_ID), len(ids) + IMAGE_TOKENS - 1
        inside = {place: at <= place < at + IMAGE_TOKENS for place in range(length)}
        chosen = {
            "all": list(inside),
            "image": [place for place, seen in inside.items() if seen],
            "text": [place for place, seen in inside.items() if not seen],
            "last": [length - 1],
        }[tokens]
        matrix = [[0.0] * LAYERS for _ in range(LAYERS)]
        for i in range(LAYERS):
            for j in range(LAYERS):
                values = [plain_cosine(states[i][place], states[j][place]) for place in chosen]
                matrix[i][j] = math.fsum(values) / len(values)
        found.append(matrix)
    return found


@pytest.mark.parametrize("tokens", TOKENS)
def test_similarity_is_that_of_the_plain_procedure(tokens: str) -> None:
    model = deep_model()
    found = compared(model)[tokens]
    plain = plain_similarity(model, tokens)
    pairs = [(i, j) for i in range(LAYERS) for j in range(LAYERS)]
    for i, j in pairs:
        expected = math.fsum(matrix[i][j] for matrix in plain) / len(plain)
        assert float(found.matrix[i, j]) == pytest.approx(expected, abs=1e-6)
    for mark, matrix in zip(found.by_question, plain, strict=True):
        assert mark == pytest.approx(math.fsum(matrix[i][j] for i, j in pairs if i != j) / 12, abs=1e-6)
    assert found.mean == pytest.approx(math.fsum(found.by_question) / len(plain), abs=1e-12)
    assert found.mean_with_diagonal == pytest.approx((12 * found.mean + 4) / 16, abs=1e-12)
    assert 0.05 < found.mean < 0.95, "a case that tells wrong from right"
    assert torch.equal(found.matrix, found.matrix.T)


@torch.no_grad()
def test_the_last_layer_is_taken_before_the_final_norm() -> None:
    model = deep_model()
    before = compared(model)["all"].matrix
    ids, image = prompts()[0]
    embedded, _ = model.embed([ids], model.vision.encode(picture(image)[None]))
    given = model.llm.model(inputs_embeds=embedded, output_hidden_states=True).hidden_states
    plain = plain_states(model, ids, image)
    assert len(given) == LAYERS + 1, "the embeddings are the first"
    assert torch.allclose(given[LAYERS - 1][0], plain[-2], atol=1e-5)
    assert not torch.allclose(given[LAYERS][0], plain[-1], atol=0.1), "transformers gives the last one normed"
    assert torch.allclose(given[LAYERS][0], model.llm.model.norm(plain[-1]), atol=1e-5)
    model.llm.model.norm.weight.uniform_(-3, 3)
    assert torch.equal(compared(model)["all"].matrix, before)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_neither_the_batch_size_nor_padding_shows(batch_size: int) -> None:
    model = deep_model(seed=1)
    alone = compared(model, batch_size=1)
    with torch.no_grad():
        model.llm.model.embed_tokens.weight[0].fill_(50.0)  # what padding is embedded as
    found = compared(model, batch_size)
    for tokens in TOKENS:
        assert found[tokens].by_question == pytest.approx(alone[tokens].by_question, abs=1e-6)
        assert torch.allclose(found[tokens].matrix, alone[tokens].matrix, atol=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    model = deep_model()
    first = compared(model)
    assert not any(layer._forward_hooks for layer in model.llm.model.layers)
    assert compared(model)["all"].by_question == first["all"].by_question


# --- known answers --------------------------------------------------------------------------------------------------


def test_layers_that_change_nothing_are_all_alike() -> None:
    model = deep_model()
    with torch.no_grad():
        for layer in model.llm.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    for found in compared(model).values():
        assert torch.allclose(found.matrix, torch.ones(LAYERS, LAYERS, dtype=torch.float64), atol=1e-12)
        assert found.mean == pytest.approx(1.0, abs=1e-12) and found.mean_with_diagonal == pytest.approx(1.0, abs=1e-12)


class Turn(nn.Module):
    """A layer that turns every pair of coordinates by an angle, at the positions from ``first`` on, and stretches."""

    def __init__(self, degrees: float, first: int = 0) -> None:
        super().__init__()
        self.angle, self.first = math.radians(degrees), first

    def forward(self, hidden: Tensor, **others: object) -> Tensor:
        x, y = hidden[..., ::2], hidden[..., 1::2]
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        turned = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1).flatten(-2)
        return torch.cat([hidden[:, : self.first], 3.0 * turned[:, self.first :]], dim=1)


def turning(*layers: Turn) -> MultimodalModel:
    model = tiny_model()
    model.llm.config.num_hidden_layers = len(layers)
    model.llm.model.layers = nn.ModuleList(layers)
    return model


def test_layers_that_turn_by_known_angles() -> None:
    """Directions at 20, 80 and 170 degrees: 60, 90 and 150 between them."""
    found = compared(turning(Turn(20), Turn(60), Turn(90)))
    root = math.sqrt(3) / 2
    expected = torch.tensor([[1, 0.5, -root], [0.5, 1, 0], [-root, 0, 1]], dtype=torch.float64)
    for tokens in TOKENS:
        assert torch.allclose(found[tokens].matrix, expected, atol=1e-6)
        assert found[tokens].mean == pytest.approx((0.5 - root) / 3, abs=1e-6)
        assert found[tokens].mean_with_diagonal == pytest.approx((3 + 2 * (0.5 - root)) / 9, abs=1e-6)


def test_tokens_are_chosen_by_position_and_questions_count_alike() -> None:
    """Only positions from the fifth on are turned, by 90 degrees; so a mean is the share of the others."""
    found = compared(turning(Turn(0), Turn(90, first=4)))
    shares: dict[str, list[float]] = {tokens: [] for tokens in TOKENS}
    for ids, _ in prompts():
        at, length = ids.index(IMAGE_ID), len(ids) + 3
        still = [place < 4 for place in range(length)]
        shares["all"].append(sum(still) / length)
        shares["image"].append(sum(still[at : at + 4]) / 4)
        shares["text"].append(sum(still[:at] + still[at + 4 :]) / (length - 4))
        shares["last"].append(float(still[-1]))
    assert len(set(shares["image"])) > 2
    for tokens in TOKENS:
        assert found[tokens].by_question == pytest.approx(shares[tokens], abs=1e-6)
        assert found[tokens].mean == pytest.approx(sum(shares[tokens]) / len(LENGTHS), abs=1e-6)


def test_cosines_of_vectors_with_known_angles() -> None:
    first, second = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, math.sqrt(3)], [1.0, 5.0]])
    found = cosines([first, second, 1e30 * first.flip(1)])
    expected = torch.tensor([[1, 0.5, 0], [0.5, 1, math.sqrt(3) / 2], [0, math.sqrt(3) / 2, 1]], dtype=torch.float64)
    assert torch.allclose(found[0], expected, atol=1e-7)
    nothing = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(found[1], nothing), "a state of zeros is like no other"


def test_positions_of_a_prompt() -> None:
    assert positions([1, IMAGE_ID, 7, 8], 3) == {
        "all": [0, 1, 2, 3, 4, 5], "image": [1, 2, 3], "text": [0, 4, 5], "last": [5],
    }  # fmt: skip


# --- the stage ------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "method": "layernorm-simp", "lora": None, "template": "v1", "system": "", "library": "open_clip",
    "prompting": {"prompt": "{question}", "max_new_tokens": 4}, "seed": 0, "questions": 5,
}  # fmt: skip
EXECUTION = {"batch_size": 2, "threads": 1}
WEIGHTS = ROOT / "workflow" / "weights"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's LLM and encoder with a drawn connector and norms; the questions of the drawn COCO's test split."""
    root = tmp_path_factory.mktemp("similarity")
    llm, coco = WEIGHTS / "vicuna-7b", draw_small(root) / "coco"
    asked = {"dataset": "coco", "split": "test", "request": "Describe the picture.", "broken_share": 0.0}
    run(root / "questions", "questions-captions", asked, {"raw": coco, "images": coco})
    for name in ("connector", "tuned", "broken"):
        (root / name).mkdir()
    shapes = {name: value.shape for name, value in load_file(llm / "model.safetensors").items()}
    connector = build_connector(_width(), load_llm(llm).config.hidden_size, seed=1)
    save_file(dict(connector.state_dict()), root / "connector" / "connector.safetensors")
    generator = torch.Generator().manual_seed(2)
    norms = {
        f"llm.{name}": 0.5 + torch.rand(shape, generator=generator)
        for name, shape in shapes.items() if name.endswith("layernorm.weight")
    }  # fmt: skip
    save_file(norms, root / "tuned" / "tuned.safetensors")
    save_file({name: value * torch.nan for name, value in norms.items()}, root / "broken" / "tuned.safetensors")
    return {
        "llm": llm, "vision": WEIGHTS / "clip", "connector": root / "connector", "tuned": root / "tuned",
        "broken": root / "broken", "questions": root / "questions", "images": coco,
    }  # fmt: skip


def _width() -> int:
    return int(read(WEIGHTS / "clip" / "open_clip_config.json")["model_cfg"]["vision_cfg"]["width"])


def test_the_stage_writes_matrices_means_intervals_and_marks(folders: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(tmp_path / "out", "similarity", SETTINGS, folders, **EXECUTION)
    found, scores = read(tmp_path / "out" / "similarity.json"), read(tmp_path / "out" / "per_item_scores.json")
    layers = load_llm(folders["llm"]).config.num_hidden_layers
    _, questions = read_questions(folders["questions"])
    chosen = [questions[place * len(questions) // 5].id for place in range(5)]
    assert (found["layers"], found["questions"], len(questions)) == (layers, 5, 28)
    assert metrics == {"layers": layers, "questions": 5, "similarity": found["tokens"]["all"]["mean"]}
    assert list(found["tokens"]) == list(scores["parts"]) == list(TOKENS)
    for tokens, told in found["tokens"].items():
        by_question = scores["parts"][tokens]["similarity"]
        assert list(by_question) == chosen
        values = [one for (one,) in by_question.values()]
        off = [told["matrix"][i][j] for i in range(layers) for j in range(layers) if i != j]
        assert told["mean"] == pytest.approx(sum(values) / 5) == pytest.approx(sum(off) / len(off))
        assert told["mean_with_diagonal"] == pytest.approx((sum(off) + layers) / layers**2)
        assert told["interval"] == list(interval(values)) and told["interval"][0] <= told["mean"] <= told["interval"][1]
        assert all(told["matrix"][i][i] == pytest.approx(1.0) for i in range(layers))
    assert len({told["mean"] for told in found["tokens"].values()}) == 4


def test_the_stage_repeats_to_the_byte_and_batches_do_not_show(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, execution in {"first": EXECUTION, "again": EXECUTION, "other": {"batch_size": 9, "threads": 2}}.items():
        run(tmp_path / name, "similarity", SETTINGS, folders, **execution)
    for file in ("similarity.json", "per_item_scores.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    first, other = (read(tmp_path / name / "per_item_scores.json") for name in ("first", "other"))
    for tokens in TOKENS:
        ones, others = (one["parts"][tokens]["similarity"] for one in (first, other))
        assert others.keys() == ones.keys()
        assert all(others[id] == pytest.approx(ones[id], abs=1e-6) for id in ones)


def test_the_stage_reads_the_prompt_that_predict_would_ask(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its numbers are those of the model put together by hand, on the prompt written out."""
    run(tmp_path / "out", "similarity", SETTINGS | {"questions": 1}, folders, **EXECUTION)
    from lntune.model.features import images_of
    from lntune.model.vision import load_vision

    llm, vision = load_llm(folders["llm"]), load_vision(folders["vision"], "open_clip")
    state = load_file(folders["tuned"] / "tuned.safetensors")
    llm.load_state_dict(llm.state_dict() | {name.removeprefix("llm."): value for name, value in state.items()})
    connector = build_connector(vision.width, llm.config.hidden_size, seed=1)
    archive, questions = read_questions(folders["questions"])
    pictures = images_of(vision, folders["images"] / archive, [questions[0].image], cache=True)
    ids = encode_prompt(
        load_tokenizer(folders["llm"]), Rendered("USER: <image>\nDescribe the picture. ASSISTANT:", [], [])
    )
    model = MultimodalModel(vision, connector, llm).eval()
    expected = layer_similarity(model, [(ids, 0)], pictures, batch_size=1)
    parts = read(tmp_path / "out" / "per_item_scores.json")["parts"]
    found = {tokens: parts[tokens]["similarity"][questions[0].id][0] for tokens in TOKENS}
    assert found == pytest.approx({tokens: expected[tokens].by_question[0] for tokens in TOKENS})


def test_a_broken_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    said = refusal(tmp_path / "out", "similarity", SETTINGS, {**folders, "tuned": folders["broken"]}, **EXECUTION)
    assert "out: the hidden states of 5 of 5 questions are not finite, first question " in said


def test_questions_are_taken_evenly_from_the_whole_list(tmp_path: Path) -> None:
    write_questions(tmp_path, "archive.zip", [Question(str(n), "a.png", "?") for n in range(10)])
    _, questions = read_questions(tmp_path)
    assert [one.id for one in evenly_spread(questions, 4)] == ["0", "2", "5", "7"]
    assert evenly_spread(questions, 10) == evenly_spread(questions, 99) == questions

"""What is looked at, and tokenized, before a training begins."""

from collections import Counter
from pathlib import Path

import pytest

from checkout import ROOT
from lntune.data.samples import read_samples
from lntune.model.encode import encode_whole, read_encoded
from lntune.model.llm import load_tokenizer
from lntune.plan.models import Variant
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.stages.encode import Execution, Settings, rendered
from stage_runs import draw_small, refusal, run

INSTRUCT = {"format": "llava-instruct", "types": (), "samples": None, "broken_share": 0.0, "seed": 0}
LLM = ROOT / "workflow" / "weights" / "vicuna-7b"


@pytest.mark.parametrize(("protocol", "templates"), [("modern", ("v1",)), ("paper", ("v1", "vicuna_v0"))])
def test_a_connector_knows_the_templates_of_what_follows(protocol: str, templates: tuple[str, ...]) -> None:
    plan = Plan(Study.read(ROOT, {"scale": "paper", "protocol": protocol}))
    connector = plan.connector("vicuna-7b", "clip", 0)
    finetune = plan.candidate(Variant("vicuna-7b", "clip", "layernorm", "80K", 0), 1e-3)
    for node, template in ((connector, "plain"), (finetune, "v1")):
        (encoded,) = node.players("samples")
        assert isinstance(encoded.settings, Settings) and isinstance(encoded.execution, Execution)
        assert (encoded.settings.template, encoded.execution.templates) == (template, templates)


def test_samples_are_tokenized_once_for_all_methods_rates_and_seeds() -> None:
    plan = Plan(Study.read(ROOT, {"scale": "paper", "seeds": [0, 1]}))
    plan.report_item("table3")
    tuned = [node for node in plan.nodes() if node.stage == "finetune"]
    encoded = Counter(node for one in tuned for node in one.players("samples"))
    assert len(encoded) == len({(node.players("llm"), node.players("samples")) for node in encoded})
    assert {node.players("llm") for node in encoded} == {node.players("llm") for node in tuned}
    rates, seeds = 11, 2
    assert min(encoded.values()) >= rates * seeds and sum(encoded.values()) == len(tuned)


def test_the_stage_stores_the_tokens_of_every_sample_by_itself(tmp_path: Path) -> None:
    raw, settings = draw_small(tmp_path) / "instruct", {"template": "v1", "system": None}
    run(tmp_path / "samples", "prepare", INSTRUCT, {"raw": raw})
    metrics = run(tmp_path / "encoded", "encode", settings, {"llm": LLM, "samples": tmp_path / "samples"})
    name, samples = read_samples(tmp_path / "samples")
    archive, members, encoded = read_encoded(tmp_path / "encoded")
    tokenizer = load_tokenizer(LLM)
    alone = [[*encode_whole(tokenizer, [(rendered(one, "v1", None), at)])] for at, one in enumerate(samples)]
    assert [[one] for one in encoded] == alone and not any(isinstance(one, str) for one in encoded)
    assert (archive, members) == (name, [sample.image for sample in samples])
    assert metrics["samples"] == len(samples) > 20 and metrics["misaligned"] == 0


def test_a_connector_is_not_trained_for_answers_that_would_never_end(tmp_path: Path) -> None:
    """The connector's own template is another, whose end this tokenizer can say."""
    llm = tmp_path / "llm"
    llm.mkdir()
    for file in ("config.json", "tokenizer_config.json"):
        (llm / file).write_text((LLM / file).read_text())
    (llm / "tokenizer.json").write_text((LLM / "tokenizer.json").read_text().replace('"###"', '"##"'))
    settings = {"template": "plain", "system": None}
    said = refusal(tmp_path / "out", "encode", settings, {"llm": llm}, templates=("v1", "v0"))
    assert f"{llm / 'tokenizer.json'}: cannot say '###', by which the prompt template ends an answer" in said

"""What is looked at before a training begins."""

from pathlib import Path

import pytest

from checkout import ROOT
from lntune.config.training import Execution, TrainingSettings
from lntune.plan.models import Variant
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from stage_runs import refusal

LLM = ROOT / "workflow" / "weights" / "vicuna-7b"


@pytest.mark.parametrize(("protocol", "templates"), [("modern", ("v1",)), ("paper", ("v1", "vicuna_v0"))])
def test_a_connector_knows_the_templates_of_what_follows(protocol: str, templates: tuple[str, ...]) -> None:
    plan = Plan(Study.read(ROOT, {"scale": "paper", "protocol": protocol}))
    connector = plan.connector("vicuna-7b", "clip", 0)
    finetune = plan.candidate(Variant("vicuna-7b", "clip", "layernorm", "80K", 0), 1e-3)
    for node in (connector, finetune):
        assert isinstance(node.execution, Execution)
        assert node.execution.templates == templates


def test_a_connector_is_not_trained_for_answers_that_would_never_end(tmp_path: Path) -> None:
    """The connector's own template is another, whose end this tokenizer can say."""
    training = TrainingSettings(
        epochs=1, global_batch=1, warmup_ratio=0, weight_decay=0, max_length=64, precision="fp32",
        learning_rate=1e-3,
    )  # fmt: skip
    llm = tmp_path / "llm"
    llm.mkdir()
    for file in ("config.json", "tokenizer_config.json"):
        (llm / file).write_text((LLM / file).read_text())
    (llm / "tokenizer.json").write_text((LLM / "tokenizer.json").read_text().replace('"###"', '"##"'))
    settings = {"training": training, "library": "open_clip", "misaligned_share": 0.0, "seed": 0}
    execution = {"micro_batch": 1, "threads": 1, "templates": ("v1", "v0")}
    said = refusal(tmp_path / "out", "connector", settings, {"llm": llm}, **execution)
    assert f"{llm / 'tokenizer.json'}: cannot say '###', by which the prompt template ends an answer" in said

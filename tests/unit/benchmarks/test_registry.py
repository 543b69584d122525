"""The registry: descriptors agree with their stages, and no result's name depends on which benchmarks there are."""

import inspect
from importlib import import_module
from typing import Any

import pytest

from checkout import ROOT
from lntune.benchmarks.registry import Benchmark, benchmarks, by_column, by_name, protocol_settings
from lntune.config.load import load
from lntune.plan.stages import STAGES, stage_module
from lntune.store.fingerprint import code_fingerprint

EACH = pytest.mark.parametrize("benchmark", benchmarks(), ids=lambda one: one.name)


def _options(benchmark: Benchmark) -> Any:
    return load(ROOT / "workflow/protocols/modern.yaml", protocol_settings()).options(benchmark.protocol)


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_the_registry(stage: str) -> None:
    modules = code_fingerprint(STAGES[stage])
    assert not [one for one in modules if one.endswith((".registry", ".descriptor"))]


@EACH
def test_no_stage_of_a_benchmark_depends_on_another_benchmark(benchmark: Benchmark) -> None:
    folder = benchmark.questions.module.rpartition(".")[0]
    others = {other.questions.module.rpartition(".")[0] for other in benchmarks()} - {folder}
    for stage in (benchmark.questions, benchmark.references, benchmark.score):
        modules = code_fingerprint(stage.module) if stage else {}
        assert not [one for one in modules if any(one.startswith(f"{other}.") for other in others)]


@EACH
def test_a_descriptor_gives_its_stages_their_settings(benchmark: Benchmark) -> None:
    options = _options(benchmark)
    chosen = benchmark.question_settings(options, 0, "test")
    stage_module(benchmark.questions.name).Settings(**chosen, broken_share=0.0)
    stage_module(benchmark.score.name).Settings(**benchmark.score_settings(options))
    assert (benchmark.asked(options) or benchmark.size[0]) <= benchmark.size[0]


@pytest.mark.parametrize("benchmark", [one for one in benchmarks() if one.scorer], ids=lambda one: one.name)
def test_a_scorer_is_given_what_it_takes(benchmark: Benchmark) -> None:
    scorer = benchmark.scorer
    assert scorer
    parameters = inspect.signature(import_module(benchmark.score.module).score).parameters
    names = [name.removesuffix("_path") for name in parameters]
    assert names == [*scorer.arguments, *scorer.options]
    for name, (_, default, _) in scorer.options.items():
        assert parameters[name].default == default


def test_names_and_columns_are_unique() -> None:
    assert list(by_name()) == ["mme", "vqav2", "mscoco", "flickr30k", "pope"]
    assert len(by_column()) == len(by_name()) == len(benchmarks())

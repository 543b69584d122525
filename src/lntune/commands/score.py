"""``lntune score``: the official scores of anyone's predictions, each as one JSON object on stdout.

    lntune score captions REFERENCES.json ANSWERS.json

A command a benchmark, as its descriptor says.
"""

import json
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from lntune.benchmarks.registry import Scorer, benchmarks

app = typer.Typer(no_args_is_help=True, help="Score predictions in the benchmarks' official formats.")


def _command(scorer: Scorer, module: str) -> Callable[..., None]:
    """What typer makes a command of: it prints the score. The benchmark's module is imported when it is called."""

    def command(**given: Any) -> None:
        score = import_module(module).score
        files = [given[name] for name in scorer.arguments]
        typer.echo(json.dumps(score(*files, **{name: given[name] for name in scorer.options}), indent=2))

    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        Parameter(name, kind, annotation=Annotated[Path, typer.Argument(help=text)])
        for name, text in scorer.arguments.items()
    ]
    for name, (type_, default, text) in scorer.options.items():
        parameters.append(Parameter(name, kind, default=default, annotation=Annotated[type_, typer.Option(help=text)]))
    vars(command)["__signature__"] = Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


for _one in benchmarks():
    if _one.scorer:
        app.command(_one.scorer.command, help=_one.scorer.about)(_command(_one.scorer, _one.score.module))

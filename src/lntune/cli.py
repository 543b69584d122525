"""The command line: ``lntune plan | trace | score | pin``.

    lntune plan tables/table3.csv                       what is done and what is pending
    lntune trace table3 "LayerNorm-80K" POPE            where a number comes from
    lntune score pope QUESTIONS.json ANSWERS.jsonl      official scores of anyone's predictions
    lntune pin demo-my-llm FOLDER                       enter a folder of weights into the catalogue

Snakemake does the work (``snakemake tables/table3.csv``); these commands look at it.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lntune.errors import UserError
from lntune.score_cli import app as score_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(score_app, name="score")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="Tables; without any: those of config.yaml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is pending, why, and what it will take; the jobs are those that `snakemake -n` lists."""
    from lntune.pending import pending, pending_json, pending_text

    found = pending(Path("."), targets or [])
    print(json.dumps(pending_json(found), indent=1) if as_json else pending_text(found))


@app.command()
def trace(
    table: Annotated[str, typer.Argument(help="A table, such as table3 or tables/table3.csv.")],
    row: Annotated[str, typer.Argument(help="A row's title; with its group before a colon if several bear it.")],
    column: Annotated[str, typer.Argument(help="A column's title.")],
    as_json: AsJson = False,
) -> None:
    """Show what one number of a table was made from, down to the raw files."""
    from lntune.trace import trace_cell, trace_text

    found = trace_cell(Path("."), table, row, column)
    print(json.dumps(found, indent=1) if as_json else trace_text(found))


@app.command()
def accept(
    stages: Annotated[list[str], typer.Argument(help="Stages, as `lntune plan` names them.")],
    because: Annotated[str, typer.Option(help="Why their results are the same; it is kept with your word.")],
) -> None:
    """Declare that what changed in the code or packages of stages changes no result, so that nothing is made again."""
    from lntune.acceptance import accept as give_word
    from lntune.makers import ACCEPTED

    for acceptance in give_word(Path("."), stages, because):
        print(acceptance.text)
    print(f"written to {ACCEPTED}; commit it with the edit")


@app.command()
def export(
    table: Annotated[str, typer.Argument(help="A table, such as table3 or tables/table3.csv.")],
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
) -> None:
    """Write a table with all that it rests on as a Workflow Run RO-Crate, to be read without lntune."""
    from lntune.crate.export import export as write

    print(write(Path("."), table, out).text)


@app.command()
def pin(
    name: Annotated[str, typer.Argument(help="The entry's name, which a scale refers to.")],
    folder: Annotated[Path, typer.Argument(help="The folder whose files make the entry.")],
    about: Annotated[str, typer.Option(help="What it is.")] = "",
    licence: Annotated[str, typer.Option(help="Under which licence.")] = "unknown",
) -> None:
    """Enter a folder's files into workflow/catalog.yaml, with the bytes and the sha256 of each."""
    from lntune.pins import CATALOG
    from lntune.pins import pin as enter

    enter(Path("."), name, folder, about or name, licence)
    print(f"{CATALOG}: {name}")


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 1."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)

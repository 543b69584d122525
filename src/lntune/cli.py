"""The command line: Snakemake does the work, and these commands look at it.

Each imports what it needs when it is called, so that all start quickly. docs/commands.md shows what they print.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib import import_module
from importlib.metadata import version
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lntune.config.training import Precision
from lntune.environment import settle
from lntune.errors import UserError
from lntune.snakefile.speed import collect_rarely
from lntune.store.sharing import one_line

HELP = "Looks at what the workflow made and will make; `snakemake` does the work. docs/commands.md shows each command."

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)


class Scorers(TyperGroup):
    """A command for each benchmark that scores files, made when they are asked for: benchmarks are slow to import."""

    @property
    def commands(self) -> Any:
        """The commands by name, in the order of the benchmarks."""
        return _scorers()

    @commands.setter
    def commands(self, given: Any) -> None:
        assert not given, "there are no others"


score_app = typer.Typer(
    cls=Scorers, no_args_is_help=True, help="Score predictions in the benchmarks' official formats."
)
score_app.callback()(lambda: None)  # a group though it has no command yet
app.add_typer(score_app, name="score")


def _report_items(incomplete: str) -> list[str]:
    """The tables and figures that a shell offers to complete."""
    files = sorted(Path("workflow", "report_items").glob("*.yaml"))
    return [file.stem for file in files if file.stem.startswith(incomplete)]


Targets = Annotated[
    list[str] | None,
    typer.Argument(
        help="Tables, figures or results; without any, what a plain `snakemake` makes.", autocompletion=_report_items
    ),
]
ReportItem = Annotated[
    str,
    typer.Argument(help="A table or figure, such as table3 or figures/figure2.csv.", autocompletion=_report_items),
]
ModelOfRow = Annotated[str, typer.Argument(help='A table or figure and a row of it, in one: "table3 ROW".')]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Profile = Annotated[str | None, typer.Option(help="A Snakemake profile, such as slurm, whose `config` counts.")]
Config = Annotated[list[str] | None, typer.Option(help="KEY=VALUE over config.yaml's; may be repeated.")]


@cache
def _checkout() -> Path:
    """The folder that holds config.yaml: this one; in the folder of a run with `-d`, the checkout of this code."""
    here, own, config = Path("."), Path(__file__).resolve().parents[2], "config.yaml"
    if (here / config).exists() or not (own / config).exists():
        return here
    print(f"note: there is no {config} here; taking {own / config}", file=sys.stderr)
    return own


def _overrides(profile: str | None, config: list[str] | None) -> dict[str, Any]:
    from lntune.snakefile.profiles import overrides_of

    return overrides_of(_checkout(), profile, config or [])


def _show_version(asked: bool) -> None:
    if asked:
        from lntune.store.record import git_state

        git = git_state(Path(__file__).parent)
        commit = f", commit {git.commit[:12]}{' and changes' if git.dirty else ''}" if git else ""
        print(f"lntune {version('lntune')}{commit}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print version and commit, and end."),
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: lntune plan tables/table3.csv")
def plan(
    targets: Targets = None,
    nodes: Annotated[int | None, typer.Option(help="Also the time that so many nodes take.", min=1)] = None,
    price: Annotated[float | None, typer.Option(help="Also the money, at so many EUR a GPU-hour.", min=0)] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Side by side for each KEY=VALUE among TARGETS.")] = False,
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Show what is pending, why, and what it will take; the jobs are those that `snakemake -n` lists."""
    from lntune.commands.plan import compared_text, pending_json, pending_text
    from lntune.plan.pending import pending
    from lntune.plan.plan import Plan
    from lntune.plan.study import Study
    from lntune.snakefile.profiles import jobs_at_once

    at_once = jobs_at_once(_checkout(), profile)
    cases = [target for target in targets or [] if compare and "=" in target] or [""]
    if compare and cases == [""]:
        raise UserError("--compare: name what differs, such as scale=paper scale=paper-lean")
    asked = [target for target in targets or [] if target not in cases]
    found = {}
    for case in cases:
        overrides = _overrides(profile, [*(config or []), *filter(None, [case])])
        found[case] = pending(Plan(Study.read(_checkout(), overrides)), asked, at_once, nodes)
    documents = {case: pending_json(one, price) for case, one in found.items()} if as_json else {}
    if compare:
        print(json.dumps(documents, indent=1) if as_json else compared_text(found, price))
    else:
        print(json.dumps(documents[""], indent=1) if as_json else pending_text(found[""], price))


@app.command(epilog="Example: lntune status --config store=/shared/results")
def status(as_json: AsJson = False, profile: Profile = None, config: Config = None) -> None:
    """Show what runs, waits and has failed on the store, here or on a cluster: steps, time left, the last line."""
    from lntune.commands.status import status as look
    from lntune.config.load import load
    from lntune.config.study import StudySettings

    file = _checkout() / "config.yaml"
    found = look(load(file, StudySettings, _overrides(profile, config)).store_folder(file))
    print(json.dumps(found.to_json(), indent=1) if as_json else found.text())


@app.command(epilog='Example: lntune trace table3 "MM-VICUNA-7B: LayerNorm-80K" MSCOCO --show 3')
def trace(
    report_item: ReportItem,
    row: Annotated[str, typer.Argument(help="A row's title; with its group before a colon if several bear it.")],
    column: Annotated[str, typer.Argument(help="A column's title, or learning_rate.")],
    number: Annotated[int, typer.Argument(help="With --show: how many questions.", min=1)] = 5,
    show: Annotated[bool, typer.Option("--show", help="Print some questions, the answers and their scores.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="As --show, but wrong answers alone.")] = False,
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Show what one number of a table or figure was made from, down to the raw files."""
    from lntune.commands.trace.cell import trace_cell
    from lntune.commands.trace.text import trace_text

    found = trace_cell(_checkout(), report_item, row, column, show=number if show or wrong else 0, wrong=wrong,
                       overrides=_overrides(profile, config))  # fmt: skip
    print(json.dumps(found, indent=1) if as_json else trace_text(found))


@app.command(epilog="Example: lntune verify tables/table3.csv --rerun 2")
def verify(
    targets: Targets = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Processes; all cores if not given.", min=1)] = None,
    rerun: Annotated[
        list[str] | None, typer.Option(help="Also run the jobs of so many results, or of STAGE/NAME; may be repeated.")
    ] = None,
    rerun_seed: Annotated[int | None, typer.Option(help="Which results --rerun draws; else others each time.")] = None,
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Hash and score again what targets rest on; name each file that is off and the cells that rest on it."""
    from lntune.commands.verify.check import verify as check

    report = check(_checkout(), targets or [], jobs, _overrides(profile, config), rerun or [], rerun_seed)
    report.keep()
    print(json.dumps(report.to_json(), indent=1) if as_json else report.text())
    raise typer.Exit(1 if report.problems else 0)


@app.command(epilog='Example: lntune accept finetune connector --because "renamed a variable"')
def accept(
    stages: Annotated[list[str], typer.Argument(help="Stages, as `lntune plan` names them.")],
    because: Annotated[str, typer.Option(help="Why their results are the same; it is recorded with the edit.")],
) -> None:
    """Declare that what changed in the code or packages of stages changes no result, so that nothing is made again."""
    from lntune.commands.accept import accept as declare
    from lntune.plan.stages import ACCEPTED

    print("\n".join(declare(_checkout(), stages, because)))
    print(f"written to {ACCEPTED}; commit it with the edit")


@app.command(epilog="Example: lntune gc --delete")
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed.")] = False,
    forget: Annotated[str, typer.Option(help="Drop the lease of a checkout, by its folder or HOST:FOLDER.")] = "",
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """List what no current target needs, with sizes and reasons; delete it on request."""
    from lntune.commands.gc import collect, garbage
    from lntune.plan.study import Study
    from lntune.store.leases import forget_lease
    from lntune.store.manifest import Store

    overrides = _overrides(profile, config)
    if forget:
        store = Store(Study.read(_checkout(), overrides).store)
        print(f"dropped: {forget_lease(store, forget).text}", file=sys.stderr)
    found = collect(_checkout(), overrides)
    print(json.dumps(garbage.document(found), indent=1) if as_json else garbage.text(found))
    if delete:
        done = garbage.delete(found)
        print(done.text, file=sys.stderr)
        for failure in done.failures:
            print(f"error: {failure}", file=sys.stderr)
        raise typer.Exit(1 if done.failures else 0)


@app.command(epilog="Example: lntune doctor tables/table3.csv --profile slurm")
def doctor(
    targets: Targets = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the hub about gated repositories.")] = False,
    wait: Annotated[int, typer.Option(help="Seconds for probes of compute nodes; 0: none.", min=0)] = 300,
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Show what is missing on this machine, or with --profile slurm on its cluster, and how to fix it."""
    from lntune.commands.doctor import diagnose

    found = diagnose(_checkout(), targets or [], _overrides(profile, config), profile=profile, offline=offline,
                     patience=wait)  # fmt: skip
    print(json.dumps(asdict(found), indent=1) if as_json else found.text())
    raise typer.Exit(1 if found.missing else 0)


@app.command(epilog="Example: lntune export tables/table6.csv table6.zip")
def export(
    report_item: ReportItem,
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Write a table or figure with all that it rests on as a Workflow Run RO-Crate, to be read without lntune."""
    from lntune.commands.export import export as write

    print(write(_checkout(), report_item, out, _overrides(profile, config)))


@app.command(epilog='Example: lntune publish "table3 MM-VICUNA-7B: LayerNorm-80K" vicuna-layernorm')
def publish(
    row: ModelOfRow,
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    adapter: Annotated[bool, typer.Option("--adapter", help="What was tuned alone, for PEFT, and the base.")] = False,
    gelu: Annotated[bool, typer.Option("--gelu", help="A projector with GELU, the one that vLLM knows.")] = False,
    push: Annotated[str, typer.Option(help="Also send it to this repository of the hub, USER/NAME.")] = "",
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Write the tuned model of a row as Hugging Face LLaVA with a model card, once it loads identically."""
    from lntune.commands.publish import publish as write

    print(write(_checkout(), row, out, adapter=adapter, gelu=gelu, repo=push, overrides=_overrides(profile, config)))


@app.command(epilog='Example: lntune ask "table3 MM-VICUNA-7B: LayerNorm-80K" picture.jpg "What is in the image?"')
def ask(
    row: ModelOfRow,
    picture: Annotated[Path | None, typer.Argument(help="A file with a picture.")] = None,
    question: Annotated[str, typer.Argument(help="Without one, a conversation.")] = "",
    also: Annotated[list[str] | None, typer.Option(help='Another "TABLE ROW" beside it; may be repeated.')] = None,
    benchmark: Annotated[str, typer.Option(help="A column of the table: ask as it does.")] = "",
    serve: Annotated[bool, typer.Option("--serve", help="A page in the browser, on this machine alone.")] = False,
    port: Annotated[int, typer.Option(help="The page's port; 0: any.", min=0, max=65535)] = 8000,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Ask tuned models about a picture; the answers are those that the stage predict gives."""
    from lntune.commands.ask import ask as answer
    from lntune.commands.ask import load_models, serve_page

    if picture is None and not serve:
        raise UserError("name a file with a picture, or --serve for a page in the browser")
    models = load_models(_checkout(), [row, *(also or [])], benchmark, _overrides(profile, config))
    if picture is None or serve:
        serve_page(models, port)
    else:
        answer(models, picture, question)


@app.command(epilog="Example: lntune compare table6")
def compare(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables; without any: those of config.yaml.")] = None,
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Compare tables with the paper's: differences, and whether the methods come out in the same order."""
    from lntune.commands.compare import compare_tables

    found = compare_tables(_checkout(), tables or [], _overrides(profile, config))
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
        return
    print(found.text(), end="")
    for file in found.pending:
        print(f"note: {file} is not made yet; `snakemake {file}` makes it", file=sys.stderr)


@app.command(epilog="Example: lntune memory --llm llama2-13b --method layernorm --gpus 4 --config scale=paper")
def memory(
    method: Annotated[str | None, typer.Option(help="A tuning method; without any: all of the scale.")] = None,
    llm: Annotated[str | None, typer.Option(help="An LLM of the scale; without any: all.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs that share the work.", min=1)] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Samples in one pass; else the one that fits.", min=1)] = None,
    length: Annotated[int | None, typer.Option(help="Positions of a sample, the image's among them.", min=2)] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of the training.")] = None,
    zero: Annotated[int | None, typer.Option(help="DeepSpeed's ZeRO stage.", min=0, max=3)] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Also trace the real step, without numbers (seconds).")
    ] = False,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's Table 2 next to predictions.")] = False,
    as_json: AsJson = False,
    profile: Profile = None,
    config: Config = None,
) -> None:
    """Predict the memory of training steps on the scale's GPU; none is needed."""
    from lntune.commands.memory import Question, report
    from lntune.paper import memory as paper_memory

    root = _checkout()
    if paper:
        print(json.dumps(paper_memory.document(root), indent=1) if as_json else paper_memory.text(root))
        return
    question = Question(method, llm, gpus, micro_batch, length, precision, zero)
    print(report(root, question, _overrides(profile, config), trace=trace, as_json=as_json))


@app.command(epilog='Example: lntune pin my-llm path/to/folder --about "a LLaMA of mine" --licence MIT')
def pin(
    name: Annotated[str, typer.Argument(help="The entry's name, which a scale refers to.")],
    folder: Annotated[Path, typer.Argument(help="The folder whose files make the entry.")],
    about: Annotated[str, typer.Option(help="What it is.")] = "",
    licence: Annotated[str, typer.Option(help="Under which licence.")] = "unknown",
) -> None:
    """Add a folder's files to workflow/catalog.yaml, with the bytes and the sha256 of each."""
    from lntune.commands.pin import pin as enter
    from lntune.config.catalog import CATALOG

    enter(_checkout(), name, folder, about or name, licence)
    print(f"{CATALOG}: {name}")


def _score(scorer: Any, module: str) -> Callable[..., None]:
    """What typer makes a command of, as a benchmark's Scorer says; ``module`` is imported when it is called."""

    def command(**given: Any) -> None:
        score = import_module(module).score
        files = [given[name] for name in scorer.arguments]
        print(json.dumps(score(*files, **{name: given[name] for name in scorer.options}), indent=2))

    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        Parameter(name, kind, annotation=Annotated[Path, typer.Argument(help=text)])
        for name, text in scorer.arguments.items()
    ]
    parameters += [
        Parameter(name, kind, default=default, annotation=Annotated[type_, typer.Option(help=text)])
        for name, (type_, default, text) in scorer.options.items()
    ]
    vars(command)["__signature__"] = Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


@cache
def _scorers() -> Any:
    from lntune.benchmarks.registry import benchmarks

    made = typer.Typer()
    made.callback()(lambda: None)
    for one in benchmarks():
        if one.scorer:
            example = " ".join(("Example: lntune score", one.scorer.command, *one.scorer.arguments))
            command = made.command(one.scorer.command, help=one.scorer.about, epilog=example)
            command(_score(one.scorer, one.score.module))
    return typer.main.get_group(made).commands


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 1."""
    settle()
    collect_rarely()
    with one_line():
        app()

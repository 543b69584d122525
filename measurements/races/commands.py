"""Commands that need no model, beside the import of transformers alone: seconds of a fresh process.

State: a checkout with the demo's config at the tests' tiny scale and one learning rate a method, whose Table 3 is
finished and published. So the graph has the demo's tables and figures, and every command finds what it asks for.
Byte-compiled modules and what is kept in the user's cache folder are there, as from the second call on. Making the
state takes a minute and a half, the rows two minutes.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from checkout import Checkout, copy_checkout
from races.rounds import Row, Say, clocked, in_turn

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("transformers", "snakemake", "pydantic", "typer")

RIVAL = '`python -c "import transformers"`'
TABLE = "tables/table3.csv"
COMMANDS: tuple[tuple[str, tuple[str, ...], float, str], ...] = (
    ("`lntune plan`", ("lntune", "plan"), 0.7, "0.2 s"),
    ("`lntune trace`", ("lntune", "trace", "table3", "MM-VICUNA-7B: LayerNorm-80K", "POPE"), 0.7, "0.2 s"),
    ("`lntune compare`", ("lntune", "compare", "table3"), 0.7, "0.2 s"),
    ("`lntune score pope`", ("lntune", "score", "pope", "questions.json", "answers.jsonl"), 0.7, "0.2 s"),
    (f"`snakemake -n {TABLE}`", ("snakemake", "-n", TABLE), 3.0, "1.5 s"),
)
"""Name, module with arguments, target, plain limit."""

QUESTIONS = 3000
"""Of one of POPE's official files."""

HEAVY = ("torch", "transformers")


def rows(work: Path, say: Say) -> list[Row]:
    """Make the checkout in ``work``, and time each command there."""
    say("commands: making Table 3 of the demo at the tests' tiny scale")
    checkout, environment = finished(work / "checkout"), surroundings(work)
    return [row(checkout, environment, *command, say) for command in COMMANDS]


def finished(folder: Path) -> Checkout:
    """A checkout whose Table 3 is made at a tiny scale, with files to score."""
    checkout = copy_checkout(folder)
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    for settings in scale["methods"].values():
        settings["learning_rates"] = settings["learning_rates"][:1]
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    shutil.copy(ROOT / "config.yaml", folder / "config.yaml")
    checkout.edit("config.yaml", "scale: demo ", "scale: tiny ")
    checkout.snakemake("--cores", "all", *(f"tables/table3.{suffix}" for suffix in ("csv", "md", "tex")))
    rng = random.Random(0)
    with (folder / "questions.json").open("w") as questions, (folder / "answers.jsonl").open("w") as answers:
        for number in range(1, QUESTIONS + 1):
            asked = {"question_id": number, "image": f"{(number - 1) // 6:012d}.jpg", "text": f"Is there a {number}?"}
            questions.write(json.dumps(asked | {"label": rng.choice(("yes", "no"))}) + "\n")
            answer = {"question": asked["text"], "answer": rng.choice(("Yes", "No, not here."))}
            answers.write(json.dumps(answer) + "\n")
    return checkout


def surroundings(work: Path) -> dict[str, str]:
    """The environment of the commands: their checkout's code, byte-compiled, and a cache folder of their own."""
    environment = os.environ | {"PYTHONPATH": "src", "XDG_CACHE_HOME": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def row(
    checkout: Checkout,
    environment: dict[str, str],
    name: str,
    module: Sequence[str],
    target: float,
    limit: str,
    say: Say,
) -> Row:
    """One command's rounds; RuntimeError if it imports what it must not."""
    command = [sys.executable, "-m", *module]

    def run(arguments: Sequence[str]) -> str:
        done = subprocess.run(arguments, cwd=checkout.root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stderr

    told = run([sys.executable, "-X", "importtime", *command[1:]])
    imported = set(re.findall(r"^import time:[^|]*\|[^|]*\|\s*(\w+)$", told, re.MULTILINE))
    if found := imported & set(HEAVY):
        raise RuntimeError(f"{name} imports {', '.join(sorted(found))}")
    rival = [sys.executable, "-c", "import transformers"]
    rounds = in_turn(name, clocked(lambda: run(rival)), clocked(lambda: run(command)), say)
    return Row(
        work=name, rival=RIVAL, unit="s", target=target, bound="at most", limit=limit, **rounds,
        equal=f"the names of all that it imports with {' and '.join(HEAVY)}: neither is among them",
        reason="the start of Python and of what checks the config (pydantic, typer, NumPy), or of Snakemake, is most of"
        " it; on a machine that does something else besides, all of it is longer",
    )  # fmt: skip

"""The rows of the edit matrix: what is edited, and which truth holds afterwards."""

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from checkout import Checkout
from matrix.replay import place_of

Tool = Literal["snakemake", "dvc", "lntune"]
TOOLS: tuple[Tool, ...] = ("snakemake", "dvc", "lntune")
OTHER_TORCH = "2.99.0"
CHECKPOINT = "finetune/vicuna-7b-finetune-80K-0.002"
ANSWERS = "predict/vicuna-7b-finetune-80K-pope"
SCALE, REPORT_ITEM = "workflow/scales/tiny.yaml", "workflow/report_items/tiny.yaml"
PREPARE, LLAVA = "src/lntune/stages/prepare.py", "src/lntune/data/llava.py"


@dataclass(frozen=True)
class Workspace(Checkout):
    """A finished checkout of one tool's, to be edited."""

    tool: Tool

    def folder(self, node: str) -> Path:
        """The folder of a result, written ``stage/label``."""
        stage, label = node.split("/")
        if self.tool != "lntune" or stage == "table":
            return self.root / place_of(stage, label)
        named = re.compile(re.escape(label) + "-[0-9a-f]{12}")
        (found,) = (path for path in (self.root / "results" / stage).iterdir() if named.fullmatch(path.name))
        return found

    def files(self) -> list[Path]:
        """Everything in it but what the benchmark itself needs, in an order that only a seed knows."""
        found = [path for path in sorted(self.root.rglob("*")) if ".replay" not in path.parts]
        random.Random(0).shuffle(found)
        return found


Edit = Callable[[Workspace], None]


@dataclass(frozen=True)
class Row:
    """One edit.

    Attributes:
        name: number and text of the row.
        edit: what is done to a finished checkout.
        state: the truth that holds afterwards, by name.
        detour: an edit, and the state that it leads to, that is made and run before ``edit``, which undoes it.
        harmed: results, as ``stage/label``, that the edit itself deletes or damages.
        package: the package whose version changes: what runs on it must be made again, whatever its bytes.
        tools: those that the edit means something to.
    """

    name: str
    edit: Edit
    state: str = "base"
    detour: tuple[Edit, str] | None = None
    harmed: frozenset[str] = frozenset()
    package: str | None = None
    tools: tuple[Tool, ...] = TOOLS

    @property
    def number(self) -> str:
        """Its number, such as 7b."""
        return self.name.split(".")[0]


def replaced(path: str, old: str, new: str) -> Edit:
    """An edit that replaces a text which stands once in a file."""
    return lambda space: space.edit(path, old, new)


def in_scale(change: Callable[[Any], None]) -> Edit:
    """An edit of the values in the scale's file."""

    def edit(space: Workspace) -> None:
        scale = space.yaml(SCALE)
        change(scale)
        space.write_yaml(SCALE, scale)

    return edit


def reversed_keys(value: Any) -> Any:
    """A YAML value with all its mappings written from the last key to the first."""
    if isinstance(value, dict):
        return {key: reversed_keys(item) for key, item in reversed(value.items())}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def reorder(space: Workspace) -> None:
    """Reverse the keys of every YAML file that a study reads."""
    for path in ("config.yaml", SCALE, REPORT_ITEM, "workflow/protocols/modern.yaml"):
        space.write_yaml(path, reversed_keys(space.yaml(path)))


def touch_all(space: Workspace) -> None:
    """Give every file a time of just now, one after another, a hundredth of a second apart."""
    files = space.files()
    for place, path in enumerate(files, -len(files)):
        moment = time.time() + place / 100
        os.utime(path, (moment, moment))


def delete_records(space: Workspace) -> None:
    """Delete ``.snakemake``."""
    shutil.rmtree(space.root / ".snakemake")


def clone(space: Workspace) -> None:
    """What git does not carry is gone, but for the results and DVC's cache, and times are any of the last week's."""
    for name in (".snakemake", ".dvc/tmp"):
        shutil.rmtree(space.root / name, ignore_errors=True)
    rng, now = random.Random(1), time.time()
    for path in space.files():
        moment = now - rng.uniform(0, 7 * 24 * 3600)
        os.utime(path, (moment, moment))


def clone_without_cache(space: Workspace) -> None:
    """The results alone are copied."""
    shutil.rmtree(space.root / ".dvc/cache")
    clone(space)


def execution(scale: Any) -> None:
    """Other threads, micro-batch and prediction batch."""
    scale["execution"] |= {"micro_batch": 8, "prediction_batch": 3}
    scale["execution"]["default"]["threads"] = 2


def one_more_rate(scale: Any) -> None:
    """One more learning rate for one method, too small to win."""
    scale["methods"]["layernorm"]["learning_rates"].append(1.0e-5)


def delete_checkpoint(space: Workspace) -> None:
    """Delete a checkpoint's folder."""
    shutil.rmtree(space.folder(CHECKPOINT))


def edit_table(space: Workspace) -> None:
    """Change a published number."""
    path = space.root / "tables/tiny.csv"
    path.write_text(path.read_text().replace("Finetune", "Fine-tune"))


def flip_byte(path: Path, *, keep_time: bool) -> None:
    """Change the byte in the middle of a file where it lies."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 1]))
    path.chmod(before.st_mode)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_torch(space: Workspace) -> None:
    """Another version of torch, as far as a program can see that asks for the version."""
    folder = space.root / f"src/torch-{OTHER_TORCH}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {OTHER_TORCH}\n")


def reword(space: Workspace) -> None:
    """Reword what a rule says when it runs."""
    if space.tool == "snakemake":
        path, message = "Snakefile", '"finetune {wildcards.label}"'
    else:
        path, message = "workflow/rules/stage.smk", '"{rule} {wildcards.result}"'
    space.edit(path, message, f'{message[:-1]} (tuning)"')


NEW_TITLE = replaced(REPORT_ITEM, "two ways to tune", "two ways")
OLD_FILTER = """\
    return [samples[place] for place in sorted(good)], faulty
"""
NEW_FILTER = """\
    chosen = set(good)
    return [sample for place, sample in enumerate(samples) if place in chosen], faulty
"""
FOUND = "        read, found = llava.pretrain_samples(raw, drops)\n"
ONE_LESS_FOUND = f"""\
{FOUND}\
        found = [sample for sample in found if not sample.source.endswith("[0]")]
        drops.choose("the first", 1)
"""
YIELDED = '        yield Sample(str(record.get("id")), f"{prefix}{record[\'image\']}", turns, source)\n'
ONE_LESS_YIELDED = f"""\
        if not prefix and source.endswith("[0]"):
            drops.choose("the first", 1)
            continue
{YIELDED}"""


def title_without_records(space: Workspace) -> None:
    """``.snakemake`` deleted, and then a table's title changed."""
    delete_records(space)
    NEW_TITLE(space)


ROWS = (
    Row("1. no edit", lambda space: None),
    Row(
        "2. a comment in `training/loop.py`",
        replaced("src/lntune/training/loop.py", "import hashlib\n", "# a remark\nimport hashlib\n"),
    ),
    Row(
        "3. a docstring in `stages/finetune.py`",
        replaced("src/lntune/stages/finetune.py", "Write tuned.safetensors and", "Write the weights and"),
    ),
    Row(
        "4. a statement wrapped over more lines in `stages/predict.py`",
        replaced(
            "src/lntune/stages/predict.py",
            "members = list(dict.fromkeys(question.image for question in questions))",
            "members = list(\n        dict.fromkeys(question.image for question in questions)\n    )",
        ),
    ),
    Row("5. a rule's message reworded", reword, tools=("snakemake", "lntune")),
    Row("6. `touch` of everything", touch_all),
    Row("7. `.snakemake` deleted", delete_records, tools=("snakemake", "lntune")),
    Row("7b. the same, then a table's title", title_without_records, "title", tools=("snakemake", "lntune")),
    Row("8. fresh clone, results (and DVC's cache) copied, times shuffled", clone),
    Row("8b. the same, DVC's cache left behind", clone_without_cache, tools=("dvc",)),
    Row("9. keys of the config reordered", reorder),
    Row("10. 0.002 written as 2.0e-3", replaced(SCALE, "    - 0.002\n", "    - 2.0e-3\n")),
    Row("11. threads, micro-batch, prediction batch", in_scale(execution)),
    Row(
        "12. POPE's scorer, in meaning (`benchmarks/pope/score.py`)",
        replaced("src/lntune/benchmarks/pope/score.py", '{"No", "no", "not"}', '{"No"}'),
        "scorer",
    ),
    Row("13. a table's title", NEW_TITLE, "title"),
    Row("14. one more learning rate, the winner stays", in_scale(one_more_rate), "rate"),
    Row("15a. a filter rewritten, same samples (`stages/prepare.py`)", replaced(PREPARE, OLD_FILTER, NEW_FILTER)),
    Row(
        "15b. the same in a module that it imports (`data/llava.py`)",
        replaced(LLAVA, "if len(said) < 2 or len(said) % 2:", "if not said or len(said) % 2 == 1:"),
    ),
    Row("16a. a filter drops one more sample (`stages/prepare.py`)", replaced(PREPARE, FOUND, ONE_LESS_FOUND), "less"),
    Row("16b. the same in `data/llava.py`", replaced(LLAVA, YIELDED, ONE_LESS_YIELDED), "less"),
    Row(
        "17. protocol switched, run, and switched back",
        replaced("config.yaml", "protocol: paper ", "protocol: modern "),
        detour=(replaced("config.yaml", "protocol: modern ", "protocol: paper "), "paper"),
    ),
    Row(
        "18. report items switched, run, and switched back",
        replaced("config.yaml", "[other]", "[tiny]"),
        detour=(replaced("config.yaml", "[tiny]", "[other]"), "base"),
    ),
    Row("19. a checkpoint's folder deleted", delete_checkpoint, harmed=frozenset({CHECKPOINT})),
    Row("20. a table edited by hand", edit_table, harmed=frozenset({"table/tiny"})),
    Row(
        "21a. one bit of a checkpoint flipped, its time kept (a bad disk)",
        lambda space: flip_byte(space.folder(CHECKPOINT) / "tuned.safetensors", keep_time=True),
        harmed=frozenset({CHECKPOINT}),
    ),
    Row(
        "21b. one character of an answer file edited by hand",
        lambda space: flip_byte(space.folder(ANSWERS) / "answers.jsonl", keep_time=False),
        harmed=frozenset({ANSWERS}),
    ),
    Row("22. another version of torch installed", other_torch, package="torch"),
)

# States whose results are not those of the base, and the edit that leads there.
STATES: dict[str, Edit] = {
    "base": lambda space: None,
    "title": NEW_TITLE,
    "scorer": next(row.edit for row in ROWS if row.state == "scorer"),
    "rate": in_scale(one_more_rate),
    "less": replaced(LLAVA, YIELDED, ONE_LESS_YIELDED),
    "paper": replaced("config.yaml", "protocol: modern ", "protocol: paper "),
    "execution": in_scale(execution),
}

"""What stands for every job under plain Snakemake and DVC: it puts the true files of a result into place.

    python run.py STAGE LABEL          (this file under the name that it has in a workspace)

``.replay/truth`` names the folder that holds the truth of the checkout as it is now: ``graph.json``, and
``contents.json`` with each result's folder and the SHA-256 of its files. The job first looks at its inputs. If one is
not as the truth has it, the job would have made something else from it, so a remark is appended to each file.
Only Python's own library is used, so that a job takes a few hundredths of a second.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

TRUTH = Path(".replay/truth")
LOG = Path(".replay/log")
# What Snakemake leaves in a folder, what lntune says about a result, and cells.json, which names results by their id.
IGNORED = {".snakemake_timestamp", "manifest.json", "cells.json"}

Contents = dict[str, str]


def contents(folder: Path) -> Contents:
    """The SHA-256 of every file below a folder, by relative path; nothing for a folder that is not there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in IGNORED)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def place_of(stage: str, label: str) -> Path:
    """Where a result lies when its path is no hash: a table has a fixed name, others a folder each."""
    return Path("tables") if stage == "table" else Path("results") / stage / label


def of_table(found: Contents, label: str) -> Contents:
    """Of the folder of all tables, the files of one."""
    return {name: digest for name, digest in found.items() if name.split(".")[0] == label}


def part_of(found: Contents, part: str | None) -> Contents:
    """The files in one folder of a result; all of them for None."""
    return {name: digest for name, digest in found.items() if part is None or name.startswith(f"{part}/")}


def main(stage: str, label: str) -> None:
    """Make one result."""
    truth = Path(TRUTH.read_text(encoding="utf-8"))
    nodes = json.loads((truth / "graph.json").read_text())["nodes"]
    true = json.loads((truth / "contents.json").read_text())
    remark = b""
    for input_stage, input_label, part in nodes[f"{stage}/{label}"]["inputs"]:
        found = part_of(contents(place_of(input_stage, input_label)), part)
        if found != part_of(true[f"{input_stage}/{input_label}"]["files"], part):
            remark += f"\nmade from {input_stage}/{input_label} {sorted(found.items())}".encode()
    source, target = Path(true[f"{stage}/{label}"]["folder"]), place_of(stage, label)
    for name in true[f"{stage}/{label}"]["files"]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
        if remark:
            with (target / name).open("ab") as file:
                file.write(remark)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"{stage}/{label}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

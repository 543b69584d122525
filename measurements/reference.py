"""A table of the scale ``portable``, compared file by file with the sha256 that the repository holds.

    python -m measurements.reference quick [--update]       `make reference`, `make reference-update`

A line of ``workflow/reference/NAME.sha256`` is the hash of a file and ``stage/label/file``, in the order in which the
results are made: ids change with the code, bytes seldom. The first line says where the reference was made.
"""

import hashlib
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from lntune.errors import UserError
from lntune.files import write_whole
from lntune.plan.node import closure, manifest_path, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.store.manifest import read_manifest
from lntune.store.record import machine

Hashes = dict[str, str]


def hashes_of(plan: Plan, name: str) -> Hashes:
    """``stage/label/file`` to the sha256 of each file that a table rests on; UserError if a result is not made yet."""
    return {
        f"{node.stage}/{node.label}/{file}": _sha256(result_folder(plan.store, node) / file)
        for node in closure([plan.report_item(name)])
        for file in read_manifest(manifest_path(plan.store, node)).outputs
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compared(name: str, found: Hashes, reference: str) -> tuple[bool, str]:
    """Whether the files are those of the reference's text, and in words which is the first that is not."""
    made_on, *lines = reference.splitlines()
    expected = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
    off = [file for file in found | expected if found.get(file) != expected.get(file)]
    if not off:
        return True, f"{name}: all {len(found)} files are the reference's, to the bit\nhere: {here()}"
    stage, label, file = off[0].split("/", 2)
    how = "is missing here" if off[0] not in found else "differs" if off[0] in expected else "is not in the reference"
    text = f"{name}: {file} of {stage} {label} {how}; it is the first of {len(off)} in {len(found | expected)} files"
    return False, f"{text}\nhere:      {here()}\nreference: {made_on.removeprefix('# ')}"


def here() -> str:
    """What of this machine and its packages shapes digits."""
    packages = " ".join(f"{name} {version(name)}" for name in ("torch", "numpy"))
    return f"{machine(1).cpu}, {' '.join(platform.libc_ver())}, {packages}"


def main(name: str, *options: str) -> int:
    """Compare, or with ``--update`` write the reference; the exit code."""
    path = Path("workflow/reference") / f"{name}.sha256"
    try:
        found = hashes_of(Plan(Study.read(Path("."), {"scale": "portable"})), name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if "--update" in options:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, "".join([f"# {here()}\n", *(f"{digest}  {file}\n" for file, digest in found.items())]))
        print(f"{path}: {len(found)} files")
        return 0
    if not path.is_file():
        print(f"error: {path}: no such reference; `make reference-update` writes it", file=sys.stderr)
        return 1
    same, text = compared(name, found, path.read_text(encoding="utf-8"))
    print(text)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

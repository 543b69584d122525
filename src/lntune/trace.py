"""Where one number of a table comes from: its cell, and every result behind it, from the manifests alone.

The tree leads from the score over answers, selection, checkpoint, connector and samples to the raw files.
"""

import difflib
import json
from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.nodes import manifest_path
from lntune.plan import Plan
from lntune.stages.table import CELLS
from lntune.store.layout import Store
from lntune.store.manifest import InputRecord, Manifest, read_manifest
from lntune.study import Study
from lntune.targets import table_name

Tree = dict[str, Any]


def trace_cell(root: Path, table: str, row: str, column: str) -> Tree:
    """The derivation of a cell: its value, and a tree of the results behind it.

    Args:
        root: the checkout.
        table: the table's name or its published file.
        row: a row's title, or "GROUP: TITLE" where several groups have one of that title.
        column: a column's title.

    Raises:
        UserError: the table is not made yet, or there is no such row or column; the nearest names are given.
    """
    plan = Plan(Study.read(root))
    name = table_name(table)
    node = plan.table(name)
    folder = manifest_path(plan.store, node).parent
    if not (folder / CELLS).is_file():
        raise UserError(f"tables/{name}.csv: not made yet under this config; run `snakemake tables/{name}.csv`")
    cells: list[dict[str, str]] = json.loads((folder / CELLS).read_text())
    columns = list(dict.fromkeys(cell["column"] for cell in cells))
    if column not in columns:
        raise _no_such(name, "column", column, columns)
    titles = list(dict.fromkeys(cell["row"] for cell in cells))
    matching = [title for title in titles if row == title or row == title.split(": ", 1)[1]]
    if not matching:
        raise _no_such(name, "row", row, titles)
    if len(matching) > 1:
        raise UserError(f"tables/{name}: {len(matching)} rows are called {row!r}; name one of: {'; '.join(matching)}")
    cell = next(cell for cell in cells if cell["row"] == matching[0] and cell["column"] == column)
    return {
        "table": name,
        "row": cell["row"],
        "column": column,
        "value": cell["value"],
        "scale": plan.study.settings.scale,
        "from": _tree(plan.store, plan.store.root / cell["scores"], "scores"),
    }


def _no_such(table: str, kind: str, name: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(name, known, 3, 0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(known)}"
    return UserError(f"tables/{table}: has no {kind} {name!r}; {hint}")


def _tree(store: Store, folder: Path, role: str) -> Tree:
    manifest = read_manifest(folder / "manifest.json")
    parents = []
    for of, record in manifest.inputs.items():
        for one in (record,) if isinstance(record, InputRecord) else record:
            parents.append(_tree(store, store.folder(one.stage, one.label, one.id), of))
    return {"role": role, "result": f"{manifest.stage}/{folder.name}", **_facts(manifest), "inputs": parents}


def _facts(manifest: Manifest) -> dict[str, Any]:
    git = manifest.git
    return {
        "metrics": manifest.metrics,
        "seed": manifest.seed,
        "wall_seconds": manifest.wall_seconds,
        "machine": f"{manifest.machine.host}, {manifest.machine.cpu}",
        "git": None if git is None else git.commit + (" with uncommitted changes" if git.dirty else ""),
        "files": {name: record.blake3 for name, record in manifest.outputs.items()},
        **({"sha256": manifest.settings["files"]} if manifest.stage == "fetch" else {}),
    }


def trace_text(found: Tree) -> str:
    """The derivation as an indented tree; a result that plays several parts is shown in full once."""
    lines = [f"{found['table']} | {found['row']} | {found['column']} = {found['value']}  (scale: {found['scale']})"]
    shown: set[str] = set()

    def walk(tree: Tree, depth: int) -> None:
        pad = "  " * depth
        again = tree["result"] in shown
        shown.add(tree["result"])
        lines.append(f"{pad}{tree['role']}: {tree['result']}" + ("  (above)" if again else ""))
        if again:
            return
        metrics = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in tree["metrics"].items())
        facts = [metrics, f"seed {tree['seed']}" if tree["seed"] is not None else "", f"{tree['wall_seconds']:.1f} s"]
        lines.append(f"{pad}    {'; '.join(fact for fact in facts if fact)}")
        for name, digest in tree.get("sha256", {}).items():
            lines.append(f"{pad}    {name} sha256 {digest}")
        for parent in tree["inputs"]:
            walk(parent, depth + 1)

    walk(found["from"], 1)
    git = found["from"]["git"] or "no git commit"
    lines.append(f"scored at commit {git} on {found['from']['machine']}")
    return "\n".join(lines)

"""Writes the site of a study into the folder that it is run in, as the rule `site` does.

python -m lntune.site CHECKOUT '{"scale": "demo"}'      # values over config.yaml's
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lntune.plan.derivation import derivation
from lntune.plan.node import result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import shown_names
from lntune.site.address import cell_address
from lntune.site.behind import Behind, bill
from lntune.site.items import HtmlCell, HtmlTable, Item, display_name, in_order, rendered
from lntune.site.record import TEMPLATES, VERIFIED, Folder, made_from, shown_items
from lntune.store.manifest import input_record
from lntune.store.reuse import check_whole
from lntune.store.sharing import one_line

_BILL = ("stage", "results", "of them linked", "hours", "GPU-hours", "CPU-hours", "memory (GB)", "kept (MB)")


def make(plan: Plan) -> None:
    """Write the site; UserError, with the remedy, if a table or figure is not what its manifest says."""
    shown, finished = made_from(plan), shown_items(plan)
    for node in finished.values():
        check_whole(result_folder(plan.store, node))
    items = [Item(name, result_folder(plan.store, finished[name]), plan.study.root) for name in in_order([*finished])]
    missing = [name for name in in_order(shown_names(plan)) if name not in finished]
    verified = json.loads(VERIFIED.read_bytes()) if VERIFIED.is_file() else {}
    facts = derivation(plan, plan.study.root, [input_record(item.folder) for item in items])
    folder = Folder()
    behind = Behind(plan.store, folder, facts, verified)
    _write_pages(plan, folder, items, missing, verified, facts)
    behind.write_results()
    behind.write_questions(_who_answered(items))
    folder.finish(plan, shown)


def _who_answered(items: list[Item]) -> dict[str, tuple[str, str]]:
    """Each result that a cell is read from, to whose it is and of which column."""
    found: dict[str, tuple[str, str]] = {}
    for item in items:
        for (group, title, column), cell in item.cells.items():
            for one in cell["from"]:
                seed = "" if one["seed"] is None else f", seed {one['seed']}"
                found.setdefault(one["result"], (f"{group}: {title}{seed}", column))
    return found


def _write_pages(
    plan: Plan, folder: Folder, items: list[Item], missing: list[str], verified: Mapping[str, Any], facts: Any
) -> None:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    chosen = plan.study.settings
    listed = [(item.name, display_name(item.name), item.title) for item in items]
    common: dict[str, Any] = {
        "items": listed,
        "missing": [(name, display_name(name)) for name in missing],
        "about": f"Scale: {chosen.scale}. Protocol: {chosen.protocol}.",
        "note": rendered(plan.scale.note),
    }
    search = [[f"{display_name(name)}: {title}", f"{name}.html"] for name, _, title in listed]
    for item in items:
        folder.data(f"cells/{item.name}", [*item.cells.values()])
        files = []
        for file in item.files():
            folder.write(f"files/{file.name}", file.read_bytes())
            files.append(file.name)
        page = environment.get_template("item.html").render(
            **common, item=item, name=display_name(item.name), files=files, tables=[*item.tables()]
        )
        folder.write(f"{item.name}.html", page)
        for key, cell in item.cells.items():
            address = cell_address(item.name, *key).partition("#")[2]
            text = f"{display_name(item.name)} | {' | '.join(key)} = {cell['value']}"
            search.append([text, f"{item.name}.html#{address}"])
    search += [[name, f"index.html#!result/{name}"] for name in facts]
    folder.data("search", search)
    spent = [[HtmlCell(text, head=place == 0) for place, text in enumerate(line)] for line in bill(facts)]
    table = HtmlTable("What each stage has taken", _BILL, spent)
    folder.write("bill.html", environment.get_template("bill.html").render(**common, tables=[table]))
    folder.write("index.html", environment.get_template("index.html").render(**common, verified=verified))
    for name in ("site.css", "site.js"):
        folder.write(name, (TEMPLATES / name).read_bytes())


if __name__ == "__main__":
    with one_line():
        make(Plan(Study.read(Path(sys.argv[1]), json.loads(sys.argv[2]))))

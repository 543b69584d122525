"""What the site was made from and what it holds (site/site.json), by which one that is stale or edited is known.

A file with a fixed name is compared with what it should hold; the site is many, so its record has the hash of each, and
one hash of all that they show: the manifests of every table and figure and of all results behind them, the logs, what
`lntune verify` said last, and the code and the templates of the site.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from lntune.files import write_whole
from lntune.paper.printed import PAPER
from lntune.plan.node import Node, is_done
from lntune.plan.plan import Plan
from lntune.site.address import INDEX, SITE
from lntune.store.fingerprint import raw_digest
from lntune.store.identity import hash_file
from lntune.store.manifest import MANIFEST

RECORD = SITE / "site.json"
VERIFIED = Path("logs") / "verify.json"
"""What `lntune verify` said last."""

TEMPLATES = Path(__file__).resolve().parents[3] / "workflow" / "report" / "site"


def shown_items(plan: Plan) -> dict[str, Node]:
    """Every table and figure that is finished, of the config and of what else can be asked for, by name."""
    items = {name: plan.report_item(name) for name in plan.known_items()}
    return {name: node for name, node in items.items() if is_done(plan.store, node)}


def log_path(result: str) -> Path:
    """The log of the job that made a result, STAGE/NAME."""
    return Path("logs") / f"{result}.log"


def made_from(plan: Plan) -> str:
    """A hash of all that the site shows: equal, it shows what there is."""
    items = shown_items(plan)
    results: dict[str, tuple[str, str]] = {}
    waiting = [node.path for node in items.values()]
    while waiting:
        if (name := waiting.pop()) not in results:
            manifest = plan.store.root / name / MANIFEST
            results[name] = _digest(manifest), _digest(log_path(name))
            waiting += _parents(plan, name, manifest)
    paper = sorted((plan.study.root / PAPER).glob("*.csv"))
    files = {file.name: _digest(file) for file in (VERIFIED, *paper, *sorted(TEMPLATES.iterdir()))}
    shown = [*items, *plan.study.settings.report_items]
    return blake3(json.dumps([shown, sorted(results.items()), files, raw_digest("lntune")]).encode()).hexdigest()


def _parents(plan: Plan, name: str, manifest: Path) -> list[str]:
    """The results that one was made from, as its manifest or else the plan tells."""
    try:
        roles: Mapping[str, Any] = json.loads(manifest.read_bytes())["inputs"]
        records = [one for its in roles.values() for one in (its if isinstance(its, list) else [its])]
        return [f"{one['stage']}/{one['label']}-{one['id']}" for one in records]
    except (OSError, ValueError, KeyError, TypeError):
        node = plan.find(*name.split("/"))
        return [one.path for one in node.parents()] if node else []


def _digest(file: Path) -> str:
    return hash_file(file) if file.is_file() else ""


def is_right(plan: Plan) -> bool:
    """Whether the site is there, whole and unedited, and shows what there is."""
    try:
        record = json.loads(RECORD.read_bytes())
        files: Mapping[str, str] = record["files"]
        return (
            INDEX.name in files
            and all(_digest(SITE / name) == its for name, its in files.items())
            and record["made_from"] == made_from(plan)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


class Folder:
    """Writes the site's files; those of an earlier site that are not written again are deleted at the end."""

    def __init__(self) -> None:
        try:
            self._before = set(json.loads(RECORD.read_bytes())["files"])
        except (OSError, ValueError, KeyError, TypeError):
            self._before = set()
        RECORD.unlink(missing_ok=True)  # until all is written there is no whole site
        self.files: dict[str, str] = {}

    def write(self, name: str, content: str | bytes) -> None:
        """Write one file; ``name`` is its path in the site."""
        content = content.encode() if isinstance(content, str) else content
        file, digest = SITE / name, blake3(content).hexdigest()
        if _digest(file) != digest:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, content)
        self.files[name] = digest

    def data(self, name: str, value: object) -> None:
        """Write a piece of data as a script: a page that is opened from the disk may load nothing else.

        It is a string of ASCII in JSON, which the page parses: nothing in it is run.
        """
        text = json.dumps(json.dumps(value, ensure_ascii=False, allow_nan=False)).replace("<", "\\u003c")
        self.write(f"data/{name}.js", f"lntune({json.dumps(name)}, {text})\n")

    def finish(self, plan: Plan, shown: str) -> None:
        """Delete what is of an earlier site alone, and write the record; ``shown``: what it was made from."""
        for name in self._before - self.files.keys():
            if ".." not in Path(name).parts and not Path(name).is_absolute():
                (SITE / name).unlink(missing_ok=True)
        write_whole(RECORD, json.dumps({"made_from": shown, "files": self.files}, indent=1) + "\n")

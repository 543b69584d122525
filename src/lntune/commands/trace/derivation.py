"""The results behind one result, down to the raw files, as their manifests tell it.

Every result comes once, by name, however many others it went into, as a dict fit for JSON: what its manifest says but
for the code; ``inputs``, each with the role, the name, the part and the content that was used; and

    state       "there"; of one that is "deleted" or "damaged" the inputs alone are told, by the plan if it has it
    raw         of fetch and draw: what the files are, their licence, and of each its sha256 and where it came from
    selection   of select: the candidates, with learning rate, CIDEr and the names of their results
    numbers     of measure: what was measured, predicted and printed, as measure.json has it
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.plan.fetched import fetched_files
from lntune.plan.node import Node, Part
from lntune.plan.plan import Plan
from lntune.stages.measure import MEASURED
from lntune.store.identity import hash_file
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, read_manifest

Facts = dict[str, Any]


def several(manifest: Manifest, role: str) -> tuple[InputRecord, ...]:
    """The inputs that play a role, in their order."""
    given = manifest.inputs.get(role, ())
    return (given,) if isinstance(given, InputRecord) else given


@dataclass(frozen=True)
class Derivation:
    """The plan, whose store is read and which knows the way where a manifest is lost; the root that paths start at."""

    plan: Plan
    root: Path

    def behind(self, records: Sequence[InputRecord]) -> dict[str, Facts]:
        """Some results and all that they were made from, by name; the first of them comes first."""
        found: dict[str, Facts] = {}
        manifests: dict[str, Manifest] = {}
        uses: dict[str, list[_Use]] = {}
        waiting = [_use("", record) for record in reversed(records)]
        while waiting:
            one = waiting.pop()
            if one.name in found:
                continue
            found[one.name], manifest = self._read(one)
            if manifest is not None:
                manifests[one.name] = manifest
                uses[one.name] = [_use(role, parent) for role, parent in manifest.parents()]
            else:
                node = self.plan.find(one.stage, f"{one.label}-{one.id}")
                uses[one.name] = [] if node is None else list(_planned(node))
            waiting += uses[one.name]
        for name, its in uses.items():
            found[name]["inputs"] = [one.facts(manifests.get(one.name)) for one in its]
        return found

    def _read(self, one: "_Use") -> tuple[Facts, Manifest | None]:
        folder = self.plan.store.folder(one.stage, one.label, one.id)
        if not (folder / MANIFEST).is_file():
            return {"state": "deleted"}, None
        try:
            manifest = read_manifest(folder / MANIFEST)
        except UserError as error:
            return {"state": "damaged", "problem": str(error)}, None
        facts = {"state": "there", **manifest.model_dump(mode="json", exclude={"code", "inputs"})}
        if manifest.stage == "fetch":
            facts["raw"] = self._fetched(manifest, folder)
        elif manifest.stage == "draw":
            facts["raw"] = _drawn(manifest, folder)
        elif manifest.stage == "select":
            facts["selection"] = _selection(manifest, folder)
        elif manifest.stage == "measure":
            facts["numbers"] = _numbers(folder)
        return facts, manifest

    def _fetched(self, manifest: Manifest, folder: Path) -> Facts:
        """A catalogue entry's files; what an older manifest does not say is taken from the catalogue as it is now."""
        execution, entry = manifest.execution, self.plan.study.catalog.entries.get(manifest.label)
        files = [{**asdict(file), "path": self._seen(file.path)} for file in fetched_files(manifest, folder, entry)]
        about = execution.get("about") or (entry.about if entry else None)
        licence = execution.get("licence") or (entry.licence if entry else "unknown")
        return {"about": about, "licence": licence, "files": files}

    def _seen(self, path: str | None) -> str | None:
        """A path from the checkout's root, if it lies there."""
        root = self.root.resolve()
        return str(Path(path).relative_to(root)) if path and Path(path).is_relative_to(root) else path


@dataclass(frozen=True)
class _Use:
    """An input as it was used; its content is not known of one that only the plan tells of."""

    role: str
    stage: str
    label: str
    id: str
    part: str | None
    content: str | None

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.label}-{self.id}"

    def facts(self, now: Manifest | None) -> Facts:
        """For JSON; ``changed`` if the result of that name holds other files now."""
        changed = now is not None and self.content is not None and now.part_content(self.part) != self.content
        told = {"role": self.role, "result": self.name, "part": self.part, "content": self.content}
        return {**told, "changed": changed}


def _use(role: str, record: InputRecord) -> _Use:
    return _Use(role, record.stage, record.label, record.id, record.part, record.content)


def _planned(node: Node) -> Iterator[_Use]:
    for role, given in node.inputs.items():
        for one in given if isinstance(given, tuple) else (given,):
            parent, part = (one.node, one.folder) if isinstance(one, Part) else (one, None)
            yield _Use(role, parent.stage, parent.label, parent.id, part, None)


def _drawn(manifest: Manifest, folder: Path) -> Facts:
    """The files of the demo's world; the sha256 is None of one that is not what the manifest says."""
    files = []
    for name, file in manifest.outputs.items():
        there = (folder / name).is_file() and hash_file(folder / name) == file.blake3
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest() if there else None
        files.append({"name": name, "sha256": sha256, "url": None, "path": None})
    about = f"drawn by lntune from seed {manifest.seed} (the demo's world), no external file"
    return {"about": about, "licence": "the project's own", "files": files}


def _selection(manifest: Manifest, folder: Path) -> Facts:
    """Each candidate with its learning rate, its CIDEr (None if selection.json is lost) and its results' names."""
    try:
        ciders = [one["CIDEr"] for one in json.loads((folder / "selection.json").read_text())["candidates"]]
    except (OSError, ValueError, KeyError, TypeError):
        ciders = []
    rates: Any = manifest.settings["learning_rates"]
    tuned, scores = several(manifest, "candidates"), several(manifest, "scores")
    candidates = [
        {
            "learning_rate": rate,
            "CIDEr": ciders[place] if place < len(ciders) else None,
            "chosen": rate == manifest.metrics.get("learning_rate"),
            "result": tuned[place].name,
            "score": scores[place].name,
        }
        for place, rate in enumerate(rates)
    ]
    return {"metric": f"CIDEr on Flickr30k {manifest.settings['split']}", "candidates": candidates}


def _numbers(folder: Path) -> list[Facts]:
    """What was measured, and what it is compared with; nothing if the file is lost."""
    try:
        return list(json.loads((folder / MEASURED).read_text())["numbers"])
    except (OSError, ValueError, KeyError, TypeError):
        return []

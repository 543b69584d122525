"""What a crate says of itself: ``ro-crate-metadata.json``, a Provenance Run Crate in RO-Crate's JSON-LD.

The Snakefile is the main workflow and every stage one of its tools. The run as a whole is one action; each result is
another, whose objects are the files that it was made from and whose results are its files. A file that is not in the
crate is a ``File`` with an ``@id`` that starts with "#", as RO-Crate 1.2 lays down for files that are left out on
purpose, with its size, its hashes and the ``localPath`` that it has in a checkout.
https://w3id.org/ro/wfrun/provenance/0.5
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from lntune.commands.export.contents import Contents, Licences, Result, kind_of
from lntune.config.study import StudySettings
from lntune.plan.stages import STAGES, stage_module
from lntune.plan.study import Study
from lntune.store.identity import FileRecord, digest
from lntune.store.manifest import MANIFEST, Manifest

METADATA = "ro-crate-metadata.json"
README = "README.md"

_WORKFLOW = "Snakefile"
_OPERATOR = {"@id": "#operator"}
"""Whoever ran the workflow: no result records a person."""

_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_BLAKE3 = "https://w3id.org/ro/terms/lntune#blake3"
_TERMS = {"blake3": _BLAKE3, "localPath": "https://w3id.org/ro/terms#localPath"}
_ENGINE = "https://snakemake.readthedocs.io"
_DONE = "http://schema.org/CompletedActionStatus"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
    ".safetensors": "application/octet-stream",
    ".tex": "application/x-tex",
    ".pdf": "application/pdf",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


@dataclass(frozen=True)
class Written:
    """What was written as one file: its length in bytes and its hashes in hexadecimal digits."""

    bytes: int
    sha256: str
    blake3: str


def describe(contents: Contents, study: Study, written: Mapping[str, Written]) -> bytes:
    """The metadata of a crate.

    Args:
        contents: what the crate is made of.
        study: the checkout that it is exported from.
        written: every file in the crate but the metadata, by its path.
    """
    entities = _Entities(contents, written)
    licences = Licences(contents, study.catalog)
    _add_root(entities, licences)
    workflow = _add_workflow(entities, licences)
    for path in written:
        if path != _WORKFLOW:
            _add_file(entities, licences, path)
    for result in contents.results.values():
        for name, file in result.left_out().items():
            _add_left_out(entities, licences, result, name, file)
    entities.crate.get(README)["about"] = entities.root
    _add_actions(entities, workflow, study.settings)
    return entities.document()


# --- entities ------------------------------------------------------------------------------------------------------


def _moment(time: datetime) -> str:
    """A time as the profiles want it: ISO 8601 with milliseconds and an offset in digits."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _path_id(path: str) -> dict[str, str]:
    """A reference to a file in the crate."""
    return {"@id": quote(path)}


class _Entities:
    """What is added to one crate; ``crate`` is rocrate's own object."""

    def __init__(self, contents: Contents, written: Mapping[str, Written]) -> None:
        from rocrate.rocrate import ROCrate

        self.contents, self.written = contents, written
        self.crate: Any = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_CONTEXT)
        self.crate.metadata.extra_terms.update(_TERMS)
        self.root: Any = self.crate.root_dataset

    def add(self, id: str, type: str, **properties: Any) -> Any:
        """Add a contextual entity; properties that are None or empty are left out."""
        from rocrate.model.contextentity import ContextEntity

        given = {"@type": type, **{name: value for name, value in properties.items() if value not in (None, [], "")}}
        return self.crate.add(ContextEntity(self.crate, id, properties=given))

    def stated(self, path: str) -> dict[str, str]:
        """Size and hashes of a file in the crate."""
        one = self.written[path]
        return {"contentSize": str(one.bytes), "sha256": one.sha256, "blake3": one.blake3}

    def file_id(self, result: Result, name: str) -> dict[str, str]:
        """A reference to a result's file, be it in the crate or named by its hash."""
        if name == MANIFEST or name in result.copied():
            return _path_id(f"{result.path}/{name}")
        return {"@id": "#" + quote(f"{result.manifest.name}/{name}")}

    def file_ids(self, files: Iterable[tuple[Result, str]]) -> list[dict[str, str]]:
        """References to results' files."""
        return [self.file_id(result, name) for result, name in files]

    def document(self) -> bytes:
        """The whole graph as JSON; a list of one is written as its element, as RO-Crate 1.1 recommends."""
        document = self.crate.metadata.generate()
        document["@graph"] = [
            {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in one.items()}
            for one in document["@graph"]
        ]
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


# --- the crate, the workflow and files -----------------------------------------------------------------------------


def _format(name: str) -> str:
    return _FORMATS.get(PurePosixPath(name).suffix, "text/plain")


def _add_root(entities: _Entities, licences: Licences) -> None:
    """The crate as a whole, its profiles, licences and nameless operator."""
    contents, root = entities.contents, entities.root
    settings, results = contents.last.manifest.settings, contents.results.values()
    root["name"] = f"{contents.report_item}: {settings['title']}"
    root["description"] = (
        f"{kind_of(contents).capitalize()} made by the workflow lntune, with the manifests of all {len(results)} "
        f"results behind it, the answers, the scores and the workflow's definition. {README} says how to follow a "
        f"number to its raw files. "
        f"Scale: {settings['scale']}; protocol: {settings['protocol']}."
    )
    root["datePublished"] = _moment(max(one.manifest.ended for one in results))  # not now: the same bytes another day
    root["conformsTo"] = [
        entities.add(id, "CreativeWork", name=name, version=id.rpartition("/")[2]) for id, name in _PROFILES.items()
    ]
    for licence in licences.all():
        entities.add(licence.id, "CreativeWork", name=licence.name, description=licence.description)
    root["license"] = {"@id": licences.project.id}
    description = "No result records a person or an institution."
    entities.add(_OPERATOR["@id"], "Organization", name="Whoever ran the workflow", description=description)
    root["author"] = root["publisher"] = _OPERATOR
    comment = "The BLAKE3 of the file's bytes, in 64 hexadecimal digits."
    entities.add(_BLAKE3, "rdf:Property", **{"rdfs:label": "blake3", "rdfs:comment": comment})


def _add_workflow(entities: _Entities, licences: Licences) -> Any:
    """The Snakefile, as the crate's main entity; its version is the commit, or the hash of all that defines it."""
    contents, git = entities.contents, entities.contents.last.manifest.git
    files = digest({path: entities.written[path].blake3 for path in contents.definition})
    commit = f"git {git.commit}{' with uncommitted changes' if git.dirty else ''}" if git else f"files {files[:12]}"
    workflow = entities.crate.add_workflow(
        dest_path=_WORKFLOW,
        main=True,
        lang="snakemake",
        lang_version=version("snakemake"),
        properties={
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            **entities.stated(_WORKFLOW),
            "name": "lntune",
            "version": commit,
            "encodingFormat": "text/plain",
            "license": {"@id": licences.project.id},
        },
    )
    workflow["conformsTo"] = entities.add(_BIOSCHEMAS, "CreativeWork", name="Bioschemas ComputationalWorkflow")
    return workflow


def _add_file(entities: _Entities, licences: Licences, path: str) -> None:
    """A file that is in the crate."""
    properties = {"name": path, **entities.stated(path), "encodingFormat": _format(path)}
    entity = entities.crate.add_file(dest_path=path, properties=properties)
    source = entities.contents.files.get(path)
    if source is not None and source.result is not None:
        _set_licences(entity, licences, entities.contents.results[source.result])


def _add_left_out(entities: _Entities, licences: Licences, result: Result, name: str, file: FileRecord) -> None:
    """A file that is named by its hash."""
    manifest = result.manifest
    more = licences.fetched(manifest).properties(name) if manifest.stage == "fetch" else {}
    entity = entities.add(
        entities.file_id(result, name)["@id"],
        "File",
        name=f"{name} of {manifest.name}, not in this crate",
        contentSize=str(file.bytes),
        blake3=file.blake3,
        encodingFormat=_format(name),
        localPath=f"{result.path}/{name}",
        **more,
    )
    _set_licences(entity, licences, result)


def _set_licences(entity: Any, licences: Licences, result: Result) -> None:
    found = licences.of(result)
    if found:
        entity["license"] = [{"@id": licence.id} for licence in found]


# --- what was done -------------------------------------------------------------------------------------------------


def _add_actions(entities: _Entities, workflow: Any, settings: StudySettings) -> None:
    """Add the steps of the workflow, its run, what made each result, and Snakemake's part in it."""
    steps = _add_steps(entities, workflow)
    run = _add_run(entities, workflow, settings)
    actions, controls = [run], []
    for result in entities.contents.results.values():
        manifest = result.manifest
        actions.append(_add_action(entities, result))
        controls.append(
            entities.add(
                f"#job/{manifest.name}",
                "ControlAction",
                name=f"job {manifest.name}",
                instrument=steps[manifest.stage],
                object=actions[-1],
                actionStatus=_DONE,
            )
        )
    engine = entities.add(
        _ENGINE, "SoftwareApplication", name="Snakemake", url=_ENGINE, softwareVersion=version("snakemake")
    )
    entities.add("#engine", "OrganizeAction", name="Snakemake", instrument=engine, result=run, object=controls)
    entities.root["mentions"] = actions


def _made_by(manifest: Manifest) -> str:
    """The hash of the code and the packages that made a result."""
    return digest({"code": manifest.code, "packages": manifest.packages})


def _tool_id(manifest: Manifest) -> str:
    return f"#stage/{manifest.stage}/{_made_by(manifest)[:12]}"


def _add_steps(entities: _Entities, workflow: Any) -> dict[str, Any]:
    """The stages as the workflow's steps, and by code and packages as its tools; the steps by stage."""
    tools: dict[str, dict[str, Any]] = defaultdict(dict)
    for result in entities.contents.results.values():
        stage, made_by = result.manifest.stage, _made_by(result.manifest)
        if made_by not in tools[stage]:
            tools[stage][made_by] = _add_tool(entities, result.manifest)
    ordered = [stage for stage in STAGES if stage in tools]
    workflow["hasPart"] = [tool for stage in ordered for tool in tools[stage].values()]
    steps = {}
    for place, stage in enumerate(ordered):
        used = list(tools[stage].values())
        steps[stage] = entities.add(f"#step/{stage}", "HowToStep", name=stage, position=str(place), workExample=used)
    workflow["step"] = list(steps.values())
    return steps


def _add_tool(entities: _Entities, manifest: Manifest) -> Any:
    return entities.add(
        _tool_id(manifest),
        "SoftwareApplication",
        name=f"lntune {manifest.stage}",
        description=(stage_module(manifest.stage).__doc__ or "").partition("\n")[0],
        softwareVersion=f"code {digest(manifest.code)}",
        softwareRequirements=[f"{name} {found}" for name, found in manifest.packages.items()],
    )


def _add_run(entities: _Entities, workflow: Any, settings: StudySettings) -> Any:
    """The run as a whole: from the config and the raw files to the table or figure."""
    results, report_item = entities.contents.results.values(), entities.contents.report_item
    raw = [(one, file) for one in results if not one.manifest.inputs for file in one.manifest.outputs]
    config = (
        "config.yaml",
        "workflow/catalog.yaml",
        f"workflow/report_items/{report_item}.yaml",
        f"workflow/protocols/{settings.protocol}.yaml",
        f"workflow/scales/{settings.scale}.yaml",
        *([f"workflow/paper/{report_item}.csv"] if entities.contents.last.manifest.settings.get("literature") else []),
    )
    return entities.add(
        "#run",
        "CreateAction",
        name=f"run of lntune that made {report_item}",
        description="From the first result behind it to the last, over one start of Snakemake or several.",
        instrument=workflow,
        agent=_OPERATOR,
        startTime=_moment(min(one.manifest.started for one in results)),
        endTime=_moment(max(one.manifest.ended for one in results)),
        actionStatus=_DONE,
        object=[_path_id(path) for path in config] + entities.file_ids(raw),
        result=[_path_id(path) for path in sorted(entities.contents.published)],
    )


def _add_action(entities: _Entities, result: Result) -> Any:
    manifest = result.manifest
    return entities.add(
        f"#make/{manifest.name}",
        "CreateAction",
        name=f"{manifest.stage}: {manifest.label}",
        description=made_text(manifest),
        instrument={"@id": _tool_id(manifest)},
        agent=_OPERATOR,
        startTime=_moment(manifest.started),
        endTime=_moment(manifest.ended),
        actionStatus=_DONE,
        object=entities.file_ids(entities.contents.inputs(result)),
        result=entities.file_ids((result, name) for name in manifest.outputs),
        subjectOf=entities.file_id(result, MANIFEST),
    )


def made_text(manifest: Manifest) -> str:
    """How a result was made, in words."""
    seed = "No seed" if manifest.seed is None else f"Seed {manifest.seed}"
    sentences = [f"{seed}; {manifest.wall_seconds:g} s."]
    if manifest.origin is not None:
        origin = f"{manifest.stage}/{manifest.origin.label}-{manifest.origin.id}"
        sentences.append(
            f"The files were linked from {origin} on {_moment(manifest.origin.linked)}, because settings, code, "
            "packages and the bytes of the inputs are equal; times and seconds are those of that work."
        )
    for edit in manifest.accepted:
        sentences.append(f"Made after an edit that was declared to change no result: {edit.because.rstrip('.')}.")
    return " ".join(sentences)

"""What a crate says of itself: ``ro-crate-metadata.json``, a Provenance Run Crate in RO-Crate's JSON-LD.

The Snakefile is the main workflow and every stage one of its tools. The run as a whole is one action; each result is
another, whose objects are the files that it was made from and whose results are its files. A file that is not in the
crate is a ``File`` with an ``@id`` that starts with "#", as RO-Crate 1.2 lays down for files that are left out on
purpose, with its size, its hashes and the ``localPath`` that it has in a checkout.
https://w3id.org/ro/wfrun/provenance/0.5
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from lntune.commands.export.contents import PROJECT, Contents, Result, fetched, licences_of
from lntune.plan.stages import STAGES, stage_module
from lntune.plan.study import Study
from lntune.store.identity import FileRecord, digest
from lntune.store.manifest import MANIFEST, Manifest

METADATA = "ro-crate-metadata.json"
README = "README.md"

_WORKFLOW = "Snakefile"
_OPERATOR = {"@id": "#operator"}  # whoever ran the workflow: no result records a person
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

Stated = Mapping[str, str]
"""What is stated of a file in the crate: ``contentSize`` in bytes, ``sha256`` and ``blake3`` in hexadecimal digits."""


def describe(contents: Contents, study: Study, written: Mapping[str, Stated]) -> bytes:
    """The metadata of a crate that is exported from a checkout; ``written`` is every other file in it, by its path."""
    entities = _Entities(contents, written)
    _add_root(entities)
    workflow = _add_workflow(entities)
    for path in written:
        if path != _WORKFLOW:
            properties = {"name": path, **written[path], "encodingFormat": _format(path)}
            entity, source = entities.crate.add_file(dest_path=path, properties=properties), contents.files.get(path)
            if source is not None and source.result is not None:
                entities.set_licences(entity, contents.results[source.result])
    for result in contents.results.values():
        for name, file in result.left_out().items():
            _add_left_out(entities, result, name, file)
    entities.crate.get(README)["about"] = entities.root
    _add_actions(entities, workflow, study)
    return entities.document()


def _moment(time: datetime) -> str:
    """A time as the profiles want it: ISO 8601 with milliseconds and an offset in digits."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _path_id(path: str) -> dict[str, str]:
    """A reference to a file in the crate."""
    return {"@id": quote(path)}


class _Entities:
    """What is added to one crate; ``crate`` is rocrate's own object."""

    def __init__(self, contents: Contents, written: Mapping[str, Stated]) -> None:
        from rocrate.rocrate import ROCrate

        self.contents, self.written = contents, written
        self.licences = licences_of(contents)
        self.crate: Any = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_CONTEXT)
        self.crate.metadata.extra_terms.update(_TERMS)
        self.root: Any = self.crate.root_dataset

    def add(self, id: str, type: str, **properties: Any) -> Any:
        """Add a contextual entity; properties that are None or empty are left out."""
        from rocrate.model.contextentity import ContextEntity

        given = {"@type": type, **{name: value for name, value in properties.items() if value not in (None, [], "")}}
        return self.crate.add(ContextEntity(self.crate, id, properties=given))

    def file_id(self, result: Result, name: str) -> dict[str, str]:
        """A reference to a result's file, be it in the crate or named by its hash."""
        if name == MANIFEST or name in result.copied():
            return _path_id(f"{result.path}/{name}")
        return {"@id": "#" + quote(f"{result.manifest.name}/{name}")}

    def set_licences(self, entity: Any, result: Result) -> None:
        """Refer from a result's file to its licences."""
        if found := self.licences[result.manifest.name]:
            entity["license"] = [{"@id": licence.id} for licence in found]

    def document(self) -> bytes:
        """The whole graph as JSON; a list of one is written as its element, as RO-Crate 1.1 recommends."""
        document = self.crate.metadata.generate()
        document["@graph"] = [
            {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in one.items()}
            for one in document["@graph"]
        ]
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _format(name: str) -> str:
    return _FORMATS.get(PurePosixPath(name).suffix, "text/plain")


def _add_root(entities: _Entities) -> None:
    """The crate as a whole, its profiles, licences and nameless operator."""
    contents, root = entities.contents, entities.root
    settings, results = contents.last.manifest.settings, contents.results.values()
    root["name"] = f"{contents.report_item}: {settings['title']}"
    root["description"] = (
        f"{contents.kind.capitalize()} made by the workflow lntune, with the manifests of all {len(results)} "
        f"results behind it, the answers, the scores and the workflow's definition. {README} says how to follow a "
        f"number to its raw files. Scale: {settings['scale']}; protocol: {settings['protocol']}."
    )
    root["datePublished"] = _moment(max(one.manifest.ended for one in results))  # not now: the same bytes another day
    root["conformsTo"] = [
        entities.add(id, "CreativeWork", name=name, version=id.rpartition("/")[2]) for id, name in _PROFILES.items()
    ]
    others = {licence.id: licence for found in entities.licences.values() for licence in found}
    for licence in ({PROJECT.id: PROJECT} | others).values():
        entities.add(licence.id, "CreativeWork", name=licence.name, description=licence.description)
    root["license"] = {"@id": PROJECT.id}
    nobody = "No result records a person or an institution."
    entities.add(_OPERATOR["@id"], "Organization", name="Whoever ran the workflow", description=nobody)
    root["author"] = root["publisher"] = _OPERATOR
    comment = "The BLAKE3 of the file's bytes, in 64 hexadecimal digits."
    entities.add(_BLAKE3, "rdf:Property", **{"rdfs:label": "blake3", "rdfs:comment": comment})


def _add_workflow(entities: _Entities) -> Any:
    """The Snakefile, as the crate's main entity; its version is the commit, or the hash of all that defines it."""
    contents, git = entities.contents, entities.contents.last.manifest.git
    files = digest({path: entities.written[path]["blake3"] for path in contents.definition})
    commit = f"git {git.commit}{' with uncommitted changes' if git.dirty else ''}" if git else f"files {files[:12]}"
    workflow = entities.crate.add_workflow(
        dest_path=_WORKFLOW,
        main=True,
        lang="snakemake",
        lang_version=version("snakemake"),
        properties={
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            **entities.written[_WORKFLOW],
            "name": "lntune",
            "version": commit,
            "encodingFormat": "text/plain",
            "license": {"@id": PROJECT.id},
        },
    )
    workflow["conformsTo"] = entities.add(_BIOSCHEMAS, "CreativeWork", name="Bioschemas ComputationalWorkflow")
    return workflow


def _add_left_out(entities: _Entities, result: Result, name: str, file: FileRecord) -> None:
    """A file that is named by its hash."""
    manifest = result.manifest
    more = fetched(result).properties(name) if manifest.stage == "fetch" else {}
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
    entities.set_licences(entity, result)


def _add_actions(entities: _Entities, workflow: Any, study: Study) -> None:
    """Add the steps of the workflow, its run, what made each result, and Snakemake's part in it."""
    steps = _add_steps(entities, workflow)
    run = _add_run(entities, workflow, study)
    actions, controls = [run], []
    for result in entities.contents.results.values():
        name, step = result.manifest.name, steps[result.manifest.stage]
        action = _add_action(entities, result)
        control = {"name": f"job {name}", "instrument": step, "object": action, "actionStatus": _DONE}
        actions.append(action)
        controls.append(entities.add(f"#job/{name}", "ControlAction", **control))
    snakemake = {"name": "Snakemake", "url": _ENGINE, "softwareVersion": version("snakemake")}
    engine = entities.add(_ENGINE, "SoftwareApplication", **snakemake)
    entities.add("#engine", "OrganizeAction", name="Snakemake", instrument=engine, result=run, object=controls)
    entities.root["mentions"] = actions


def _tool_id(manifest: Manifest) -> str:
    made_by = digest({"code": manifest.code, "packages": manifest.packages})
    return f"#stage/{manifest.stage}/{made_by[:12]}"


def _add_steps(entities: _Entities, workflow: Any) -> dict[str, Any]:
    """The stages as the workflow's steps, and by code and packages as its tools; the steps by stage."""
    tools: dict[str, dict[str, Any]] = defaultdict(dict)
    for manifest in (result.manifest for result in entities.contents.results.values()):
        of_stage, id = tools[manifest.stage], _tool_id(manifest)
        if id not in of_stage:
            of_stage[id] = entities.add(
                id,
                "SoftwareApplication",
                name=f"lntune {manifest.stage}",
                description=(stage_module(manifest.stage).__doc__ or "").partition("\n")[0],
                softwareVersion=f"code {digest(manifest.code)}",
                softwareRequirements=[f"{name} {found}" for name, found in manifest.packages.items()],
            )
    ordered = {stage: list(tools[stage].values()) for stage in STAGES if stage in tools}
    workflow["hasPart"] = [tool for used in ordered.values() for tool in used]
    steps = {
        stage: entities.add(f"#step/{stage}", "HowToStep", name=stage, position=str(place), workExample=used)
        for place, (stage, used) in enumerate(ordered.items())
    }
    workflow["step"] = list(steps.values())
    return steps


def _add_run(entities: _Entities, workflow: Any, study: Study) -> Any:
    """The run as a whole: from the config and the raw files to the table or figure."""
    contents = entities.contents
    results, report_item = contents.results.values(), contents.report_item
    raw = [(one, file) for one in results if not one.manifest.inputs for file in one.manifest.outputs]
    config = [
        "config.yaml",
        "workflow/catalog.yaml",
        f"workflow/report_items/{report_item}.yaml",
        f"workflow/protocols/{study.settings.protocol}.yaml",
        *(f"workflow/scales/{file.name}" for file in study.scale_files()),
    ]
    if contents.last.manifest.settings.get("literature"):
        config.append(f"workflow/paper/{report_item}.csv")
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
        object=[_path_id(path) for path in config] + [entities.file_id(*file) for file in raw],
        result=[_path_id(path) for path in sorted(contents.published)],
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
        object=[entities.file_id(*file) for file in entities.contents.inputs(result)],
        result=[entities.file_id(result, name) for name in manifest.outputs],
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

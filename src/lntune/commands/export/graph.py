"""What a crate says of itself: ``ro-crate-metadata.json``, a Provenance Run Crate in RO-Crate's JSON-LD.

The Snakefile is the main workflow and every stage one of its tools. The run as a whole is one action; each result is
another, whose objects are the files that it was made from and whose results are its files. A file that is not in the
crate is a ``File`` with an ``@id`` that starts with "#", as RO-Crate 1.2 lays down for files that are left out on
purpose, with its size, its hashes and the ``localPath`` that it has in a checkout.
https://w3id.org/ro/wfrun/provenance/0.5
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from lntune.commands.export.actions import add_actions
from lntune.commands.export.archive import Written
from lntune.commands.export.contents import Contents, Result, kind_of
from lntune.commands.export.entities import BLAKE3, OPERATOR, README, WORKFLOW, Entities, moment
from lntune.commands.export.licences import Licences
from lntune.plan.study import Study
from lntune.store.identity import FileRecord, digest

METADATA = "ro-crate-metadata.json"

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


def describe(contents: Contents, study: Study, written: Mapping[str, Written]) -> bytes:
    """The metadata of a crate.

    Args:
        contents: what the crate is made of.
        study: the checkout that it is exported from.
        written: every file in the crate but the metadata, by its path.
    """
    entities = Entities(contents, written)
    licences = Licences(contents, study.catalog)
    _add_root(entities, licences)
    workflow = _add_workflow(entities, licences)
    for path in written:
        if path != WORKFLOW:
            _add_file(entities, licences, path)
    for result in contents.results.values():
        for name, file in result.left_out().items():
            _add_left_out(entities, licences, result, name, file)
    entities.crate.get(README)["about"] = entities.root
    add_actions(entities, workflow, study.settings)
    return entities.document()


def _format(name: str) -> str:
    return _FORMATS.get(PurePosixPath(name).suffix, "text/plain")


def _add_root(entities: Entities, licences: Licences) -> None:
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
    root["datePublished"] = moment(max(one.manifest.ended for one in results))  # not now: the same bytes another day
    root["conformsTo"] = [
        entities.add(id, "CreativeWork", name=name, version=id.rpartition("/")[2]) for id, name in _PROFILES.items()
    ]
    for licence in licences.all():
        entities.add(licence.id, "CreativeWork", name=licence.name, description=licence.description)
    root["license"] = {"@id": licences.project.id}
    description = "No result records a person or an institution."
    entities.add(OPERATOR["@id"], "Organization", name="Whoever ran the workflow", description=description)
    root["author"] = root["publisher"] = OPERATOR
    comment = "The BLAKE3 of the file's bytes, in 64 hexadecimal digits."
    entities.add(BLAKE3, "rdf:Property", **{"rdfs:label": "blake3", "rdfs:comment": comment})


def _add_workflow(entities: Entities, licences: Licences) -> Any:
    """The Snakefile, as the crate's main entity; its version is the commit, or the hash of all that defines it."""
    contents, git = entities.contents, entities.contents.last.manifest.git
    files = digest({path: entities.written[path].blake3 for path in contents.definition})
    commit = f"git {git.commit}{' with uncommitted changes' if git.dirty else ''}" if git else f"files {files[:12]}"
    workflow = entities.crate.add_workflow(
        dest_path=WORKFLOW,
        main=True,
        lang="snakemake",
        lang_version=version("snakemake"),
        properties={
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            **entities.stated(WORKFLOW),
            "name": "lntune",
            "version": commit,
            "encodingFormat": "text/plain",
            "license": {"@id": licences.project.id},
        },
    )
    workflow["conformsTo"] = entities.add(_BIOSCHEMAS, "CreativeWork", name="Bioschemas ComputationalWorkflow")
    return workflow


def _add_file(entities: Entities, licences: Licences, path: str) -> None:
    """A file that is in the crate."""
    properties = {"name": path, **entities.stated(path), "encodingFormat": _format(path)}
    entity = entities.crate.add_file(dest_path=path, properties=properties)
    source = entities.contents.files.get(path)
    if source is not None and source.result is not None:
        _set_licences(entity, licences, entities.contents.results[source.result])


def _add_left_out(entities: Entities, licences: Licences, result: Result, name: str, file: FileRecord) -> None:
    """A file that is named by its hash."""
    manifest = result.manifest
    more: dict[str, Any] = {}
    if manifest.stage == "fetch":
        fetched = licences.fetched(manifest)
        more = {
            "sha256": fetched.sha256.get(name),
            "description": fetched.description(name),
            "contentUrl": fetched.urls.get(name),
        }
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

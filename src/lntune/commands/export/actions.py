"""What was done, as a crate tells it: the stages as tools and steps, the run as a whole, and one action a result."""

from collections import defaultdict
from importlib.metadata import version
from typing import Any

from lntune.commands.export.contents import Result
from lntune.commands.export.entities import OPERATOR, Entities, moment, path_id
from lntune.config.study import StudySettings
from lntune.plan.stages import STAGES, stage_module
from lntune.store.identity import digest
from lntune.store.layout import MANIFEST
from lntune.store.manifest import Manifest

_ENGINE = "https://snakemake.readthedocs.io"
_DONE = "http://schema.org/CompletedActionStatus"


def add_actions(entities: Entities, workflow: Any, settings: StudySettings) -> None:
    """Add the steps of the workflow, its run, what made each result, and Snakemake's part in it."""
    steps = _add_steps(entities, workflow)
    run = _add_run(entities, workflow, settings)
    actions, controls = [run], []
    for result in entities.contents.results.values():
        manifest = result.manifest
        actions.append(_add_action(entities, result))
        controls.append(
            entities.add(
                f"#order/{manifest.name}",
                "ControlAction",
                name=f"order {manifest.name}",
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


def _add_steps(entities: Entities, workflow: Any) -> dict[str, Any]:
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
        tried = list(tools[stage].values())
        steps[stage] = entities.add(f"#step/{stage}", "HowToStep", name=stage, position=str(place), workExample=tried)
    workflow["step"] = list(steps.values())
    return steps


def _add_tool(entities: Entities, manifest: Manifest) -> Any:
    return entities.add(
        _tool_id(manifest),
        "SoftwareApplication",
        name=f"lntune {manifest.stage}",
        description=(stage_module(manifest.stage).__doc__ or "").partition("\n")[0],
        softwareVersion=f"code {digest(manifest.code)}",
        softwareRequirements=[f"{name} {found}" for name, found in manifest.packages.items()],
    )


def _add_run(entities: Entities, workflow: Any, settings: StudySettings) -> Any:
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
        agent=OPERATOR,
        startTime=moment(min(one.manifest.started for one in results)),
        endTime=moment(max(one.manifest.ended for one in results)),
        actionStatus=_DONE,
        object=[path_id(path) for path in config] + entities.file_ids(raw),
        result=[path_id(path) for path in sorted(entities.contents.published)],
    )


def _add_action(entities: Entities, result: Result) -> Any:
    manifest = result.manifest
    return entities.add(
        f"#make/{manifest.name}",
        "CreateAction",
        name=f"{manifest.stage}: {manifest.label}",
        description=told(manifest),
        instrument={"@id": _tool_id(manifest)},
        agent=OPERATOR,
        startTime=moment(manifest.started),
        endTime=moment(manifest.ended),
        actionStatus=_DONE,
        object=entities.file_ids(entities.contents.inputs(result)),
        result=entities.file_ids((result, name) for name in manifest.outputs),
        subjectOf=entities.file_id(result, MANIFEST),
    )


def told(manifest: Manifest) -> str:
    """What is to be said of how a result was made."""
    seed = "No seed" if manifest.seed is None else f"Seed {manifest.seed}"
    sentences = [f"{seed}; {manifest.wall_seconds:g} s."]
    if manifest.origin is not None:
        origin = f"{manifest.stage}/{manifest.origin.label}-{manifest.origin.id}"
        sentences.append(
            f"The files were linked from {origin} on {moment(manifest.origin.linked)}, because settings, code, "
            "packages and the bytes of the inputs are equal; times and seconds are those of that work."
        )
    for edit in manifest.accepted:
        sentences.append(f"Made after an edit that was declared to change no result: {edit.because.rstrip('.')}.")
    return " ".join(sentences)

"""A store that holds every result of a plan, as far as a forecast looks: manifests, and the models' configs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lntune.estimate.shapes import LLMS
from lntune.plan.node import Node, Part, closure, manifest_path
from lntune.plan.plan import Plan
from lntune.store.identity import FileRecord
from lntune.store.manifest import InputRecord, Machine, Manifest, content_digest

OUTPUTS = {"scores.json": FileRecord(bytes=1000, blake3="0" * 64)}


def finish(plan: Plan, item: str, seconds: Callable[[Node], float], gpus: tuple[str, ...] = ()) -> list[Node]:
    """Write the manifests of all that a report item is made from: what took how long, on a CPU or on GPUs."""
    now = datetime.now(UTC)
    machine = Machine(host="h", cpu="c", cores=1, gpus=gpus, ranks=1, slurm_job_id=None)
    nodes = closure([plan.report_item(item)])
    for node in nodes:
        document = node.identity.document()
        inputs = {
            role: tuple(map(_record, given)) if isinstance(given, tuple) else _record(given)
            for role, given in node.inputs.items()
        }
        path = manifest_path(plan.store, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, text in _configs(node).items():
            (path.parent / name).write_text(text)
        manifest = Manifest(
            stage=node.stage, label=node.label, id=node.id, settings=json.loads(json.dumps(document["settings"])),
            execution=node.execution.model_dump(mode="json"), inputs=inputs, outputs=OUTPUTS,
            content=content_digest(OUTPUTS), code=document["code"], packages=document["packages"], git=None, seed=0,
            machine=machine, started=now, ended=now, wall_seconds=seconds(node), peak_memory_bytes=1, metrics={},
        )  # fmt: skip
        path.write_text(manifest.model_dump_json())
    return nodes


def _record(given: Node | Part) -> InputRecord:
    node = given.node if isinstance(given, Part) else given
    part = given.folder if isinstance(given, Part) else None
    return InputRecord(stage=node.stage, label=node.label, id=node.id, part=part, content="0" * 64)


def _configs(node: Node) -> dict[str, str]:
    """The config of a fetched model: that of the repository, or of the paper's sizes."""
    places = getattr(node.execution, "places", {})
    root = Path(getattr(node.execution, "root", "."))
    found = {name: (root / one.path).read_text() for name, one in places.items() if one.path and "config" in name}
    if "open_clip_config.json" in places:
        encoder = {"width": 1024, "layers": 24, "image_size": 224, "patch_size": 14}
        return {"open_clip_config.json": json.dumps({"model_cfg": {"vision_cfg": encoder}})} | found
    if "config.json" in places or node.stage == "convert":
        shape = LLMS["13B" if "13b" in node.label else "7B"]
        config = {
            "model_type": shape.model_type, "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "vocab_size": shape.vocabulary,
        }  # fmt: skip
        return {"config.json": json.dumps(config)} | found
    return {}

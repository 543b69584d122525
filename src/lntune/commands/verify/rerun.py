"""Results made again from their inputs, as jobs are run, in a folder of their own: what hashes of what is stored miss.

Weights that are drawn at random in every process, for one, have an id and hashes that agree, and other bytes each time.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lntune.commands.verify.findings import Findings, differing_cells
from lntune.commands.verify.stored import MISSING, SURPLUS, File, Held, Manifests
from lntune.errors import UserError
from lntune.plan.node import Node, result_folder
from lntune.plan.plan import Plan
from lntune.plan.targets import targets_of
from lntune.report.published import difference
from lntune.snakefile.workflow import spec_path, write_specs
from lntune.stages.select import CHOSEN
from lntune.store.identity import canonical_json, hash_tree
from lntune.store.manifest import MANIFEST, Manifest, Store, read_manifest
from lntune.training.endings import KINDS
from lntune.units import counted

_NEVER = {"fetch": "comes from elsewhere, and was hashed", "rehearse": "holds times, which never come out alike"}


def rerun(
    plan: Plan, manifests: Manifests, held: Held, findings: Findings, asked: Sequence[str], seed: int | None,
    leave_out: Collection[str],
) -> None:  # fmt: skip
    """Make results again: those that ``asked`` names, and for a number in it as many others, drawn with ``seed``.

    None is drawn of the stages to ``leave_out``. Each is made by a job of its own, with the execution that it was made
    with; what differs is a problem, and kept. UserError if a named one cannot be made again.
    """
    nodes = [target.node for name in asked if not name.isdecimal() for target in targets_of(plan, [name])]
    for node in nodes:
        if why := _hindrance(node, manifests):
            raise UserError(f"--rerun {node.path}: it {why}; name another result")
    if number := sum(int(one) for one in asked if one.isdecimal()):
        seed = random.randrange(10**6) if seed is None else seed
        others = [one for one in manifests if one.stage not in leave_out and not _hindrance(one, manifests)]
        others = [one for one in others if one not in nodes]
        nodes += random.Random(seed).sample(others, min(number, len(others)))
        findings.notes.append(f"what is made again is drawn of {counted(len(others), 'result')} by --rerun-seed {seed}")
    store, equal = Store(Path(tempfile.mkdtemp(prefix="lntune-rerun-"))), True
    for place, node in enumerate(nodes, 1):
        print(f"{node.path}: making it again, {place} of {len(nodes)}", file=sys.stderr, flush=True)
        if off := _trouble(plan, findings, node, manifests[node], held[node], store):
            equal = False
            findings.problem(result_folder(plan.store, node), off, [node])
        else:
            shutil.rmtree(result_folder(store, node))
        findings.reruns.append(f"{node.path}: {off or 'equal, ' + counted(len(held[node]), 'file')}")
    if equal:
        shutil.rmtree(store.root)


def _hindrance(node: Node, manifests: Manifests) -> str:
    """Why a result cannot be made again; empty if it can."""
    if node.stage in _NEVER or node not in manifests:
        return _NEVER.get(node.stage, "is not made")
    gone = next((one for one in node.parents() if one not in manifests), None)
    return f"was made from {gone.path}, which is gone" if gone else ""


def _trouble(
    plan: Plan, findings: Findings, node: Node, manifest: Manifest, stored: Mapping[str, File], store: Store
) -> str:
    """Make a result in ``store`` and compare its files; return what is off, if so."""
    execution = type(node.execution).model_validate_json(canonical_json(manifest.execution))
    write_specs(store, [replace(node, execution=execution)], inputs=plan.store)
    log, folder = store.root / f"{node.name}.log", result_folder(store, node)
    command = [sys.executable, "-m", "lntune.jobs.submit", str(spec_path(store, node)), str(log)]
    process = subprocess.Popen(command)
    try:
        failed = process.wait()
    except BaseException:
        process.terminate()  # submit hands it on to the job
        process.wait()
        raise
    if failed:
        return f"cannot be made again from its inputs: {log.read_text(encoding='utf-8').strip().rpartition(chr(10))[2]}"
    if not (names := compare_files(stored, findings, node, folder)):
        return ""
    was, now = (" ".join((one.machine.cpu, *one.machine.gpus)) for one in (manifest, read_manifest(folder / MANIFEST)))
    rounded = was != now and not node.environment
    elsewhere = f"; it was made on {was}, now on {now}, where floats may round differently" if rounded else ""
    return f"differs in {', '.join(names)} when made again, as in {folder}{elsewhere}"


def compare_files(stored: Mapping[str, File], findings: Findings, node: Node, out: Path) -> list[str]:
    """Compare the files in ``out`` with those that a result holds; return the names of those that differ, if any."""
    folder, off = result_folder(findings.basis.store, node), dict[str, str]()
    made = {path: file.blake3 for path, file in hash_tree(out, ignore=[MANIFEST]).items()}
    for path in made.keys() | stored.keys():
        if path not in stored:
            off[path] = MISSING
        elif path not in made:
            off[path] = SURPLUS
        elif stored[path].blake3 in ("", made[path]):
            continue
        elif node.stage == "select" and path.startswith(f"{CHOSEN}/") and path.split("/")[-1] not in KINDS:
            if (out / path).read_bytes() not in (b"", stored[path].blake3.encode()):  # the hash stands in for the file
                off[path] = "is not the file of the best candidate"
        else:
            off[path] = f"is not what its inputs give: it has {difference(out / path, folder / path)}"
    for path in sorted(off):
        both = path in stored and path in made
        cells = differing_cells(node.settings, out / path, folder / path) if both else None
        findings.problem(folder / path, off[path], [node], cells=cells)
    return sorted(off)

"""The chain of ids and contents: each manifest is what its folder's name says, and so are its inputs.

An id is the hash of what made a result, so an edited manifest gives itself away. What files a result holds is not
in its id, but in the records of those that were made from it.
"""

from collections import defaultdict
from collections.abc import Mapping

from lntune.commands.verify.basis import Basis, name
from lntune.commands.verify.findings import Findings
from lntune.errors import UserError
from lntune.plan.node import Node, manifest_path
from lntune.plan.reasons import compared
from lntune.store.manifest import Manifest, content_digest, read_manifest
from lntune.units import counted

Manifests = Mapping[Node, Manifest]

_MOST_NAMES = 3


def read_manifests(basis: Basis, findings: Findings) -> dict[Node, Manifest]:
    """The manifests of all results that are there; a damaged one is a problem and left out."""
    found = {}
    for node in basis.done:
        path = manifest_path(basis.store, node)
        try:
            found[node] = read_manifest(path)
        except UserError as error:
            findings.problem(path, str(error).removeprefix(f"{path}: "), [node])
    return found


def check_manifests(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Whether each manifest agrees with its folder, with itself and with what was made from the result."""
    for node, manifest in manifests.items():
        for what in _own_faults(node, manifest):
            findings.problem(manifest_path(basis.store, node), what, [node])
    _check_contents(basis, manifests, findings)


def _own_faults(node: Node, manifest: Manifest) -> list[str]:
    faults = []
    if manifest.name != name(node):
        faults.append(f"says that it is {manifest.name}")
    try:
        edited = manifest.identity().id != manifest.id
    except ValueError:
        edited = True  # a number that no identity can hold
    if edited:
        faults.append(f"was edited: what it tells does not make the id {manifest.id}{_changes(node, manifest)}")
    if content_digest(manifest.outputs) != manifest.content:
        faults.append("was edited: `content` is not the digest of its outputs")
    if manifest.seed != manifest.settings.get("seed"):
        faults.append(f"was edited: it notes the seed {manifest.seed}, its settings {manifest.settings.get('seed')}")
    return faults


def _changes(node: Node, manifest: Manifest) -> str:
    """What in an edited manifest is not as today's plan has it, which goes by the same id."""
    reasons = compared(node.identity, manifest.identity())
    texts = [f"{reason.what} was {reason.was} and is {reason.now}" for reason in reasons if reason.kind != "new"]
    return f" ({'; '.join(texts[:_MOST_NAMES])})" if texts else ""


def _check_contents(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Whether each result still holds what those that were made from it found there.

    Where none of them agrees with it, the result is off; where some do, the others are.
    """
    by_id = {(node.stage, node.id): node for node in manifests}
    made_from: dict[tuple[Node, str | None], dict[Node, bool]] = defaultdict(dict)
    for child, manifest in manifests.items():
        for _, record in manifest.parents():
            parent = by_id.get((record.stage, record.id))
            if parent is not None:  # else it was deleted or is damaged, or the id has given the record away
                agrees = manifests[parent].part_content(record.part) == record.content
                made_from[parent, record.part][child] = agrees
    for (parent, _), children in made_from.items():
        off = [child for child, agrees in children.items() if not agrees]
        if off and len(off) == len(children):
            what = f"does not hold what {_names(off)} {'was' if len(off) == 1 else 'were'} made from"
            findings.problem(manifest_path(basis.store, parent), what, [parent])
            continue
        for child in off:
            what = f"was made from other content than {name(parent)} has, from which others were made"
            findings.problem(manifest_path(basis.store, child), what, [child])


def _names(nodes: list[Node]) -> str:
    text = ", ".join(name(node) for node in nodes[:_MOST_NAMES])
    return text + (f" and {len(nodes) - _MOST_NAMES} more" if len(nodes) > _MOST_NAMES else "")


def note_deleted(basis: Basis, findings: Findings) -> None:
    """Note, stage by stage, what was deleted although results rest on it: no fault, but there the chain ends."""
    done = set(basis.done)
    needed = {parent for node in basis.done for parent in node.parents()} - done
    for stage in dict.fromkeys(node.stage for node in basis.nodes if node in needed):
        gone = [node for node in basis.nodes if node in needed and node.stage == stage]
        resting = sum(any(basis.rests(node, one) for one in gone) for node in basis.done)
        verb = "was" if len(gone) == 1 else "were"
        findings.notes.append(
            f"{_names(gone)} {verb} deleted; {counted(resting, 'result')} that rest on "
            f"{'it' if len(gone) == 1 else 'them'} cannot be followed further there"
        )


def note_words(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Note what rests on someone's word that an edit changes no result."""
    words: dict[tuple[str, str, str], tuple[str, set[Node]]] = {}
    for node in basis.done:
        noted = manifests[node].accepted if node in manifests else ()
        for edit in (*node.code_version.accepted, *noted):
            changed = ", ".join([*edit.code, *edit.packages])
            words.setdefault((edit.stage, edit.date, edit.because), (changed, set()))[1].add(node)
    for (stage, date, because), (changed, nodes) in words.items():
        verb = "rests" if len(nodes) == 1 else "rest"
        findings.notes.append(
            f"{counted(len(nodes), 'result')} of {stage} {verb} on the word of {date}: {because!r} ({changed})"
        )


def note_links(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Note how many results were linked, and of how many the result that did the work is still there."""
    origins = [(node.stage, one.origin) for node, one in manifests.items() if one.origin is not None]
    if origins:
        there = sum(basis.store.is_done(stage, origin.label, origin.id) for stage, origin in origins)
        findings.notes.append(
            f"{counted(len(origins), 'result')} {'was' if len(origins) == 1 else 'were'} linked instead of computed; "
            f"the results that did the work are there for {there} of {len(origins)}"
        )

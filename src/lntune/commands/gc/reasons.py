"""Why a finished result is none of today's: what today's of its name has instead."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from lntune.plan.node import Node
from lntune.plan.reasons import Reason, compared
from lntune.store.manifest import Manifest

_MOST_NAMES = 3


class Reasons:
    """Why a finished result is none of today's."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._named: dict[tuple[str, str], list[Node]] = defaultdict(list)
        self._ids: dict[tuple[str, str], Node] = {}
        for node in nodes:
            self._named[node.stage, node.label].append(node)
            self._ids[node.stage, node.id] = node

    def of(self, manifest: Manifest) -> str:
        """In words, so that results of one cause say the same."""
        renamed = self._ids.get((manifest.stage, manifest.id))
        if renamed is not None:
            return f"today it is called {renamed.label}"
        identity = manifest.identity()
        differences = [list(compared(identity, node.identity)) for node in self._named[manifest.stage, manifest.label]]
        if not differences:
            return "no table or figure asks for it"
        return _difference_text(min(differences, key=len), manifest)


def _difference_text(reasons: Sequence[Reason], manifest: Manifest) -> str:
    """What today's result of the same name has, or is made from, instead."""
    said = []
    for kind, noun in (("setting", "settings"), ("code", "code"), ("package", "packages")):
        names = [reason.what for reason in reasons if reason.kind == kind]
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            said.append(f"has other {noun} ({', '.join(names[:_MOST_NAMES])}{more})")
    stages = {role: record.stage for role, record in manifest.parents()}
    roles = [reason.what for reason in reasons if reason.kind == "input"]
    if roles:
        said.append(f"is made from another {', '.join(dict.fromkeys(stages.get(role, role) for role in roles))}")
    return f"today's {' and '.join(said)}" if said else "its name is not that of what its manifest describes"

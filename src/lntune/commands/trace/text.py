"""A derivation as text of 120 columns: a header with the value, then a tree.

Of several seeds each result has a tree of its own. A result that went into several others is shown in full once. Of a
selection's candidates the chosen one is shown in full, each other as a line.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator

from lntune.plan.derivation import Facts
from lntune.plan.summary import done_by, machine_text, summary
from lntune.training.endings import short_text
from lntune.units import seconds_text

_WIDTH = 120
_ROLES = {"select": "selection", "measure": "measurement", "similarity": "similarity"}
"""What a result is called that a cell is read from, where it is no score."""

_STATES = {"there": "", "deleted": "  (deleted since)", "damaged": "  (damaged)"}
_NOTES = {"recorded": "recorded at the first download", "copied": "from a copy on disk"}


def trace_text(found: Facts) -> str:
    """What :func:`lntune.commands.trace.cell.trace_cell` found, with its examples if it has any."""
    lines = [line for note in found["notes"] for line in _wrapped(f"note: {note}", "")]
    value = f"{found['table']} | {found['row']} | {found['column']} = {found['value']}"
    number = len({one["seed"] for one in found["from"]})
    seeds = f", of {number} seeds" if number > 1 else ""
    if found["from"]:
        lines += [f"{value}  (scale: {found['scale']}{seeds})", *_Tree(found).lines()]
    else:
        lines += [value, *_wrapped(found["because"], "")]
    for one, examples in zip(found["from"], found.get("examples", ()), strict=False):
        lines += ["", *([_whose(found, one)] if len(found["from"]) > 1 else []), *_examples(examples)]
    lines.append(f"on the site: {found['address']}")
    return "\n".join(lines)


def _whose(found: Facts, one: Facts) -> str:
    """Which of the results that a cell is read from: of which row, if of two, and of which seed, if of several."""
    several = len({source["seed"] for source in found["from"]}) > 1
    row = [one["row"]] if any(source["row"] != found["row"] for source in found["from"]) else []
    return ", ".join([*row, *([f"seed {one['seed']}"] if several else [])])


class _Tree:
    """Goes down from the cell's results, and remembers what it has shown."""

    def __init__(self, found: Facts) -> None:
        self._found = found
        self._results: dict[str, Facts] = found["results"]
        self._starts: list[Facts] = found["from"]
        self._there = [one for one in self._results.values() if one["state"] == "there"]
        self._machine = machine_text(self._there[0]) if self._there else ""
        self._shown: set[str] = set()

    def lines(self) -> Iterator[str]:
        """The results; last, how much work they were, and where the first was made."""
        for one in self._starts:
            role = _ROLES.get(one["result"].partition("/")[0], "score")
            if len(self._starts) > 1:
                role = f"{role} of {_whose(self._found, one)}{', ' + one['value'] if one['value'] else ''}"
            changed = self._results[one["result"]].get("content", one["content"]) != one["content"]
            yield from self._result(role, {**one, "changed": changed}, "", "")
        if self._there:
            works = {done_by(one): one["wall_seconds"] for one in self._there}
            work = f"{seconds_text(sum(works.values()))} of work in all"
            yield f"cell of {self._found['result']}; {len(self._there)} results behind it, {work}"
            yield f"made on {self._machine} unless said otherwise"
        if any(one["git"] and one["git"]["dirty"] for one in self._there):
            yield "-dirty: that commit with uncommitted changes"

    def _result(self, role: str, given: Facts, branch: str, bar: str) -> Iterator[str]:
        """A result and what it was made from: its first line after ``branch``, all others after ``bar``."""
        name = given["result"]
        result = self._results[name]
        part = f", its folder {given['part']}/" if given.get("part") else ""
        again = name in self._shown
        self._shown.add(name)
        title = f"{role}: {name}{part}{_STATES[result['state']]}" + ("  (above)" if again else "")
        yield from _wrapped(title, branch, f"{bar}   ")
        below = [] if again else list(self._below(result))
        inner = bar + ("│  " if below else "   ")
        for fact in self._facts(given, result, again):
            yield from _wrapped(fact, inner)
        for place, (of, parent) in enumerate(below):
            last = place == len(below) - 1
            next_branch, next_bar = (f"{bar}└─ ", f"{bar}   ") if last else (f"{bar}├─ ", f"{bar}│  ")
            if parent is None:
                yield from _wrapped(of, next_branch, f"{next_bar}   ")
            else:
                yield from self._result(of, parent, next_branch, next_bar)

    def _below(self, result: Facts) -> Iterator[tuple[str, Facts | None]]:
        """Role and input; of a selection the chosen candidate (if rates are traced, its score), the others as text."""
        if "selection" not in result:
            yield from ((given["role"], given) for given in result["inputs"])
            return
        given = {one["result"]: one for one in result["inputs"]}
        for one in sorted(result["selection"]["candidates"], key=lambda one: not one["chosen"]):
            cider = "unknown" if one["CIDEr"] is None else f"{one['CIDEr']:.2f}"
            of = f"learning rate {one['learning_rate']:g}, {short_text(one) or f'CIDEr {cider}'}"
            if one["chosen"]:
                yield f"chosen, {of}", given[one["result"]]
                if self._starts[0]["result"].startswith("select/"):
                    yield "its score", given[one["score"]]
            else:
                state = self._results[one["result"]]["state"]
                yield f"{'not chosen, ' * (result['stage'] == 'select')}{of}: {one['result']}{_STATES[state]}", None

    def _facts(self, given: Facts, result: Facts, again: bool) -> Iterator[str]:
        """What is said of a result below its name."""
        if result["state"] == "damaged" and not again:
            yield result["problem"]
        if result["state"] == "deleted" and given.get("content"):
            yield f"the hash of its content was {given['content']}"
        if result["state"] != "there" and result["inputs"] and not again:
            yield "what it was made from is told by the config"
        if given.get("changed"):
            yield f"CHANGED since it was used; the hash of its content was {given['content']}"
        if result["state"] != "there" or again:
            return
        listed = "; all candidates' answers and scores are in --json" * (result.get("selection") is not None)
        yield from (f"{line}{listed}" if line.startswith("by ") else line for line in summary(result))
        yield self._made(result)
        for edit in result["accepted"]:
            names = ", ".join([*edit["code"], *edit["packages"]])
            yield f'declared equivalent: "{edit["because"]}" ({edit["date"][:10]}, of {names})'
        if "raw" in result:
            yield from _raw(result["raw"])

    def _made(self, result: Facts) -> str:
        """When, how long, from which seed and commit, and where if not on the score's machine."""
        made = [result["started"][:10], seconds_text(result["wall_seconds"])]
        if result["seed"] is not None:
            made.append(f"seed {result['seed']}")
        git = result["git"]
        made.append(f"commit {git['commit'][:10]}{'-dirty' * git['dirty']}" if git else "no commit")
        if machine_text(result) != self._machine:
            made.append(f"on {machine_text(result)}")
        origin = result["origin"]
        linked = f"linked from {done_by(result)} on {origin['linked'][:10]}; computed then: " if origin else ""
        return linked + ", ".join(made)


def _raw(raw: Facts) -> Iterator[str]:
    """What raw files are, and of each the sha256, as ``sha256sum`` prints it, and where it came from."""
    yield f"{raw['about']}; licence: {raw['licence']}"
    sources = [file["url"] or file["path"] for file in raw["files"]]
    ends = [f"/{file['name']}" for file in raw["files"]]
    folders = {source.removesuffix(end) for source, end in zip(sources, ends, strict=True) if source}
    together = len(folders) == 1 and all(s and s.endswith(end) for s, end in zip(sources, ends, strict=True))
    if together:
        yield f"from {folders.pop()}, by sha256:"
    for file, source in zip(raw["files"], sources, strict=True):
        notes = [note for key, note in _NOTES.items() if file.get(key)]
        about = f"  ({', '.join(notes)})" if notes else ""
        yield f"{file['sha256'] or 'CHANGED or deleted since it was made:'}  {file['name']}{about}"
        if source and not together:
            yield f"  from {source}"


def _wrapped(text: str, first: str, then: str | None = None) -> list[str]:
    """Lines of at most 120 columns, the first after ``first``; hashes, names and addresses stay whole."""
    then = f"{first}  " if then is None else then
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


def _examples(found: Facts) -> Iterator[str]:
    """Questions, answers and scores, as :func:`lntune.plan.derivation.examples` found them."""
    if "problem" in found:
        yield f"questions: {found['problem']}"
        return
    passed = "" if found["passed"] is None else f", {found['passed']} answered rightly"
    yield f"{len(found['shown'])} of {found['questions']} questions{passed}"
    yield f"images: {found['images']}" + (" (the model was blind to them)" if found["blind"] else "")
    for one in found["shown"]:
        yield ""
        yield f"{one['id']}  {one['image']}"
        lines = [("asked", one["question"])]
        lines += [("prompt", repr(one["prompt"]))] if one["prompt"] is not None else []
        lines += [("answer", one["answer"] or "(nothing)")]
        lines += [("right", right) for right in _right_lines(one)]
        for name, text in [*lines, ("score", one["described"])]:
            yield from textwrap.wrap(text, _WIDTH, initial_indent=f"  {name:8}", subsequent_indent=" " * 10)


def _right_lines(one: Facts) -> list[str]:
    """A label, or each reference, or the ten humans' answers in one line, the most frequent first."""
    counts: Counter[str] = Counter(one["right"])
    if one["passed"] is None or len(one["right"]) == 1:
        return list(counts)
    return [", ".join(f"{text} ({count} of {len(one['right'])})" for text, count in counts.most_common())]

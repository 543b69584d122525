"""What lies behind a cell: the results down to the raw files, as their manifests tell it; and some of the questions.

Every result comes once, by name, however many others it went into, as a dict fit for JSON: what its manifest says but
for the code; ``inputs``, each with the role, the name, the part and the content that was used; and

    state       "there"; of one that is "deleted" or "damaged" the inputs alone are told, by the plan if it has it
    raw         of fetch and draw: what the files are, their licence, and of each its sha256 and where it came from
    selection   of select and halve: the candidates, with learning rate, CIDEr and the names of their results
    numbers     of measure: what was measured, predicted and printed, as measure.json has it

Questions come with a model's answers, what would have been right, and the score of each: that which the benchmark's
score was made of (its per_item_scores.json), not computed again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lntune.benchmarks.intervals import PER_ITEM_SCORES
from lntune.benchmarks.registry import Benchmark, of_score, score_stages
from lntune.data.samples import Question, read_answers, read_questions
from lntune.errors import UserError
from lntune.model.chat import layout
from lntune.model.prompts import CHAT, Layout
from lntune.plan.fetched import fetched_files
from lntune.plan.node import Part
from lntune.plan.plan import Plan
from lntune.plan.stages import stage_module
from lntune.stages import predict
from lntune.stages.asked import AskedSettings
from lntune.stages.measure import MEASURED
from lntune.store.identity import hash_file
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, Store, read_manifest
from lntune.training.endings import NO_MODEL

Facts = dict[str, Any]


def players(manifest: Manifest, role: str) -> tuple[InputRecord, ...]:
    """The inputs that play a role, in their order."""
    return tuple(record for one, record in manifest.parents() if one == role)


def derivation(plan: Plan, root: Path, records: Sequence[InputRecord]) -> dict[str, Facts]:
    """Some results, first, and all behind them, by name; the plan knows the way where a manifest is lost."""
    found: dict[str, Facts] = {}
    manifests: dict[str, Manifest] = {}
    waiting = [record.name for record in reversed(records)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        facts, manifest = _read(plan, root, name)
        if manifest is None:
            uses = list(_planned(plan, name))
        else:
            manifests[name] = manifest
            uses = [_use(role, one.name, one.part, one.content) for role, one in manifest.parents()]
        found[name] = {**facts, "inputs": uses}
        waiting += [use["result"] for use in uses]
    for use in (use for facts in found.values() for use in facts["inputs"]):
        now, content = manifests.get(use["result"]), use["content"]
        use["changed"] = now is not None and content is not None and now.part_content(use["part"]) != content
    return found


def _use(role: str, result: str, part: str | None, content: str | None) -> Facts:
    """An input as it was used."""
    return {"role": role, "result": result, "part": part, "content": content}


def _planned(plan: Plan, name: str) -> Iterator[Facts]:
    """The inputs of a result as the plan has them, if it has it; their content is not known."""
    if node := plan.find(*name.split("/")):
        for role, given in node.inputs.items():
            part = given.folder if isinstance(given, Part) else None
            for one in node.players(role):
                yield _use(role, one.path, part, None)


def _read(plan: Plan, root: Path, name: str) -> tuple[Facts, Manifest | None]:
    folder = plan.store.root / name
    if not (folder / MANIFEST).is_file():
        return {"state": "deleted"}, None
    try:
        manifest = read_manifest(folder / MANIFEST)
    except UserError as error:
        return {"state": "damaged", "problem": str(error)}, None
    facts = {"state": "there", **manifest.model_dump(mode="json", exclude={"code", "inputs"})}
    match manifest.stage:
        case "fetch":
            facts["raw"] = _fetched(root, manifest, folder)
        case "draw":
            facts["raw"] = _drawn(manifest, folder)
        case "select" | "halve":
            facts["selection"] = _selection(manifest, folder)
        case "measure":
            facts["numbers"] = []  # and that stays so if the file is lost
            with suppress(OSError, ValueError, KeyError, TypeError):
                facts["numbers"] = list(json.loads((folder / MEASURED).read_bytes())["numbers"])
    return facts, manifest


def _fetched(root: Path, manifest: Manifest, folder: Path) -> Facts:
    """A catalogue entry's files; those of the checkout by their paths in it."""
    files = [asdict(file) for file in fetched_files(manifest, folder)]
    for file in files:
        if file["path"] and Path(file["path"]).is_relative_to(root.resolve()):
            file["path"] = str(Path(file["path"]).relative_to(root.resolve()))
    return {"about": manifest.execution["about"], "licence": manifest.execution["licence"], "files": files}


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
    """Each candidate: rate, results' names, and CIDEr or how it ended, unless the file that says so is lost."""
    rates: Any = manifest.settings["learning_rates"]
    known: list[Facts] = [{} for _ in rates]
    with suppress(OSError, ValueError, KeyError, TypeError):
        name = "selection.json" if manifest.stage == "select" else "places.json"
        found = json.loads((folder / name).read_bytes())["candidates"]
        known = [*map(dict, found), *known]
    candidates = [
        {
            "learning_rate": rate,
            "CIDEr": one.get("CIDEr"),
            **{key: one.get(key) for key in ("diverged_at", "stopped_at", "place")},
            "chosen": rate == manifest.metrics.get("learning_rate"),
            "result": tuned.name,
            "score": score.name,
        }
        for rate, one, tuned, score in zip(
            rates, known, players(manifest, "candidates"), players(manifest, "scores"), strict=False
        )
    ]
    return {"metric": f"CIDEr on Flickr30k {manifest.settings['split']}", "candidates": candidates}


# --- questions and answers --------------------------------------------------------------------------------------------

_DELETED = "{} is deleted since; there is nothing to show"


def examples(store: Store, score: InputRecord, number: int, wrong: bool = False) -> Facts:
    """Up to ``number`` of a score's questions, spread evenly over the right answers and the wrong ones.

    Captions are neither: theirs are spread over all from the best to the worst, with ``wrong`` they are the worst. What
    is chosen depends on the scores alone. If the score, its answers or its questions are deleted since or damaged,
    ``problem`` says so and none are shown. UserError if questions of this kind of score cannot be shown.
    """
    if of_score(score.stage) is None:
        raise UserError(f"{score.name}: its questions cannot be shown; only those of {', '.join(score_stages())} can")
    try:
        return _examples(store, score, number, wrong)
    except FileNotFoundError as error:
        return {"problem": _DELETED.format(error.filename), "shown": []}
    except UserError as error:
        return {"problem": str(error), "shown": []}


@dataclass(frozen=True)
class Asked:
    """All that a score was made of, question by question: the model's answer, what is right, and the mark.

    ``archive`` is the zip of the images below the store, ``passed`` None where answers are only better or worse.
    ``predicted`` is the manifest of the answers, ``questioned`` that of the questions.
    """

    benchmark: Benchmark
    archive: Path
    questions: list[Question]
    answers: dict[str, str]
    right: Mapping[str, Sequence[str]]
    kinds: Mapping[str, str]
    scores: dict[str, Any]
    grades: list[float]
    passed: list[bool | None]
    predicted: Manifest
    questioned: Manifest

    def described(self, question: Question) -> str:
        """The mark of a question's answer in words."""
        return self.benchmark.examples.describe(self.scores[question.id])


def asked(store: Store, score: InputRecord) -> Asked:
    """What a benchmark's score was made of; UserError if nothing was asked, FileNotFoundError if a file is lost."""
    benchmark = of_score(score.stage)
    assert benchmark is not None, f"{score.name} is no benchmark's"
    manifest = _manifest(store, score)
    (questioned,), (said,) = players(manifest, "questions"), players(manifest, "answers")
    if ended := manifest.metrics.get(NO_MODEL):
        raise UserError(f"training {ended}; nothing was asked")
    predicted, asked_by, official = _manifest(store, said), _manifest(store, questioned), said.stage == "fetch"
    (images,) = players(asked_by, "images")
    folder = store.root / questioned.name
    archive, questions = read_questions(folder)
    scores = json.loads((store.root / score.name / PER_ITEM_SCORES).read_bytes())["questions"]
    how = benchmark.examples
    grades = [how.grade(scores[question.id]) for question in questions]
    return Asked(
        benchmark=benchmark,
        archive=Path(images.name, archive),
        questions=questions,
        answers=read_answers(store.root / (score.name if official else said.name)),
        right=how.right(folder),
        kinds=how.kinds(folder),
        scores=scores,
        grades=grades,
        passed=[None if how.passed is None else grade >= how.passed for grade in grades],
        predicted=predicted,
        questioned=asked_by,
    )


def _examples(store: Store, score: InputRecord, number: int, wrong: bool) -> Facts:
    found = asked(store, score)
    said = found.predicted
    settings: Any = said.settings
    asked_by = template = None
    with suppress(ValueError):  # an earlier version's settings may be others
        if said.stage != "fetch":
            asked_by = stage_module(said.stage).Settings.model_validate(settings)
    if isinstance(asked_by, predict.Settings) and asked_by.template == CHAT:
        from lntune.model.llm import load_tokenizer

        (llm,) = players(said, "llm")
        template = layout(CHAT, load_tokenizer(store.root / llm.name))
    chosen = _chosen(found.grades, found.passed, number, wrong)
    shown = [
        {
            "id": question.id,
            "image": question.image,
            "question": question.text,
            "prompt": asked_by and _prompt(asked_by, question, template),
            "answer": found.answers[question.id],
            "right": list(found.right[question.id]),
            "score": found.scores[question.id],
            "described": found.described(question),
            "passed": passed,
        }
        for question, passed in [(found.questions[place], found.passed[place]) for place in chosen]
    ]
    return {
        "images": str(store.root / found.archive),
        "blind": settings.get("blind", False),
        "questions": len(found.questions),
        "passed": None if found.benchmark.examples.passed is None else sum(map(bool, found.passed)),
        "shown": shown,
    }


def _prompt(asked_by: AskedSettings, question: Question, template: Layout | None) -> str:
    """What the model continued; of another's model, whose processor lays it out, the turns' texts."""
    if isinstance(asked_by, predict.Settings):
        return asked_by.prompt(question, template).text
    return "\n".join(turn.text for turn in asked_by.turns(question))


def _manifest(store: Store, record: InputRecord) -> Manifest:
    path = store.root / record.name / MANIFEST
    if not path.is_file():
        raise UserError(_DELETED.format(path.parent))
    return read_manifest(path)


def _chosen(grades: Sequence[float], passed: Sequence[bool | None], number: int, wrong: bool) -> list[int]:
    """The places of the questions to show: by grade where answers are only better or worse, else in their order."""
    places = range(len(grades))
    if None in passed:
        best_first = sorted(places, key=lambda place: -grades[place])
        return best_first[-number:] if wrong else _spread(best_first, number)
    failed = [place for place in places if not passed[place]]
    if wrong:
        return _spread(failed, number)
    fine = [place for place in places if passed[place]]
    most_failed = max(number // 2, number - len(fine))
    few = _spread(failed, most_failed)
    return sorted(few + _spread(fine, number - len(few)))


def _spread(items: Sequence[int], number: int) -> list[int]:
    """The first, the last, and as many as are wanted at even distances between them."""
    if number >= len(items):
        return list(items)
    if number < 2:
        return list(items[:number])
    return [items[round(k * (len(items) - 1) / (number - 1))] for k in range(number)]

"""What lies behind the numbers, in pieces that a page loads when they are asked for, below site/data.

    results/STAGE/NAME      a result: all that its manifest says, what it was made from and what went into, its log
    curves/STAGE/NAME       a training: loss, learning rate and gradient norms over its steps
    questions/STAGE/NAME    a benchmark's questions, with small pictures and what is right
    answers/STAGE/NAME      a model's answers to them, with their marks, in the same order
    asked                   which scores have been asked the same questions

Of a benchmark with very many questions a part is shown: those whose ids have the smallest hashes, so that every model
and every version of the site shows the same ones.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from lntune.benchmarks.registry import score_stages
from lntune.data.drops import COUNTS, LIST, read_counts
from lntune.data.images import ImageArchive, ImageError, decode
from lntune.errors import UserError
from lntune.plan.derivation import Asked, Facts, asked, players
from lntune.plan.summary import machine_text, summary
from lntune.site.record import Folder, log_path
from lntune.stages.similarity import SIMILARITY
from lntune.store.identity import hash_file
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, Store, read_manifest
from lntune.store.reuse import check_whole
from lntune.training.norm_gradients import KEY

MOST_QUESTIONS = 1000
"""So many questions of a benchmark are shown."""

MOST_POINTS, MOST_GRADIENTS, MOST_DROPS, MOST_LOG = 300, 60, 200, 64_000
"""Points of a curve, steps whose gradients are shown, records that were left out, bytes of a log."""

_PIXELS = 160


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """All of them, or so many at even distances, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


@dataclass(frozen=True)
class Behind:
    """Writes what lies behind some tables and figures: ``facts`` as lntune.plan.derivation found them."""

    store: Store
    folder: Folder
    facts: Mapping[str, Facts]
    verified: Mapping[str, Any]

    def write_results(self) -> None:
        """A piece for each result, and its curves."""
        into: dict[str, list[Facts]] = {}
        for name, its in self.facts.items():
            for use in its["inputs"]:
                into.setdefault(use["result"], []).append({"role": use["role"], "result": name})
        for name, its in self.facts.items():
            more: Facts = {}
            if its["state"] == "there":
                more = self._more(name, its, read_manifest(self.store.root / name / MANIFEST))
            self.folder.data(f"results/{name}", {"name": name, **its, "into": into.get(name, []), **more})

    def _more(self, name: str, facts: Facts, manifest: Manifest) -> Facts:
        """What else is shown of a result that is there."""
        found: Facts = {
            "summary": list(summary(facts)),
            "where": machine_text(facts),
            "code": manifest.code,
            "verified": self._said_of(name),
            "log": self._log(name),
        }
        folder = self.store.root / name
        for log in ("metrics.jsonl", "chosen/metrics.jsonl"):
            if log in manifest.outputs and self._is_whole(folder, log, manifest):
                self.folder.data(f"curves/{name}", curves((folder / log).read_text(encoding="utf-8").splitlines()))
                found["curves"] = True
        if COUNTS in manifest.outputs and self._is_whole(folder, COUNTS, manifest):
            listed = (folder / LIST).read_text(encoding="utf-8").splitlines() if (folder / LIST).is_file() else []
            found["drops"] = asdict(read_counts(folder)) | {
                "listed": len(listed),
                "list": [json.loads(line) for line in evenly(listed, MOST_DROPS)],
            }
        if SIMILARITY in manifest.outputs and self._is_whole(folder, SIMILARITY, manifest):
            tokens = json.loads((folder / SIMILARITY).read_bytes())["tokens"]
            found["similarity"] = {
                name: [[round(value, 3) for value in line] for line in one["matrix"]] for name, one in tokens.items()
            }
        return found

    def _is_whole(self, folder: Path, name: str, manifest: Manifest) -> bool:
        """Whether a file holds what its manifest says; what is damaged is not shown."""
        return (folder / name).is_file() and hash_file(folder / name) == manifest.outputs[name].blake3

    def _said_of(self, name: str) -> list[str]:
        """What `lntune verify` said last of a result."""
        of = f"{self.store.root / name}"
        said = [text for path, texts in self.verified.get("problems", []) if f"{path}/".startswith(f"{of}/")
                for text in texts]  # fmt: skip
        return said or (["all right"] if name in self.verified.get("results", []) else [])

    def _log(self, name: str) -> str:
        """The end of a result's log, copied; empty if there is none."""
        if not (file := log_path(name)).is_file():
            return ""
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        self.folder.write(path := f"logs/{name}.txt", content[-MOST_LOG:].decode("utf-8", "replace"))
        return path

    # --- questions ---------------------------------------------------------------------------------------------------

    def write_questions(self, titles: Mapping[str, tuple[str, str]]) -> None:
        """The questions of every score that a cell is read from, and the answers; ``titles``: who answered what."""
        pictures: dict[tuple[Path, str], str] = {}
        known: dict[str, list[tuple[str, str]]] = {}
        for name, (title, column) in titles.items():
            facts = self.facts[name]
            if facts["stage"] not in score_stages() or facts["state"] != "there":
                continue
            record = _record(facts)
            try:
                manifest = read_manifest(self.store.root / name / MANIFEST)
                (said,), (questioned,) = players(manifest, "answers"), players(manifest, "questions")
                for folder in (record, said, questioned):
                    check_whole(self.store.root / folder.name)
                found = asked(self.store, record)
            except (FileNotFoundError, UserError) as error:
                self.folder.data(f"answers/{name}", {"title": title, "problem": str(error)})
                continue
            shown = _sample(found)
            if questioned.name not in known:
                self._write_questions(questioned.name, column, found, shown, pictures)
            known.setdefault(questioned.name, []).append((name, title))
            self._write_answers(name, title, questioned.name, found, shown)
        self.folder.data("asked", known)

    def _write_questions(
        self, name: str, column: str, found: Asked, shown: Sequence[int], pictures: dict[tuple[Path, str], str]
    ) -> None:
        archive = ImageArchive(self.store.root / found.archive)
        lines = []
        for place in shown:
            one = found.questions[place]
            if (key := (found.archive, one.image)) not in pictures:
                pictures[key] = self._picture(archive, one.image)
            right = list(found.right[one.id])
            lines.append([one.id, pictures[key], one.text, found.kinds.get(one.id, ""), right, one.image])
        self.folder.data(f"questions/{name}", {"column": column, "questions": len(found.questions), "shown": lines})

    def _write_answers(self, name: str, title: str, questions: str, found: Asked, shown: Sequence[int]) -> None:
        settings: Any = found.predicted.settings
        lines = [
            [found.answers[one.id], round(found.grades[place], 2), found.passed[place], found.described(one)]
            for place, one in ((place, found.questions[place]) for place in shown)
        ]
        passed = None if None in found.passed else sum(map(bool, found.passed))
        self.folder.data(
            f"answers/{name}",
            {
                "title": title, "questions": questions, "passed": passed, "of": len(found.questions),
                "blind": settings.get("blind", False), "shown": lines,
            },
        )  # fmt: skip

    def _picture(self, archive: ImageArchive, member: str) -> str:
        """A small picture's path in the site, which equal images share; empty if the image cannot be used."""
        try:
            content = archive.read(member)
            path = f"pictures/{blake3(content).hexdigest()[:20]}.webp"
            if path not in self.folder.files:
                image = decode(content)
                image.thumbnail((_PIXELS, _PIXELS))
                image.save(small := io.BytesIO(), "WEBP", quality=70)
                self.folder.write(path, small.getvalue())
        except (ImageError, KeyError, OSError, UserError):
            return ""
        return path


def _record(facts: Facts) -> InputRecord:
    return InputRecord(stage=facts["stage"], label=facts["label"], id=facts["id"], content=facts["content"])


def _sample(found: Asked) -> list[int]:
    """The places of the questions that are shown, in their order."""
    places = range(len(found.questions))
    if len(places) <= MOST_QUESTIONS:
        return list(places)
    by_hash = sorted(places, key=lambda place: hashlib.sha256(found.questions[place].id.encode()).digest())
    return sorted(by_hash[:MOST_QUESTIONS])


def curves(lines: Sequence[str]) -> Facts:
    """Loss, learning rate and gradient norm of a metrics.jsonl, and the variance of each norm's gradient."""
    records = [json.loads(line) for line in evenly(lines, MOST_POINTS)]
    names = {"loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm"}
    steps = [one.get("step", place) for place, one in enumerate(records)]
    found: Facts = {"steps": len(lines), "step": steps, "lines": {}, "norms": {}}
    for key, title in names.items():
        if all(isinstance(one.get(key), int | float) for one in records):
            found["lines"][title] = [float(f"{one[key]:.5g}") for one in records]
    few = evenly(records, MOST_GRADIENTS)
    if few and all(KEY in one for one in few):
        found["norm_step"] = [one["step"] for one in few]
        found["norms"] = {name: [float(f"{one[KEY][name][1]:.4g}") for one in few] for name in few[0][KEY]}
    return found


def bill(facts: Mapping[str, Facts]) -> Iterator[tuple[str, ...]]:
    """What was spent on each stage: results, hours, GPU-hours, CPU-hours, the highest memory, bytes kept."""
    by_stage: dict[str, list[Facts]] = {}
    for one in facts.values():
        if one["state"] == "there":
            by_stage.setdefault(one["stage"], []).append(one)
    total = [one for its in by_stage.values() for one in its]
    for stage, its in [*by_stage.items(), ("all", total)]:
        done = [one for one in its if not one["origin"]]
        hours = sum(one["wall_seconds"] for one in done) / 3600
        gpu = sum(one["wall_seconds"] * len(one["machine"]["gpus"]) for one in done) / 3600
        cpu = sum(one["cpu_seconds"] or 0.0 for one in done) / 3600
        memory = max((one["peak_memory_bytes"] for one in done), default=0) / 1e9
        size = sum(file["bytes"] for one in done for file in one["outputs"].values()) / 1e6
        linked = str(len(its) - len(done))
        yield stage, str(len(its)), linked, f"{hours:.3f}", f"{gpu:.3f}", f"{cpu:.3f}", f"{memory:.2f}", f"{size:,.1f}"

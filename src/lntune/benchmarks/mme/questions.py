"""questions-mme: MME's subtasks, two yes/no questions an image, the images of a subtask sorted by name."""

from pydantic import Field

from lntune.benchmarks.mme.release import ARCHIVE, read_release
from lntune.benchmarks.prompting import Execution, QuestionSettings, with_images
from lntune.data.archives import Members
from lntune.data.drops import Drops
from lntune.data.samples import Question, write_questions
from lntune.errors import UserError
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ("pillow",)


class Settings(QuestionSettings):
    """The subtasks that are asked, as the protocol chooses them."""

    subtasks: tuple[str, ...] = Field(strict=False)


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write questions.jsonl, set.json, the tool's SUBTASK.txt (image, question, answer), and what was dropped.

    A question's id is its subtask and the number of its line in the subtask's file.
    """
    settings, drops = job.settings, Drops()
    path = job.folder("raw") / ARCHIVE
    subtasks, unasked = read_release(Members(path))
    for subtask in settings.subtasks:
        if subtask not in subtasks:
            others = ", ".join(subtasks) or "none"
            raise UserError(f"{path}: holds no questions of MME's subtask {subtask}; it holds {others}")
    held = {subtask: sum(len(one.questions) for one in asked) for subtask, asked in subtasks.items()}
    read = sum(held.values())
    chosen = [(subtask, one) for subtask in settings.subtasks for one in subtasks[subtask]]
    looked_at = [Question(one.source, one.member or one.name, text) for _, one in chosen for text, _ in one.questions]
    drops.choose("of another subtask", read - len(looked_at))
    good = {question.id for question in with_images(job, ARCHIVE, looked_at, lambda one: one.id, drops)}
    questions = []
    for subtask in settings.subtasks:
        lines: list[str] = []
        for one in subtasks[subtask]:
            if one.source in good and one.member:
                for text, answer in one.questions:
                    questions.append(Question(f"{subtask}/{len(lines)}", one.member, text))
                    lines.append(f"{one.name}\t{text}\t{answer}\n")
        (job.out / f"{subtask}.txt").write_text("".join(lines), encoding="utf-8")
    write_questions(job.out, ARCHIVE, questions)
    counts = {"questions": read, "subtasks": len(held), **{f"questions of {name}": n for name, n in held.items()}}
    metrics = drops.write(job.out, "questions", read, len(questions), {ARCHIVE: counts})
    return metrics | {"pictures_without_questions": len(unasked)}

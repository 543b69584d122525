"""MME as it is published: a zip with a folder for each subtask, and for each image a text with two questions.

In some subtasks images and texts lie side by side, in others in ``images`` and ``questions_answers_YN``. Images
are JPEG or PNG. A text has a line ``question<TAB>answer`` for each of its two questions, and may have empty lines.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath

from lntune.data.archives import Members
from lntune.errors import UserError

ARCHIVE = "MME_Benchmark_release_version.zip"
FOLDER = "MME_Benchmark_release_version/MME_Benchmark"
"""The folder in which the archive has the subtasks' folders; others are read as well."""

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
ALL = PERCEPTION + COGNITION

APART = ("artwork", "celebrity", "landmark", "posters", "scene")
"""Subtasks whose images and texts lie in folders of their own."""

IMAGES_FOLDER, TEXTS_FOLDER = "images", "questions_answers_YN"
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Asked:
    """An image (a member of the archive; None if it is not there) and its two questions with their answers.

    ``name`` is what MME's tool calls the image, ``source`` the member that holds the questions.
    """

    name: str
    member: str | None
    source: str
    questions: tuple[tuple[str, str], ...]


def read_release(archive: Members) -> tuple[dict[str, list[Asked]], list[str]]:
    """Subtask (a folder with images in it) to its images, sorted by name; and the images that no text belongs to.

    UserError for a text that is not as described above, and for two images, or two texts, of one name in a subtask.
    """
    images: dict[str, dict[str, str]] = defaultdict(dict)
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    for name in archive.names():
        path = PurePosixPath(name)
        is_text, folder = path.suffix.lower() == ".txt", path.parent
        if folder.name == (TEXTS_FOLDER if is_text else IMAGES_FOLDER):
            folder = folder.parent
        if folder.name and (is_text or path.suffix.lower() in _SUFFIXES):
            found = (texts if is_text else images)[folder.name]
            if path.stem in found:
                both = f"{found[path.stem]} and {name}"
                raise UserError(f"{archive.path}: {both} have the same name; MME has one for each")
            found[path.stem] = name
    subtasks: dict[str, list[Asked]] = {}
    unasked: list[str] = []
    for subtask, mine in sorted(images.items()):
        unasked += [name for stem, name in mine.items() if stem not in texts[subtask]]
        asked = []
        for stem, text in texts[subtask].items():
            member = mine.get(stem)
            name = PurePosixPath(member).name if member else stem
            asked.append(Asked(name, member, text, _questions(archive, text)))
        if asked:
            subtasks[subtask] = sorted(asked, key=lambda one: one.name)
    return subtasks, unasked


def _questions(archive: Members, member: str) -> tuple[tuple[str, str], ...]:
    path = archive.path / member
    try:
        text = archive.read_or_refuse(member).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UserError(f"{path}: not UTF-8 text at byte {problem.start}") from None
    found = []
    for number, line in enumerate(text.replace("\r", "\n").split("\n"), 1):
        if not line.strip():
            continue
        columns = line.strip().split("\t")
        if len(columns) != 2:
            raise UserError(f"{path}: line {number} has {len(columns)} columns, not 2 (question, answer)")
        question, answer = columns
        if answer.strip().lower() not in ("yes", "no"):
            raise UserError(f"{path}: line {number}: the answer is {answer!r}, neither Yes nor No")
        found.append((question, answer.strip()))
    if len(found) != 2:
        raise UserError(f"{path}: {len(found)} questions; MME has two to an image; download it again")
    return tuple(found)

"""``lntune score``: the official scores of anyone's predictions, each as one JSON object on stdout.

lntune score mme DIR
lntune score pope QUESTIONS.json ANSWERS.jsonl
lntune score vqav2 QUESTIONS.json ANNOTATIONS.json ANSWERS.json
lntune score captions REFERENCES.json ANSWERS.json
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lntune.benchmarks.mme import metric as mme_score
from lntune.benchmarks.pope import metric as pope_score
from lntune.benchmarks.vqav2 import metric as vqav2_score

app = typer.Typer(no_args_is_help=True, help="Score predictions in the benchmarks' official formats.")


@app.command()
def mme(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of official <subtask>.txt files.")],
    subtasks: Annotated[str, typer.Option(help="Names of the subtasks to score, with commas between them.")] = ",".join(
        mme_score.ALL
    ),
) -> None:
    """MME: perception, cognition, and acc, acc_plus and score of each subtask."""
    names = [name.strip() for name in subtasks.split(",") if name.strip()]
    _print_json(mme_score.score_folder(folder, names))


@app.command()
def pope(
    questions: Annotated[Path, typer.Argument(help="JSON lines {question_id, image, text, label}.")],
    answers: Annotated[Path, typer.Argument(help="JSON lines {question, answer}, in the same order.")],
) -> None:
    """POPE: accuracy, precision, recall, f1 and yes_ratio in percent, and TP, FP, TN, FN."""
    _print_json(pope_score.score(questions, answers))


@app.command()
def vqav2(
    questions: Annotated[Path, typer.Argument(help="Official questions, .json or its .zip.")],
    annotations: Annotated[Path, typer.Argument(help="Official annotations, .json or its .zip.")],
    answers: Annotated[Path, typer.Argument(help="JSON list of {question_id, answer}.")],
    normalise: Annotated[
        vqav2_score.Normalise,
        typer.Option(help="official: only where the humans differ; always: for every question."),
    ] = "official",
) -> None:
    """VQAv2: overall accuracy in percent, and by question type and answer type."""
    _print_json(vqav2_score.score(questions, annotations, answers, normalise))


@app.command()
def captions(
    references: Annotated[Path, typer.Argument(help="COCO captions {images, annotations}.")],
    answers: Annotated[Path, typer.Argument(help="JSON list of {image_id, caption}.")],
) -> None:
    """Captions: CIDEr, BLEU_1 to BLEU_4 and ROUGE_L, x100."""
    from lntune.benchmarks.captions import metric as captions_score

    _print_json(captions_score.score(references, answers))


def _print_json(result: Mapping[str, object]) -> None:
    typer.echo(json.dumps(result, indent=2))

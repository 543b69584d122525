"""The README of a crate: how to follow a number with nothing but a text editor."""

import json
from collections import defaultdict
from typing import Any

from lntune.commands.export.contents import RESULTS, Contents, Result, kind_of
from lntune.report.rows import CELLS
from lntune.stages.select import CHOSEN
from lntune.store.layout import MANIFEST
from lntune.units import bytes_text

_TEXT = """\
# {title}

{files}: {kind} made by lntune, a Snakemake workflow that reproduces
"Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning". This folder is a Workflow Run RO-Crate
(https://w3id.org/ro/wfrun/provenance/0.5) with everything that it rests on. All numbers are text: to read them takes
neither lntune nor any other program.

Scale: {scale}. Protocol: {protocol}.
{scale_note}

## From a number to its raw files

Every result lies in `{results}/<stage>/<label>-<id>/`, and its `{manifest}` tells what made it: settings, seed, code
and package versions, machine, times, the hashes of its files (`outputs`), and the results that it was made from
(`inputs`). An input `{{"stage": S, "label": L, "id": I}}` lies in `{results}/S/L-I/`; where it has a `part`, only that
folder in it was used.

1. Open `{last}/{cells}`. For each row and column it gives `scores`, one for each seed: the places of inputs in
   `{manifest}` beside it, in the list `scores`, counted from 0. `selections` are in the same way those that chose the
   learning rate. A figure of curves has no such cells; its rows, in the settings of `{manifest}`, name `selections`.
2. In the folder of that input, `scores.json` holds the score and `per_item_scores.json` that of each question; the
   other files are those that the benchmark's own script reads. What was measured instead is in `measure.json`, with
   what was predicted; how alike layers are, in `similarity.json`.
3. In its `{manifest}`, the input `answers` leads to the model's answers (`answers.jsonl`), `questions` to what was
   asked.
4. From the answers, `tuned` leads to the tuned weights: to a selection of the learning rate (`selection.json`, whose
   inputs `candidates` and `scores` lead on), or to one finetuning. The weights themselves are not here; `outputs` in
   the manifest holds the hash of `tuned.safetensors`, which a selection has as `chosen/tuned.safetensors`.
5. From there, `connector`, `llm`, `vision`, `samples` and `images` lead to pretraining, weights and data.

{example}
Where a manifest has an `origin`, its files were linked from that result, because settings, code, packages and the bytes
of the inputs are equal; times and machine are those of that work.

{literature}## What is here, and what is only named

`ro-crate-metadata.json` describes every file and every step: the files that are here with size, sha256 and BLAKE3;
those that are only named with size and BLAKE3, and if they were fetched, with their sha256, licence and origin. The
latter have an `@id` that starts with `#`; a file that you have is the right one if its hash is. The workflow's
definition is here (`Snakefile`, `config.yaml`, `workflow/`, `envs/`); lntune's own code is named by its hashes in each
manifest.

{stages}
The workflow is under Apache-2.0. Data and weights that came from elsewhere, and the questions and references taken from
them, are under the licences that `ro-crate-metadata.json` and `workflow/catalog.yaml` name.
"""

_LITERATURE = """\
Rows whose `source` is `literature` are no work of this workflow: the paper prints them, from the literature, and their
figures stand in `{file}`.

"""

_ROLES = ("answers", "tuned", "candidates", "connector", "samples", "raw", "llm")


def readme(contents: Contents) -> bytes:
    """The text of README.md."""
    settings: dict[str, Any] = contents.last.manifest.settings
    text = _TEXT.format(
        title=f"{contents.report_item}: {settings['title']}",
        files=", ".join(f"`{path}`" for path in contents.published),
        kind=kind_of(contents),
        results=RESULTS,
        manifest=MANIFEST,
        cells=CELLS,
        last=contents.last.path,
        scale=settings["scale"],
        scale_note=settings["scale_note"],
        protocol=settings["protocol"],
        example=_example(contents),
        literature=_LITERATURE.format(file=f"workflow/paper/{contents.report_item}.csv")
        if settings.get("literature")
        else "",
        stages=_stages(contents),
    )
    return text.encode()


def _example(contents: Contents) -> str:
    """The way of the first cell, folder by folder; where there are no cells, of the first learning rate."""
    cells = json.loads((contents.last.folder / CELLS).read_text())
    role = "scores" if cells else "selections"
    inputs = [record for one, record in contents.last.manifest.parents() if one == role]
    if not inputs:
        return ""
    result = contents.results[inputs[cells[0]["scores"][0] if cells else 0].name]
    said = f"{cells[0]['row']!r}, {cells[0]['column']}, {cells[0]['value']}" if cells else "the first learning rate"
    lines = [f"For example {said}:", "", f"    {role:<12}{result.path}"]
    while step := _next(contents, result):
        role, result = step
        lines.append(f"    {role:<12}{result.path}")
    return "\n".join([*lines, ""])


def _next(contents: Contents, result: Result) -> tuple[str, Result] | None:
    """The input that leads on to the raw files, and its role."""
    parents = list(result.manifest.parents())
    role = next((role for role in _ROLES if any(role == one for one, _ in parents)), None)
    if role is None:
        return None
    playing = [record for one, record in parents if one == role]
    chosen = result.manifest.part_content(CHOSEN)  # of the candidates, the one that was chosen
    best = next((record for record in playing if record.content == chosen), playing[0])
    return role, contents.results[best.name]


def _stages(contents: Contents) -> str:
    """A table of the stages: how many results, and how many of their files are here or only named."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for result in contents.results.values():
        left_out = result.left_out().values()
        row = counts[result.manifest.stage]
        for place, more in enumerate(
            (1, len(result.copied()), len(left_out), sum(file.bytes for file in left_out)),
        ):
            row[place] += more
    lines = ["| stage | results | files here (besides manifests) | named by hash |", "| --- | --- | --- | --- |"]
    for stage, (results, here, named, size) in counts.items():
        lines.append(f"| {stage} | {results} | {here} | {f'{named} ({bytes_text(size)})' if named else 0} |")
    return "\n".join([*lines, ""])

"""``lntune verify``: whether tables and figures are what the stored results give, and the results what they are called.

    report = verify(Path("."), ["tables/table3.csv"])
    report.problems                 # each with its path, what is wrong, and the cells that rest on it
    print(report.text())

Files are hashed anew, the chain of ids and contents is followed, and scores, selections, tables and figures are
made again from the stored answers. Training and asking models is not repeated.
"""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.commands.verify.basis import Basis
from lntune.commands.verify.chain import check_manifests, note_deleted, note_links, note_words, read_manifests
from lntune.commands.verify.files import check_fetched, check_files, hash_results
from lntune.commands.verify.findings import Counts, Findings, Report
from lntune.commands.verify.published import check_published
from lntune.commands.verify.rescore import check_again
from lntune.commands.verify.workers import terminations_raise, workers
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import targets_of


def verify(
    root: Path,
    targets: Sequence[str] = (),
    jobs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Report:
    """Check everything that the targets rest on.

    Args:
        root: the checkout.
        targets: as :func:`lntune.plan.targets.targets_of` takes them; without any, all that the config asks for.
        jobs: how many processes score, and how many files are hashed, at a time; all cores unless given.
        overrides: values over config.yaml's, as the run had them.

    Raises:
        UserError: a target means nothing under this config, or the config is wrong.
    """
    started = time.monotonic()
    jobs = jobs or len(os.sched_getaffinity(0))
    plan = Plan(Study.read(root, overrides))
    asked = targets_of(plan, targets)
    basis, findings = Basis(plan, asked), Findings()
    with (
        terminations_raise(),
        tempfile.TemporaryDirectory(prefix="lntune-verify-") as folder,
        workers(jobs, Path(folder)) as pool,
    ):
        check_published(plan, root, asked, findings)
        manifests = read_manifests(basis, findings)
        check_manifests(basis, manifests, findings)
        held = hash_results(basis, jobs, findings)
        check_files(basis, manifests, held, findings)
        check_fetched(basis, held, plan.study.catalog_lock, findings)
        scores = check_again(basis, manifests, held, findings, pool, Path(folder))
    note_deleted(basis, findings)
    note_words(basis, manifests, findings)
    note_links(basis, manifests, findings)
    files = {id(file): file for stored in held.values() for file in stored.values()}
    total = sum(file.bytes for file in files.values())
    counts = Counts(len(basis.done), len(files), total, scores, round(time.monotonic() - started, 3))
    return findings.report(basis, counts)

"""comparison: our tables compared with the paper's, value by value."""

from lntune.paper.comparison import compare, markdown, write_csv
from lntune.paper.printed import Execution, Settings, check, read_own, read_tables
from lntune.store.job import Job, Metrics

PACKAGES = ()


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write comparison.csv and comparison.md: all figures of the tables that both sides have."""
    settings = job.settings
    paper = read_tables(check(job.execution.paths, settings.files))
    own = read_own(settings.tables, job.folders("tables"))
    compared = [one for table in own for one in compare(paper[table], own[table])]
    write_csv(job.out / "comparison.csv", compared)
    made = f"Scale: {settings.scale}. Protocol: {settings.protocol}."
    (job.out / "comparison.md").write_text(markdown(compared, settings.scale_note, made), encoding="utf-8")
    return {"tables": len(own), "figures": len(compared), "ours": sum(one.ours is not None for one in compared)}

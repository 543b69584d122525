"""claims: what the paper's sentences come to on the paper's own tables, and on ours.

All that is read of the paper is settled by the digests of its files; our tables are inputs. A claim that asks for a
table that is not among them has no value of ours.
"""

from lntune.config.load import load
from lntune.paper.claims import Claims, assess, verdicts
from lntune.paper.claims_table import markdown, write_csv
from lntune.paper.formula import Tables
from lntune.paper.printed import check, read_own, read_tables
from lntune.paper.settings import Execution, Settings
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ()

CLAIMS = "claims.yaml"
TITLE = "The paper's claims, on the paper's tables and on ours"


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write claims.csv and claims.md."""
    settings = job.settings
    files = check(job.execution.paths, settings.files)
    paper = read_tables(files)
    own = read_own(settings.tables, job.folders("tables"))
    readings = assess(
        load(files[CLAIMS], Claims),
        paper=Tables(one for figures in paper.values() for one in figures),
        ours=Tables(one for figures in own.values() for one in figures),
    )
    write_csv(job.out / "claims.csv", readings)
    ours = f"Ours: {', '.join(own) or 'no table yet'}. Scale: {settings.scale}. Protocol: {settings.protocol}."
    how = "One line a claim, with the reading that comes nearest to it; claims.csv has all of them, with formulas."
    (job.out / "claims.md").write_text(markdown(readings, title=TITLE, notes=(settings.scale_note, ours, how)))
    found = list(verdicts(readings).values())
    return {"claims": len(found), "readings": len(readings), "agree": found.count("agrees")}

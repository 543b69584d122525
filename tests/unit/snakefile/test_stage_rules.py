"""What Snakemake does to files that are there when a job starts or fails, and what it is kept from."""

import os
from pathlib import Path

import pytest

from checkout import ROOT, run_python

# What `finished` and `failed` make is there before their jobs start, as if another run had made it meanwhile; and that
# run touches `ready` once more, by another machine's clock.
SNAKEFILE = """
if {patched}:
    from lntune.snakefile.workflow import delete_nothing
    delete_nothing()

rule all:
    input: "finished/manifest.json", "failed/manifest.json"

rule other_run:
    output: "ready"
    shell: "mkdir -p finished failed; echo right | tee finished/manifest.json failed/manifest.json log > {{output}}"

rule finished:
    input: ancient("ready")
    output: "finished/manifest.json"
    log: "log"
    shell: "test -e {{output}} || echo again > {{output}}; touch -d '+1 hour' ready"

rule failed:
    input: ancient("ready")
    output: "failed/manifest.json"
    shell: "test -e {{output}} || echo again > {{output}}; exit 1"
"""


def left_by_snakemake(folder: Path, *, patched: bool) -> dict[str, str]:
    """Every file that is there after a run of which one job fails."""
    (folder / "Snakefile").write_text(SNAKEFILE.format(patched=patched))
    done = run_python(
        folder, os.environ | {"PYTHONPATH": str(ROOT / "src")}, "snakemake", "-c1", "--keep-going", "--nolock"
    )
    assert done.returncode == 1 and "Error in rule failed" in done.stdout, done.stdout
    assert ("has older modification time" in done.stdout) is not patched
    files = [path for path in (folder / "log", *folder.glob("f*/*")) if path.exists() and path.stat().st_size]
    return {str(path.relative_to(folder)): path.read_text().strip() for path in files}


def test_a_result_that_another_run_made_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    kept = dict.fromkeys(("finished/manifest.json", "failed/manifest.json", "log"), "right")
    assert left_by_snakemake(tmp_path, patched=True) == kept


def test_snakemake_alone_still_deletes_what_another_run_made(tmp_path: Path) -> None:
    """Where this fails, Snakemake no longer does, and ``delete_nothing`` may go."""
    assert left_by_snakemake(tmp_path, patched=False) == {}


@pytest.mark.parametrize(
    "damage", [b"\xe1", b'{"record_format_version": "six"}', b"[1]"], ids=["no text", "no record", "a list"]
)
def test_a_damaged_record_of_snakemake_is_none(damage: bytes, tmp_path: Path) -> None:
    """A record is read where a result is there and something else is made; a bit that flips in it ends no run."""
    (tmp_path / "Snakefile").write_text(
        "from lntune.snakefile.workflow import ignore_damaged_records\n"
        "ignore_damaged_records()\n"
        "rule all:\n    input: 'a', 'b'\n"
        "rule one:\n    output: 'a'\n    shell: 'touch {output}'\n"
        "rule two:\n    input: 'a'\n    output: 'b'\n    shell: 'touch {output}'\n"
    )
    command = tmp_path, os.environ | {"PYTHONPATH": str(ROOT / "src")}, "snakemake", "-c1"
    assert run_python(*command).returncode == 0
    for record in (tmp_path / ".snakemake" / "metadata").iterdir():
        record.write_bytes(damage)
    (tmp_path / "b").unlink()
    done = run_python(*command)
    assert done.returncode == 0 and (tmp_path / "b").is_file(), done.stdout

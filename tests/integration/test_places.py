"""The workflow in places that other people have: odd folders, a folder of its own for the run, another user's store."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from checkout import Checkout
from disks import give_away, needs_root, on_disks, ordinary_python

pytestmark = pytest.mark.slow

ODD = "my project/é {result} $HOME 'a\" <stage>;%s"


def test_any_folder_will_do_for_a_checkout_with_its_environment(made: Checkout, tmp_path: Path) -> None:
    (tmp_path / ODD).parent.mkdir()
    there = Checkout(tmp_path / ODD)
    shutil.copytree(made.root, there.root)
    shutil.copytree(made.root / "results", there.root / "my store")
    python = there.root / ".venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", there.root / ".venv"], check=True)
    found = next((there.root / ".venv").glob("lib/*/site-packages")) / "outer.pth"
    found.write_text(sysconfig.get_path("purelib"))
    (scored, *_), right = there.results("score-pope"), (there.root / "tables/tiny.csv").read_bytes()
    shutil.rmtree(there.root / "my store" / scored.relative_to(there.root / "results"))
    shutil.rmtree(there.root / "my store" / ".works")
    shutil.rmtree(there.root / "tables")
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    table = ("tables/tiny.csv", "tables/tiny.md")
    results = there.root / "my store" / "table"
    shutil.rmtree(results)  # so that the score is asked for
    done = subprocess.run(
        [python, "-m", "snakemake", "-c1", "--config", "store=my store", "--", *table],
        cwd=there.root, env=own, text=True, capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (there.root / "tables/tiny.csv").read_bytes() == right
    assert (there.root / "my store" / scored.relative_to(there.root / "results") / "manifest.json").is_file()


def test_a_run_in_a_folder_of_its_own_and_the_commands_there(made: Checkout, tmp_path: Path) -> None:
    store, run = made.root / "results", tmp_path / "run here"
    run.mkdir()
    given = ("--config", f"store={store}")
    made.snakemake("-c1", "-d", str(run), *given, "--", "tables/tiny.csv")
    assert (run / "tables/tiny.csv").read_bytes() == (made.root / "tables/tiny.csv").read_bytes()
    environment = os.environ | {"PYTHONPATH": str(made.root / "src")}

    def there(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=run, env=environment, text=True, capture_output=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    traced = there("lntune", "trace", "tables/tiny.csv", "Finetune-80K", "POPE", *given)
    assert "POPE = " in traced and "not published" not in traced
    assert f"note: there is no config.yaml here; taking {made.root}/config.yaml" in traced
    (run / "tables/tiny.csv").write_text("edited\n")
    assert "tables/tiny.csv was edited by hand" in there("lntune", "trace", "tiny", "Finetune-80K", "POPE", *given)
    made_again = there("snakemake", "-s", str(made.root / "Snakefile"), "-c1", *given, "--", "tables/tiny.csv")
    assert "1 of 1 steps" in made_again
    assert (run / "tables/tiny.csv").read_bytes() == (made.root / "tables/tiny.csv").read_bytes()


@needs_root
def test_the_second_user_of_a_closed_store_may_look_and_show_and_is_told_what_else_it_takes(copy: Checkout) -> None:
    store = copy.root.parent / "store"
    (copy.root / "results").rename(store)
    give_away(store, 0o2755, 0o444)
    store.chmod(0o2777)
    shutil.rmtree(copy.root / "tables")
    given = ("--config", f"store={store}")
    ordinary_python(copy, "snakemake", "-c1", *given, "--", "tables/tiny.csv", "tables/tiny.md")
    assert "POPE = " in ordinary_python(copy, "lntune", "trace", "tiny", "Finetune-80K", "POPE", *given)
    new = ("snakemake", "-c1", *given, "protocol=paper", "--", "tables/tiny.csv")
    printed = ordinary_python(copy, *new, code=1)
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert "is 4001's, its mode 2755 by their umask" in line and "setgid" in line and "Traceback" not in printed
    give_away(store, 0o2700, 0o400)
    store.chmod(0o2777)
    for command in (("snakemake", "-n"), ("lntune", "plan"), ("lntune", "verify")):
        printed = ordinary_python(copy, *command, *given, code=1)
        assert "its mode 2700 by their umask" in printed and "Traceback" not in printed, command


@needs_root
def test_who_may_only_read_may_look_at_all(made: Checkout, tmp_path: Path) -> None:
    mounts = 'mount --bind . .\nmount -o remount,ro,bind .\ncd "$PWD"'
    look = (
        f"$1 -m snakemake -n; $1 -m lntune trace tiny Finetune-80K POPE; $1 -m lntune verify -j1 tables/tiny.csv; "
        f"$1 -m snakemake -c1 -d {tmp_path} --config store=$PWD/results -- tables/tiny.csv"
    )
    printed = on_disks(mounts, "bash", "-c", look, "bash", sys.executable, folder=made.root)
    assert f"error: {made.root}: cannot be written; run in a folder of your own: `snakemake -d FOLDER`" in printed
    assert "POPE = " in printed and ": all right" in printed and "Traceback" not in printed
    assert (tmp_path / "tables/tiny.csv").read_bytes() == (made.root / "tables/tiny.csv").read_bytes()

"""Commands see the config that a run with a profile and ``--config`` sees."""

from pathlib import Path

import pytest

from lntune.errors import UserError
from lntune.snakefile.profiles import cluster_of, overrides_of, read_again


@pytest.mark.parametrize(
    "written", ["config: [scale=paper, seed=3]", "config: {scale: paper, seed: 3}", "config:\n- scale=paper\n- seed=3"]
)
def test_the_profile_first_then_the_command_line(tmp_path: Path, written: str) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "config.yaml").write_text(f"executor: slurm\n{written}\n")
    assert overrides_of(tmp_path, "cluster") == {"scale": "paper", "seed": 3}
    assert overrides_of(tmp_path, "cluster", ["seeds=[1]"]) == {"seeds": [1]}, "as Snakemake: all of it is replaced"
    assert overrides_of(tmp_path, None) == {}


def test_numbers_in_lists_are_what_snakemake_meant() -> None:
    from snakemake.cli import parse_config

    pairs = ["scale=paper", "seeds=[0, 1]", "report_items=[table3, tableA1]", "copies={coco: /data/7}", "store=7"]
    given = parse_config(pairs)
    assert given["seeds"] == ["0", "1"], "Snakemake reads them itself now: lntune.snakefile.profiles.read_again can go"
    assert read_again(given) == overrides_of(Path("."), None, pairs)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--profile slrm: there is no .*slrm/config.yaml; there are none"):
        overrides_of(tmp_path, "slrm")
    with pytest.raises(UserError, match=r"--config: 'scale' is not KEY=VALUE"):
        overrides_of(tmp_path, None, ["scale"])


def test_the_profile_slurm_chooses_the_papers_scale_and_protocol() -> None:
    root = Path(__file__).parents[3]
    assert overrides_of(root, "slurm") == {"scale": "paper", "protocol": "paper"}
    assert overrides_of(root, "slurm", ["scale=demo"]) == {"scale": "demo", "protocol": "paper"}
    assert cluster_of(root, "slurm").gpu_partition == "a100"

"""Commands see the config that a run with a profile and ``--config`` sees."""

from pathlib import Path

import pytest

from lntune.errors import UserError
from lntune.profiles import overrides_of


@pytest.mark.parametrize(
    "written", ["config: [scale=paper, seed=3]", "config: {scale: paper, seed: 3}", "config:\n- scale=paper\n- seed=3"]
)
def test_the_profile_first_then_the_command_line(tmp_path: Path, written: str) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "config.yaml").write_text(f"executor: slurm\n{written}\n")
    assert overrides_of(tmp_path, "cluster") == {"scale": "paper", "seed": 3}
    assert overrides_of(tmp_path, "cluster", ["scale=demo", "seeds=[1]"]) == {"scale": "demo", "seed": 3, "seeds": [1]}
    assert overrides_of(tmp_path, None) == {}


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--profile slrm: there is no .*slrm/config.yaml; there are none"):
        overrides_of(tmp_path, "slrm")
    with pytest.raises(UserError, match=r"--config: 'scale' is not KEY=VALUE"):
        overrides_of(tmp_path, None, ["scale"])

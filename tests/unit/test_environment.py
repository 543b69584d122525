"""What of the starter's environment a job sees."""

import subprocess
import sys
from pathlib import Path

import pytest

import lntune
from lntune.environment import job_environment

HOSTILE = {
    "LC_ALL": "tr_TR.ISO-8859-9",
    "LANG": "zh_CN.GBK",
    "LC_NUMERIC": "de_DE.UTF-8",
    "GIT_DIR": "/elsewhere/.git",
    "MPLBACKEND": "TkAgg",
    "MATPLOTLIBRC": "/elsewhere",
    "PYTHONHOME": "/elsewhere",
    "PYTHONPATH": "/elsewhere",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "PYTHONHASHSEED": "5",
    "JAVA_TOOL_OPTIONS": "-Dfile.encoding=UTF-16",
    "_JAVA_OPTIONS": "-Xmx1m",
    "JDK_JAVA_OPTIONS": "-Xmx1m",
    "TRANSFORMERS_OFFLINE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "NVIDIA_TF32_OVERRIDE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "OPENBLAS_NUM_THREADS": "3",
    "NUMEXPR_NUM_THREADS": "3",
    "OMP_NUM_THREADS": "3",
    "LOCAL_RANK": "3",
    "SOURCE_DATE_EPOCH": "1",
    "BASH_ENV": "/elsewhere",
}
NEEDED = {
    "PATH": "/somewhere/bin",
    "https_proxy": "http://proxy",
    "NO_PROXY": "localhost",
    "REQUESTS_CA_BUNDLE": "/somewhere/ca.pem",
    "HF_TOKEN": "a-token",
    "HF_ENDPOINT": "http://hub",
    "SLURM_JOB_ID": "1",
    "CUDA_VISIBLE_DEVICES": "2",
    "NCCL_SOCKET_IFNAME": "eth1",
    "TMPDIR": "/somewhere/tmp",
    "LNTUNE_FORK_SERVER": "/somewhere/server",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
}


def test_a_job_sees_what_it_needs_and_nothing_that_changes_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (HOSTILE | NEEDED).items():
        monkeypatch.setenv(name, value)
    seen = job_environment()
    assert NEEDED.items() <= seen.items()
    assert not HOSTILE.items() & seen.items()
    ours = {"LC_ALL", "PYTHONPATH", "PYTHONUTF8", "PYTHONHASHSEED", "PYTHONSAFEPATH"}
    assert {name for name in seen if name.startswith(("LC_", "LANG", "PYTHON"))} == ours


def test_a_job_runs_the_lntune_that_started_it_in_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "POSIX")
    (tmp_path / "lntune.py").write_text("raise SystemExit('another lntune')", encoding="utf-8")
    code = "import lntune, locale; print(lntune.__file__, locale.getpreferredencoding(), 'é')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=job_environment(), capture_output=True, check=True
    )
    assert done.stdout.decode("utf-8").split() == [lntune.__file__, "utf-8", "é"]

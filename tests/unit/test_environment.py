"""What of the starter's environment a job sees."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import lntune
from lntune import environment
from lntune.environment import PORTABLE, job_environment, portable_lacks

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


HELPERS = Path(__file__).resolve().parents[1] / "helpers"
OTHER_CPUS = (
    {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ATEN_CPU_CAPABILITY": "avx512", "MKL_ENABLE_INSTRUCTIONS": "AVX512", "MKL_CBWR": "AUTO", "MKL_VML_MODE": "EP",
     "OPENBLAS_CORETYPE": "Nehalem", "NPY_ENABLE_CPU_FEATURES": "X86_V3", "NPY_DISABLE_CPU_FEATURES": "X86_V3",
     "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
)  # fmt: skip


def digits(monkeypatch: pytest.MonkeyPatch, starters: dict[str, str], *, portable: bool) -> dict[str, object]:
    """What a job computes whose starter has these variables."""
    with monkeypatch.context() as changed:
        for name, value in starters.items():
            changed.setenv(name, value)
        given = job_environment(portable)
    given["PYTHONPATH"] += os.pathsep + str(HELPERS)
    command = [sys.executable, str(HELPERS / "digits.py")]
    found: dict[str, object] = json.loads(subprocess.run(command, env=given, capture_output=True, check=True).stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(bool(portable_lacks()), reason="no x86-64 CPU with AVX2")
def test_portable_numerics_are_the_same_whatever_the_starter_asks_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (digits(monkeypatch, starters, portable=True) for starters in OTHER_CPUS)
    assert one == other
    assert one["square roots are exact"], "MKL took another branch, in which AMD's and Intel's bytes differ"
    native = digits(monkeypatch, OTHER_CPUS[0], portable=False)
    assert native["training"] != one["training"], "else this test would see no difference"


def test_portable_numerics_win_over_the_starters_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PORTABLE:
        monkeypatch.setenv(name, "another")
    assert PORTABLE.items() <= job_environment(portable=True).items()
    assert not {"MKL_VML_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"} & job_environment().keys()


@pytest.mark.parametrize(
    ("machine", "flags", "lacks"),
    [
        ("x86_64", "fpu avx2 fma bmi2", ""),
        ("x86_64", "fpu avx", "the CPU has no avx2 and no fma"),
        ("aarch64", "", "the CPU is aarch64, not x86-64"),
    ],
)
def test_a_cpu_that_cannot_compute_with_portable_numerics_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, flags: str, lacks: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: some\nflags\t\t: {flags}\n")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(environment, "Path", lambda _: tmp_path / "cpuinfo")
    assert portable_lacks() == lacks

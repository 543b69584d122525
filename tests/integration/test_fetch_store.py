"""The stage fetch through the real store: names that stay, kills that cost nothing, tokens that show nowhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT, Checkout, copy_checkout
from faulty_server import stall
from local_hub import LocalHub

slow = pytest.mark.slow
TOKEN = "hf_SecretThatNobodyMaySee"
REPOSITORY, ENTRY = "someone/clip", "demo-clip"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"

ORDER = """
from pathlib import Path
from lntune.snakefile.workflow import spec_path, write_specs
from lntune.plan.plan import Plan
from lntune.plan.study import Study
plan = Plan(Study.read(Path(".")))
node = plan.fetched("demo-clip")
write_specs(plan.store, [node])
print(node.name, spec_path(plan.store, node))
"""


@dataclass(frozen=True)
class Site:
    """A checkout whose CLIP lies, unpinned, on a gated hub."""

    checkout: Checkout
    hub: LocalHub

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        return inherited | self.hub.environment | {"HF_TOKEN": TOKEN, "PYTHONPATH": str(self.checkout.root / "src")}

    def python(self, *arguments: str, code: int = 0, **more: str) -> str:
        """Run Python in the checkout; all it printed."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.checkout.root, env=self.environment | more, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        assert TOKEN not in done.stdout
        return done.stdout

    def order(self) -> tuple[str, str]:
        """The name of the result and the path of its order, as a new process plans it."""
        name, path = self.python("-c", ORDER).split()
        return name, path

    def sent_large(self) -> list[int]:
        """Bytes that were sent of the weights, request by request."""
        return [one.sent for one in self.hub.requests if one.path.startswith("/cdn/")]

    def folder(self, name: str) -> Path:
        return self.checkout.root / "results" / "fetch" / name


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    checkout = copy_checkout(tmp_path / "checkout")
    repository = tmp_path / "hub" / "models" / REPOSITORY
    repository.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copy(ROOT / "workflow" / "weights" / "clip" / name, repository / name)
    catalog = checkout.yaml("workflow/catalog.yaml")
    catalog["entries"][ENTRY] |= {
        "hub": {"repo": REPOSITORY, "type": "model", "revision": "main"},
        "gated": True,
        "files": {CONFIG: {}, WEIGHTS: {}},
    }
    checkout.write_yaml("workflow/catalog.yaml", catalog)
    with LocalHub(tmp_path / "hub", gated={REPOSITORY: {TOKEN}}) as hub:
        yield Site(checkout, hub)


def lock_of(site: Site) -> dict[str, Any]:
    lock: dict[str, Any] = site.checkout.yaml("workflow/catalog.lock.yaml")["entries"]
    return lock


@slow
def test_a_killed_download_goes_on_names_stay_and_the_token_shows_nowhere(site: Site) -> None:
    weights = (ROOT / "workflow" / "weights" / "clip" / WEIGHTS).read_bytes()
    sha256 = next(iter(re.findall(r"[0-9a-f]{64}", _pinned(WEIGHTS))))
    name, order = site.order()
    site.hub.faults[f"/cdn/{sha256}"] = [stall(1_500_000)]
    command = [sys.executable, "-m", "lntune.jobs.run", order]
    with open(site.checkout.root / "killed.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=site.checkout.root, env=site.environment, stdout=log, stderr=log)
        partial = site.checkout.root / "results" / ".scratch" / f"fetch-{name[-12:]}" / "files" / WEIGHTS
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size > 1_400_000):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    arrived = partial.stat().st_size
    assert not site.folder(name).exists() and 1_400_000 < arrived <= 1_500_000
    assert CONFIG in lock_of(site)[ENTRY] and WEIGHTS not in lock_of(site)[ENTRY]

    assert site.order() == (name, order)  # though one file is recorded by now
    site.python("-m", "lntune.jobs.run", order)
    assert site.sent_large() == [1_500_000, len(weights) - arrived]
    assert (site.folder(name) / WEIGHTS).read_bytes() == weights
    recorded = lock_of(site)[ENTRY]
    assert (recorded[WEIGHTS]["bytes"], recorded[WEIGHTS]["sha256"]) == (len(weights), sha256)
    assert re.fullmatch(rf"hf://{REPOSITORY}@[0-9a-f]{{40}}/{WEIGHTS}", recorded[WEIGHTS]["origin"])
    assert site.order() == (name, order)

    files = [path for path in site.checkout.root.rglob("*") if path.is_file()]
    assert {"manifest.json", "catalog.lock.yaml", "killed.log", Path(order).name} < {path.name for path in files}
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    manifest = json.loads((site.folder(name) / "manifest.json").read_text())
    assert manifest["execution"]["gated"] is True and manifest["settings"]["files"] == {}


def _pinned(name: str) -> str:
    """What the real catalogue says of a file of the demo's CLIP."""
    text = (ROOT / "workflow" / "catalog.yaml").read_text()
    return text[text.index(f"workflow/weights/clip/{name}") :][:200]


@slow
def test_a_result_that_is_not_what_was_recorded_is_refused_before_anything_runs(site: Site) -> None:
    name, order = site.order()
    site.python("-m", "lntune.jobs.run", order)
    plan = json.loads(site.python("-m", "lntune", "plan", "--json"))
    assert plan["done"] == {"fetch": 1} and plan["fetch"]["download"] == 0 and plan["fetch"]["copy"] > 900_000
    traced = site.python("-c", FILES)
    commit = re.search(r"@([0-9a-f]{40})/", lock_of(site)[ENTRY][CONFIG]["origin"])
    assert commit is not None
    assert json.loads(traced)[0] == {
        "name": CONFIG, "sha256": lock_of(site)[ENTRY][CONFIG]["sha256"], "path": None, "recorded": True,
        "url": f"https://huggingface.co/{REPOSITORY}/resolve/{commit[1]}/{CONFIG}", "copied": False,
    }  # fmt: skip
    assert verified(site) == {}

    lock = site.checkout.root / "workflow" / "catalog.lock.yaml"
    right = lock.read_text()
    sha256 = lock_of(site)[ENTRY][CONFIG]["sha256"]
    lock.write_text(right.replace(sha256, "0" * 64))
    folder = f"results/fetch/{name}"
    said = (
        f"error: {folder}: its {CONFIG} has the sha256 {sha256}, workflow/catalog.lock.yaml records {'0' * 64}; delete "
        "the folder to fetch what is recorded, or correct the record if it is the wrong one (docs/data.md)"
    )
    assert said in site.python("-m", "lntune", "plan", code=1).splitlines()
    assert said in site.python("-m", "snakemake", "-n", code=1).splitlines()
    assert verified(site) == {f"{folder}/{CONFIG}": ["has another sha256 than workflow/catalog.lock.yaml records"]}

    lock.unlink()  # and without a record, the folder's own word counts
    assert verified(site) == {}
    damaged = site.checkout.root / folder / CONFIG
    damaged.chmod(0o644)
    damaged.write_text(damaged.read_text() + " ")
    assert "has another sha256 than origins.json next to it says" in verified(site)[f"{folder}/{CONFIG}"]


def verified(site: Site) -> dict[str, list[str]]:
    """What is off with the fetched files, by path."""
    found: dict[str, list[str]] = dict(json.loads(site.python("-c", VERIFY).splitlines()[-1]))
    return found


FILES = """
import json
from dataclasses import asdict
from pathlib import Path
from lntune.plan.fetched import fetched_files
from lntune.plan.node import result_folder
from lntune.plan.plan import Plan
from lntune.store.manifest import read_manifest
from lntune.plan.study import Study
plan = Plan(Study.read(Path(".")))
folder = result_folder(plan.store, plan.fetched("demo-clip"))
print(json.dumps([asdict(file) for file in fetched_files(read_manifest(folder / "manifest.json"), folder)]))
"""

VERIFY = """
import json
from pathlib import Path
from lntune.plan.node import is_done
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import Target
from lntune.commands.verify.findings import Basis, Findings
from lntune.commands.verify.stored import check_stored
plan = Plan(Study.read(Path(".")))
findings = Findings(Basis(plan, [Target(plan.fetched("demo-clip"))]))
check_stored(plan.study.catalog_lock, 2, findings)
print(json.dumps([[problem.path, problem.what] for problem in findings.problems]))
"""

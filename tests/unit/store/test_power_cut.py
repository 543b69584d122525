"""What is finished outlives a power cut, also where the file system writes nothing that it was not told to."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

import faulty_disk
from lntune.store.manifest import Store, read_manifest
from lntune.store.reuse import check_whole

_LINKED = """
import sys
from pathlib import Path
from lntune.store.identity import Identity
from lntune.store.manifest import Store
from lntune.store.record import record

def work(out, scratch):
    (out / "chosen").mkdir()
    (out / "chosen" / "data.txt").write_text("abc")
    return {}

store = Store(Path(sys.argv[1]))
for version in (1, 2):
    source = Identity("filter", {"version": version}, {}, {}, {})
    record(store, source, "source", work)
    given = store.folder("filter", "source", source.id)
    record(store, Identity("train", {}, {}, {}, {"data": source.id}), "model", work, inputs={"data": given})
"""


@pytest.mark.skipif(bool(faulty_disk.missing()), reason=str(faulty_disk.missing()))
def test_a_power_cut_takes_nothing_from_results_that_were_made_or_linked(tmp_path: Path) -> None:
    """Also not the names of linked files in a folder, which no flush of the files themselves brings to the disk."""

    class Worst(random.Random):
        def random(self) -> float:
            return 0.0

    store = Store(tmp_path / "checkout" / "results")
    store.root.mkdir(parents=True)
    disk = faulty_disk.FaultyDisk(tmp_path / "disk", tmp_path / "checkout")
    disk.arm(journal=True)
    subprocess.run([*disk.prefix, sys.executable, "-c", _LINKED, store.root], check=True)
    disk.cut_power(Worst(0))
    results = [path.parent for path in store.root.glob("[!.]*/*/manifest.json")]
    assert len(results) == 4 and sum(read_manifest(one / "manifest.json").origin is not None for one in results) == 1
    for result in results:
        check_whole(result)

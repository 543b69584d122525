"""fetch: one entry of the catalogue, brought into the store and checked against its sha256."""

import hashlib
import os
import shutil
from pathlib import Path

from pydantic import Field

from lntune.config.base import Frozen
from lntune.config.catalog import Sha256
from lntune.errors import UserError
from lntune.stages.job import Job, Metrics

PACKAGES = ()


class Settings(Frozen):
    """The files' sha256 by name: what they are, not where they lie."""

    files: dict[str, Sha256] = Field(min_length=1)


class Execution(Frozen):
    """What the entry is, under which licence, and where each file lies."""

    about: str
    licence: str
    paths: dict[str, str]


def copy_checked(source: Path, target: Path, sha256: str) -> int:
    """Copy a file and return its bytes; UserError, and no file, if its sha256 is not the expected one."""
    digest, count = hashlib.sha256(), 0
    partial = target.with_name(target.name + ".part")
    try:
        with source.open("rb") as reader, partial.open("wb") as writer:
            while block := reader.read(1 << 20):
                digest.update(block)
                writer.write(block)
                count += len(block)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; the catalogue lists it (workflow/catalog.yaml)") from None
    if digest.hexdigest() != sha256:
        partial.unlink()
        raise UserError(
            f"{source}: its sha256 is {digest.hexdigest()}, the catalogue says {sha256}; "
            f"restore the file, or pin it anew with `lntune pin`"
        )
    os.replace(partial, target)
    return count


def run(job: Job[Settings, Execution]) -> Metrics:
    """Copy the entry's files."""
    free = shutil.disk_usage(job.out).free
    total = 0
    for name, sha256 in job.settings.files.items():
        source, target = Path(job.execution.paths[name]), job.out / name
        if source.is_file() and source.stat().st_size > free:
            raise UserError(f"{source}: {source.stat().st_size} bytes do not fit on the store's disk ({free} free)")
        target.parent.mkdir(parents=True, exist_ok=True)
        total += copy_checked(source, target, sha256)
    return {"bytes": total}

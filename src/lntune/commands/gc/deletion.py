"""Delete what was collected, result by result, so that at no moment half a result is believed."""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lntune.commands.gc.collect import workflow_running
from lntune.commands.gc.listing import Deleted, Garbage, Item, Small
from lntune.errors import UserError
from lntune.files import locked
from lntune.plan.study import Study
from lntune.progress import track
from lntune.store.leases import Lease, forget_lease, host_name, leases_state
from lntune.store.manifest import MANIFEST, Store


def delete(garbage: Garbage) -> Deleted:
    """Delete what was collected, as far as it can be deleted.

    A folder is first renamed to a hidden name, so that at no moment a half-deleted result is believed; if this
    process is killed, the next collection finds what is left. When a workflow starts meanwhile, here or in a checkout
    that shares the store, it stops.

    Raises:
        UserError: a workflow runs in this checkout, or what a published file rests on is not known; nothing is deleted.
    """
    refusal = garbage.refusal or workflow_running(garbage.root)
    if refusal:
        raise UserError(refusal)
    folders, freed, failures = 0, 0, list[str]()
    if garbage.items:
        with track(len(garbage.items), "gc", "folders") as progress:
            for item in garbage.items:
                problem = _disturbance(garbage)
                if problem:
                    return Deleted(folders, 0, freed, (*failures, problem))
                problem = _delete(item)
                if problem:
                    failures.append(problem)
                else:
                    folders, freed = folders + 1, freed + item.freed
                progress.advance(1)
    problems = [(one, _delete_small(one)) for one in garbage.small]
    failed = [problem for _, problem in problems if problem]
    if failed:
        failures.append(failed[0] + (f" (and {len(failed) - 1} more small files)" if len(failed) > 1 else ""))
    freed += sum(one.bytes for one, problem in problems if not problem)
    return Deleted(folders, len(garbage.small) - len(failed), freed, tuple(failures))


def forget(root: Path, checkout: str, overrides: Mapping[str, Any] | None = None) -> Lease:
    """Drop the lease that a checkout has on this checkout's store (:func:`lntune.store.leases.forget_lease`)."""
    return forget_lease(Store(Study.read(root, overrides).store), checkout)


def _disturbance(garbage: Garbage) -> str | None:
    """Why to stop: someone may need by now what was garbage."""
    if leases_state(garbage.store) != garbage.leases:
        return f"{garbage.store.root}: a workflow has started meanwhile; run `lntune gc` again"
    return workflow_running(garbage.root)


def _delete(item: Item) -> str | None:
    """Delete a folder; a line if it could not be deleted."""
    hidden = item.path
    try:
        with locked(item.lock, lambda: False, shared=True) as alone:
            if not alone:
                return f"{item.path}: a process has begun to work on it; left as it is"
            if item.kind == "unfinished" and (item.path / MANIFEST).exists():
                return f"{item.path}: finished meanwhile; left as it is"
            for path, _, _ in os.walk(item.path):  # not begun if it cannot be ended
                if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if item.kind != "temporary":
                ours = f"{host_name()}.{os.getpid()}.{secrets.token_hex(4)}.old"
                hidden = item.path.with_name(f".{item.path.name}.{ours}")
                os.rename(item.path, hidden)
        (hidden / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(hidden)
    except FileNotFoundError:
        return None  # another collection took it
    except OSError as error:
        left = "left as it is" if item.path.exists() else f"what is left of it lies in {hidden}"
        return f"{item.path}: {error.strerror}; {left}"
    return None


def _delete_small(one: Small) -> str | None:
    """Delete a small file if it is still of no use; a line if it could not be deleted."""
    try:
        if one.kind == "lock":
            with locked(one.path, lambda: False, shared=True):
                return None
        if one.target is None or not one.target.exists():
            one.path.unlink(missing_ok=True)
            if one.kind == "mark":
                with suppress(OSError):  # other marks are there
                    one.path.parent.rmdir()
    except OSError as error:
        return f"{one.path}: {error.strerror}; left as it is"
    return None

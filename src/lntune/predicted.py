"""Memory predictions, kept between processes: a plan for a card asks for dozens, and each runs a training step dry.

A prediction follows from the setup and the code of lntune.analysis.memory alone, so it is kept under the hash of the
two (lntune.store.kept).
"""

import atexit
import sys
from functools import cache
from typing import Any

from lntune.analysis.memory import MemoryAccount, Setup, predict_memory
from lntune.store import kept
from lntune.store.canonical import digest
from lntune.store.fingerprint import code_fingerprint
from lntune.store.packages import versions

_MOST = 2000
"""More are not kept: then it begins anew."""


@cache
def predicted(setup: Setup) -> MemoryAccount:
    """As :func:`lntune.analysis.memory.predict_memory`."""
    known, key = _known(), digest(setup.model_dump(mode="json"))
    if key in known:
        return MemoryAccount.model_validate(known[key])
    account = predict_memory(setup)
    known[key] = account.model_dump(mode="json")
    return account


@cache
def _known() -> dict[str, Any]:
    """Setup to account, as this code predicts it; what is added is written when the process ends."""
    made_by = [code_fingerprint("lntune.analysis.memory"), versions(["pydantic"]), sys.version]
    key = digest(made_by)
    found = kept.read("memory", key)
    known: dict[str, Any] = dict(found) if isinstance(found, dict) and len(found) < _MOST else {}
    before = len(known)
    atexit.register(lambda: kept.write("memory", key, known) if len(known) > before else None)
    return known

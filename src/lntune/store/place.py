"""The same file in two places."""

import os
import shutil
from pathlib import Path


def place(source: Path, target: Path) -> None:
    """The same file under another name: a hard link where the file system and its rules allow it, else a copy.

    Linux refuses to link another user's file unless one may write it (``fs.protected_hardlinks``).
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

"""torchrun as a process that ends with its launcher and leaves the talking to it.

    python -m lntune.training.torchrun RANKS MODULE FOLDER

This is ``torchrun --standalone --nproc-per-node=RANKS -m MODULE FOLDER``, with a pipe from the launcher as standard
input. How ranks ended goes to FOLDER/ended.json.
"""

import json
import logging
import os
import sys
import threading
from pathlib import Path


def main(ranks: int, module: str, folder: Path) -> int:
    """Run the ranks to their end."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    logging.disable(logging.CRITICAL)  # the launcher says in one line what torchrun says in forty
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = [
        "--standalone",
        f"--nproc-per-node={ranks}",
        "--local-addr=127.0.0.1",
        "--signals-to-handle=SIGINT",  # the others are the launcher's: torchrun would end ranks that are saving
        "-m", module, str(folder),
    ]  # fmt: skip
    try:
        run.run(run.parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        (folder / "ended.json").write_text(json.dumps(codes))
        return 1
    return 0


def _end_with_launcher() -> None:
    """The launcher never writes: when reading ends, it is gone."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))

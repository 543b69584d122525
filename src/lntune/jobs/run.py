"""Runs one job: from the job spec that the plan wrote to a finished result in the store.

    python -m lntune.jobs.run results/.jobs/finetune/vicuna-7b-lora-80K-0.001-0123456789ab.json [--link-only]

A job spec is what the plan states of one result: its identity, how to carry it out, and its inputs' folders.
With ``--link-only`` a result whose work has been done before is linked, and for any other the exit code is 75 at once.
"""

import json
import logging
import os
import signal
import sys
import traceback
from contextlib import ExitStack
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from lntune.environment import portable_lacks
from lntune.errors import UserError
from lntune.jobs.submit import MUST_COMPUTE
from lntune.progress import PROGRESS


class _NothingToLinkError(Exception):
    pass


def _check_unchanged(name: str, spec: dict[str, Any]) -> None:
    """UserError if the code or the packages are not those that were there when the job spec was written."""
    from lntune.store.fingerprint import code_fingerprint, raw_digest, versions
    from lntune.store.manifest import differences

    changed = [*differences(spec["packages"], versions(spec["packages"]))]
    if raw_digest("lntune") != spec["source"]:
        changed += differences(spec["code"], code_fingerprint(spec["module"]))
    if changed:
        raise UserError(f"{name}: {', '.join(sorted(changed))} changed after this job was planned; run snakemake again")


def _check_environment(name: str, wanted: dict[str, str]) -> None:
    """UserError if this process cannot compute with the numerics that the result is named after."""
    if wanted and (lacks := portable_lacks()):
        raise UserError(f"{name}: {lacks}, which numerics: portable needs; use another machine, or numerics: native")
    if any(os.environ.get(variable) != value for variable, value in wanted.items()):
        raise UserError(f"{name}: is to be computed with numerics: portable, which variables fix; run it by snakemake")


def run_spec(path: Path, *, link_only: bool = False) -> None:
    """Carry out the job spec in ``path``; UserError for what the user can fix, anything else is a defect."""
    from lntune.config.training import OnDevice
    from lntune.jobs import track
    from lntune.store.identity import Identity
    from lntune.store.job import Job
    from lntune.store.manifest import AcceptedEdit, Store
    from lntune.store.record import record
    from lntune.store.reuse import check_whole
    from lntune.training.endings import passed_on
    from lntune.training.gpus import out_of_memory, take_device

    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
        name, document = f"{spec['stage']} {spec['label']}", spec["identity"]
        identity = Identity(**{part: value for part, value in document.items() if part != "scheme"})
        if identity.id != spec["id"]:
            raise ValueError("its id is not that of its identity")
    except FileNotFoundError:
        raise UserError(f"{path}: no such job spec; it is written when snakemake starts, so run that") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged job spec ({error!r}); run snakemake again, which writes it anew") from None
    _check_unchanged(name, spec)
    _check_environment(name, document.get("environment", {}))
    module = import_module(spec["module"])
    inputs = {
        role: Path(folder) if isinstance(folder, str) else tuple(map(Path, folder))
        for role, folder in spec["inputs"].items()
    }
    settings = module.Settings.model_validate_json(json.dumps(document["settings"]))
    execution = module.Execution.model_validate_json(json.dumps(spec["execution"]))
    ranks = spec["execution"].get("ranks", 1)

    def work(out: Path, scratch: Path) -> Any:
        job = Job(spec["label"], settings, execution, inputs, out, scratch)
        if without_model := passed_on(job):
            return without_model
        if link_only:
            raise _NothingToLinkError
        if isinstance(execution, OnDevice) and (warning := take_device(name, execution, ranks)):
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        for folder in chain.from_iterable((given,) if isinstance(given, Path) else given for given in inputs.values()):
            check_whole(folder)
        if spec.get("tracking"):
            tracked.callback(track.finish, track.start(path, out))
        try:
            return module.run(job)
        except RuntimeError as error:  # torch's, or that of a rank
            if lacked := out_of_memory(str(error), spec["execution"], document["settings"].get("method")):
                traceback.print_exc(file=sys.stdout)
                raise UserError(f"{name}: {lacked}") from error
            raise

    with ExitStack() as tracked:
        record(
            Store(Path(spec["store"])),
            identity,
            spec["label"],
            work,
            inputs=inputs,
            execution=spec["execution"],
            seed=document["settings"].get("seed"),
            ranks=ranks,
            accepted=[AcceptedEdit.model_validate(edit) for edit in spec["accepted"]],
            announce=lambda text: print(f"{name}: {text}", file=sys.stderr, flush=True),
        )


def main(arguments: list[str]) -> int:
    """Run the job spec that the argument names; a mistake is one line, a defect's traceback goes to stdout."""
    # SLURM's warning before a time limit goes to every process; a stage that can use it takes it, the others work on.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.environ[PROGRESS] = os.path.abspath(arguments[0].removesuffix(".json") + ".progress")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        run_spec(Path(arguments[0]), link_only="--link-only" in arguments)
    except _NothingToLinkError:
        return MUST_COMPUTE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        from lntune.store.sharing import disk_trouble

        text = disk_trouble(error) or f"{type(error).__name__}: {error}"
        print(f"error: {Path(arguments[0]).stem}: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    result = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(result)  # as in the fork server: a thread that waits for a server that stalls may write no more

"""Runs one job: from the order that the plan wrote to a finished result in the store.

    python -m lntune.runner results/.orders/finetune/vicuna-7b-lora-80K-0.001-0123456789ab.json

An order is the plan's word on one result: its identity, how to carry it out, and the folders of its inputs. It is
written when a workflow starts, so jobs that wait in a queue are not disturbed when the config is edited. If the code
or a package has changed since, the order's id is no longer the name of what would be made, and the job refuses.
"""

import json
import logging
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from lntune.errors import UserError


def _check_unchanged(order: dict[str, Any]) -> None:
    """UserError if the code or the packages are not those that the order's id was made from."""
    from lntune.store.fingerprint import code_fingerprint
    from lntune.store.packages import versions

    identity = order["identity"]
    code = code_fingerprint(order["module"])
    changed = sorted(name for name in {*code, *identity["code"]} if code.get(name) != identity["code"].get(name))
    packages = versions(identity["packages"])
    changed += sorted(name for name in packages if packages[name] != identity["packages"][name])
    if changed:
        raise UserError(
            f"{order['stage']} {order['label']}: {', '.join(changed)} changed after this job was planned; "
            f"run snakemake again"
        )


def run_order(path: Path) -> None:
    """Carry out the order in ``path``; UserError for what the user can mend, anything else is a defect."""
    from lntune.stages.job import Job
    from lntune.store.identity import Identity
    from lntune.store.layout import Store
    from lntune.store.record import record

    try:
        order = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such order; it is written when snakemake starts, so run that") from None
    _check_unchanged(order)
    module = import_module(order["module"])
    document = order["identity"]
    names = ("stage", "settings", "code", "packages", "inputs")
    identity = Identity(**{name: document[name] for name in names})
    assert identity.id == order["id"], "the order's id is that of its identity"
    inputs = {
        role: Path(folder) if isinstance(folder, str) else tuple(map(Path, folder))
        for role, folder in order["inputs"].items()
    }
    settings = module.Settings.model_validate_json(json.dumps(document["settings"]))
    execution = module.Execution.model_validate_json(json.dumps(order["execution"]))

    def work(out: Path, scratch: Path) -> Any:
        return module.run(Job(order["label"], settings, execution, inputs, out, scratch))

    record(
        Store(Path(order["store"])),
        identity,
        order["label"],
        work,
        inputs=inputs,
        execution=order["execution"],
        seed=document["settings"].get("seed"),
    )


def main(arguments: list[str]) -> int:
    """Run the order that the argument names; a mistake is one line, a defect's traceback goes to stdout."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        run_order(Path(arguments[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        print(f"error: {Path(arguments[0]).stem}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

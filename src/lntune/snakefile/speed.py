"""What makes every start quicker, of the command line and of Snakemake alike; nothing else follows from it."""

import gc
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def callback(function: Function) -> Function:
    """The same function, with its parameters at hand.

    Snakemake looks for a function's parameters at every call, which takes longer than most of ours do.
    """
    from snakemake.common import overwrite_function_params

    overwrite_function_params(function, inspect.signature(function).parameters)
    return function


def speed_up() -> None:
    """Spend less on what a start does for every job; it changes nothing but time.

    Snakemake calls each of our resources through one method: its parameters, too, are put at hand. And garbage is
    looked for less often: almost nothing that a start reads and plans is, and looking takes a tenth of it.
    """
    from snakemake import resources
    from snakemake.common import overwrite_function_params

    method = getattr(getattr(resources, "Resource", None), "evaluate", None)
    if inspect.isfunction(method):  # another version of Snakemake may have none
        parameters = dict(inspect.signature(method).parameters)
        parameters.pop("self")
        overwrite_function_params(method, parameters)
    collect_rarely()


def collect_rarely() -> None:
    """Look for garbage less often."""
    gc.set_threshold(50_000, 20, 100)

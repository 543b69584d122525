"""Functions that Snakemake calls for jobs.

What makes every start quicker, of the command line and of Snakemake alike; nothing else follows from it.
"""

import gc
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def callback(function: Function) -> Function:
    """The same function, with its signature at hand.

    Snakemake asks for a function's signature at every call, which takes longer than most of ours do.
    """
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def quick_signatures() -> None:
    """The same for the method through which Snakemake calls each of our resources: its signature, at hand.

    It changes nothing but time; where Snakemake has no such method (another version), not even that.
    """
    from snakemake import resources

    method = getattr(getattr(resources, "Resource", None), "evaluate", None)
    if inspect.isfunction(method):
        callback(method)


def collect_rarely() -> None:
    """Look for garbage less often: almost nothing that a start reads and plans is, and looking takes a tenth of it."""
    gc.set_threshold(50_000, 20, 100)

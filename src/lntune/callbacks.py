"""Functions that Snakemake calls for jobs."""

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

"""A bar for each pass over the data."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .errors import ParameterError

# Given what a pass does, a context in which Dask computes it.
Progress = Callable[[str], AbstractContextManager[Any]]


def parse_progress(value: Any, parameter: str = "progress") -> Progress:
    """False: nothing; True: a tqdm bar on stderr; or a function of the pass's description."""
    if value is None or value is False:
        return lambda description: nullcontext()
    if value is True:
        return tqdm_bar
    rule = (
        f"{parameter} must be True, False or a function that takes a description and returns a "
        f"context manager, got {value!r}"
    )
    if not callable(value):
        raise ParameterError(rule)

    def bar(description: str) -> AbstractContextManager[Any]:
        context = value(description)
        if not isinstance(context, AbstractContextManager):
            raise ParameterError(f"{rule}, which returned {context!r}")
        return context

    return bar


def tqdm_bar(description: str) -> AbstractContextManager[Any]:
    """A tqdm bar that counts Dask tasks."""
    try:
        from tqdm.dask import TqdmCallback
    except ImportError as error:
        raise ParameterError(
            "progress=True needs the package tqdm: pip install 'pxprep[spatialdata]'"
        ) from error
    bar: AbstractContextManager[Any] = TqdmCallback(desc=description, unit="task", file=sys.stderr)
    return bar

"""Trees of datasets: xarray's own `DataTree`, and the one of the older package xarray-datatree.

The only module that knows that there are two. `TREES` holds those that this environment has: none
where xarray is older than 2024.10 and xarray-datatree is not installed.
"""

import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeGuard, TypeVar

import xarray as xr

A = TypeVar("A", bound=type)


def _trees() -> dict[type, Callable[..., Any]]:
    """Classes of trees, each with what registers an accessor on it."""
    found: dict[type, Callable[..., object]] = {}
    if hasattr(xr, "DataTree"):
        found[xr.DataTree] = xr.register_datatree_accessor
    try:
        version("xarray-datatree")  # another package is imported as `datatree`, too
    except PackageNotFoundError:
        return found
    with warnings.catch_warnings():
        # That the package is deprecated: the user may not have imported it.
        warnings.simplefilter("ignore", DeprecationWarning)
        import datatree

    found[datatree.DataTree] = datatree.register_datatree_accessor
    return found


TREES = _trees()


def is_tree(value: object) -> TypeGuard["xr.DataTree"]:
    """Whether `value` is a tree of either kind."""
    return isinstance(value, tuple(TREES))


def own_dataset(node: "xr.DataTree") -> xr.Dataset:
    """The dataset of a node without the coordinates that it inherits from nodes above."""
    inherits = hasattr(xr, "DataTree") and isinstance(node, xr.DataTree)
    dataset: xr.Dataset = node.to_dataset(inherit=False) if inherits else node.to_dataset()
    return dataset


def register(name: str) -> Callable[[A], A]:
    """Decorator: an accessor called `name` on every kind of tree."""

    def decorate(accessor: A) -> A:
        for register_accessor in TREES.values():
            register_accessor(name)(accessor)
        return accessor

    return decorate

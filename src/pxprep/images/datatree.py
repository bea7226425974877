"""Trees of datasets: xarray's own `DataTree`, and the one of the older package xarray-datatree.

The only module that knows that there are two. `TREES` holds those that this environment has: none
where xarray is older than 2024.10 and xarray-datatree is not installed.
"""

import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TypeGuard

import xarray as xr


def _trees() -> tuple[type, ...]:
    """The classes of trees."""
    of_xarray: tuple[type, ...] = (xr.DataTree,) if hasattr(xr, "DataTree") else ()
    try:
        version("xarray-datatree")  # another package is imported as `datatree`, too
    except PackageNotFoundError:
        return of_xarray
    with warnings.catch_warnings():
        # That the package is deprecated: the user may not have imported it.
        warnings.simplefilter("ignore", DeprecationWarning)
        import datatree

    return (*of_xarray, datatree.DataTree)


TREES = _trees()


def is_tree(value: object) -> TypeGuard["xr.DataTree"]:
    """Whether `value` is a tree of either kind."""
    return isinstance(value, TREES)


def own_dataset(node: "xr.DataTree") -> xr.Dataset:
    """The dataset of a node without the coordinates that it inherits from nodes above."""
    inherits = hasattr(xr, "DataTree") and isinstance(node, xr.DataTree)
    return node.to_dataset(inherit=False) if inherits else node.to_dataset()

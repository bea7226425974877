"""The axes of images: those that the user has, and (c, z, y, x)."""

import numpy as np
from dask.typing import Key

from ..aliases import Array
from .windows import Index

AXES = "czyx"


def chunk_keys(name: str, axes: str, index: Index, n_chunks: int) -> list[Key]:
    """The keys of a block's chunks in an array of that name, each of some of the channels."""
    by_axis = dict(zip("zyx", index, strict=True))
    places = [{"c": chunk, **by_axis} for chunk in range(n_chunks)]
    return [(name, *(place[axis] for axis in axes)) for place in places]


def standard_axes(array: Array, axes: str) -> Array:
    """An array, whose axes are `axes`, with the axes (c, z, y, x): a view."""
    array = array.transpose([axes.index(axis) for axis in AXES if axis in axes])
    if "c" not in axes:
        array = array[np.newaxis]
    return array if "z" in axes else array[:, np.newaxis]


def own_axes(array: Array, axes: str) -> Array:
    """An array with axes (c, z, y, x), with the axes `axes`: a view. One left out has length 1."""
    left = [axis for axis in AXES if axis in axes]
    array = array[tuple(slice(None) if axis in left else 0 for axis in AXES)]
    return array.transpose([left.index(axis) for axis in axes])

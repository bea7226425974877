"""Lazy images that count how often their chunks are made."""

from collections import Counter
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr

from pxprep.engine.gathering import Bounds

SHAPE, CHUNKS = (3, 24, 20), (3, 6, 10)


def some_values(dtype="f4", shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2, 20, shape).astype(dtype)
    values[rng.random(shape) < 0.2] = 0
    return values


def image_of(array, dims=("c", "y", "x")):
    return xr.DataArray(array, dims=dims, name="fov0")


def counted(values, chunks=CHUNKS):
    """A lazy image of these values, and how often each of its chunks was made."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    empty = np.empty((0,) * values.ndim, values.dtype)
    array = da.from_array(values, chunks=chunks)
    array = array.map_blocks(load, name=f"counted-{uuid4()}", dtype=values.dtype, meta=empty)
    return image_of(array), reads


def looks_everywhere(samples, q, zeros, n_bytes):
    return Bounds(np.full(len(q), -np.inf), np.full(len(q), np.inf))

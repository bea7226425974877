"""Lazy images that count how often their chunks are made, and what a first look may suggest."""

from collections import Counter
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr

from pxprep.engine import quantiles
from pxprep.engine.gathering import Bounds, Gatherer, Limits

SHAPE, CHUNKS = (3, 24, 20), (3, 6, 10)


def some_values(dtype="f4", shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2, 20, shape).astype(dtype)
    values[rng.random(shape) < 0.2] = 0
    return values


def with_infinities(dtype="f4"):
    values = some_values(dtype)
    values[0, ::3], values[1, 1::3], values[2, :, ::4] = np.inf, -np.inf, np.nan
    return values


def image_of(array, dims=("c", "y", "x")):
    return xr.DataArray(array, dims=dims, name="fov0")


def counted(values, chunks=CHUNKS):
    """A lazy image of these values, and how often each of its chunks was made."""
    array, reads = counted_array(values, chunks)
    return image_of(array), reads


def counted_array(values=None, chunks=CHUNKS):
    """The same as an array; of some values if none are given."""
    reads = Counter()

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    values = some_values() if values is None else values
    return calling(load, da.from_array(values, chunks=chunks)), reads


def calling(function, array):
    """`array` with each block passed through `function`; never taken for another such array."""
    empty = np.empty((0,) * array.ndim, array.dtype)
    return array.map_blocks(function, name=f"calling-{uuid4()}", dtype=array.dtype, meta=empty)


def three_steps(image, q=99):
    """No step reads neighbours: four passes, a first look, two statistics and the result."""
    return image.pxprep.quantile_norm(q).pxprep.sum_norm().pxprep.post_norm(q)


def looks_everywhere(samples, q, zeros, n_bytes):
    return Bounds(np.full(len(q), -np.inf), np.full(len(q), np.inf))


def looks_above(samples, q, zeros, n_bytes):
    return Bounds(np.full(len(q), 1e29), np.full(len(q), 1e30))


def looks_above_in_one_channel(samples, q, zeros, n_bytes):
    low = np.where(np.arange(len(q)) == len(q) - 1, 1e29, -np.inf)
    return Bounds(low, np.full(len(q), np.inf))


def sees_nothing(samples, q, zeros, n_bytes):
    return None


# What a first look suggests, and how many passes each of two statistics of float32 takes.
LOOKS = {
    "as it is": (quantiles.bracket, 1),
    "above": (looks_above, 3),
    "one channel": (looks_above_in_one_channel, 3),
    "nothing": (sees_nothing, 2),
}


def gathered(values, low, high, q=(50,), zeros=True):
    """What lies between two bounds of values, for each of several quantiles; nothing is let go."""
    bounds = Bounds(np.full(len(q), low), np.full(len(q), high))
    limits = Limits(np.full((len(q), 2), 1 << 40), 1 << 40)
    gatherer = Gatherer(bounds, limits, zeros, values.dtype)
    gatherer.take(values[np.newaxis])
    return gatherer.gathered()

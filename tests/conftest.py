"""Fixtures: images and the means to see that nothing is computed."""

import signal
from contextlib import contextmanager
from importlib.util import find_spec

import dask
import numpy as np
import pytest
import xarray as xr

# Scripts that tests run; for doctests they would be imported.
if find_spec("spatialdata") is None:
    collect_ignore = ["contention.py", "crash.py", "powercut.py", "stores.py"]

# A shell lets its background jobs, and all that they start, ignore Ctrl-C; tests are about it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LABELS = ("DAPI", "CD3", "CD20", "CD45", "Ki67", "PanCK", "SMA", "CD8")


@pytest.fixture(scope="session")
def make_image():
    """A function that makes a seeded image with dims c, (z,) y, x, of any dtype."""
    return _image


def _image(
    dtype="float32",
    shape=(3, 23, 17),
    *,
    zeros=0.2,
    nan=0.0,
    negative=0.0,
    seed=0,
    labeled=True,
    chunks=None,
):
    """`zeros`, `nan`, `negative`: which part of the pixels is so."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    values = rng.gamma(2, 20, shape) * np.arange(1, shape[0] + 1).reshape(-1, *[1] * len(shape[1:]))
    if dtype.kind == "b":
        values = values > 60
    elif dtype.kind in "ui":
        largest = np.iinfo(dtype).max
        # Wide integers are more than a float32 can hold.
        values = values * (largest // 2000) if dtype.itemsize > 2 else np.minimum(values, largest)
    values = values.astype(dtype)
    values[rng.random(shape) < zeros] = 0
    if negative:
        below = rng.random(shape) < negative
        values[below] = -values[below]
    if nan:
        values[rng.random(shape) < nan] = np.nan
    dims = ("c", "z", "y", "x") if len(shape) == 4 else ("c", "y", "x")
    image = xr.DataArray(values, dims=dims, name="fov0", attrs={"um_per_pixel": 0.5})
    if labeled:
        image = image.assign_coords(c=list(LABELS[: shape[0]]))
    return image if chunks is None else image.chunk(chunks)


@pytest.fixture
def no_compute():
    """A context in which Dask refuses to compute anything."""

    def refuse(*args, **kwargs):
        pytest.fail("something was computed")

    @contextmanager
    def context():
        with dask.config.set(scheduler=refuse):
            yield

    return context

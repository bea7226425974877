"""A step of `ops` held to the oracle, images of one row, and the only warning."""

import numpy as np
import xarray as xr

import oracle
from oracle import assert_agrees, plain
from pxprep import ops


def run(name, image, **parameters):
    """What the function of `ops` with that name gives."""
    return getattr(ops, name)(image, **parameters)


def check(name, image, **parameters):
    """Compare a step with the oracle and return what it gave."""
    result = run(name, image, **parameters)
    expected = getattr(oracle, name)(plain(image), **parameters)
    assert_agrees(result, expected, exact=name != "blur")
    return result


def row(*channels, dtype="float32", **coords):
    """An image of one row, from the pixels of its channels."""
    values = np.array(channels, dtype)[:, np.newaxis]
    return xr.DataArray(values, dims=("c", "y", "x"), coords=coords)


def only_warning(record):
    """The text of the one warning that was given."""
    (warning,) = record
    return str(warning.message)

"""Zarr arrays in folders, opened to be read, and what must be read of them."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from chunk_kinds import CHUNKS
from pxprep.store.zarr_chunks import direct

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")


def stored(path, values, chunks=CHUNKS, **options):
    """The values in a zarr array in a folder, opened again to be read."""
    options = {"compressors": None, "dtype": values.dtype, **options}
    array = zarr.create_array(path, shape=values.shape, chunks=chunks, **options)
    array[...] = values
    return zarr.open_array(path, mode="r")


def assert_same_part(array, selection):
    found, expected = direct(array)[selection], array[selection]
    assert found.dtype == expected.dtype
    assert found.dtype.byteorder == expected.dtype.byteorder
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def file_of(path, array, place=(0, 0, 0)):
    return Path(path) / array.metadata.encode_chunk_key(place)


def an_image(array, dims=("c", "y", "x")):
    return xr.DataArray(array, dims=dims, name="fov0")


def assert_right_numbers(array, values):
    """Of a zarr array, as Dask reads it, and as pxprep does when it measures and when it makes."""
    lazy = da.from_zarr(array)
    np.testing.assert_array_equal(lazy.compute(), values)
    native = values.astype(values.dtype.newbyteorder("="))
    expected = an_image(native).pxprep.quantile_norm(99).pxprep.blur(0.5)
    found = an_image(lazy).pxprep.quantile_norm(99).pxprep.blur(0.5).compute()
    assert found.values.tobytes() == expected.values.tobytes()

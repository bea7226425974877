"""Numbers of either byte order: imported, processed in memory and on disk, and as masks."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")

import spatialdata
import zarr
from spatialdata.models import Image2DModel, Labels2DModel

import pxprep
from pxprep.io import import_images

NAMES = ["CD3", "CD20", "DAPI"]
TYPES = ["u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
DIMS = ("c", "y", "x")


def counts(dtype, shape=(3, 40, 30)):
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


def labelled(array):
    return xr.DataArray(array, dims=DIMS, coords={"c": NAMES})


def on_disk(folder, values, zarr_format):
    """A zarr array of the values' own byte order, lazily."""
    how = {"shape": values.shape, "chunks": (1, 16, 16), "dtype": values.dtype}
    zarr.create_array(store=str(folder), zarr_format=zarr_format, **how)[:] = values
    return da.from_zarr(zarr.open_array(str(folder), mode="r"))


def test_layers_are_of_native_order(tmp_path):
    images = {}
    for dtype in TYPES:
        other = counts(dtype).astype(np.dtype(dtype).newbyteorder())
        images[f"memory-{dtype}"] = labelled(other)
        if dtype != "f2":  # zarr's format 2 knows none
            images[f"disk-{dtype}"] = labelled(on_disk(tmp_path / dtype, other, 2))
            assert not images[f"disk-{dtype}"].dtype.isnative
    import_images(images, tmp_path / "new.zarr", scale_factors=[2])
    sdata = spatialdata.read_zarr(tmp_path / "new.zarr")
    for layer in images:
        dtype = layer.partition("-")[2]
        values = counts(dtype)
        fine, coarse = (sdata[layer][scale]["image"] for scale in ("scale0", "scale1"))
        assert fine.dtype == coarse.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(fine.values, values)
        means = values.astype("f8").reshape(3, 20, 2, 15, 2).mean(axis=(2, 4))
        expected = means.round() if values.dtype.kind in "ui" else means
        np.testing.assert_allclose(coarse.values, expected.astype(dtype), rtol=1e-3)


@pytest.mark.parametrize(("zarr_format", "dtype"), [(2, "u2"), (3, "u2"), (2, "f4"), (3, "f8")])
def test_layers_in_place(tmp_path, dtype, zarr_format):
    """Processed where they are, and through the wrapper, in memory and on disk: the same bits."""
    values = counts(dtype)
    expected = labelled(values).pxprep.preprocess().values
    array = on_disk(tmp_path / "raw", values.astype(">" + dtype), zarr_format)
    np.testing.assert_array_equal(labelled(array).pxprep.preprocess().values, expected)
    sdata = spatialdata.SpatialData({"fov": Image2DModel.parse(array, DIMS, c_coords=NAMES)})
    for place in ("memory", "disk"):
        if place == "disk":
            sdata.write(tmp_path / "study.zarr")
            sdata = spatialdata.read_zarr(tmp_path / "study.zarr")
        sdata = pxprep.pixel_clustering_preprocess(sdata, ["fov"], [place], sigma=2)
        np.testing.assert_array_equal(sdata[place].values, expected)


@pytest.mark.parametrize("dtype", ["u2", "i8"])
@pytest.mark.parametrize("lazily", [False, True])
def test_masks(dtype, lazily):
    image = labelled(np.random.default_rng(1).gamma(1, 9, (3, 40, 30)))
    own = xr.DataArray(counts(dtype, (40, 30)) // 40, dims=("y", "x"))
    other = own.astype(own.dtype.newbyteorder())
    inside = image.where(own == 1)
    expected = [np.nanquantile(channel, 0.99) for channel in inside.values]
    given = image.chunk({"y": 11}) if lazily else image
    mask = pxprep.Mask(other.chunk({"y": 13}) if lazily else other, labels=1)
    found = pxprep.quantile(given, 99, where=mask)
    np.testing.assert_array_equal(found.values, expected)
    table = pxprep.pixel_table(image, labels=other, drop_background=True)
    assert sorted(table["label"]) == sorted(own.values[own.values > 0])
    layer = {"fov": Image2DModel.parse(image.values, DIMS, c_coords=NAMES)}
    results = []
    for labels in (own, other):
        sdata = spatialdata.SpatialData(layer, {"cells": Labels2DModel.parse(labels.data)})
        sdata = pxprep.pixel_clustering_preprocess(sdata, ["fov"], ["out"], where="cells")
        results.append(sdata["out"].values)
    np.testing.assert_array_equal(*results)


def test_an_array_beside_the_store(tmp_path):
    """What else is made in the folder of a plain array is no change of it."""
    values = counts("u2")
    image = labelled(on_disk(tmp_path / "raw", values, 2))
    sdata = import_images({"fov": image}, tmp_path / "new.zarr")
    np.testing.assert_array_equal(sdata["fov"].values, values)

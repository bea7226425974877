"""SpatialData objects with fields of view, a multiscale one, a volume and labels."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")
import spatialdata
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel
from spatialdata.transformations import Affine, Scale

from stores import store_of

LABELS = ["DAPI", "CD3", "CD20", "panCK"]

SHIFT = Affine([[1, 0, 7], [0, 1, -3], [0, 0, 1]], ("x", "y"), ("x", "y"))


def counts(seed, shape=(4, 61, 83)):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.7, 6, shape)).astype(np.uint16)


def labeled(array, dims="cyx"):
    return xr.DataArray(array, dims=tuple(dims), coords={"c": LABELS})


def layer(array, model=Image2DModel, chunks=(1, 32, 48), **kwargs):
    dims = tuple("czyx" if array.ndim == 4 else "cyx")
    if array.ndim == 4:
        chunks = (2, 2, 20, 32)
    return model.parse(
        da.from_array(array, chunks=chunks), dims=dims, c_coords=LABELS, chunks=chunks, **kwargs
    )


def cells():
    return Labels2DModel.parse(np.arange(61 * 83).reshape(61, 83) % 7, dims=("y", "x"))


def make():
    """Two FOVs, a multiscale one, a volume and labels."""
    return spatialdata.SpatialData(
        images={
            "fov0": layer(counts(0), transformations={"global": SHIFT, "mm": Scale([2, 2], "yx")}),
            "fov1": layer(counts(1, (4, 50, 40))),
            "pyramid": layer(counts(2, (4, 96, 130)), scale_factors=[2, 2]),
            "volume": layer(counts(3, (4, 3, 30, 41)), Image3DModel),
        },
        labels={"cells": cells()},
    )


def backed(folder, make=make):
    """What `make` returns, in a store."""
    return store_of(folder / "a störe.zarr", make)


def scales(element):
    if isinstance(element, xr.DataArray):
        return [element]
    return [element[name]["image"] for name in element.children]

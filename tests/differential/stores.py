"""The same cases as layers of a SpatialData object, in memory or on disk, run by the wrapper."""

from pathlib import Path

import dask.array as da
import numpy as np
import spatialdata
import xarray as xr
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel, Labels3DModel

import oracle
from differential import contents, running, sizes
from differential.cases import LABELS, resolved
from differential.checking import (
    compare,
    folder_of_its_own,
    hold_to_means,
    quiet,
    right_answer,
)
from pxprep import Mask, pixel_clustering_preprocess


def check(case):
    """Raise AssertionError unless the wrapper's layers are the oracle's."""
    store = case.store
    with quiet(), folder_of_its_own() as folder, sizes.made_small(case.ways[0].sizes):
        pixels = [contents.pixels(picture, case.n_channels) for picture in case.pictures]
        expected, _ = right_answer(case, pixels)
        masks = [contents.inside(m, p.size) for m, p in zip(case.masks, case.pictures, strict=True)]
        if not store.keeps_outside and any(mask is not None for mask in masks):
            pairs = zip(expected, masks, strict=True)
            expected = [
                a if m is None else np.where(m, a, np.nan).astype(a.dtype) for a, m in pairs
            ]
        names = [f"fov{number}" for number in range(len(pixels))]
        sdata = _written(case, store, pixels, Path(folder))
        outputs = [f"{name}_after" for name in names]
        pixel_clustering_preprocess(sdata, names, outputs, **_parameters(case, store))
        if store.is_on_disk:
            sdata = spatialdata.read_zarr(Path(folder) / "study.zarr")
        layers = [sdata[name] for name in outputs]
        finest = [_finest(layer).compute() for layer in layers]
        compare(case, finest, expected)
        if store.has_scales:
            for layer, fine in zip(layers, finest, strict=True):
                _check_scales(layer, fine)


def _written(case, store, pixels, folder):
    images, labels = {}, {}
    for number, (picture, array, mask) in enumerate(
        zip(case.pictures, pixels, case.masks, strict=True)
    ):
        own = array[list(picture.order)]
        deep = own.ndim == 4
        dims = ("c", "z", "y", "x") if deep else ("c", "y", "x")
        held = case.ways[0].holdings[number]
        chunks = tuple(max(sizes) for sizes in held.chunks) or own.shape
        images[f"fov{number}"] = (Image3DModel if deep else Image2DModel).parse(
            da.from_array(own, chunks=chunks),
            dims=dims,
            c_coords=[LABELS["text"][n] for n in picture.order],
            chunks=chunks,
            scale_factors=_factors(own) if store.has_scales else None,
        )
        if mask is not None:
            found = np.broadcast_to(contents.labels(mask, picture.size), own.shape[1:])
            model = Labels3DModel if deep else Labels2DModel
            labels[f"cells{number}"] = model.parse(
                np.ascontiguousarray(found, np.int32), dims=dims[1:]
            )
    sdata = spatialdata.SpatialData(images=images, labels=labels)
    if store.is_on_disk:
        sdata.write(folder / "study.zarr")
        sdata = spatialdata.read_zarr(folder / "study.zarr")
    return sdata


def _factors(array):
    return [
        {
            dim: 2 if size > 1 and dim != "z" else 1
            for dim, size in zip("zyx"[-array.ndim + 1 :], array.shape[1:], strict=True)
        }
    ]


def _parameters(case, store):
    where = [_mask(*pair, store) for pair in enumerate(zip(case.masks, case.pictures, strict=True))]
    given = {
        "pool": case.pool,
        "where": None if all(mask is None for mask in where) else where,
        "memory": case.ways[0].memory,
        "chunks": store.chunks,
        "resume": store.resumes and store.is_on_disk,
    }
    if given["where"] is not None:
        given["keep_outside"] = store.keeps_outside
    if case.channels is not None:
        given["channels"] = list(case.names)
    if case.sparrow is not None:
        return given | {name: resolved(value, case.names) for name, value in case.sparrow.items()}
    return given | {"pipeline": running.pipeline(case, running.functions(case))}


def _mask(number, pair, store):
    mask, picture = pair
    if mask is None:
        return None
    source = f"cells{number}"
    if not store.has_mask_layers:
        found = contents.labels(mask, picture.size)
        source = xr.DataArray(found, dims=list("zyx"[-found.ndim :]))
    if mask.form in ("bool", "nonzero"):
        return Mask(source)
    chosen = Mask(source, labels=1)
    return chosen if mask.form == "label" else ~chosen


def _finest(layer):
    return layer["scale0"]["image"] if hasattr(layer, "children") else layer


def _check_scales(layer, finest):
    (coarse,) = (layer[name]["image"] for name in layer.children if name != "scale0")
    plain = oracle.plain(finest)
    factors = {dim: n for dim, n in _factors(plain)[0].items() if n > 1}
    expected = oracle.coarsen(plain, factors) if factors else plain
    hold_to_means(oracle.plain(coarse), expected, plain)

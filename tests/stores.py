"""Small stores for the tests of what is written: two channels of 24 by 20 pixels in two chunks."""

from pathlib import Path

import dask.array as da
import numpy as np
import spatialdata
from spatialdata.models import Image2DModel, Labels2DModel

CHANNELS = ["CD3", "CD20"]
CHUNKS = (2, 16, 20)
# The files of stores by what made them: writing takes several times as long as copying them.
WRITTEN = {}
ATTRS = {"study": {"name": "kept", "numbers": [0.1, 2]}}


def counts(seed):
    return np.random.default_rng(seed).poisson(20, (2, 24, 20)).astype(np.uint16)


def image(seed, multiscale=False):
    return Image2DModel.parse(
        da.from_array(counts(seed), chunks=CHUNKS),
        dims=("c", "y", "x"),
        c_coords=CHANNELS,
        chunks=CHUNKS,
        scale_factors=[2] if multiscale else None,
    )


def make_study(path, multiscale=False, **how):
    """A store of three fields of view, another image, labels, and attrs of somebody else."""
    if how:
        _study(multiscale).write(path, **how)
        return spatialdata.read_zarr(path)
    return store_of(path, _study, multiscale)


def store_of(path, make, *arguments):
    """What `make` returns, in a store: written by SpatialData once, and copied from then on."""
    path = Path(path)
    if (make, arguments) in WRITTEN and not path.exists():
        for name, raw in WRITTEN[make, arguments].items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(raw)
    else:
        make(*arguments).write(path)
        WRITTEN[make, arguments] = {
            file.relative_to(path): raw for file, raw in files(path).items()
        }
    return spatialdata.read_zarr(path)


def _study(multiscale):
    images = {f"fov{seed}": image(seed, multiscale) for seed in range(3)}
    cells = Labels2DModel.parse(np.arange(480).reshape(24, 20) % 5, dims=("y", "x"))
    return spatialdata.SpatialData(
        images={**images, "other": image(9, multiscale)}, labels={"cells": cells}, attrs=ATTRS
    )


def arrays(element):
    """The values of an element, finest scale first."""
    scales = [element] if hasattr(element, "data") else [element[n]["image"] for n in element]
    return [scale.values for scale in scales]


def layers(store):
    """The values of all images in a store."""
    sdata = spatialdata.read_zarr(store)
    return {name: arrays(element) for name, element in sdata.images.items()}


def same(first, second):
    return len(first) == len(second) and all(
        a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )


def files(path):
    """Every file below a folder and its bytes, so that any change shows."""
    return {p: p.read_bytes() for p in sorted(Path(path).rglob("*")) if p.is_file()}

"""Fitting, transforming and processing at once hold a few blocks, however large the image."""

import gc
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest

from counted_images import image_of
from pxprep import Pipeline
from pxprep.engine import backends, brackets, sources, tasks

pytestmark = pytest.mark.usefixtures("memory_from_numpy")


def generated(size, block, dtype):
    """A lazy image of which nothing is in memory: its blocks are made when they are read."""

    def make(block_info=None):
        place = block_info[None]
        rng = np.random.default_rng(list(place["chunk-location"]))
        return rng.integers(0, 4000, place["chunk-shape"], dtype="u2").astype(dtype)

    chunks, empty = ((3,), *[(block,) * (size // block)] * 2), np.empty((0, 0, 0), dtype)
    return image_of(da.map_blocks(make, chunks=chunks, dtype=dtype, meta=empty))


def peak_of(function):
    gc.collect()
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="synchronous"):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def a_few_numbers(image):
    return image.data.map_blocks(
        lambda block: block[:, :1, :1].copy(),
        chunks=(3, *[(1,) * n for n in image.data.numblocks[1:]]),
    ).compute()


def test_fitting_and_transforming_need_a_few_blocks():
    # Of smaller blocks edges and sample are a larger share.
    pipeline, size, block, dtype = Pipeline.sparrow(), 3072, 512, "uint16"
    fitted = pipeline.fit(generated(block, block, dtype))  # compiles, and imports
    image = generated(size, block, dtype)
    assert peak_of(lambda: pipeline.fit(image, memory=0)) < 0.4 * 4 * image.size
    assert peak_of(lambda: a_few_numbers(fitted.transform(image))) < 0.2 * 4 * image.size


def test_memory_does_not_grow_with_the_image(monkeypatch):
    dtype = "float32"
    for module, name in (
        (backends, "SAMPLE_BYTES"),
        (sources, "SAMPLE_BYTES"),
        (backends, "EDGE_BYTES"),
        (tasks, "EDGE_BYTES"),
        (brackets, "MOST_GATHERED"),
    ):
        monkeypatch.setattr(module, name, 1 << 20)
    fitted = Pipeline.sparrow().fit(generated(256, 256, dtype))

    def peaks(size):
        image = generated(size, 256, dtype)
        yield peak_of(lambda: Pipeline.sparrow().fit(image, memory=0))
        yield peak_of(lambda: a_few_numbers(fitted.transform(image)))

    more = 3 * (2560**2 - 1280**2) * np.dtype(dtype).itemsize
    for small, large in zip(peaks(1280), peaks(2560), strict=True):
        assert large - small < more / 4

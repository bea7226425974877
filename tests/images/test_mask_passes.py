"""What masks cost: passes, tasks and memory."""

import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import oracle
from counted_images import counted_array
from masked_images import (
    a_mask,
    outside_nan,
)
from oracle import plain
from pxprep import Mask, Pipeline
from pxprep.engine import brackets, quantiles
from pxprep.engine.cache import Budget, ImageCache, Sampling

# --- laziness, passes, memory ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "kind", "fit"),
    [("uint16", "numpy", True), ("float32", "dask", True), ("float32", "numpy", False)],
)
def test_a_mask_costs_no_pass(dtype, kind, fit, make_image):
    """Samples are of pixels inside, so that quantiles are still found in one pass."""
    values = make_image(dtype, (2, 128, 192)).values
    inside = a_mask((128, 192), part=0.3)
    values[:, ~inside.values] *= 50  # a sample of everything would mislead
    passes = []
    pipeline = Pipeline().quantile_norm(50).sum_mask(40).blur(1).post_norm(60)
    pipeline = pipeline.percentile_clip(20, 80)
    for masked in (False, True):
        array, reads = counted_array(values, (2, 32, 64))
        mask = None
        if masked:
            mask = (
                inside
                if kind == "numpy"
                else inside.copy(data=counted_array(inside.values, (32, 64))[0])
            )
        image = xr.DataArray(array, dims=("c", "y", "x"))
        with dask.config.set(scheduler="synchronous"):
            if fit:
                pipeline.fit(image, where=mask, memory=0)
            else:
                pipeline.fit_transform(image, where=mask).compute()
        assert len(set(reads.values())) == 1
        passes.append(reads[0, 0, 0])
    assert passes[0] == passes[1]


def test_what_is_outside_takes_no_room():
    """Of what may be gathered: a mask that leaves little is measured in one pass, too."""
    sample = np.random.default_rng(0).gamma(2, 20, (1, 1, 100, 100)).astype("f4")
    few = np.where(np.arange(100) < 10, sample, np.nan)
    n_bytes = int(brackets.MOST_GATHERED / 0.3)
    assert quantiles.bracket([sample], np.array([50.0]), True, n_bytes) is None
    low, high = quantiles.bracket([few], np.array([50.0]), True, n_bytes)
    assert low < np.nanmedian(few) < high
    assert np.mean((few >= low) & (few <= high)) < 0.3


def test_memory_keeps_masks_too(make_image):
    where, reads = counted_array(a_mask((128, 192)).values, (32, 64))
    image = make_image("float32", (2, 128, 192)).chunk(y=32, x=64)
    mask = xr.DataArray(where, dims=("y", "x"))
    Pipeline.sparrow(sigma=1).fit(image, where=mask, memory="1 GiB")
    assert set(reads.values()) == {1}


def test_zarr_masks_are_read_in_parts_and_not_held(tmp_path, make_image):
    """Whatever their chunks: a stored mask is read again in the blocks of the image."""
    zarr = pytest.importorskip("zarr")
    labels = np.random.default_rng(0).integers(0, 3, (600, 800)).astype("i4")
    stored = zarr.create_array(tmp_path / "labels", data=labels, chunks=(500, 300))
    mask = xr.DataArray(da.from_zarr(stored), dims=("y", "x"))
    image = make_image("uint16", (2, 600, 800))
    lazy = image.chunk(y=128, x=100)
    for where, inside in ((mask, labels > 0), (Mask(mask, 2), labels == 2)):
        expected = oracle.quantile(
            plain(outside_nan(image, xr.DataArray(inside, dims=("y", "x")))), 90
        )
        made = lazy.pxprep.quantile(90, where=where)
        names = {str(key[0]) for key in made.data.dask if isinstance(key, tuple)}
        assert not any("rechunk" in name for name in names)
        np.testing.assert_array_equal(made, expected)


def test_graphs_stay_small(make_image):
    """A mask adds no task to a chain on a stored array, and one for each block from anywhere."""
    image = make_image("float32", (2, 120, 120)).chunk(y=30, x=30)
    n_blocks = image.data.npartitions
    mask = a_mask((120, 120))
    for where, more in ((mask, n_blocks), (mask.chunk(y=30, x=30), 2 * n_blocks)):
        plain_tasks = len(dict(image.pxprep.blur(1).pxprep.quantile(50).data.__dask_graph__()))
        masked = image.pxprep.blur(1).pxprep.quantile(50, where=where)
        assert len(dict(masked.data.__dask_graph__())) <= plain_tasks + more + 1


@pytest.mark.usefixtures("memory_from_numpy")
def test_fitting_a_large_lazy_image_holds_little(make_image):
    n_rows = 4096
    rng = np.random.default_rng(0)
    tile = rng.gamma(2, 20, (2, 256, 512)).astype("f4")
    array = da.map_blocks(
        lambda: tile,
        chunks=((2,), (256,) * (n_rows // 256), (512,) * 4),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    labels = da.map_blocks(
        lambda: (tile[0] > 20).astype("i4"),
        chunks=((256,) * (n_rows // 256), (512,) * 4),
        dtype="i4",
        meta=np.empty((0, 0), "i4"),
    )
    image = xr.DataArray(array, dims=("c", "y", "x"))
    where = xr.DataArray(labels, dims=("y", "x"))
    Pipeline().quantile_norm(99).fit(image.isel(y=slice(256)), where=where[:256], memory=0)
    tracemalloc.start()
    with dask.config.set(scheduler="synchronous"):
        Pipeline().quantile_norm(99).fit(image, where=where, memory=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * image.nbytes, f"{peak / image.nbytes:.2f} of the image"


def test_a_cache_beside_another_samples_the_same_places():
    block = np.arange(2 * 800 * 2100).reshape(2, 1, 800, 2100)
    nothing = Budget(0)
    cache = ImageCache(nothing, nothing, Sampling(1 << 20, 1))
    beside = cache.beside("mask")
    beside.blocks((0, 0, 0), lambda: [block[:1] % 2])  # read before the image: no sample yet
    assert not beside.samples()
    cache.blocks((0, 0, 0), lambda: [block])
    beside.blocks((0, 0, 0), lambda: [block[:1] % 2])
    (tiles,), (masks,) = cache.samples().values(), beside.samples().values()
    assert len(tiles) > 1
    for tile, mask in zip(tiles, masks, strict=True):
        np.testing.assert_array_equal(tile[:1] % 2, mask)
    assert cache.beside("mask") is beside
    cache.close()
    assert not beside.samples()
    assert not cache.beside("late")._is_open

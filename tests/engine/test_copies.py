"""Lazy images are copied chunk by chunk without Dask, where any thread can read them."""

from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback

from counted_images import counted, some_values
from oracle import assert_same_bits
from pxprep.engine import backends
from pxprep.errors import StoreError

zarr = pytest.importorskip("zarr", minversion="3")
pytest.importorskip("numcodecs")

CHUNKS = (1, 12, 20)


@pytest.fixture
def image(tmp_path):
    """An image on disk, with channels a, b and c."""
    zarr.create_array(tmp_path / "fov.zarr", data=some_values("u2"), chunks=CHUNKS)
    opened = da.from_zarr(zarr.open_array(tmp_path / "fov.zarr", mode="r"))
    return xr.DataArray(opened, dims=("c", "y", "x"), coords={"c": list("abc")})


def stored(images):
    """What the package has Dask, or threads, write of images."""
    targets = [np.full(image.shape, 77, image.dtype) for image in images]
    backends.store([image.data for image in images], targets)
    return [image.copy(data=target) for image, target in zip(images, targets, strict=True)]


CASES = {
    "its chunks": lambda image: image,
    "some channels": lambda image: image.sel(c=["c", "a"]),
    "larger chunks": lambda image: image.chunk(c=2, y=24),
    "a part": lambda image: image[:, 10:, 5:],
    "another type": lambda image: image.astype("f4"),
    "in memory": lambda image: image.compute(scheduler="sync").chunk(c=1, y=20),
    "other axes": lambda image: image.transpose("x", "c", "y"),
}


@pytest.mark.parametrize("alter", CASES.values(), ids=CASES.keys())
def test_without_dask(image, alter, no_dask):
    altered = alter(image)
    (made,) = stored([altered])
    assert_same_bits(made, altered.compute())


def test_many_images_in_one_queue(image, no_dask):
    """Who listens to Dask hears of each chunk."""
    others = [image, image.copy(data=da.from_array(some_values(seed=1), chunks=CHUNKS))]
    seen = []
    with Callback(posttask=lambda key, result, graph, state, worker: seen.append(key)):
        made = stored(others)
    assert len(set(seen)) == 2 * 3 * 2
    np.testing.assert_array_equal(made[1], some_values(seed=1))


@pytest.mark.parametrize(
    "alter",
    [
        lambda image: [image.chunk(y=3)],
        lambda image: [image, image.coarsen(y=2, x=2).mean()],
    ],
    ids=["chunks that are cut", "coarser scales"],
)
def test_what_several_chunks_need_is_read_once(alter):
    image, reads = counted(some_values("u2"))
    made = stored(alter(image))
    assert set(reads.values()) == {1}
    assert len(reads) == 8
    np.testing.assert_array_equal(made[0], some_values("u2"))


def test_threads_of_the_user_write(image):
    asked = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            asked.append(args)
            return super().submit(*args, **kwargs)

    with Pool(1) as pool, dask.config.set(pool=pool):
        stored([image])
    assert asked


def test_an_array_that_is_gone(image, tmp_path):
    (tmp_path / "fov.zarr").rename(tmp_path / "elsewhere.zarr")
    with pytest.raises(StoreError, match=r"fov.zarr' is gone"):
        stored([image])

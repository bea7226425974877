"""What is measured: each scenario is a function that prepares, and returns what is timed.

Every scenario runs in a process of its own (see `run.py`), so that its peak of memory is its own.
"""

import shutil
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

SCENARIOS = {}
N_CHANNELS = 22
CHUNK = 1024
LAYER = "raw"
# Sigma of a blur that takes in large structures, in pixels.
WIDE = 20


def scenario(function):
    """Register a scenario by its name, with dashes."""
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


def make_store(path, size, chunk=CHUNK, n_channels=N_CHANNELS, pixels="camera"):
    """Write a SpatialData store with one made-up image, chunk by chunk.

    `pixels` are ``"counts"`` of ions, many of them zero, or what a ``"camera"`` makes of photons:
    an offset, its gain and noise. Counts compress to 0.20 of their size, a camera's to 0.76.
    """
    import dask.array as da
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    from pxprep.datasets import tissue

    # Real structure from one field of view, tiled; every channel and tile gets noise of its own.
    fov = next(iter(tissue(n_fovs=1, size=256).values())).values

    def block(block_info=None):
        (_, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        channel = block_info[None]["array-location"][0][0]
        rng = np.random.default_rng([channel, top, left])
        rows, columns = np.arange(top, bottom) % 256, np.arange(left, right) % 256
        base = fov[channel % len(fov)][np.ix_(rows, columns)]
        brightness = 0.5 + rng.random()
        if pixels == "counts":
            values = rng.poisson(base * brightness)
        else:
            photons = rng.poisson(4 * base * brightness + 30)
            values = 100 + 25 * photons + rng.normal(0, 20, base.shape).round()
        return np.clip(values, 0, 65535).astype(np.uint16)[np.newaxis]

    sizes = tuple(min(chunk, size - start) for start in range(0, size, chunk))
    image = da.map_blocks(
        block,
        chunks=((1,) * n_channels, sizes, sizes),
        dtype=np.uint16,
        meta=np.empty((0,) * 3, "u2"),
    )
    names = [f"marker{i}" for i in range(n_channels)]
    element = Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=names)
    SpatialData(images={LAYER: element}).write(path)


def read_store(path):
    """The store as a lazy SpatialData object."""
    import spatialdata

    return spatialdata.read_zarr(path)


def counts(seed, n_channels, size):
    """A made-up NumPy image: counts of ions, many of them zero."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.5, 20, (n_channels, size, size)).astype(np.float32)
    names = [f"marker{i}" for i in range(n_channels)]
    return xr.DataArray(
        rng.poisson(rates).astype(np.uint16), dims=("c", "y", "x"), coords={"c": names}
    )


def in_memory(size):
    """An image with as many channels as `make_store` writes."""
    return counts(0, N_CHANNELS, size)


@scenario
def copy_floor(store, work, size):
    """Read, cast to float32, write with SpatialData's writer: no work done."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    image = read_store(store)[LAYER]
    names = image.c.values.tolist()

    def run():
        copy = Image2DModel.parse(image.data.astype(np.float32), dims=image.dims, c_coords=names)
        SpatialData(images={"copy": copy}).write(work / "copy.zarr")

    return run


@scenario
def wrapper(store, work, size):
    """`pixel_clustering_preprocess`, a quarter of the free memory for what was read."""
    return _wrapper(store, None)


@scenario
def wrapper_no_memory(store, work, size):
    """`pixel_clustering_preprocess(memory=0)`: nothing is kept."""
    return _wrapper(store, 0)


@scenario
def wrapper_lz4(store, work, size):
    """`pixel_clustering_preprocess(compressor={"lz4": 1})`."""
    return _wrapper(store, None, compressor={"lz4": 1})


def _wrapper(store, memory, **parameters):
    import pxprep

    sdata = read_store(store)
    return lambda: pxprep.pixel_clustering_preprocess(
        sdata, LAYER, "pre", memory=memory, **parameters
    )


@scenario
def lazy_chain(store, work, size):
    """`image.pxprep.preprocess()` on the layer, written to zarr."""
    import pxprep  # noqa: F401

    image = read_store(store)[LAYER]
    return lambda: image.pxprep.preprocess().data.to_zarr(str(work / "chain.zarr"))


@scenario
def memory_pxprep(store, work, size):
    """NumPy in, NumPy out: `image.pxprep.preprocess()`."""
    import pxprep  # noqa: F401

    image = in_memory(size)
    image[:, :64, :64].pxprep.preprocess()  # compiled before the clock runs
    return lambda: image.pxprep.preprocess()


@scenario
def memory_numpy_scipy(store, work, size):
    """The same in plain NumPy and SciPy, as a user would write it."""
    image = in_memory(size).values
    return lambda: plain(image)


def plain(image):
    """The reference order on an array with axes (c, y, x)."""
    from scipy.ndimage import gaussian_filter

    def quantile(values, q):
        return np.quantile(values[values > 0], q)

    normed = image.astype(np.float32)
    normed /= np.array([quantile(c, 0.99) for c in normed], np.float32)[:, None, None]
    threshold = quantile(normed.sum(axis=0), 0.05)
    blurred = np.stack([gaussian_filter(c, 2, truncate=4.0) for c in normed])
    sums = blurred.sum(axis=0)
    sums[sums <= threshold] = np.nan
    blurred /= sums
    scales = [np.quantile(c[c > 0], 0.999) for c in blurred]  # NaN > 0 is False
    return blurred / np.array(scales, np.float32)[:, None, None]


@scenario
def memory_blur(store, work, size):
    """`image.pxprep.blur(20)` of float32 in memory."""
    import pxprep  # noqa: F401

    image = in_memory(size).astype(np.float32)
    image[:, :64, :64].pxprep.blur(WIDE)  # compiled before the clock runs
    return lambda: image.pxprep.blur(WIDE)


@scenario
def memory_blur_scipy(store, work, size):
    """The same with SciPy."""
    from scipy.ndimage import gaussian_filter

    image = in_memory(size).values.astype(np.float32)
    return lambda: np.stack([gaussian_filter(channel, WIDE, truncate=4.0) for channel in image])


@scenario
def dask_image_crick(store, work, size):
    """dask-image's blur and crick's digests (approximate quantiles), written to zarr."""
    import dask.array as da
    from crick import TDigest
    from dask_image.ndfilters import gaussian_filter

    warnings.simplefilter("ignore")
    image = read_store(store)[LAYER].data

    def digest(block):
        found = TDigest()
        values = block.astype(np.float64).ravel()
        found.update(values[np.isfinite(values) & (values != 0)])
        result = np.empty((1,) * block.ndim, object)
        result[(0,) * block.ndim] = found
        return result

    def quantiles(array, q):
        digests = da.map_blocks(digest, array, dtype=object, chunks=(1,) * array.ndim).compute()
        values = []
        for channel in digests:
            merged = TDigest()
            merged.merge(*channel.ravel())
            values.append(merged.quantile(q))
        return np.array(values, np.float32)[:, None, None]

    def run():
        normed = image.astype(np.float32) / quantiles(image, 0.99)
        threshold = quantiles(normed.sum(axis=0)[None], 0.05)[0, 0, 0]
        blurred = da.stack([gaussian_filter(channel, 2, truncate=4.0) for channel in normed])
        sums = blurred.sum(axis=0)
        shares = blurred / da.where(sums > threshold, sums, np.nan)
        result = shares / quantiles(shares, 0.999)
        result.astype(np.float32).rechunk((1, CHUNK, CHUNK)).to_zarr(str(work / "dask-image.zarr"))

    return run


@scenario
def harpy(store, work, size):
    """Harpy's own `pixel_clustering_preprocess`; runs where harpy is installed."""
    import harpy as hp

    warnings.simplefilter("ignore")
    sdata = read_store(store)

    def run():
        # By position: the names of the first parameters differ between its releases.
        hp.im.pixel_clustering_preprocess(sdata, [LAYER], ["pre"], chunks=CHUNK, overwrite=False)

    return run


@scenario
def slide_graph(store, work, size):
    """Only the graph: 40 channels x 60,000 x 120,000 pixels in zarr, one channel in a chunk.

    `size` are thousands of rows.
    """
    import dask.array as da
    import zarr

    import pxprep  # noqa: F401

    path = str(work / "slide.zarr")
    shape, chunks = (40, 1000 * size, 2000 * size), (1, CHUNK, CHUNK)
    zarr.create_array(path, shape=shape, chunks=chunks, dtype=np.uint16)
    image = xr.DataArray(da.from_zarr(zarr.open_array(path, mode="r")), dims=("c", "y", "x"))
    return lambda: len(dict(image.pxprep.preprocess().data.__dask_graph__()))


@scenario
def cohort_fit(store, work, size):
    """1,000 fields of view of 22 x 512 x 512, made when they are read: fitted with memory=0."""
    import pxprep

    fovs = _lazy_fovs(size)
    return lambda: pxprep.Pipeline.sparrow().fit(fovs, memory=0)


@scenario
def cohort_graphs(store, work, size):
    """Only the graphs of their transformation."""
    import pxprep

    fovs = _lazy_fovs(size)
    few = dict(list(fovs.items())[:2])
    fitted = pxprep.Pipeline.sparrow().fit(few)

    def run():
        done = fitted.transform(fovs)
        return sum(len(dict(one.data.__dask_graph__())) for one in done.values())

    return run


def _lazy_fovs(n_fovs):
    import dask
    import dask.array as da

    base = in_memory(512).values

    def make(index):
        return base + np.uint16(index % 7) * (base > 0)

    return {
        f"fov{index}": xr.DataArray(
            da.from_delayed(dask.delayed(make, pure=True)(index), base.shape, base.dtype),
            dims=("c", "y", "x"),
            coords={"c": [f"marker{i}" for i in range(len(base))]},
        )
        for index in range(n_fovs)
    }


@scenario
def many_layers(store, work, size):
    """1,000 layers of 5 x 32 x 32, processed and published together."""
    return _many_layers(work, size, resume=False)


@scenario
def many_layers_one_by_one(store, work, size):
    """The same with `resume=True`."""
    return _many_layers(work, size, resume=True)


@scenario
def many_imports(store, work, size):
    """1,000 images of 5 x 32 x 32, imported into a new store."""
    from pxprep.io import import_images

    images = _tiny_images(size)
    return lambda: import_images(images, work / "imported.zarr")


def _many_layers(work, size, resume):
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    import pxprep

    warnings.simplefilter("ignore")
    images = _tiny_images(size)
    elements = {
        name: Image2DModel.parse(image, c_coords=image.c.values.tolist())
        for name, image in images.items()
    }
    SpatialData(images=elements).write(work / "layers.zarr")
    sdata = read_store(work / "layers.zarr")
    new = [f"{name}_new" for name in images]
    return lambda: pxprep.pixel_clustering_preprocess(sdata, list(images), new, resume=resume)


def _tiny_images(n_images):
    rng = np.random.default_rng(0)
    return {
        f"fov{index:04}": xr.DataArray(
            rng.poisson(2, (5, 32, 32)).astype(np.uint16),
            dims=("c", "y", "x"),
            coords={"c": list("abcde")},
        )
        for index in range(n_images)
    }


@scenario
def one_worker(store, work, size):
    """The lazy chain on a cluster of one process with one thread."""
    return _on_workers(store, work, 1)


@scenario
def two_workers(store, work, size):
    """The lazy chain on a cluster of two processes with one thread each."""
    return _on_workers(store, work, 2)


def _on_workers(store, work, n_workers):
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    client = Client(cluster)
    # The workers compile, or load what was compiled, before the clock runs.
    client.run(_warm_up)
    chain = lazy_chain(store, work, None)

    def run():
        with client, cluster:
            chain()

    return run


def _warm_up():
    import pxprep  # noqa: F401

    in_memory(64).pxprep.preprocess()


def clean(work):
    """Remove what a scenario wrote, and make its folder again."""
    shutil.rmtree(work, ignore_errors=True)
    Path(work).mkdir(parents=True)

"""Scenarios of fields of view: one in memory, many in a store or in TIFFs; and of cold starts."""

import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from scenarios import counts, plain, read_store, scenario

# Channels of a field of view, by its size along y and x.
CHANNELS = {64: 4, 300: 6, 512: 22, 1024: 40, 2048: 22}
# Fields of view of a cohort.
SIDE = 512
MARKERS = 40
COMMAND = "import sys; sys.argv[0] = 'pxprep'; from pxprep_command import main; main()"
FIRST = """
import numpy, pxprep, xarray
values = numpy.random.default_rng(0).poisson(3, (4, 64, 64)).astype("uint16")
xarray.DataArray(values, dims=("c", "y", "x")).pxprep.preprocess()
"""


def _fov(size):
    return counts(0, CHANNELS.get(size, 5), size)


@scenario
def fov_numpy_scipy(store, work, size):
    """A field of view in plain NumPy and SciPy."""
    image = _fov(size).values
    return lambda: plain(image)


@scenario
def fov_preprocess(store, work, size):
    """`image.pxprep.preprocess()`, NumPy in and out."""
    import pxprep  # noqa: F401

    image = _fov(size)
    return lambda: image.pxprep.preprocess()


@scenario
def fov_chain(store, work, size):
    """The same as five calls."""
    import pxprep  # noqa: F401

    image = _fov(size)

    def run():
        normed = image.pxprep.quantile_norm(99)
        masked = normed.pxprep.blur(2).pxprep.sum_mask(5, reference=normed)
        return masked.pxprep.sum_norm().pxprep.post_norm(99.9)

    return run


@scenario
def fov_transform(store, work, size):
    """The same with numbers that were fitted."""
    import pxprep

    image = _fov(size)
    fitted = pxprep.Pipeline.sparrow().fit(image)
    return lambda: fitted.transform(image)


def _stored_cohort(work, n_fovs):
    """A store of fields of view, a channel in a chunk."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    def element(seed):
        image = counts(seed, MARKERS, SIDE)
        names = image.c.values.tolist()
        return Image2DModel.parse(
            image.data, dims=image.dims, c_coords=names, chunks=(1, SIDE, SIDE)
        )

    path = work / "cohort.zarr"
    SpatialData(images={f"fov{seed}": element(seed) for seed in range(n_fovs)}).write(path)
    return read_store(path)


def _as_floats(images):
    """The images cast to float32, as elements for SpatialData."""
    from spatialdata.models import Image2DModel

    return {
        name: Image2DModel.parse(
            image.data.astype(np.float32), dims=image.dims, c_coords=image.c.values.tolist()
        )
        for name, image in images.items()
    }


@scenario
def cohort_floor(store, work, size):
    """Fields of view of 40 x 512 x 512 in a store: read, cast to float32, written."""
    from spatialdata import SpatialData

    warnings.simplefilter("ignore")
    sdata = _stored_cohort(work, size)
    return lambda: SpatialData(images=_as_floats(sdata.images)).write(work / "copy.zarr")


@scenario
def cohort_wrapper(store, work, size):
    """The same fields of view, measured together and written into their store."""
    import pxprep

    warnings.simplefilter("ignore")
    sdata = _stored_cohort(work, size)
    layers = list(sdata.images)
    made = [f"{layer}_clean" for layer in layers]
    return lambda: pxprep.pixel_clustering_preprocess(sdata, layers, made)


def _folder(work, n_fovs):
    """A folder for each field of view, with a TIFF for each channel."""
    import tifffile

    for seed in range(n_fovs):
        folder = work / "tiffs" / f"fov{seed}"
        folder.mkdir(parents=True)
        for channel in counts(seed, MARKERS, SIDE):
            tifffile.imwrite(
                folder / f"{channel.c.item()}.tiff", channel.values, compression="zlib"
            )
    return work / "tiffs"


@scenario
def tiffs_floor(store, work, size):
    """TIFFs of fields of view of 40 x 512 x 512: read with tifffile, written with SpatialData."""
    import tifffile
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    folder = _folder(work, size)

    def read(fov):
        return np.stack([tifffile.imread(file) for file in sorted(fov.iterdir())])

    def run():
        images = {
            fov.name: Image2DModel.parse(read(fov), dims=("c", "y", "x"), chunks=(1, SIDE, SIDE))
            for fov in sorted(folder.iterdir())
        }
        SpatialData(images=images).write(work / "copy.zarr")

    return run


@scenario
def tiffs_import(store, work, size):
    """The same TIFFs, imported."""
    from pxprep.io import import_images, open_images

    folder = _folder(work, size)
    return lambda: import_images(open_images(folder), work / "imported.zarr")


def _python(code, *arguments, **environment):
    """What runs a new process, whose CPU seconds count."""
    command = [sys.executable, "-c", code, *arguments]
    settings = {**os.environ, **environment}
    return lambda: subprocess.run(command, env=settings, check=True, stdout=subprocess.DEVNULL)


@scenario
def cold_xarray(store, work, size):
    """`import xarray, numpy`: what an import of pxprep is compared with."""
    return _python("import xarray, numpy")


@scenario
def cold_import(store, work, size):
    """`import pxprep`."""
    return _python("import pxprep")


@scenario
def cold_help(store, work, size):
    """`pxprep run --help`."""
    return _python(COMMAND, "run", "--help")


@scenario
def cold_completion(store, work, size):
    """A shell completes an option of `pxprep run`."""
    words = {"COMP_WORDS": "pxprep run --la", "COMP_CWORD": "2"}
    return _python(COMMAND, _PXPREP_COMPLETE="complete_bash", **words)


@scenario
def cold_first_call(store, work, size):
    """A process that makes its first call, of compiled code that is kept."""
    _python(FIRST)()
    return _python(FIRST)


@scenario
def cold_compiling(store, work, size):
    """The same where nothing is kept."""
    return _python(FIRST, NUMBA_CACHE_DIR=tempfile.mkdtemp(dir=work))

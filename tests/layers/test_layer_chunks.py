"""Layers whose metadata SpatialData writes, and pxprep the chunks: values, reads, schedulers."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from inspect import signature

import dask
import dask.array as da
import dask.local
import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata
import xarray as xr
import zarr
from spatialdata.models import Image2DModel, Image3DModel

import pxprep
from pxprep import Pipeline
from pxprep.engine import backends
from pxprep.errors import StoreError
from pxprep.layers import backing, layouts, new_layers
from pxprep.layers.plan import plan_layers
from stores import CHANNELS, arrays, counts, files, make_study, same

STEPS = Pipeline().quantile_norm(99).blur(1)
NORM = Pipeline().quantile_norm(99)
SEEDS = itertools.count(100)


def clean(sdata, source="fov0", output="clean", **parameters):
    pxprep.pixel_clustering_preprocess(
        sdata, source, output, **{"pipeline": STEPS, "memory": 0, **parameters}
    )
    return spatialdata.read_zarr(sdata.path)[output]


def counted(shape, chunks):
    """An array, what it holds, and how often each of its chunks was made."""
    reads = Counter()
    values = np.random.default_rng(next(SEEDS)).poisson(20, shape).astype("u2")

    def load(block, block_info=None):
        reads[block_info[0]["chunk-location"]] += 1
        return block

    empty = np.empty((0,) * len(shape), "u2")
    lazy = da.from_array(values, chunks=chunks)
    return lazy.map_blocks(load, dtype="u2", meta=empty), values, reads


def test_coordinates_in_other_chunks_than_the_image(tmp_path):
    sdata = make_study(tmp_path / "study.zarr")
    expected = clean(sdata)
    rows = ("y", da.arange(sdata["fov0"].sizes["y"], chunks=5))
    sdata.images["fov0"] = sdata["fov0"].assign_coords(row=rows)
    assert plan_layers(sdata, "fov0", "again", pipeline=STEPS).block_bytes
    assert same(clean(sdata, output="again"), expected)


def stored(path, array, model=Image2DModel, dims=("c", "y", "x"), **options):
    """A store, and an object with an image that is not in it."""
    sdata = spatialdata.SpatialData()
    sdata.write(path)
    sdata.images["fov0"] = model.parse(array, dims=dims, c_coords=CHANNELS, **options)
    return sdata


def expected_scales(values, dims, factors):
    """What the steps make of it, and means over the finest pixels."""
    finest = NORM.fit_transform(xr.DataArray(values, dims=dims))
    return [finest.values, *(finest.pxprep.coarsen(each).values for each in factors)]


def zarr_arrays(sdata, name="clean"):
    return [zarr.open_array(path) for path in backing.array_folders(sdata.path / "images" / name)]


# Images of any kind


@pytest.mark.parametrize(
    ("factors", "chunks"), [([], 16), ([2], None), ([2, 3], {"c": 1, "y": 7, "x": 20})]
)
def test_scales_and_chunks(factors, chunks, tmp_path):
    """The finest scale is made once, whatever the number of scales."""
    array, values, reads = counted((2, 40, 36), (2, 10, 12))
    sdata = stored(tmp_path / "study.zarr", array, chunks=(2, 10, 12))
    fitted = NORM.fit(pxprep.layers.read_images(sdata, "fov0"))
    reads.clear()
    element = clean(sdata, pipeline=fitted, scale_factors=factors, chunks=chunks)
    assert set(reads.values()) == {1}
    assert len(reads) == 4 * 3
    along = np.cumprod(factors).tolist()
    wanted = expected_scales(values, ("c", "y", "x"), [{"y": f, "x": f} for f in along])
    assert same(arrays(element), wanted)
    assert same([array[...] for array in zarr_arrays(sdata)], wanted)


@pytest.mark.parametrize(
    ("factors", "planes"),
    [([], 1), ([{"z": 2, "y": 2, "x": 2}], 2), ([{"z": 2, "y": 2, "x": 2}], 5)],
)
def test_stacks(factors, planes, tmp_path):
    array, values, reads = counted((2, 5, 20, 18), (1, planes, 10, 9))
    sdata = stored(
        tmp_path / "study.zarr",
        array,
        Image3DModel,
        ("c", "z", "y", "x"),
        chunks=(1, planes, 10, 9),
    )
    fitted = NORM.fit(pxprep.layers.read_images(sdata, "fov0"))
    reads.clear()
    element = clean(sdata, pipeline=fitted, scale_factors=factors)
    assert set(reads.values()) == {1}
    wanted = expected_scales(values, ("c", "z", "y", "x"), factors)
    assert same(arrays(element), wanted)
    assert zarr_arrays(sdata)[0].chunks == (1, planes, 10, 9)


@pytest.mark.parametrize("multiscale", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_files_are_those_that_spatialdata_writes(zarr_format, multiscale, tmp_path, monkeypatch):
    """All of them, of both formats, byte for byte, but for the mark in the metadata."""
    from spatialdata._io.format import SpatialDataContainerFormatV01

    formats = SpatialDataContainerFormatV01() if zarr_format == 2 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what SpatialData says of its old format
        sdata = make_study(tmp_path / "study.zarr", multiscale, sdata_formats=formats)
        element = clean(sdata, chunks=8)
        theirs = spatialdata.SpatialData(images={"clean": element})
        with zarr.config.set({"array.write_empty_chunks": True}):
            theirs.write(tmp_path / "theirs.zarr", sdata_formats=formats)
    own, others = (
        {path.relative_to(store).as_posix(): raw for path, raw in files(store).items()}
        for store in (sdata.path / "images/clean", theirs.path / "images/clean")
    )
    assert own.keys() == others.keys()
    differing = {name for name in own if own[name] != others[name]}
    assert differing == ({".zattrs"} if zarr_format == 2 else {"zarr.json"})


@pytest.mark.parametrize("multiscale", [False, True])
def test_layers_whose_chunks_are_left_to_zarr(multiscale, tmp_path, monkeypatch):
    """The same files, of chunks of zeros as well."""
    sdata = make_study(tmp_path / "study.zarr", multiscale)
    for scale in layouts.scales_of(sdata["fov0"]):
        scale.data = scale.data * (scale.data > 30)
        scale.data[:, :, :8] = 0
    clean(sdata, pipeline=NORM, chunks=8)
    monkeypatch.setattr(new_layers, "direct", lambda array: array)
    clean(sdata, "fov0", "by_zarr", pipeline=NORM, chunks=8)
    own, theirs = (
        {str(path.relative_to(sdata.path / "images" / name)): raw for path, raw in found.items()}
        for name in ("clean", "by_zarr")
        for found in [files(sdata.path / "images" / name)]
    )
    assert own.keys() == theirs.keys()
    assert {name for name in own if own[name] != theirs[name]} == {"zarr.json"}  # our mark


@pytest.mark.skipif(
    "raster_compressor" not in signature(spatialdata.SpatialData.write).parameters,
    reason="this version of spatialdata chooses the codec",
)
@pytest.mark.parametrize("codec", [{"lz4": 5}, {"zstd": 2}])
def test_chosen_compressors(codec, tmp_path):
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    element = clean(sdata, compressor=codec)
    for scale, array in zip(arrays(element), zarr_arrays(sdata), strict=True):
        assert next(iter(codec)) in repr(array.compressors).lower()
        np.testing.assert_array_equal(array[...], scale)


def test_layers_in_memory_are_lazy_and_never_written(no_compute):
    sdata = spatialdata.SpatialData(
        images={"fov0": Image2DModel.parse(counts(0), dims=("c", "y", "x"), c_coords=CHANNELS)}
    )
    fitted = STEPS.fit(sdata["fov0"])
    with no_compute():
        pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean", pipeline=fitted, chunks=8)
    assert sdata["clean"].data.chunks == ((2,), (8, 8, 8), (8, 8, 4))
    np.testing.assert_array_equal(sdata["clean"].values, fitted.transform(sdata["fov0"]).values)


# Schedulers


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("multiscale", [False, True])
def test_schedulers(scheduler, multiscale, tmp_path):
    sdata = make_study(tmp_path / "study.zarr", multiscale)
    wanted = arrays(clean(sdata, "fov0", "before"))
    with dask.config.set(scheduler=scheduler):
        assert same(arrays(clean(sdata)), wanted)
        assert dask.config.get("scheduler") == scheduler


def test_metadata_need_no_threads_and_no_pixels(tmp_path, monkeypatch):
    """SpatialData runs in the thread that calls, and what the user chose holds again after it."""
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    write, seen = spatialdata.SpatialData.write, []

    def writing(self, path, **kwargs):
        write(self, path, **kwargs)
        of_blocks = da.ones(4, chunks=1).map_blocks(lambda block: block * threading.get_ident())
        seen.append(set(of_blocks.compute().tolist()))
        folder = path / "images" / "clean"
        seen.append([path.name for path in folder.rglob("*") if path.name.isdigit()])

    monkeypatch.setattr(spatialdata.SpatialData, "write", writing)
    clean(sdata)
    threads, chunks = seen
    assert threads == {float(threading.get_ident())}
    assert chunks == []
    assert dask.config.get("scheduler", None) is None


# Not with other chunks: Dask itself asks for a cluster when chunks are changed.
WITHOUT_CLUSTER = """
import sys, warnings
warnings.simplefilter("ignore")
import spatialdata, pxprep
assert "distributed" not in sys.modules, "SpatialData imports it"
sdata = spatialdata.read_zarr(sys.argv[1])
pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean")
pxprep.pixel_clustering_preprocess(sdata, ["fov0", "fov1"], ["a", "b"], progress=True)
assert "distributed" not in sys.modules, "pxprep did"
print("as fast as can be")
"""


def test_no_script_waits_for_the_import_of_distributed(tmp_path):
    pytest.importorskip("distributed")
    sdata = make_study(tmp_path / "study.zarr")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLUSTER, sdata.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "as fast as can be\n", done.stderr


# What goes wrong


def test_a_dask_that_stores_empty_blocks_is_an_error(tmp_path, monkeypatch):
    """Never a layer of zeros."""
    sdata = make_study(tmp_path / "study.zarr")
    before = files(sdata.path)

    def store_all(x, out, index, *args, **kwargs):
        out[index] = x

    with monkeypatch.context() as patch:
        patch.setattr(da.core, "load_store_chunk", store_all)
        with pytest.raises(ValueError):  # noqa: PT011
            clean(sdata)
    assert files(sdata.path) == before
    clean(sdata)


def test_a_dask_that_stores_zeros_for_empty_blocks_is_an_error(tmp_path, monkeypatch):
    """Chunks that are there before their pixels were written would not be missed."""
    sdata = make_study(tmp_path / "study.zarr")
    before = files(sdata.path)
    without_pixels = backends.without_pixels
    monkeypatch.setattr(
        backends, "without_pixels", lambda array: da.zeros_like(without_pixels(array))
    )
    with pytest.raises(StoreError, match=r"SpatialData wrote chunks of .*'clean'"):
        clean(sdata)
    assert files(sdata.path) == before


def test_empty_blocks_of_a_function_are_errors(tmp_path):
    """Dask writes none of them: the chunks are missing."""
    sdata = make_study(tmp_path / "study.zarr")
    lazy = sdata["fov0"].data

    def lose(block, block_info=None):
        return block[:0] if block_info and block_info[0]["chunk-location"][1] else block

    lazy = lazy.map_blocks(lose, dtype="u2", meta=lazy._meta)
    target = zarr.create_array(tmp_path / "array", shape=lazy.shape, chunks=(2, 16, 20), dtype="u2")
    backends.store([lazy, lazy], [target, target])
    assert backing.missing_chunks(tmp_path / "array", target) == ["c/0/1/0"]


def test_drafts_of_workers_that_died_are_removed(tmp_path, monkeypatch):
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    store = backends.store

    def store_and_die(arrays, targets):
        store(arrays, targets)
        (chunk,) = sdata.path.glob(".pxprep/*/alone.zarr/images/clean/s1/c/0/0/0")
        chunk.with_name("0.0123456789abcdef.partial").write_bytes(b"half")

    monkeypatch.setattr(backends, "store", store_and_die)
    clean(sdata)
    assert list(sdata.path.rglob("*.partial")) == []


@pytest.mark.parametrize("moment", ["metadata", "pixels"])
def test_interrupts(moment, tmp_path, monkeypatch):
    """A real Ctrl-C; `test_faults.py` has it in tasks, `crash.py` at every call."""
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    before = files(sdata.path)

    def interrupting(function):
        def call(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)
            return function(*args, **kwargs)

        return call

    where = (da, "to_zarr") if moment == "metadata" else (backends, "store")
    with monkeypatch.context() as patch:
        patch.setattr(*where, interrupting(getattr(*where)))
        with pytest.raises(KeyboardInterrupt):
            clean(sdata)
    assert files(sdata.path) == before
    assert not (sdata.path / ".pxprep").exists()
    assert dask.config.get("scheduler", None) is None
    clean(sdata)

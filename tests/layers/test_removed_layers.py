"""Layers that are gone from disk, or lack chunks, are errors and never zeros."""

import re
import shutil
import warnings
from contextlib import contextmanager

import dask.array as da
import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata
import xarray as xr
import zarr
from spatialdata.models import Image2DModel

import pxprep
from pxprep import Pipeline, PxprepWarning, plot
from pxprep.errors import LayerError, StoreError
from pxprep.io import import_images
from pxprep.layers import new_layers, read_images
from pxprep.layers.layouts import scales_of
from stores import arrays, files, layers, make_study, same

STEPS = Pipeline().quantile_norm(99)
FOVS = ["fov0", "fov1", "fov2"]
NEW = ["a", "b", "c"]


@pytest.fixture(params=["single-scale", "multiscale"])
def sdata(request, tmp_path):
    return make_study(tmp_path / "study.zarr", request.param == "multiscale")


def clean(sdata, sources="fov0", outputs="clean", **parameters):
    return pxprep.pixel_clustering_preprocess(
        sdata, sources, outputs, **{"pipeline": STEPS, **parameters}
    )


def finest(sdata, name):
    return scales_of(sdata[name])[0]


def remove_layer(folder):
    shutil.rmtree(folder)


def remove_array(folder):
    shutil.rmtree(folder / "s0")


def remove_metadata(folder):
    (folder / "s0" / "zarr.json").unlink()


def move_away(folder):
    folder.rename(folder.parents[2] / "moved")


WAYS = pytest.mark.parametrize("remove", [remove_layer, remove_array, remove_metadata, move_away])


# --- layers that are gone -------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("resume", [False, True])
def test_source_that_was_removed_since_it_was_read(sdata, remove, resume, no_compute):
    remove(sdata.path / "images" / "fov1")
    before = files(sdata.path)
    message = r"img_layer 'fov1' is not on disk any more: .*/fov1/s0' was removed.*read the store"
    with no_compute(), pytest.raises(LayerError, match=message):
        clean(sdata, FOVS, NEW, resume=resume)
    assert files(sdata.path) == before
    assert "a" not in sdata.images


def test_source_of_an_object_in_memory(sdata, no_compute):
    """Its layers are lazy, and lie in another object's store."""
    memory = spatialdata.SpatialData(images={name: sdata[name] for name in FOVS})
    remove_layer(sdata.path / "images" / "fov0")
    with no_compute(), pytest.raises(LayerError, match=r"img_layer 'fov0' is not on disk any more"):
        clean(memory, FOVS, NEW)


@pytest.mark.parametrize(
    "other",
    [
        da.ones((2, 24, 20), "u2", chunks=(2, 12, 20)),
        da.ones((2, 30, 20), "u2", chunks=(2, 16, 20)),
        da.ones((2, 24, 20), "f4", chunks=(2, 16, 20)),
    ],
    ids=["chunks", "shape", "type"],
)
def test_source_that_was_replaced_by_another_image(tmp_path, other, no_compute):
    """With other chunks the old object would read zeros in the place of most of them."""
    sdata = make_study(tmp_path / "study.zarr")
    later = spatialdata.read_zarr(sdata.path)
    del later.images["fov0"]
    later.delete_element_from_disk("fov0")
    later.images["fov0"] = Image2DModel.parse(other, dims=("c", "y", "x"), chunks=other.chunksize)
    later.write_element("fov0")
    message = r"img_layer 'fov0' is another on disk than when it was opened: .* in place of uint16 "
    with no_compute(), pytest.raises(LayerError, match=message):
        clean(sdata)
    clean(spatialdata.read_zarr(sdata.path))


@pytest.mark.parametrize("kind", ["name", "array"])
def test_mask_that_was_removed(tmp_path, kind, no_compute):
    sdata = make_study(tmp_path / "study.zarr")
    mask = "cells" if kind == "name" else sdata["cells"]
    remove_layer(sdata.path / "labels" / "cells")
    with no_compute(), pytest.raises(LayerError, match="where of fov0 is not on disk any more"):
        clean(sdata, where=mask)


def test_import_of_an_array_that_was_removed(tmp_path, no_compute):
    zarr.create_array(tmp_path / "slide", shape=(2, 8, 8), chunks=(1, 8, 8), dtype="u2")
    slide = xr.DataArray(da.from_zarr(str(tmp_path / "slide")), dims=("c", "y", "x"))
    shutil.rmtree(tmp_path / "slide")
    with no_compute(), pytest.raises(LayerError, match="image 'slide' is not on disk any more"):
        import_images({"slide": slide}, tmp_path / "study.zarr")
    assert not (tmp_path / "study.zarr").exists()


@WAYS
def test_tables_and_images_of_removed_layers(sdata, remove, no_compute):
    remove(sdata.path / "images" / "fov0")
    with no_compute():
        with pytest.raises(LayerError, match="img_layer 'fov0' is not on disk any more"):
            pxprep.pixel_table(sdata, ["fov1", "fov0"])
        with pytest.raises(LayerError, match="layers 'fov0' is not on disk any more"):
            read_images(sdata, "fov0")
        remove_layer(sdata.path / "labels" / "cells")
        with pytest.raises(LayerError, match="labels 'cells' is not on disk any more"):
            pxprep.pixel_table(sdata, "fov1", labels="cells")


def test_provenance_and_report_of_a_removed_layer(sdata, tmp_path, no_compute):
    clean(sdata, FOVS, NEW)
    shutil.rmtree(sdata.path / "images" / "b")
    assert pxprep.provenance(sdata, "a").source == "fov0"
    with pytest.raises(LayerError, match="layer 'b' is not on disk any more"):
        pxprep.provenance(sdata, "b")
    shutil.rmtree(sdata.path / "images" / "fov0")
    with no_compute():
        with pytest.raises(LayerError, match="layer 'b' is not on disk any more"):
            pxprep.layers.report_layers(tmp_path / "b.html", sdata, ["a", "b"])
        with pytest.raises(LayerError, match="img_layer 'fov0' is not on disk any more"):
            pxprep.layers.report_layers(tmp_path / "a.html", sdata, "a")
    assert list(tmp_path.glob("*.html")) == []


COMPUTED = {
    "step": lambda image: image.pxprep.quantile_norm(99).compute(),
    "summary": lambda image: pxprep.quantile(image, 99).compute(),
    "fit": lambda image: STEPS.fit(image),
    "mask": lambda image: pxprep.quantile(image, 99, where=image.isel(c=0) > 3).compute(),
    "table": lambda image: pxprep.pixel_table(image),
    "channels": lambda image: plot.channels(image),
    "histogram": lambda image: plot.histogram(image),
    "compare": lambda image: plot.compare(image, image),
}


LEFT_TO_ZARR = {"chunks": (1, 8, 8), "shards": (2, 16, 16)}


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in COMPUTED), *((name, LEFT_TO_ZARR) for name in ("step", "fit"))],
)
def test_what_is_computed_of_a_removed_array(name, options, tmp_path):
    """In memory or on the way there: whoever opened the array, and however it is read."""
    values = np.random.default_rng(0).poisson(20, (2, 24, 20)).astype("u2")
    paths = [tmp_path / "opened", tmp_path / "path"]
    for path in paths:
        zarr.create_array(path, data=values, **{"chunks": (2, 16, 20), **options})
    lazies = [da.from_zarr(zarr.open_array(paths[0])), da.from_zarr(str(paths[1]))]
    images = [xr.DataArray(lazy, dims=("c", "y", "x")) for lazy in lazies]
    for image, path in zip(images, paths, strict=True):
        COMPUTED[name](image)
        shutil.rmtree(path)
        with pytest.raises(StoreError, match=rf"{re.escape(str(path))}' is gone: .*read the store"):
            COMPUTED[name](image)


# --- chunks that are missing ----------------------------------------------------------------------


def test_chunks_that_spatialdata_left_out_are_zeros(tmp_path):
    """It writes none that hold nothing but the fill value."""
    values = np.random.default_rng(0).poisson(20, (2, 24, 20)).astype("u2")
    values[:, 16:] = 0
    element = Image2DModel.parse(values, dims=("c", "y", "x"), chunks=(2, 16, 20))
    spatialdata.SpatialData(images={"fov0": element}).write(tmp_path / "study.zarr")
    sdata = spatialdata.read_zarr(tmp_path / "study.zarr")
    assert not (sdata.path / "images/fov0/s0/c/0/1/0").exists()
    expected = STEPS.fit_transform(xr.DataArray(values, dims=("c", "y", "x"))).values
    clean(sdata)
    np.testing.assert_array_equal(layers(sdata.path)["clean"][0], expected)


def test_missing_chunk_of_a_layer_of_ours(sdata, no_compute):
    """We write every chunk: none may be missing, in the next run or in what is lazy."""
    clean(sdata, chunks=8)
    sdata = spatialdata.read_zarr(sdata.path)
    lazy = finest(sdata, "clean").pxprep.clip(1)
    (sdata.path / "images/clean/s0/c/0/1/2").unlink()
    before = files(sdata.path)
    message = r"/clean/s0' is damaged: 1 chunks are missing, 'c/0/1/2' the first; pxprep wrote all"
    for call in (
        lambda: clean(sdata, "clean", "again"),
        lambda: read_images(sdata, "clean"),
        lambda: pxprep.pixel_table(sdata, "clean"),
    ):
        with no_compute(), pytest.raises(StoreError, match=f"layers? 'clean': .*{message}"):
            call()
    assert files(sdata.path) == before
    with pytest.raises(StoreError, match=message):
        lazy.compute()
    with pytest.raises(StoreError, match=message):
        STEPS.fit(finest(sdata, "clean"))
    # As the message says: in a copy nobody knows what was there.
    sdata.write(sdata.path.parent / "copy.zarr")
    copy = spatialdata.read_zarr(sdata.path.parent / "copy.zarr")
    assert (finest(copy, "clean").values[:, 8:16, 16:] == 0).all()
    clean(copy, "clean", "again")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("what", ["images/fov0", "labels/cells"])
def test_chunk_that_is_removed_while_we_read(tmp_path, monkeypatch, what, resume):
    """Of a source or a mask that is no layer of ours: zeros were read, and none are published."""
    sdata = make_study(tmp_path / "study.zarr")
    before = files(sdata.path / "images")
    stage = new_layers.stage

    def remove_and_stage(*args, **options):
        chunk = next(path for path in (sdata.path / what / "s0/c").rglob("*") if path.is_file())
        chunk.unlink()
        return stage(*args, **options)

    monkeypatch.setattr(new_layers, "stage", remove_and_stage)
    name = what.rpartition("/")[2]
    with pytest.raises(StoreError, match=rf"another program changed \['{name}'\] meanwhile"):
        clean(sdata, where="cells", resume=resume)
    assert "clean" not in spatialdata.read_zarr(sdata.path)
    assert set(before) - set(files(sdata.path / "images")) == (
        {sdata.path / "images/fov0/s0/c/0/0/0"} if name == "fov0" else set()
    )


@pytest.mark.parametrize("resume", [False, True])
def test_chunk_that_is_removed_while_we_measure(tmp_path, resume):
    """The numbers of the whole cohort would be wrong, and `resume` would keep them."""
    sdata = make_study(tmp_path / "study.zarr")

    @contextmanager
    def measuring(description):
        yield
        if description.startswith("measure"):
            (sdata.path / "images/fov2/s0/c/0/1/0").unlink()

    with pytest.raises(StoreError, match=r"another program changed \['fov2'\] meanwhile"):
        clean(sdata, FOVS, NEW, resume=resume, progress=measuring)
    assert not {*NEW} & set(spatialdata.read_zarr(sdata.path).images)


# --- finished layers of an interrupted run --------------------------------------------------------


def remove_chunk(folder):
    next(path for path in (folder / "s0/c").rglob("*") if path.is_file()).unlink()


def empty_chunk(folder):
    next(path for path in (folder / "s0/c").rglob("*") if path.is_file()).write_bytes(b"")


def remove_coarsest(folder):
    shutil.rmtree(sorted(folder.glob("s*"))[-1])


@pytest.mark.parametrize(
    ("sdata", "remove"),
    [
        ("single-scale", remove_chunk),
        ("multiscale", empty_chunk),
        ("multiscale", remove_coarsest),
    ],
    indirect=["sdata"],
)
def test_resume_makes_damaged_layers_again(sdata, remove):
    clean(sdata, FOVS, NEW, resume=True)
    wanted = layers(sdata.path)
    remove(sdata.path / "images" / "b")
    kept = files(sdata.path / "images" / "a")
    with pytest.warns(PxprepWarning, match=r"resume: \['b'\] had been finished.*made again"):
        clean(sdata, FOVS, NEW, resume=True)
    found = layers(sdata.path)
    assert all(same(found[name], wanted[name]) for name in NEW)
    assert same(arrays(sdata["b"]), wanted["b"])
    assert files(sdata.path / "images" / "a") == kept
    assert len({pxprep.provenance(sdata, name).run for name in NEW}) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean(sdata, FOVS, NEW, resume=True)


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        ("s0", StoreError, "img_layer 'fov1': .*is damaged: 1 chunks are missing"),
        ("s1", LayerError, r"\['fov1'\] was finished, but chunks of it .* cannot be made again"),
    ],
)
def test_resume_of_a_damaged_layer_whose_source_it_replaced(
    tmp_path, scale, error, message, no_compute
):
    sdata = make_study(tmp_path / "study.zarr", multiscale=True)
    clean(sdata, FOVS, FOVS, overwrite=True, resume=True)
    (sdata.path / "images" / "fov1" / scale / "c/0/0/0").unlink()
    before = files(sdata.path)
    with no_compute(), pytest.raises(error, match=message):
        clean(sdata, FOVS, FOVS, overwrite=True, resume=True)
    assert files(sdata.path) == before

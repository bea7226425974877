"""Sources that are no layers: what is watched of them while a store is written, and what is not."""

import dask.array as da
import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata
import xarray as xr
import zarr
from spatialdata.models import Image2DModel
from zarr.storage import FsspecStore, MemoryStore, ZipStore

import pxprep
from pxprep import Pipeline
from pxprep.errors import StoreError
from pxprep.io import import_images
from pxprep.layers import new_layers

VALUES = np.random.default_rng(0).poisson(20, (2, 24, 20)).astype("u2")
CHUNKS = (2, 16, 20)
CHANNELS = ["CD3", "CD20"]


def as_image(array):
    return xr.DataArray(array, dims=("c", "y", "x"), coords={"c": CHANNELS})


def stored(where, **options):
    """The values in a zarr array, opened again to be read."""
    array = zarr.create_array(where, shape=VALUES.shape, chunks=CHUNKS, dtype="u2", **options)
    array[...] = VALUES
    return array


def by_path(folder):
    stored(folder / "slide.zarr")
    return da.from_zarr(str(folder / "slide.zarr"))


def opened(folder):
    return da.from_zarr(stored(folder / "slide.zarr"))


def format_2(folder):
    return da.from_zarr(stored(folder / "slide.zarr", zarr_format=2))


def in_a_group(folder):
    """Beside arrays that have nothing to do with it."""
    group = zarr.open_group(folder / "slides.zarr", mode="w")
    array = group.create_array("slide", shape=VALUES.shape, chunks=CHUNKS, dtype="u2")
    array[...] = VALUES
    return da.from_zarr(zarr.open_array(folder / "slides.zarr" / "slide", mode="r"))


def as_zip(folder):
    with ZipStore(folder / "slide.zip", mode="w") as store:
        stored(store)
    return da.from_zarr(zarr.open_array(ZipStore(folder / "slide.zip", mode="r"), mode="r"))


def in_memory(folder):
    return da.from_zarr(stored(MemoryStore()))


def on_a_server(folder):
    return da.from_zarr(stored(FsspecStore.from_url(f"memory://{folder.parent.name}/slide.zarr")))


ON_DISK = [by_path, opened, format_2, in_a_group]
ELSEWHERE = [as_zip, in_memory, on_a_server]


@pytest.fixture(params=["new store", "existing store", "wrapper", "wrapper, one by one"])
def write(request, tmp_path):
    """A function that makes a layer of a lazy image in a store beside it."""
    data = tmp_path / "data"

    def work(lazy):
        if request.param.endswith("store"):
            if request.param == "existing store":
                spatialdata.SpatialData().write(data / "study.zarr")
            import_images({"slide": as_image(lazy)}, data / "study.zarr")
            return "slide"
        sdata = spatialdata.SpatialData()
        sdata.write(data / "study.zarr")
        sdata["slide"] = Image2DModel.parse(lazy, dims=("c", "y", "x"), c_coords=CHANNELS)
        pxprep.pixel_clustering_preprocess(
            sdata, "slide", "made", pipeline=Pipeline(), resume="one by one" in request.param
        )
        return "made"

    data.mkdir()
    return work


def made(folder, layer):
    return spatialdata.read_zarr(folder / "data" / "study.zarr")[layer].values


@pytest.mark.parametrize("source", [*ON_DISK, *ELSEWHERE])
def test_sources_beside_the_store(tmp_path, write, source, monkeypatch):
    """That others work in the same folder, and that we write there, is no change of the source."""
    lazy, stage = source(tmp_path / "data"), new_layers.stage

    def work_beside(*args, **options):
        (tmp_path / "data" / "notes.txt").write_text("others write here, too")
        zarr.create_array(tmp_path / "data" / "other.zarr", data=VALUES)
        if source is in_a_group:
            zarr.create_array(tmp_path / "data" / "slides.zarr" / "other", data=VALUES)
        return stage(*args, **options)

    monkeypatch.setattr(new_layers, "stage", work_beside)
    np.testing.assert_array_equal(made(tmp_path, write(lazy)), VALUES)


@pytest.mark.parametrize("source", ON_DISK)
def test_changes_of_the_array_itself_are_noticed(tmp_path, write, source, monkeypatch):
    lazy, stage = source(tmp_path / "data"), new_layers.stage
    path = "slides.zarr/slide" if source is in_a_group else "slide.zarr"

    def change(*args, **options):
        zarr.open_array(tmp_path / "data" / path, mode="r+")[:, :16] = 7
        return stage(*args, **options)

    monkeypatch.setattr(new_layers, "stage", change)
    name = path.rpartition("/")[2]
    with pytest.raises(StoreError, match=rf"another program changed \['{name}'\] meanwhile"):
        write(lazy)


def test_of_a_multiscale_image_all_is_watched(tmp_path, write, monkeypatch):
    """An image elsewhere, whose metadata are those of its group."""
    element = Image2DModel.parse(VALUES, dims=("c", "y", "x"), scale_factors=[2])
    others = spatialdata.SpatialData(images={"slide": element})
    others.write(tmp_path / "data" / "others.zarr")
    lazy = spatialdata.read_zarr(others.path)["slide"]["scale0"]["image"].data
    stage = new_layers.stage

    def change(*args, **options):
        zarr.open_group(others.path / "images" / "slide", mode="r+").attrs["note"] = "changed"
        return stage(*args, **options)

    monkeypatch.setattr(new_layers, "stage", change)
    with pytest.raises(StoreError, match=r"another program changed \['slide'\] meanwhile"):
        write(lazy)


@pytest.mark.parametrize("source", [*ON_DISK, *ELSEWHERE])
def test_runs_on_any_source_are_resumed(tmp_path, source):
    """The second call finds the same source, and tells it from another of that form and name."""
    (tmp_path / "data").mkdir()
    lazy = source(tmp_path / "data")
    sdata = spatialdata.SpatialData()
    sdata.write(tmp_path / "study.zarr")
    sdata["slide"] = Image2DModel.parse(lazy, dims=("c", "y", "x"), c_coords=CHANNELS)
    call = {"pipeline": Pipeline(), "resume": True}
    pxprep.pixel_clustering_preprocess(sdata, "slide", "made", **call)
    before = (tmp_path / "study.zarr" / "zarr.json").read_bytes()
    pxprep.pixel_clustering_preprocess(sdata, "slide", "made", **call)
    assert (tmp_path / "study.zarr" / "zarr.json").read_bytes() == before
    del sdata.images["slide"]
    other = da.from_zarr(stored(tmp_path / "others" / "slide.zarr"))
    sdata["slide"] = Image2DModel.parse(other, dims=("c", "y", "x"), c_coords=CHANNELS)
    with pytest.raises(pxprep.errors.LayerError, match=r"its source \['slide'\] was another"):
        pxprep.pixel_clustering_preprocess(sdata, "slide", "made", **call)

"""Names that something in the store has, whatever the object in memory knows of it."""

import shutil

import numpy as np
import pytest

pytest.importorskip("spatialdata")

import anndata
import geopandas
import pandas as pd
import shapely
import spatialdata
from spatialdata.models import (
    Labels2DModel,
    PointsModel,
    ShapesModel,
    TableModel,
)

import pxprep
from pxprep import Pipeline
from pxprep.datasets import tissue
from pxprep.errors import LayerError, StoreError
from pxprep.io import import_images
from pxprep.layers import new_layers
from pxprep.store import transactions
from stores import files, image, make_study
from text_stores import Listing, layers, publish, write

# Of other packages, that write tables and points.
pytestmark = pytest.mark.filterwarnings("ignore")

# What an element of each kind is called in messages, and one of them.
POINTS = geopandas.GeoDataFrame({"geometry": [shapely.Point(1, 2)], "radius": [1.0]})
KINDS = {
    "labels": ("labels", lambda: Labels2DModel.parse(np.ones((24, 20), int), dims=("y", "x"))),
    "points": (
        "points",
        lambda: PointsModel.parse(pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})),
    ),
    "shapes": ("shapes", lambda: ShapesModel.parse(POINTS)),
    "tables": ("a table", lambda: TableModel.parse(anndata.AnnData(np.ones((2, 2))))),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def add(store, kind, name):
    """Another program writes an element."""
    other = spatialdata.read_zarr(store)
    other[name] = KINDS[kind][1]()
    other.write_element(name)


@pytest.fixture
def store(tmp_path):
    return make_study(tmp_path / "study.zarr").path


@pytest.fixture(params=["other object", "selection"])
def sdata(request, store, kind):
    """An object that does not know of an element called `taken` in its store."""
    early = spatialdata.read_zarr(store)
    add(store, kind, "taken")
    if request.param == "selection":
        early = spatialdata.read_zarr(store, selection=("images",))
    assert "taken" not in early
    return early


def clean(sdata, sources, outputs, **how):
    return pxprep.pixel_clustering_preprocess(sdata, sources, outputs, pipeline=Pipeline(), **how)


def test_name_of_another_kind_is_refused_before_work(sdata, kind, no_compute):
    before = files(sdata.path)
    for name, how in (("taken", {}), ("Taken", {"overwrite": True}), ("taken", {"resume": True})):
        message = rf"output_layer '{name}' is taken: the store has {KINDS[kind][0]} called 'taken'"
        with no_compute(), pytest.raises(LayerError, match=message):
            clean(sdata, "fov0", name, **how)
        with no_compute(), pytest.raises(LayerError, match=message):
            clean(sdata, ["fov0", "fov1"], ["free", name], **how)
    assert files(sdata.path) == before
    found = spatialdata.read_zarr(sdata.path)
    assert "taken" in getattr(found, kind)


def test_image_that_differs_in_case_only(store, no_compute):
    early = spatialdata.read_zarr(store)
    add_image(store, "Fresh")
    with no_compute(), pytest.raises(LayerError, match="has an image called 'Fresh'"):
        clean(early, "fov0", "fresh")
    with pytest.raises(LayerError, match="'Fresh' exists already"):
        clean(early, "fov0", "Fresh")
    clean(spatialdata.read_zarr(store), "fov0", "Fresh", overwrite=True)


def published(store):
    """The files of a store, but for those of a transaction."""
    return {path: content for path, content in files(store).items() if ".pxprep" not in path.parts}


def add_image(store, name):
    other = spatialdata.read_zarr(store)
    other[name] = image(5)
    other.write_element(name)


def test_import_into_a_store(store, kind):
    add(store, kind, "taken")
    fov = tissue(size=16)["fov0"]
    before = files(store)
    for name in ("taken", "TAKEN"):
        with pytest.raises(LayerError, match=f"layer '{name}'"):
            import_images({"free": fov, name: fov}, store, overwrite=True)
    assert files(store) == before


@pytest.mark.parametrize(("name", "resume"), [("clean", True), ("Clean", False)])
def test_name_that_is_taken_while_we_write(store, kind, name, resume, monkeypatch):
    """Another program writes an element between our look and the moment of publishing."""
    sdata, stage, added = spatialdata.read_zarr(store), new_layers.stage, []

    def stage_and_add(*args, **kwargs):
        if not added:
            add(store, kind, name)
            added.append(published(store))
        return stage(*args, **kwargs)

    monkeypatch.setattr(new_layers, "stage", stage_and_add)
    with pytest.raises(StoreError, match=rf"another program wrote .* called '{name}' meanwhile"):
        clean(sdata, "fov0", "clean", resume=resume)
    assert files(store) == added[0]
    found = spatialdata.read_zarr(store)
    assert name in getattr(found, kind)
    assert "clean" not in found.images


def test_import_of_a_name_that_is_taken_meanwhile(store, kind, monkeypatch):
    stage, added = new_layers.stage, []

    def stage_and_add(*args, **kwargs):
        add(store, kind, "later")
        added.append(published(store))
        return stage(*args, **kwargs)

    monkeypatch.setattr(new_layers, "stage", stage_and_add)
    with pytest.raises(StoreError, match="called 'later' meanwhile"):
        import_images({"later": tissue(size=16)["fov0"]}, store)
    assert files(store) == added[0]


def test_folder_that_is_no_element_yet_takes_its_name(store, no_compute):
    """Of a program that is about to write."""
    sdata = spatialdata.read_zarr(store)
    (store / "labels" / "later").mkdir()
    with no_compute(), pytest.raises(LayerError, match="labels called 'later'"):
        clean(sdata, "fov0", "later")


def test_recovery_does_not_publish_what_has_been_taken_since(tmp_path):
    """Between a crash and its repair another program wrote labels."""
    store = tmp_path / "store"
    write(store / "images" / "old", "old")
    contents = Listing(store)
    contents.failing.add("announce")
    with pytest.raises(StoreError, match="half-way"):
        publish(store, "old", "fresh", contents=contents)
    shutil.rmtree(store / "images" / "fresh", ignore_errors=True)
    write(store / "labels" / "fresh", "of another program")
    assert transactions.repair(store, Listing(store)) == (("old",), 0)
    assert layers(store) == {"old": "new old"}
    assert not (store / ".pxprep").exists()


def test_names_that_nothing_has_are_free(store, kind):
    add(store, kind, "taken")
    sdata = spatialdata.read_zarr(store, selection=("images",))
    clean(sdata, "fov0", "taken2")
    found = spatialdata.read_zarr(store)
    assert "taken2" in found.images
    assert "taken" in getattr(found, kind)

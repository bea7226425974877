"""What a layer costs does not depend on how many there are: metadata files that are opened."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spatialdata")

import spatialdata
import xarray as xr
from spatialdata.models import Image2DModel

import pxprep
from pxprep import Pipeline
from pxprep.io import import_images
from pxprep.layers import new_layers, read_images, writing
from pxprep.layers.layer_provenance import Origins
from pxprep.store import transactions

METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
PATHS = str | os.PathLike
STEPS = Pipeline().quantile_norm(99)
OPENED = {"inside": None, "count": 0, "root": 0}


def count_opened(event, args):
    inside = OPENED["inside"]
    # Without a mode are those that flush files, in a thread of their own.
    if inside is None or event != "open" or args[1] is None or not isinstance(args[0], PATHS):
        return
    path = Path(os.fspath(args[0]))
    if path.is_relative_to(inside) and path.name.partition(".json.")[0] in {*METADATA, "zarr"}:
        OPENED["count"] += 1
        OPENED["root"] += path.parent == inside


@pytest.fixture(scope="module")
def hook():
    sys.addaudithook(count_opened)


@pytest.fixture
def opened(tmp_path, hook):
    """How many metadata files of the store have been opened."""
    OPENED.update(inside=tmp_path / "study.zarr", count=0, root=0)
    yield OPENED
    OPENED["inside"] = None


def images_of(n_images):
    rng = np.random.default_rng(0)
    return {
        f"fov{index}": xr.DataArray(
            rng.poisson(20, (2, 8, 8)).astype("u2"),
            dims=("c", "y", "x"),
            coords={"c": ["CD3", "CD20"]},
        )
        for index in range(n_images)
    }


def study(path, n_images):
    elements = {
        name: Image2DModel.parse(image, c_coords=["CD3", "CD20"])
        for name, image in images_of(n_images).items()
    }
    spatialdata.SpatialData(images=elements).write(path)
    return spatialdata.read_zarr(path)


def write(way, path, n_images):
    """Make so many layers."""
    if way == "import":
        import_images(images_of(n_images), path)
        return
    sdata = study(path, n_images)
    names = list(sdata.images)
    pxprep.pixel_clustering_preprocess(
        sdata,
        names,
        names if way == "in place" else [f"{name}_new" for name in names],
        pipeline=STEPS,
        overwrite=way == "in place",
        resume=way == "one by one",
    )


@pytest.mark.parametrize("way", ["together", "in place", "one by one", "import"])
def test_every_layer_costs_the_same(way, tmp_path, opened, monkeypatch):
    """As much for the 5th as for the 50th."""
    # One by one, all but the first are published together, and each is written alone.
    monkeypatch.setattr(writing, "PATIENCE", 1e9)
    monkeypatch.setattr(writing, "MOST_SECONDS", 1e9)
    monkeypatch.setattr(writing, "n_cores", lambda: 1)
    found = {}
    for number in (5, 10, 50):
        opened["count"] = 0
        write(way, tmp_path / "study.zarr", number)
        found[number] = opened["count"]
        shutil.rmtree(tmp_path / "study.zarr")
    assert (found[10] - found[5]) / 5 == (found[50] - found[10]) / 40


def test_layers_are_written_some_at_a_time(tmp_path, monkeypatch):
    """So that what is done for all of them at once does not grow with their number."""
    monkeypatch.setattr(writing, "MOST_AT_ONCE", 3)
    sdata, stage, staged = study(tmp_path / "study.zarr", 7), new_layers.stage, []

    def note_and_stage(store, root, elements, *args, **options):
        staged.append(list(elements))
        stage(store, root, elements, *args, **options)

    monkeypatch.setattr(new_layers, "stage", note_and_stage)
    names = list(sdata.images)
    pxprep.pixel_clustering_preprocess(sdata, names, [f"{n}_new" for n in names], pipeline=STEPS)
    new = [f"{name}_new" for name in names]
    assert staged == [new[:3], new[3:6], new[6:]]
    expected = STEPS.fit_transform(read_images(sdata, names))
    found = spatialdata.read_zarr(sdata.path)
    for name, made in zip(names, new, strict=True):
        np.testing.assert_array_equal(found[made].values, expected[name].values)


def test_the_table_of_contents_is_made_once(tmp_path, monkeypatch):
    made, make = [], spatialdata.SpatialData.write_consolidated_metadata
    sdata = study(tmp_path / "study.zarr", 9)

    def making(self):
        made.append(self.path)
        make(self)

    monkeypatch.setattr(spatialdata.SpatialData, "write_consolidated_metadata", making)
    names = list(sdata.images)
    pxprep.pixel_clustering_preprocess(sdata, names, [f"{n}_new" for n in names], pipeline=STEPS)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("patience", "most", "groups"),
    [(0, 60, [1] * 6), (1e9, 1e9, [1, 5]), (1e9, 0, [1] * 6)],
    ids=["at once", "patient", "but not for longer"],
)
def test_layers_wait_for_as_long_as_publishing_took(tmp_path, monkeypatch, patience, most, groups):
    """One by one the first is published alone, and what follows in groups that take as long."""
    monkeypatch.setattr(writing, "PATIENCE", patience)
    monkeypatch.setattr(writing, "MOST_SECONDS", most)
    publish, published = transactions.Transaction.publish, []

    def publishing(self, moves, *args):
        published.append(len(moves))
        publish(self, moves, *args)

    monkeypatch.setattr(transactions.Transaction, "publish", publishing)
    sdata = study(tmp_path / "study.zarr", 6)
    names, new = list(sdata.images), [f"new{index}" for index in range(6)]
    pxprep.pixel_clustering_preprocess(sdata, names, new, pipeline=STEPS, resume=True)
    assert published == groups
    expected = STEPS.fit_transform(read_images(sdata, names))
    found = spatialdata.read_zarr(sdata.path)
    for name, made in zip(names, new, strict=True):
        np.testing.assert_array_equal(found[made].values, expected[name].values)
        np.testing.assert_array_equal(sdata[made].values, expected[name].values)
        assert pxprep.provenance(found, made).source == name


def test_of_a_group_that_fails_nothing_is_kept(tmp_path, monkeypatch):
    """What was published before is; the message tells which layers are which."""
    monkeypatch.setattr(writing, "PATIENCE", 1e9)
    monkeypatch.setattr(writing, "n_cores", lambda: 1)
    sdata, stage = study(tmp_path / "study.zarr", 4), new_layers.stage
    names, new = list(sdata.images), ["a", "b", "c", "d"]

    def failing(store, folder, elements, *args, **options):
        if "c" in elements:
            raise ValueError("the third")
        return stage(store, folder, elements, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(new_layers, "stage", failing)
        with pytest.raises(ValueError, match="the third") as caught:
            pxprep.pixel_clustering_preprocess(sdata, names, new, pipeline=STEPS, resume=True)
    (note,) = caught.value.__notes__
    assert "['b', 'c'] not written" in note
    assert "['a'] had been written before and are kept" in note
    assert (
        {*new} & set(spatialdata.read_zarr(sdata.path).images) == {"a"} == {*new} & {*sdata.images}
    )
    pxprep.pixel_clustering_preprocess(sdata, names, new, pipeline=STEPS, resume=True)
    assert {*new} <= set(spatialdata.read_zarr(sdata.path).images)


@pytest.mark.parametrize("read", ["origins", "inspect", "layers that match"])
def test_what_is_kept_of_all_layers_is_read_once(tmp_path, opened, read):
    found = {}
    for number in (3, 12):
        write("together", tmp_path / "study.zarr", number)
        sdata = spatialdata.read_zarr(tmp_path / "study.zarr")
        opened["root"] = 0
        names = [f"fov{index}_new" for index in range(number)]
        if read == "origins":
            origins = Origins(sdata)
            assert [origins.of(name).source for name in names] == [n[:-4] for n in names]
        elif read == "inspect":
            pytest.importorskip("typer")
            from pxprep.cli import inspect_store

            described = inspect_store.described(sdata, "images", names)
            assert [each["provenance"]["source"] for each in described] == [n[:-4] for n in names]
        else:
            pytest.importorskip("typer")
            from pxprep.cli import stores

            matching = stores.chosen_layers(sdata, ["*"])
            assert matching == sorted(name[:-4] for name in names)
        found[number] = opened["root"]
        shutil.rmtree(tmp_path / "study.zarr")
    assert found[3] == found[12]

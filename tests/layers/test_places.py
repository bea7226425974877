"""Stores in other places: damaged elsewhere, by relative paths, and on servers."""

import re
import shutil
import sys
import warnings
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("spatialdata")

import spatialdata
from spatialdata.models import PointsModel, ShapesModel, TableModel

import pxprep
from pxprep import FittedPipeline, Pipeline
from pxprep.errors import ImageError, ParameterError, StoreError
from pxprep.io import import_images, open_images
from stores import counts, image, make_study

STEPS = Pipeline().quantile_norm(99)


def expected(seed):
    pixels = xr.DataArray(counts(seed), dims=("c", "y", "x"), coords={"c": ["CD3", "CD20"]})
    return STEPS.fit_transform(pixels).values


# --- damaged elements of other kinds --------------------------------------------------------------


def add_others(store):
    """Points, shapes and a table beside the images and labels of a store."""
    import anndata
    import pandas as pd

    sdata = spatialdata.read_zarr(store)
    xy = np.random.default_rng(0).random((5, 2))
    table = TableModel.parse(anndata.AnnData(xy, obs=pd.DataFrame(index=list("abcde"))))
    others = {
        "spots": PointsModel.parse(xy),
        "rings": ShapesModel.parse(xy, geometry=0, radius=1),
        "counts": table,
    }
    for name, element in others.items():
        sdata[name] = element
        sdata.write_element(name)


def empty(folder):
    """Files that hold nothing, but for the metadata, without which nobody writes to a store."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "zarr.json":
            path.write_bytes(b"")


DAMAGE = {
    "labels": lambda store: shutil.rmtree(store / "labels/cells/s0"),
    "points": lambda store: empty(store / "points/spots"),
    "shapes": lambda store: empty(store / "shapes/rings"),
    "table": lambda store: shutil.rmtree(store / "tables/counts/obs"),
}


@pytest.fixture
def call(monkeypatch, capsys):
    """The exit code of the command, and what it prints on stderr."""
    pytest.importorskip("typer")
    from pxprep.cli import main

    def function(*words):
        monkeypatch.setattr(sys, "argv", ["pxprep", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capsys.readouterr().err

    return function


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_command_needs_the_images_alone(kind, tmp_path, call):
    store = tmp_path / "study.zarr"
    make_study(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages among each other
        add_others(store)
    DAMAGE[kind](store)
    with pytest.raises(Exception, match=r".*"):
        spatialdata.read_zarr(store)
    steps, numbers = tmp_path / "steps.json", tmp_path / "numbers.json"
    STEPS.save(steps)
    layer = ("--layer", "fov0", "--output")
    for words in (
        ("run", store, *layer, "clean", "--pipeline", steps),
        ("fit", store, *layer, numbers, "--pipeline", steps),
        ("apply", numbers, store, *layer, "applied"),
    ):
        assert call(*words) == (0, "")
    there = spatialdata.read_zarr(store, selection=("images",))
    for name in ("clean", "applied"):
        np.testing.assert_array_equal(there[name], expected(0))
    if kind == "labels":
        code, errors = call("run", store, *layer, "masked", "--where", "cells")
        assert code == 1
        assert "is damaged: labels/cells" in errors
    shutil.rmtree(store / "images/fov1/s0")
    code, errors = call("run", store, *layer, "again", "--pipeline", steps)
    assert code == 1
    assert "is damaged: images/fov1" in errors


def test_images_are_imported_beside_what_is_damaged(tmp_path):
    store = tmp_path / "study.zarr"
    make_study(store)
    DAMAGE["labels"](store)
    own = xr.DataArray(counts(7), dims=("c", "y", "x"), coords={"c": ["CD3", "CD20"]})
    with pytest.warns(UserWarning, match="labels/cells"):
        import_images({"fov7": own}, store)
    there = spatialdata.read_zarr(store, selection=("images",))
    np.testing.assert_array_equal(there["fov7"], own)


# --- relative paths -------------------------------------------------------------------------------


def test_relative_paths_survive_a_change_of_folder(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.chdir(first)
    make_study("study.zarr")
    sdata = spatialdata.read_zarr("study.zarr")
    lazy = pxprep.layers.read_images(sdata, ["fov0", "fov1"])
    pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean", pipeline=STEPS)
    monkeypatch.chdir(second)
    np.testing.assert_array_equal(lazy["fov1"], counts(1))
    np.testing.assert_array_equal(sdata["clean"], expected(0))
    # Another store of that name is not the one.
    spatialdata.SpatialData(images={"fov0": image(5)}).write("study.zarr")
    pxprep.pixel_clustering_preprocess(sdata, "fov1", "later", pipeline=STEPS)
    np.testing.assert_array_equal(sdata["later"], expected(1))
    assert (first / "study.zarr/images/later").is_dir()
    assert [path.name for path in (second / "study.zarr/images").iterdir() if path.is_dir()] == [
        "fov0"
    ]


def test_a_path_that_leads_nowhere_any_more_is_told(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    sdata = make_study("study.zarr")
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(StoreError, match=r"'study\.zarr' is not in the folder .*other'.*read it"):
        pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean")
    assert not list(Path().iterdir())


def test_files_by_relative_paths(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("slide.tif", counts(0), photometric="minisblack")
    images = open_images("slide.tif", channel_names=["CD3", "CD20"])
    sdata = import_images(images, "study.zarr")
    monkeypatch.chdir("other")
    np.testing.assert_array_equal(images["slide"], counts(0))
    pxprep.pixel_clustering_preprocess(sdata, "slide", "clean", pipeline=STEPS)
    np.testing.assert_array_equal(sdata["clean"], expected(0))


def test_a_path_in_place_of_the_object(tmp_path):
    store = tmp_path / "study.zarr"
    make_study(store)
    for given in (store, str(store)):
        with pytest.raises(ParameterError, match="sdata must be a spatialdata") as raised:
            pxprep.pixel_clustering_preprocess(given, "fov0", "clean")
        line = str(raised.value).split("write ", 1)[1]
        made = pxprep.pixel_clustering_preprocess(
            eval(line, {"spatialdata": spatialdata}),
            "fov0",
            "clean",
            pipeline=STEPS,
            overwrite=True,
        )
        np.testing.assert_array_equal(made["clean"], expected(0))


# --- addresses ------------------------------------------------------------------------------------


def test_addresses_are_told_what_works():
    zarr = pytest.importorskip("zarr")
    from zarr.storage import FsspecStore

    address = "memory://bucket/image.zarr"
    store = FsspecStore.from_url(address)
    zarr.create_array(store=store, shape=(2, 24, 20), chunks=(1, 12, 10), dtype="u2")[:] = counts(0)
    fov = xr.DataArray(counts(0), dims=("c", "y", "x"))
    calls = [
        lambda: open_images(address),
        lambda: import_images(address, "study.zarr"),
        lambda: import_images({"fov0": fov}, address),
        lambda: pxprep.repair(address),
        lambda: Pipeline().blur().fit(address),
        lambda: Pipeline().blur().save("memory://bucket/image.zarr/x.json"),
        lambda: pxprep.pixel_table(fov, to="parquet", file=address),
    ]
    for call in calls:
        with pytest.raises((ParameterError, ImageError), match=re.escape(address)) as raised:
            call()
        line = str(raised.value).split("write ", 1)[1].replace("/x.json", "")
        made = eval(line, {"xr": xr, "dask": dask})
        assert made.chunks is not None
        np.testing.assert_array_equal(made.pxprep.blur(0), counts(0))
    assert not Path("study.zarr").exists()
    for text in ("s3://bucket/fit.json", "https://host/fit.json"):
        with pytest.raises(ParameterError, match=f"{text}"):
            FittedPipeline.from_json(text)


@pytest.mark.parametrize("address", ["s3://bucket/study.zarr", "https://host/a.zarr", "gs://b/c"])
def test_the_command_and_addresses(address, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    for words in (
        ["run", address, "--layer", "a", "--output", "b"],
        ["fit", address, "--layer", "a", "--output", "b.json"],
        ["inspect", address],
        ["import", address, "study.zarr"],
        ["repair", address],
    ):
        code, errors = call(*words)
        assert code == 1
        assert f"on this machine, got the address {address!r}" in errors
    assert not list(tmp_path.iterdir())


def test_drives_and_odd_names_are_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("C:/data/no.tif", "a:b.tif", "10:30 scan/no.tif"):
        with pytest.raises(ParameterError, match="does not exist"):
            open_images(name)

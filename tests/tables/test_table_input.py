"""Layers of a store as tables, and what is refused before any work."""

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pxprep
from pixel_rows import CHUNKS, check, expected_table
from pxprep import pixel_table
from pxprep.errors import ChannelError, ImageError, LayerError, ParameterError

# SpatialData


@pytest.fixture
def sdata(tmp_path):
    pytest.importorskip("spatialdata")
    from stores import make_study

    return make_study(tmp_path / "study.zarr", multiscale=True)


def test_layers(sdata):
    names = ["fov1", "fov0"]
    table = pixel_table(sdata, names, channels=["CD20"], fraction=0.5)
    images = {name: sdata[name]["scale0"]["image"].sel(c=["CD20"]) for name in names}
    pd.testing.assert_frame_equal(table, pixel_table(images, fraction=0.5))
    check(pixel_table(sdata, "fov0"), expected_table({"fov0": sdata["fov0"]["scale0"]["image"]}))


def test_what_the_wrapper_makes(sdata):
    names = ["clean0", "clean1"]
    pxprep.pixel_clustering_preprocess(sdata, ["fov0", "fov1"], names, sigma=None, q_sum=20)
    layers = {name: sdata[name]["scale0"]["image"].compute() for name in names}
    dropped = {name: np.isnan(layer.values) for name, layer in layers.items()}
    for name, layer in layers.items():
        assert layer.dtype == np.float32
        assert dropped[name].any()
        assert (dropped[name].all(axis=0) == dropped[name].any(axis=0)).all()
    check(pixel_table(sdata, names), expected_table(layers))


@pytest.mark.parametrize("multiscale", [False, True])
def test_labels_layer(sdata, multiscale):
    from spatialdata.models import Labels2DModel

    cells = np.arange(480).reshape(24, 20) % 7
    sdata["more"] = Labels2DModel.parse(
        cells, dims=("y", "x"), scale_factors=[2] if multiscale else None
    )
    table = pixel_table(sdata, ["fov0", "fov1"], labels=["cells", "more"])
    at = table["y"].to_numpy() * 20 + table["x"].to_numpy()
    expected = np.where(table["fov"] == "fov0", at % 5, at % 7)
    np.testing.assert_array_equal(table["label"].to_numpy(), expected)
    alone = pixel_table(sdata, "fov1", labels="more", drop_background=True)
    assert sorted(set(alone["label"])) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"img_layer": "fov"}, LayerError, "img_layer 'fov' does not exist.*'fov[0-2]'"),
        ({"img_layer": "cells"}, LayerError, "img_layer 'cells' must be an image.*labels"),
        ({"img_layer": 3}, ParameterError, "img_layer must be the name of a layer"),
        ({}, ParameterError, r"img_layer must name the image layers.*'fov0', 'fov1'"),
        ({"img_layer": "fov0", "labels": "cell"}, LayerError, "labels 'cell' does not.*'cells'"),
        (
            {"img_layer": "fov0", "labels": "fov1"},
            LayerError,
            "labels 'fov1' must be labels.*images",
        ),
        ({"img_layer": ["fov0", "fov1"], "labels": "cells"}, ParameterError, "labels.*2 images.*1"),
        (
            {"img_layer": "fov0", "labels": "small"},
            ParameterError,
            "'small'.*size.*'y': 24.*'y': 2",
        ),
        ({"img_layer": "fov0", "channels": ["CD4"]}, ChannelError, "layer 'fov0'.*'CD4'.*'CD3'"),
    ],
)
def test_layers_that_do_not_fit(sdata, arguments, kind, message, no_compute):
    from spatialdata.models import Labels2DModel

    sdata["small"] = Labels2DModel.parse(np.ones((2, 2), int), dims=("y", "x"))
    with no_compute(), pytest.raises(kind, match=message):
        pixel_table(sdata, **arguments)


# Bad input

PLANE = xr.DataArray(np.ones((23, 17), int), dims=("y", "x"))

BAD = [
    ({"fraction": 0}, "fraction must be a number above 0 and at most 1, got 0"),
    ({"fraction": 10}, r"fraction must be .*, got 10; did you mean 0\.1\?"),
    ({"fraction": -0.1}, "fraction must be"),
    ({"fraction": float("nan")}, "fraction must be"),
    ({"fraction": "0.1"}, "fraction must be"),
    ({"fraction": True}, "fraction must be"),
    ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ({"seed": 1.5}, "seed must be"),
    ({"to": "csv"}, "to must be one of 'pandas', 'anndata', 'parquet', got 'csv'"),
    ({"to": None}, "to must be one of"),
    ({"file": "pixels.parquet"}, "file needs to=\"parquet\", got to='pandas'"),
    ({"overwrite": 1}, "overwrite must be True or False"),
    ({"drop_background": 1}, "drop_background must be True or False"),
    ({"drop_background": True}, "drop_background needs labels"),
    ({"labels": PLANE[:5]}, r"labels of image 'fov0' must have the image's size .*23.*'y': 5"),
    ({"labels": PLANE.expand_dims("z")}, "labels of image 'fov0' must have the image's size"),
    ({"labels": PLANE.astype(float)}, "labels of image 'fov0' must hold integers or bool.*float64"),
    ({"labels": PLANE.values}, "labels of image 'fov0' must be an xarray.DataArray, got ndarray"),
    ({"labels": [PLANE, PLANE]}, "labels must be an xarray.* for each of 1 images, got 2"),
    ({"labels": {"fov1": PLANE}}, r"labels must be given for each image.*'fov0'.*'fov1'"),
    ({"labels": "cells"}, "labels of image 'fov0' must be an xarray.DataArray, got str"),
    ({"labels": [3]}, "labels of image 'fov0' must be an xarray.DataArray, got int"),
    ({"variable": "image"}, "variable names the image in a Dataset"),
    ({"img_layer": "fov0"}, "images must be a spatialdata.SpatialData"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_parameters(make_image, no_compute, arguments, message):
    if "img_layer" in arguments:
        pytest.importorskip("spatialdata")
    with no_compute(), pytest.raises(ParameterError, match=message):
        pixel_table(make_image(chunks=CHUNKS), **arguments)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (None, "file must be the path of a file"),
        (3, "file must be the path of a file"),
        ("", "file must be the path of a file"),
        ("none/pixels.parquet", r"file must be a file in a folder that exists .*none/pixels"),
        (".", "file must be a file in a folder"),
    ],
)
def test_bad_files(make_image, no_compute, parquet, tmp_path, monkeypatch, file, message):
    monkeypatch.chdir(tmp_path)
    with no_compute(), pytest.raises(ParameterError, match=message):
        pixel_table(make_image(chunks=CHUNKS), to="parquet", file=file, overwrite=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fov", "x", "y", "label"])
def test_channels_called_like_other_columns(make_image, no_compute, name):
    image = make_image(chunks=CHUNKS).assign_coords(c=["DAPI", name, "CD20"])
    with (
        no_compute(),
        pytest.raises(ParameterError, match=rf"channels must not.*'{name}'.*assign_coords"),
    ):
        pixel_table(image, labels=PLANE)


def test_a_channel_called_z_where_there_is_no_such_column(make_image):
    image = make_image().assign_coords(c=["DAPI", "z", "label"])
    assert pixel_table(image).columns.tolist() == ["DAPI", "z", "label", "fov", "y", "x"]


def test_names_that_differ_only_in_their_type(make_image, no_compute):
    image = make_image(chunks=CHUNKS)
    with no_compute(), pytest.raises(ParameterError, match=r"images must differ as text.*'0'"):
        pixel_table({0: image, "0": image})
    twice = image.assign_coords(c=np.array([1, "1", 2], object))
    with no_compute(), pytest.raises(ParameterError, match=r"channels must differ as text.*'1'"):
        pixel_table(twice)


def test_what_is_no_image(make_image):
    with pytest.raises(ImageError, match=r"image must be an xarray\.DataArray"):
        pixel_table(make_image().values)
    with pytest.raises(ChannelError, match=r"'CD4'.*'CD3'"):
        pixel_table(make_image(), channels=["CD4"])


@pytest.mark.parametrize(("to", "package"), [("anndata", "anndata"), ("parquet", "pyarrow")])
def test_missing_packages(make_image, no_compute, monkeypatch, tmp_path, to, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    file = tmp_path / "pixels.parquet" if to == "parquet" else None
    with no_compute(), pytest.raises(ParameterError, match=r"pip install 'pxprep\[table\]'"):
        pixel_table(make_image(chunks=CHUNKS), to=to, file=file)


def test_labels_of_another_part_of_the_image(make_image):
    image = make_image().assign_coords(y=range(23))
    labels = PLANE.assign_coords(y=range(1, 24))
    with pytest.raises(
        ParameterError, match=r"image's coordinates along 'y', got 1 .* has 0 \(.*la"
    ):
        pixel_table(image, labels=labels)
    assert len(pixel_table(image, labels=labels.drop_vars("y"))) == len(pixel_table(image))

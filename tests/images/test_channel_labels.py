"""Channels that share a name are told apart by their places; labels that are none are an error."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pxprep
from oracle import assert_same_bits
from pxprep import FittedPipeline, Pipeline, ops
from pxprep.errors import ChannelError, ImageError
from pxprep.images.datatree import TREES

NAMES = ["DAPI", "CD3", "DAPI", "CD8"]
APART = ["DAPI (1)", "CD3", "DAPI (3)", "CD8"]
PIXELS = np.random.default_rng(0).integers(1, 3000, (4, 24, 32)).astype("u2")


def image(names, pixels=PIXELS):
    return xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": names}, name="slide")


TWICE, ONCE = image(NAMES), image(APART)


@pytest.mark.parametrize("channels", [["CD3", "CD8"], ["CD8", "DAPI (3)"], APART[::-1]])
@pytest.mark.parametrize("lazy", [False, True])
def test_channels_are_chosen_by_names_of_their_own(channels, lazy):
    given = TWICE.chunk() if lazy else TWICE
    after = given.pxprep.preprocess(channels=channels)
    assert_same_bits(after, ONCE.sel(c=channels).pxprep.preprocess())
    for tree_class in TREES:
        tree = tree_class.from_dict({"a/fov0": given.to_dataset(name="image")})
        made = tree.pxprep.preprocess(channels=channels)["a/fov0/image"]
        np.testing.assert_array_equal(made, after)
        assert made.c.values.tolist() == channels


def test_numbers_are_of_one_channel_each():
    fitted = Pipeline().quantile_norm({"DAPI (3)": 50, ...: 99}).fit(TWICE)
    assert fitted.channels == tuple(APART)
    scale = fitted.numbers["quantile_norm_scale"]
    expected = [
        np.quantile(PIXELS[c].astype(float), q) for c, q in enumerate([0.99, 0.99, 0.5, 0.99])
    ]
    np.testing.assert_array_equal(scale.sel(c=APART), expected)
    assert FittedPipeline.from_json(fitted.to_json()) == fitted
    np.testing.assert_array_equal(fitted.transform(TWICE), fitted.transform(ONCE))
    table = pxprep.pixel_table(TWICE, channels=["DAPI (3)", "CD3"])
    np.testing.assert_array_equal(table["DAPI (3)"], PIXELS[2].ravel())
    # What is not asked for by name stays as it is.
    assert ops.blur(TWICE).c.values.tolist() == NAMES
    # In another order they are others: which, nobody knows.
    with pytest.raises(ChannelError, match=r"missing 'DAPI \(1\)'; unknown 'DAPI \(2\)'|missing"):
        fitted.transform(TWICE.isel(c=[1, 0, 2, 3]))


def test_labels_beside_shared_ones_keep_their_types():
    metals = image(np.array([89, 89, 113, "DNA"], object))
    dropped = metals.pxprep.subtract_channels({"89 (1)": "89 (2)"}, drop=True)
    assert dropped.c.values.tolist() == ["89 (1)", 113, "DNA"]
    chosen = metals.pxprep.preprocess(channels=[113, "89 (1)"])
    assert chosen.c.values.tolist() == [113, "89 (1)"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: TWICE.pxprep.preprocess(channels=["DAPI", "CD3"]),
        lambda: ops.quantile_norm(TWICE, {"DAPI": 99, ...: 98}),
        lambda: pxprep.pixel_table(TWICE, channels=["DAPI"]),
        lambda: Pipeline().blur({"dapi": 1, ...: 2}).fit(TWICE),
    ],
)
def test_who_asks_for_a_shared_name_is_told_the_places(call):
    with pytest.raises(ChannelError, match=r"\(did you mean 'DAPI \(1\)', 'DAPI \(3\)'\?\)"):
        call()


def test_a_name_that_is_taken_is_an_error():
    with pytest.raises(ChannelError, match=r"each of them once, got \['DAPI \(1\)'\]") as raised:
        ops.blur(image(["DAPI", "DAPI", "DAPI (1)", "CD3"]))
    assert str(raised.value).endswith("write image.drop_vars('c')")
    with pytest.raises(ChannelError, match=r"each of them once, got \[''\]"):
        ops.blur(image(["", "", "a", "b"]))


def test_layers_and_the_command(tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    pytest.importorskip("typer")
    from spatialdata.models import Image2DModel
    from typer.testing import CliRunner

    from pxprep.cli.app import app

    element = Image2DModel.parse(PIXELS, dims=("c", "y", "x"), c_coords=NAMES)
    store = str(tmp_path / "study.zarr")
    spatialdata.SpatialData(images={"slide": element}).write(store)
    sdata = spatialdata.read_zarr(store)
    pxprep.pixel_clustering_preprocess(sdata, "slide", "all")
    assert sdata["all"].c.values.tolist() == APART
    for n, channels in enumerate((["CD3", "CD8"], ["DAPI (3)", "CD3"])):
        expected = ONCE.sel(c=channels).pxprep.preprocess()
        pxprep.pixel_clustering_preprocess(sdata, "slide", f"python{n}", channels=channels)
        asked = [word for name in channels for word in ("--channel", name)]
        said = CliRunner().invoke(
            app, ["run", store, "--layer", "slide", "--output", f"cli{n}", *asked]
        )
        assert said.exit_code == 0, said.output
        sdata = spatialdata.read_zarr(store)
        for name in (f"python{n}", f"cli{n}"):
            assert sdata[name].c.values.tolist() == channels
            np.testing.assert_array_equal(sdata[name], expected)
    with pytest.raises(ChannelError, match=r"layer 'slide': .*'DAPI' \(did you mean 'DAPI \(1\)'"):
        pxprep.pixel_clustering_preprocess(sdata, "slide", "no", channels=["DAPI"])


def test_files(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    from pxprep.io import open_images

    file = tmp_path / "cycif.ome.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(file, PIXELS, photometric="minisblack", metadata=metadata)
    assert open_images(file)["cycif"].c.values.tolist() == APART
    chosen = open_images(file, ["CD8", "DAPI (3)"])["cycif"]
    np.testing.assert_array_equal(chosen, PIXELS[[3, 2]])
    with pytest.raises(ChannelError, match=r"'DAPI' \(did you mean 'DAPI \(1\)', 'DAPI \(3\)'"):
        open_images(file, ["DAPI"])


# --- labels that are none -------------------------------------------------------------------------

ROUNDS = pd.MultiIndex.from_tuples(
    [("r1", "DAPI"), ("r1", "CD3"), ("r2", "DAPI"), ("r2", "CD8")], names=["round", "marker"]
)


def objects(*labels):
    made = np.empty(len(labels), object)
    made[:] = labels
    return made


# Labels; what an error lists; what the line that it shows makes of them.
NO_LABELS = {
    "NaN": ([1.0, np.nan, 2, 3], "nan", ["1.0", "nan", "2.0", "3.0"]),
    "several NaN": ([1.0, np.nan, np.nan, 3], "nan, nan", None),
    "infinite": ([1.0, np.inf, 2, 3], "inf", ["1.0", "inf", "2.0", "3.0"]),
    "None": (objects("a", None, 2, "c"), "None", ["a", "None", "2", "c"]),
    "bytes": (
        np.array([b"a", b"\xc3\xa9", b"c", b"d"]),
        r"b'a', b'\xc3\xa9'",
        ["a", "é", "c", "d"],
    ),
    "bytes and text": (objects(b"a", "b", "c", "d"), "b'a'", ["b'a'", "b", "c", "d"]),
    "MultiIndex": (ROUNDS, "('r1', 'DAPI')", ["r1 DAPI", "r1 CD3", "r2 DAPI", "r2 CD8"]),
    "tuples": (
        objects(("a", 1), ("b", 2), ("c", 3), ("d", 4)),
        "('a', 1)",
        ["a 1", "b 2", "c 3", "d 4"],
    ),
    "lists": (objects([1], [2], [3], [4]), "[1]", ["[1]", "[2]", "[3]", "[4]"]),
    "complex": ([1j, 2, 3, 4], "1j", ["1j", "(2+0j)", "(3+0j)", "(4+0j)"]),
    "missing text": (
        pd.Index(["a", None, "b", "c"], dtype="string"),
        "<NA>",
        ["a", "<NA>", "b", "c"],
    ),
}


@pytest.mark.parametrize("kind", NO_LABELS)
def test_labels_of_other_kinds_are_refused_at_once(kind, no_compute):
    labels, listed, made = NO_LABELS[kind]
    if kind == "MultiIndex":
        coords = xr.Coordinates.from_pandas_multiindex(labels, "c")
        given = xr.DataArray(PIXELS, dims=("c", "y", "x"), coords=coords)
    else:
        given = image(labels)
    fitted = Pipeline().blur().fit(image(APART))
    calls = [
        ops.quantile_norm,
        ops.blur,
        Pipeline().blur().fit,
        fitted.transform,
        lambda one: one.pxprep.preprocess(channels=["a"]),
        pxprep.pixel_table,
        pxprep.plot.channels,
        lambda one: Pipeline().blur().fit({"fov0": one}),
        lambda one: Pipeline().then(lambda _: one, "own").fit_transform(given.drop_vars("c")),
    ]
    for call in calls[:-1] if kind == "MultiIndex" else calls:
        with no_compute(), pytest.raises((ChannelError, ImageError)) as raised:
            call(given.chunk())
    with pytest.raises(ChannelError, match="texts or finite numbers, each of them once") as raised:
        ops.blur(given)
    message = str(raised.value)
    assert listed in message
    mended = eval(message.split("write ", 1)[1], {"image": given})
    assert Pipeline().quantile_norm().fit(mended).channels == (made and tuple(made))


@pytest.mark.parametrize(
    "labels",
    [[1, 2, 3, 4], [0.5, 1.5, 2.5, 3.5], objects(np.int64(3), np.str_("b"), 1.5, "c")],
    ids=["integers", "floats", "NumPy's own"],
)
def test_labels_that_are_some_are_saved(labels):
    fitted = Pipeline().quantile_norm().fit(image(labels))
    assert fitted.channels == tuple(labels)
    again = FittedPipeline.from_json(fitted.to_json())
    assert again == fitted
    assert json.loads(fitted.to_json())["channels"] == list(fitted.channels)
    assert again.transform(image(labels)).c.values.tolist() == list(labels)


@pytest.mark.parametrize("name", [("a", 1), np.nan, b"fov", None])
def test_names_of_images_that_cannot_be_saved(name):
    with pytest.raises(ImageError, match=r"texts or finite numbers, got .* image\.rename"):
        Pipeline().quantile_norm().fit({name: ONCE})
    by_number = Pipeline().quantile_norm().fit({np.int64(7): ONCE})
    assert FittedPipeline.from_json(by_number.to_json()).fovs == (7,)

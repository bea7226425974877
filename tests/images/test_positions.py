"""Channels without labels are chosen by position; what is made of them keeps the positions."""

import json
import warnings

import numpy as np
import pytest
import xarray as xr

import pxprep
from oracle import assert_same_bits
from pxprep import FittedPipeline, Pipeline
from pxprep.errors import ParameterError
from pxprep.images.datatree import TREES, own_dataset

CHOSEN = [3, 0]
# Each channel is told from all others by its values.
TIMES = np.array([1, 10, 100, 1000])[:, np.newaxis, np.newaxis]


def plain(seed=0, size=(24, 32)):
    values = TIMES * np.random.default_rng(seed).gamma(1, 3, (4, *size))
    return xr.DataArray(values, dims=("c", "y", "x"), name="image")


def labeled(image):
    return image.assign_coords(c=range(4))


def expected(image, channels=CHOSEN):
    """What the same image gives with labels."""
    return labeled(image).sel(c=list(channels)).pxprep.preprocess()


def test_true_and_false_are_no_positions():
    for channels in ([True, False], np.array([False, True])):
        with pytest.raises(ParameterError, match="channels must be a sequence of channel labels"):
            plain().pxprep.preprocess(channels=channels)


@pytest.mark.parametrize("chunks", [None, {"c": 1, "y": 10}], ids=["numpy", "dask"])
def test_positions_become_labels(chunks):
    image = plain() if chunks is None else plain().chunk(chunks)
    result = image.pxprep.preprocess(channels=CHOSEN)
    assert_same_bits(result, expected(plain()))
    # The same marker in every later call.
    for again in (result, labeled(plain()).sel(c=CHOSEN)):
        assert again.pxprep.preprocess(channels=[3]).c.values.tolist() == [3]
    with pytest.raises(pxprep.errors.ChannelError, match="no channel 1; the image has 3, 0"):
        result.pxprep.preprocess(channels=[1])


def test_all_of_them_keep_their_positions_if_they_are_named():
    named = plain().pxprep.preprocess(channels=range(4))
    assert named.coords["c"].values.tolist() == [0, 1, 2, 3]
    assert "c" not in plain().pxprep.preprocess().coords


def test_another_order_is_one_of_labels():
    first, second = plain(0), plain(1)
    turned = labeled(first).isel(c=[1, 0, 3, 2])
    fitted = Pipeline().quantile_norm().fit([turned, second])
    assert fitted.channels == (1, 0, 3, 2)
    after = fitted.transform(second)
    xr.testing.assert_identical(after, fitted.transform(labeled(second).isel(c=[1, 0, 3, 2])))
    scale = fitted.numbers["quantile_norm_scale"].sel(c=3).item()
    np.testing.assert_array_equal(after.sel(c=3), second[3] / scale)


@pytest.mark.parametrize("tree_class", TREES, ids=lambda cls: cls.__module__.split(".")[0])
def test_trees_get_labels_where_they_had_none(tree_class):
    coarse = plain(1)[:, ::2, ::2]
    nodes = {"a": plain(0), "b/scale0": plain(1), "b/scale1": coarse}
    gain = ("c", [0.5, 1.5, 2.5, 3.5])
    datasets = {path: one.to_dataset(name="image") for path, one in nodes.items()}
    datasets["a"]["gain"] = gain
    tree = tree_class.from_dict(datasets)
    result = tree.pxprep.preprocess(channels=CHOSEN)
    named = {path: one.assign_coords(c=range(4)).sel(c=CHOSEN) for path, one in datasets.items()}
    wanted = tree_class.from_dict(named).pxprep.preprocess()
    for path in nodes:
        assert own_dataset(result[path]).c.values.tolist() == CHOSEN
        xr.testing.assert_identical(own_dataset(result[path]), own_dataset(wanted[path]))
    assert result["a"]["gain"].sel(c=3) == 3.5


def test_tables_are_of_the_channels_that_were_chosen():
    table = pxprep.pixel_table(plain(), channels=CHOSEN)
    assert table.columns.tolist() == ["3", "0", "fov", "y", "x"]
    np.testing.assert_array_equal(table["3"], plain()[3].values.ravel())


def test_figures_call_them_by_their_positions():
    pytest.importorskip("matplotlib")
    chosen = plain().pxprep.preprocess(channels=CHOSEN)
    titles = [axis.get_title() for axis in pxprep.plot.compare(plain(), chosen)[0]]
    assert titles == ["channel 3", "channel 0"]


def test_what_was_fitted_to_them_is_of_them():
    chosen = plain().pxprep.preprocess(channels=CHOSEN)
    fitted = Pipeline().quantile_norm({3: 50, 0: 99}).fit(chosen)
    fitted = FittedPipeline.from_json(fitted.to_json())
    assert fitted.channels == (3, 0)
    assert fitted.numbers.c.values.tolist() == CHOSEN


# --- layers ---------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    """A store of a layer without the names of its channels, as other programs write it."""
    pytest.importorskip("spatialdata")
    import zarr
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    path = tmp_path / "study.zarr"
    element = Image2DModel.parse(plain().data, dims=("c", "y", "x"))
    SpatialData(images={"fov": element}).write(path)
    metadata = path / "images" / "fov" / "zarr.json"
    content = json.loads(metadata.read_text())
    del content["attributes"]["ome"]["omero"]
    metadata.write_text(json.dumps(content))
    with warnings.catch_warnings(action="ignore"):  # zarr says that others may not read this
        zarr.consolidate_metadata(str(path))
    return path


def finest(element):
    return element if isinstance(element, xr.DataArray) else element["scale0"]["image"]


@pytest.mark.parametrize("factors", [None, [2]], ids=["single-scale", "multiscale"])
def test_layers_keep_the_positions_as_labels(store, factors):
    from spatialdata import read_zarr

    sdata = read_zarr(store)
    assert "c" not in finest(sdata["fov"]).coords
    report = store.parent / "report.html"
    pxprep.pixel_clustering_preprocess(
        sdata, "fov", "clean", channels=CHOSEN, scale_factors=factors, report=report
    )
    for found in (sdata, read_zarr(store)):
        clean = finest(found["clean"])
        assert clean.c.values.tolist() == CHOSEN
        np.testing.assert_array_equal(clean, expected(plain()))
        made = pxprep.provenance(found, "clean")
        assert made.parameters["channels"] == CHOSEN
        assert made.fitted().channels == (3, 0)
    # The same marker again, in the new layer and, with what was fitted, in the old one.
    pxprep.pixel_clustering_preprocess(sdata, "clean", "again", channels=[3])
    np.testing.assert_array_equal(finest(sdata["again"]), clean.sel(c=[3]).pxprep.preprocess())
    fitted = made.fitted()
    pxprep.pixel_clustering_preprocess(sdata, "fov", "later", channels=CHOSEN, pipeline=fitted)
    xr.testing.assert_equal(finest(sdata["later"]), clean)


def test_the_command_line_names_them_by_position(store, monkeypatch, capsys):
    pytest.importorskip("typer")
    from spatialdata import read_zarr

    from pxprep.cli import main

    numbers = store.parent / "fitted.json"
    for command in (
        f"run {store} --layer fov --output clean --channel 3 --channel 0 --q 3=50 --q 0=99",
        f"run {store} --layer clean --output again --channel 3",
        f"fit {store} --layer fov --channel 3 --output {numbers}",
        f"apply {numbers} {store} --layer clean --output later",
    ):
        monkeypatch.setattr("sys.argv", ["pxprep", *command.split()])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0, capsys.readouterr()
    sdata = read_zarr(store)
    found = {name: finest(sdata[name]).c.values.tolist() for name in ("clean", "again", "later")}
    assert found == {"clean": [3, 0], "again": [3], "later": [3]}
    assert FittedPipeline.from_json(numbers.read_text()).channels == (3,)

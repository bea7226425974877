"""Channels side by side; and what holds for every figure: methods, input, bad input."""

import inspect
import sys

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from drawn import (
    bars,
    counted_reads,
    high,
    legend_texts,
    limits,
    lines,
    numbered,
    shown,
    texts_that_stick_out,
)
from pxprep import Pipeline, plot
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.plot import DROPPED, ImagePlots
from pxprep.plot.thumbnails import coloured, draw

# --- channels -------------------------------------------------------------------------------------


def test_channels_shows_the_pixels(image):
    axes = plot.channels(image, ["panCK", "CD3", "DAPI"])
    assert axes.shape == (1, 3)
    for axis, label in zip(axes[0], ["panCK", "CD3", "DAPI"], strict=True):
        assert axis.get_title() == label
        np.testing.assert_array_equal(shown(axis), image.sel(c=label))


def test_channels_contrast(image):
    own = [(0, pytest.approx(high(image.sel(c=c).values))) for c in image.c.values]
    assert limits(plot.channels(image)) == own
    shared = [(0, pytest.approx(high(image.values)))] * 10
    axes = plot.channels(image, contrast="shared")
    assert limits(axes) == shared
    assert legend_texts(axes[0, 0].figure) == ["0", f"{high(image.values):.0f} or more"]
    assert plot.channels(image)[0, 0].get_xlabel() == f"0 to {high(image.values[0]):.0f}"


def test_channels_missing_values(after):
    axes = plot.channels(after, ["DAPI"])
    masked = shown(axes[0, 0])
    np.testing.assert_array_equal(masked.mask, after.sel(c="DAPI").isnull())
    assert legend_texts(axes[0, 0].figure) == ["no value"]


def test_channels_reads_only_what_it_shows():
    plain = numbered(6, 5, 40, 40, dims=("z", "y", "x"))
    lazy, seen = counted_reads(plain, (1, 1, 10, 10))
    axes = plot.channels(lazy, ["marker4", "marker1"], max_pixels=2)
    # A step of 20 touches every second block each way, of two channels and one plane.
    assert seen == {"chunks": 2 * 2 * 2}
    np.testing.assert_array_equal(shown(axes[0, 1]), plain.values[1, 2, ::20, ::20])


@pytest.mark.parametrize(("n", "shape"), [(1, (1, 1)), (9, (2, 5)), (40, (5, 8))])
def test_channels_wrap(n, shape):
    axes = plot.channels(numbered(n, 12, 12))
    assert axes.shape == shape
    assert sum(axis.axison for axis in axes.flat) == n
    figure = axes[0, 0].figure
    assert max(figure.get_size_inches()) < 12
    assert texts_that_stick_out(figure) == []


def test_channels_on_given_axes(image):
    given = Figure().subplots(2, 6)
    assert [*plot.channels(image, axes=given).flat] == [*given.flat]
    assert [axis.axison for axis in given[1]] == [True] * 4 + [False] * 2


def test_coloured_is_what_is_drawn(after):
    values = after.sel(c="DAPI").values
    indices, colours = coloured(values, levels=255)
    axis = Figure().subplots()
    draw(axis, values)
    (picture,) = axis.get_images()
    drawn = picture.cmap(picture.norm(picture.get_array()), bytes=True)[..., :3]
    assert np.abs(colours[indices].astype(int) - drawn).max() <= 6
    missing = np.round(np.array(to_rgba(DROPPED)[:3]) * 255)
    assert (colours[indices][np.isnan(values)] == missing).all()


# --- all ------------------------------------------------------------------------------------------

METHODS = {
    "channels": (["DAPI"],),
    "histogram": (None, None, ["DAPI"]),
    "mask": (),
    "compare": None,
    "composite": (["DAPI"],),
}


@pytest.mark.parametrize("name", METHODS)
def test_method_is_the_function(image, name):
    method, function = getattr(image.pxprep.plot, name), getattr(plot, name)
    _, *parameters = inspect.signature(function).parameters.values()
    assert list(inspect.signature(method).parameters.values()) == parameters
    assert f"pxprep.plot.{name}`" in method.__doc__
    arguments = (image, ["DAPI"]) if METHODS[name] is None else METHODS[name]
    results = [np.ravel(call) for call in (method(*arguments), function(image, *arguments))]
    one, other = ([axis.get_images() or bars(axis)[0] for axis in axes] for axes in results)
    for mine, expected in zip(one, other, strict=True):
        if isinstance(mine, list):
            mine, expected = mine[0].get_array(), expected[0].get_array()
        np.testing.assert_array_equal(mine, expected)


def test_every_public_method_is_tested():
    assert {name for name in vars(ImagePlots) if not name.startswith("_")} == set(METHODS)


def test_a_tree_is_told_to_choose(fovs):
    tree_type = getattr(xr, "DataTree", None)
    if tree_type is None:
        pytest.skip("xarray has no trees")
    tree = tree_type.from_dict({"fov0": fovs["fov0"].to_dataset(name="image")})
    for name in METHODS:
        arguments = [fovs["fov0"]] if name == "compare" else []
        with pytest.raises(ImageError, match="is a tree of 1: choose"):
            getattr(tree.pxprep.plot, name)(*arguments)
    assert tree["fov0/image"].pxprep.plot.channels(["DAPI"]).shape == (1, 1)


@pytest.mark.parametrize("name", ["channels", "composite", "histogram", "mask"])
def test_touches_nothing(image, name):
    before, copy = dict(matplotlib.rcParams), image.copy(deep=True)
    image = image.copy(deep=True)
    image.values.flags.writeable = False
    getattr(plot, name)(image)
    assert dict(matplotlib.rcParams) == before
    xr.testing.assert_identical(image, copy)


@pytest.mark.parametrize("name", ["channels", "composite", "histogram", "mask"])
def test_any_order_of_dimensions_and_dtype(image, name):
    turned = image.astype(np.float16).transpose("x", "c", "y")
    axes = [np.ravel(getattr(plot, name)(one))[0] for one in (image, turned)]
    if name == "histogram":
        np.testing.assert_array_equal(*(bars(axis)[0] for axis in axes))
    else:
        np.testing.assert_array_equal(*(shown(axis) for axis in axes))


def test_channels_without_labels():
    plain = numbered(3, 8, 8, labels=False)
    fitted = Pipeline().quantile_norm().fit(plain)
    assert [a.get_title() for a in plot.channels(plain, [2, 0])[0]] == ["channel 2", "channel 0"]
    axes = plot.histogram(plain, fitted=fitted, channels=[2, 0])
    scale = fitted.numbers.quantile_norm_scale.values
    assert [lines(axis)["quantile_norm"] for axis in axes[0]] == [scale[2], scale[0]]
    plot.cohort(fitted)
    halves = plain.assign_coords(c=[0.5, 1, 1.5])
    assert plot.channels(halves)[0, 2].get_title() == "channel 1.5"


@pytest.mark.parametrize("call", ["channels", "composite", "histogram", "mask", "cohort"])
def test_says_how_to_install_matplotlib(image, monkeypatch, call):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ParameterError, match=r"pip install 'pxprep\[plot\]'"):
        getattr(plot, call)(image)


BAD = [
    ("channels", {"contrast": "best"}, ParameterError, "contrast must be one of 'channel', 'shar"),
    ("channels", {"channels": ["cd3"]}, ChannelError, "no channel 'cd3' .did you mean 'CD3'"),
    ("channels", {"channels": "CD3"}, ParameterError, r"did you mean \['CD3'\]"),
    ("channels", {"max_pixels": 0}, ParameterError, "max_pixels must be a whole number"),
    ("channels", {"axes": np.empty((1, 3), object)}, ParameterError, "axes must be a 2-D array"),
    ("histogram", {"fitted": Pipeline()}, ParameterError, "fitted must be a FittedPipeline"),
    ("histogram", {"bins": 0}, ParameterError, "bins must be a whole number of at least 1"),
    ("histogram", {"fov": "fov0"}, ParameterError, "fov must be one of the images of fitted"),
    ("histogram", {"fov": [1, 2]}, ParameterError, "fov must be the name of one image"),
    ("histogram", {"axes": "here"}, ParameterError, "axes must be a 2-D array with 1 Axes.*'here'"),
    ("histogram", {"channels": ["CD99"]}, ChannelError, "no channel 'CD99'"),
    ("histogram", {"after": 3}, ImageError, "after must be an xarray.DataArray"),
    ("mask", {"axes": 3}, ParameterError, "axes must be one matplotlib.axes.Axes, got 3"),
    ("mask", {"max_pixels": 2.5}, ParameterError, "max_pixels must be a whole number"),
]


@pytest.mark.parametrize(("name", "change", "kind", "message"), BAD)
def test_bad_input(image, no_compute, name, change, kind, message):
    with no_compute(), pytest.raises(kind, match=message):
        getattr(plot, name)(image.chunk(), **change)


@pytest.mark.parametrize("name", ["channels", "composite", "histogram", "mask"])
def test_no_image(image, name):
    with pytest.raises(ImageError, match=r"must be an xarray\.DataArray"):
        getattr(plot, name)(image.values)

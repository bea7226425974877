"""Channels mixed in one picture; scale bars; multiscale images; all against plain NumPy."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from drawn import high, legend_texts, numbered, shown, texts_that_stick_out
from pxprep import plot
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.plot.mixing import COLOURS
from pxprep.plot.scale_bar import round_length

GREY = np.round(255 * np.array(to_rgb(plot.DROPPED)))


def expected(planes, colours):
    """The mixture: strengths up to the 99.5 % quantile, times colours, added as light is."""
    picture = np.zeros((*planes[0].shape, 3))
    for plane, colour in zip(planes, colours, strict=True):
        strength = np.nan_to_num(np.clip(plane.astype(np.float32) / high(plane), 0, 1))
        picture += strength[..., None] * np.array(to_rgb(colour))
    picture = np.round(255 * np.minimum(picture, 1))
    picture[np.isnan(np.array(planes, float)).all(axis=0)] = GREY
    return picture


def bar_of(axis):
    """Length of the scale bar as a part of the picture's width, and its text."""
    (bar,), (text,) = axis.lines, axis.texts
    start, end = bar.get_xdata()
    return end - start, text.get_text()


@pytest.mark.parametrize("channels", [["DAPI"], ["CD3", "DAPI"], None])
def test_colours_are_added(image, channels):
    axes = plot.composite(image, channels)
    labels = channels or image.c.values[:7].tolist()
    planes = [image.sel(c=label).values for label in labels]
    np.testing.assert_allclose(shown(axes[0]), expected(planes, COLOURS[: len(labels)]), atol=1)
    assert legend_texts(axes.figure) == labels


def test_colours_of_your_own(after):
    asked = {"panCK": "orange", "DAPI": "#ffffff"}
    axes = after.pxprep.plot.composite(asked)
    planes = [after.sel(c=label).values for label in asked]
    assert np.isnan(planes[0]).any()
    np.testing.assert_allclose(shown(axes[0]), expected(planes, asked.values()), atol=1)
    assert legend_texts(axes.figure) == ["panCK", "DAPI", "no value"]


def test_missing_in_some_channels_only_adds_nothing():
    image = numbered(2, 4, 4)
    image[0, :2] = np.nan
    image[1, 1] = image[1, 2] = np.inf
    axes = plot.composite(image, {"marker0": "red", "marker1": "lime"})
    picture = shown(axes[0])
    assert (picture[0, :, 0] == 0).all()
    assert (picture[0, :, 1] > 0).all()
    np.testing.assert_array_equal(picture[1], np.broadcast_to(GREY, (4, 3)))
    assert (picture[2, :, 0] > 0).all()
    assert (picture[2, :, 1] == 0).all()


def test_colours_can_be_told_apart():
    distances = [
        np.linalg.norm(np.subtract(to_rgb(one), to_rgb(other)))
        for i, one in enumerate(COLOURS)
        for other in COLOURS[:i]
    ]
    assert len(COLOURS) == 7
    assert min(distances) > 0.5


@pytest.mark.parametrize(
    ("channels", "kind", "message"),
    [
        (list(range(8)), ParameterError, "at most 7.*got 8: choose some"),
        ({0: "red", 1: "no colour"}, ParameterError, "colours such as 'red'.*1 is to have 'no"),
        ({0: 3.5}, ParameterError, "0 is to have 3.5"),
        ([99], ChannelError, "no channel 99"),
        ("CD3", ParameterError, "channels"),
    ],
)
def test_bad_channels(channels, kind, message, no_compute):
    image = numbered(9, 4, 4, labels=False).chunk()
    with no_compute(), pytest.raises(kind, match=message):
        plot.composite(image, channels)


def test_draws_on_given_axes(image):
    given = Figure().subplots()
    assert plot.composite(image, ["DAPI"], axes=given)[0] is given
    with pytest.raises(ParameterError, match=r"one matplotlib.axes.Axes, got 'here'"):
        plot.composite(image, ["DAPI"], axes="here")


@pytest.mark.parametrize("size", [(8, 8), (3, 40), (40, 3)])
def test_texts_have_room(size):
    image = numbered(7, *size).assign_attrs(um_per_pixel={"y": 0.25, "x": 0.25})
    image = image.assign_coords(c=["n" * 30, *"$$bcde"[1:], "g"])
    assert texts_that_stick_out(plot.composite(image).figure) == []


# --- scale bars -----------------------------------------------------------------------------------

PICTURES = {
    "channels": lambda image: plot.channels(image).flat[0],
    "compare": lambda image: plot.compare(image, image).flat[0],
    "mask": lambda image: plot.mask(image).flat[0],
    "composite": lambda image: plot.composite(image).flat[0],
}


@pytest.mark.parametrize("sizes", [0.5, {"y": 0.5, "x": 0.5}])
@pytest.mark.parametrize("name", PICTURES)
def test_scale_bars_where_the_size_of_a_pixel_is_known(name, sizes):
    image = numbered(2, 30, 200)
    assert not PICTURES[name](image).lines
    # 200 pixels of half a micrometre are 100: the bar is 20, as 50 is more than 30 % of it.
    part, text = bar_of(PICTURES[name](image.assign_attrs(um_per_pixel=sizes)))
    assert text == "20 µm"
    assert part == pytest.approx(0.2)


def test_scale_bar_of_a_thinned_image():
    image = numbered(1, 9, 1001).assign_attrs(um_per_pixel={"y": 1, "x": 1})
    part, text = bar_of(plot.composite(image, max_pixels=100)[0])
    # Every 11th pixel is shown: 91 of them, which stand for 1,001.
    assert text == "200 µm"
    assert part == pytest.approx(200 / 1001)


@pytest.mark.parametrize(
    ("size", "text"), [(1e-3, "2 nm"), (0.1, "200 nm"), (3, "5 µm"), (1000, "2 mm")]
)
def test_scale_bar_units(size, text):
    image = numbered(1, 8, 8).assign_attrs(um_per_pixel={"y": size, "x": size})
    assert bar_of(plot.composite(image)[0])[1] == text


@pytest.mark.parametrize(
    "attrs",
    [
        {"um_per_pixel": "half"},
        {"um_per_pixel": {"y": 1}},
        {"um_per_pixel": -1},
        {"um_per_pixel": {"x": -1}},
        {"um_per_pixel": {"x": None}},
        {"transform": "global"},
        {"transform": {"global": None}},
        {"transform": {"microns": 5}},
    ],
)
def test_no_scale_bar_where_the_size_is_not_known(attrs):
    assert not plot.composite(numbered(1, 8, 8).assign_attrs(attrs))[0].lines


@pytest.mark.parametrize(("most", "length"), [(3, 2), (20, 20), (4.99, 2), (0.07, 0.05), (99, 50)])
def test_round_lengths(most, length):
    assert round_length(most) == pytest.approx(length)


def test_spatialdata_transformations(image):
    pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Affine, Identity, Scale

    plain = image.isel(y=slice(0, 50), x=slice(0, 50))
    turned = [[0, -2, 0], [2, 0, 0], [0, 0, 1]]
    for systems, text in (
        ({"global": Identity()}, None),
        ({"global": Identity(), "microns": Scale([3.0, 2.0], ("y", "x"))}, "20 µm"),
        ({"um": Affine(turned, ("x", "y"), ("x", "y"))}, "20 µm"),
    ):
        element = Image2DModel.parse(
            plain.values, dims=("c", "y", "x"), transformations=systems, c_coords=[*plain.c.values]
        )
        axis = plot.composite(element, ["DAPI"])[0]
        assert (bar_of(axis)[1] if text else list(axis.lines)) == (text or [])


# --- multiscale images ----------------------------------------------------------------------------


@pytest.fixture
def pyramid(image):
    if not hasattr(xr, "DataTree"):
        pytest.skip("xarray has no trees")
    scales = {"scale0": image, "scale1": image[:, ::2, ::2]}
    return xr.DataTree.from_dict({n: i.to_dataset(name="image") for n, i in scales.items()})


@pytest.mark.parametrize("name", ["channels", "composite", "mask"])
def test_a_multiscale_image_is_one_image(pyramid, image, name):
    for one in (getattr(pyramid.pxprep.plot, name)(), getattr(plot, name)(pyramid)):
        expected = getattr(plot, name)(image)
        np.testing.assert_array_equal(shown(one.flat[0]), shown(expected.flat[0]))


def test_a_multiscale_image_before_and_after(pyramid, image, after):
    axes = pyramid.pxprep.plot.compare(after, ["DAPI"])
    np.testing.assert_array_equal(shown(axes[0, 0]), image.sel(c="DAPI").values)
    assert pyramid.pxprep.plot.histogram(after, channels=["DAPI"]).shape == (2, 1)


def test_two_multiscale_images_are_two(pyramid):
    two = xr.DataTree.from_dict({"a": pyramid, "b": pyramid})
    with pytest.raises(ImageError, match=r"a tree of 2: choose.*tree\['a/scale0/image'\]"):
        two.pxprep.plot.composite()

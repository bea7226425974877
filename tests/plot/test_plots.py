"""The figures but `compare`, which has `test_plot.py`."""

import inspect
import sys
from collections import Counter
from dataclasses import dataclass

import dask.array as da
import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from pxprep import FittedPipeline, Pipeline, plot
from pxprep.datasets import tissue
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.plot import DROPPED, ImagePlots
from pxprep.plot.thumbnails import coloured, draw
from pxprep.steps import QuantileNorm


@dataclass(frozen=True)
class Referring(QuantileNorm):
    """Divides by quantiles of the input."""

    kind = "referring_norm"
    reference: str | None = "input"


@pytest.fixture(scope="module")
def fovs():
    """Six fields of view; CD8 is too bright in one, Ki67 too dim in one and missing in another."""
    made = tissue(6, 64)
    made["fov2"].loc[{"c": "CD8"}] *= 20
    made["fov1"].loc[{"c": "panCK"}] //= 20
    made["fov4"].loc[{"c": "Ki67"}] = 0
    return made


@pytest.fixture(scope="module")
def image(fovs):
    return fovs["fov0"]


@pytest.fixture(scope="module")
def fitted(fovs):
    with pytest.warns(match="Ki67"):
        return Pipeline.sparrow().fit(fovs)


@pytest.fixture(scope="module")
def after(image, fitted):
    return fitted.transform(image)


def numbered(n_channels, *sizes, dims=("y", "x"), labels=True):
    """An image in which every pixel has another value."""
    shape = (n_channels, *sizes)
    return xr.DataArray(
        np.arange(1.0, 1 + np.prod(shape)).reshape(shape),
        dims=("c", *dims),
        coords={"c": [f"marker{i}" for i in range(n_channels)]} if labels else None,
    )


def counted_reads(plain, chunks):
    """`plain`, lazily, and a counter of the chunks that are read."""
    seen = Counter()

    def read(block):
        seen["chunks"] += 1
        return block

    array = da.from_array(plain.values, chunks=chunks)
    return plain.copy(data=array.map_blocks(read, meta=array._meta)), seen


def shown(axis):
    (picture,) = axis.get_images()
    return picture.get_array()


def limits(axes):
    return [axis.get_images()[0].get_clim() for axis in axes.flat if axis.get_images()]


def high(values):
    return np.quantile(values[np.isfinite(values)].astype(np.float32), 0.995)


def bars(axis):
    (patch,) = [p for p in axis.patches if hasattr(p, "get_data")]
    return patch.get_data()


def lines(axis):
    return {line.get_label(): line.get_xdata()[0] for line in axis.lines}


def legend_texts(figure):
    return [
        text.get_text()
        for axis in figure.axes
        if axis.get_legend()
        for text in axis.get_legend().get_texts()
    ]


def texts_that_stick_out(figure):
    """Texts outside the figure, or over another text."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    boxes = []
    for axis in figure.axes:
        texts = [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        texts += axis.get_xticklabels() + axis.get_yticklabels() if axis.axison else []
        texts += axis.get_legend().get_texts() if axis.get_legend() else []
        x, y = sorted(axis.get_xlim()), sorted(axis.get_ylim())
        unseen = [t for t in axis.get_xticklabels() if not x[0] <= t.get_position()[0] <= x[1]]
        unseen += [t for t in axis.get_yticklabels() if not y[0] <= t.get_position()[1] <= y[1]]
        boxes += [
            (text.get_text(), text.get_window_extent(renderer).padded(-0.5))
            for text in texts
            if text.get_text() and text.get_visible() and text not in unseen
        ]
    names = [name for name, _ in boxes]
    x0, y0, x1, y1 = np.array([box.extents for _, box in boxes]).T
    is_out = (x0 < -1) | (y0 < -1) | (x1 > figure.bbox.x1 + 1) | (y1 > figure.bbox.y1 + 1)
    out = [names[i] for i in np.flatnonzero(is_out)]
    beside = (x1[:, None] <= x0) | (y1[:, None] <= y0)
    pairs = np.argwhere(np.triu(~(beside | beside.T), 1))
    over = [(names[i], names[k]) for i, k in pairs]
    return out + over


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
    assert plot.channels(image, axes=given) is given
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


# --- histogram ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["DAPI", "CD3"])
def test_histogram_counts(image, after, channel):
    axes = plot.histogram(image, after, channels=[channel], bins=30)
    assert axes.shape == (2, 1)
    for axis, picture in zip(axes[:, 0], (image, after), strict=True):
        values = picture.sel(c=channel).values
        values = values[np.isfinite(values)]
        counts, edges, _ = bars(axis)
        expected, _ = np.histogram(np.minimum(values, edges[-1]), edges)
        np.testing.assert_array_equal(counts, expected)
        assert counts.sum() == values.size
        tail = np.quantile(values[values != 0], 0.999)
        assert edges[0] == pytest.approx(-0.5 if picture is image else 0)
        assert tail < edges[-1] < 1.3 * tail + 2
        assert axis.get_yscale() == "log"
        assert np.allclose(np.diff(edges), edges[1] - edges[0])
        assert len(counts) <= 31


def test_histogram_bars_hold_equally_many_whole_numbers():
    values = np.arange(200).repeat(3).reshape(1, 20, 30)
    (axis,) = plot.histogram(xr.DataArray(values, dims=("c", "y", "x")), bins=25)[0]
    counts, edges, _ = bars(axis)
    assert edges[1] - edges[0] == 10
    assert set(counts[counts > 0]) == {30}


def test_histogram_last_bar_counts_what_is_above():
    values = np.tile(np.arange(100.0), 100).reshape(1, 100, 100)
    values[0, 0, :3] = 1e6
    (axis,) = plot.histogram(xr.DataArray(values, dims=("c", "y", "x")))[0]
    counts, edges, _ = bars(axis)
    assert edges[-1] < 150
    assert counts[-1] == 3


def test_histogram_quantile_lines(image, after, fitted):
    axes = plot.histogram(image, after, fitted, ["CD3", "SMA"])
    numbers = fitted.numbers
    for column, label in enumerate(["CD3", "SMA"]):
        scale = float(numbers.quantile_norm_scale.sel(c=label))
        own = float(numbers.quantile_norm_quantile.sel(c=label, fov="fov0"))
        marks = lines(axes[0, column])
        assert marks == {"quantile_norm": scale, "quantile_norm of this image": own}
        values = image.sel(c=label).values.astype(float)
        assert own == np.quantile(values[values != 0], 0.99)
        # After the last step the pixels of that quantile are at 1.
        post = numbers.post_norm_quantile.sel(c=label, fov="fov0") / numbers.post_norm_scale.sel(
            c=label
        )
        assert lines(axes[1, column]) == {
            "post_norm": 1,
            "post_norm of this image": pytest.approx(float(post)),
        }
    assert legend_texts(axes[0, 0].figure) == ["fitted quantile", "of this image alone"]


def test_histogram_lines_of_an_image_alone(image):
    fitted = Pipeline().quantile_norm(99).clip(0.5).fit(image)
    axes = plot.histogram(image, fitted.transform(image), fitted, ["DAPI"])
    assert lines(axes[0, 0]) == {"quantile_norm": float(fitted.numbers.quantile_norm_scale[0])}
    assert lines(axes[1, 0]) == {"quantile_norm": 0.5}


def test_histogram_lines_of_two_limits(fovs, image):
    chosen = {name: fov.sel(c=["DAPI", "CD3"]) for name, fov in fovs.items()}
    fitted = Pipeline().percentile_clip(5, 95).minmax().fit(chosen)
    after = fitted.transform(chosen["fov0"])
    axes = plot.histogram(chosen["fov0"], after, fitted, ["CD3"])
    numbers = fitted.numbers.sel(c="CD3")
    assert lines(axes[0, 0]) == {
        "percentile_clip low": float(numbers.percentile_clip_low),
        "percentile_clip low of this image": float(numbers.percentile_clip_quantile_low[0]),
        "percentile_clip high": float(numbers.percentile_clip_high),
        "percentile_clip high of this image": float(numbers.percentile_clip_quantile[0]),
    }
    marks = lines(axes[1, 0])
    assert (marks["minmax min"], marks["minmax max"]) == (0, 1)
    assert (marks["percentile_clip low"], marks["percentile_clip high"]) == (0, 1)


def test_histogram_lines_of_each_by_itself(fovs):
    with pytest.warns(match="Ki67"):
        fitted = Pipeline().quantile_norm(99).fit(fovs, pool=None)
    (axis,) = plot.histogram(fovs["fov3"], fitted=fitted, channels=["CD45"])[0]
    assert lines(axis) == {
        "quantile_norm": float(fitted.numbers.quantile_norm_scale.sel(c="CD45", fov="fov3"))
    }
    other = fovs["fov3"].rename("other")
    (axis,) = plot.histogram(other, fitted=fitted, channels=["CD45"])[0]
    assert lines(axis) == {}
    (axis,) = plot.histogram(other, fitted=fitted, channels=["CD45"], fov="fov1")[0]
    expected = fitted.numbers.quantile_norm_scale.sel(c="CD45", fov="fov1")
    assert lines(axis) == {"quantile_norm": float(expected)}


def test_histogram_no_line_where_it_would_be_wrong(image):
    """What was measured after a step is nowhere in the image before, nor before a blur after."""
    fitted = Pipeline().then(np.sqrt).quantile_norm(99).blur(1).fit(image)
    axes = plot.histogram(image, fitted.transform(image), fitted, ["DAPI"])
    assert lines(axes[0, 0]) == {}
    assert lines(axes[1, 0]) == {}


def test_histogram_line_of_a_reference():
    image = numbered(2, 9, 9)
    fitted = Pipeline([np.sqrt, ("norm", Referring())]).fit(image)
    axes = plot.histogram(image, fitted.transform(image), fitted)
    assert lines(axes[0, 0]) == {"norm": float(fitted.numbers.norm_scale[0])}
    assert lines(axes[1, 0]) == {}


def test_histogram_of_thinned_pixels():
    plain = numbered(3, 40, 40)
    lazy, seen = counted_reads(plain, (1, 10, 10))
    axes = plot.histogram(lazy, channels=["marker2"], max_pixels=2)
    assert seen == {"chunks": 4}
    counts, edges, _ = bars(axes[0, 0])
    expected, _ = np.histogram(plain.values[2, ::20, ::20], edges)
    np.testing.assert_array_equal(counts, expected)
    title = axes[0, 0].get_legend().get_title().get_text()
    assert title == "counted: 1 in 20 pixels of 1 in 20 rows"


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0, np.inf], ids=["nan", "0", "-3", "inf"])
def test_histogram_of_an_odd_channel(value):
    odd = xr.DataArray(np.full((1, 8, 8), value), dims=("c", "y", "x"))
    (axis,) = plot.histogram(odd)[0]
    counts, edges, _ = bars(axis)
    assert counts.sum() == (64 if np.isfinite(value) else 0)
    assert edges[0] <= min(value, 0) < edges[-1] if np.isfinite(value) else edges[0] <= 0
    assert [text.get_text() for text in axis.texts] == ([] if np.isfinite(value) else ["no values"])
    axis.figure.draw_without_rendering()


@pytest.mark.parametrize("n", [1, 10, 40])
def test_histogram_texts_have_room(n):
    image = numbered(n, 30, 30) * 100
    with_both = plot.histogram(image, image.pxprep.quantile_norm(), max_pixels=10)
    assert texts_that_stick_out(with_both[0, 0].figure) == []


def test_histogram_long_numbers_have_room():
    """The last number would be at the right edge of the figure, and half of it outside."""
    values = np.linspace(0, 8.17e-5, 900).reshape(1, 30, 30)
    (axis,) = plot.histogram(xr.DataArray(values, dims=("c", "y", "x")))[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "5e-05"]
    assert texts_that_stick_out(axis.figure) == []


# --- mask -----------------------------------------------------------------------------------------


def test_mask_share_is_exact(after):
    dropped = np.isnan(after.values).all(axis=0)
    axis = plot.mask(after)
    n = int(dropped.sum())
    assert axis.get_title(loc="left") == f"{100 * n / 4096:.1f} % dropped\n{n} of 4,096 pixels"
    np.testing.assert_array_equal(shown(axis), dropped)
    # Also of an image that is shown thinned, and of a lazy one that is not.
    small = plot.mask(after, max_pixels=5)
    assert small.get_title(loc="left") == axis.get_title(loc="left")
    np.testing.assert_array_equal(shown(small), dropped[::13, ::13])
    assert plot.mask(after.chunk()).get_title(loc="left") == axis.get_title(loc="left")


def test_mask_of_a_lazy_image_is_of_the_pixels_shown():
    plain = numbered(2, 40, 40)
    plain[:, :21] = np.nan
    lazy, seen = counted_reads(plain, (2, 10, 10))
    axis = plot.mask(lazy, max_pixels=2)
    assert seen == {"chunks": 4}
    assert axis.get_title(loc="left") == (
        "about 100 % dropped\nseen in 1 in 20 pixels of 1 in 20 rows"
    )


def test_mask_of_a_volume_counts_all_planes():
    volume = numbered(2, 3, 10, 10, dims=("z", "y", "x"))
    volume[:, 0] = np.nan
    axis = plot.mask(volume)
    assert axis.get_title(loc="left") == "33.3 % dropped\n100 of 300 pixels"
    assert not shown(axis).any()
    lazy = plot.mask(volume.chunk(z=1))
    assert lazy.get_title(loc="left") == "about 0 % dropped\nseen in the middle plane"


def test_mask_tells_missing_in_some_channels_from_dropped():
    image = numbered(3, 4, 4)
    image[0, 0] = np.nan
    image[:, 1] = np.inf
    axis = plot.mask(image)
    expected = np.zeros((4, 4))
    expected[0], expected[1] = 2, 1
    np.testing.assert_array_equal(shown(axis), expected)
    assert legend_texts(axis.figure) == ["kept", "dropped", "no value in some channels"]
    assert axis.get_title(loc="left").startswith("25.0 % dropped")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0, "0 %"),
        (1, "less than 0.1 %"),
        (100, "1.0 %"),
        (9_999, "more than 99.9 %"),
        (10_000, "100 %"),
    ],
)
def test_share_is_0_or_100_only_if_it_is(part, text):
    image = xr.DataArray(np.ones((1, 100, 100)), dims=("c", "y", "x"))
    image.values.flat[:part] = np.nan
    assert plot.mask(image).get_title(loc="left").startswith(f"{text} dropped")


@pytest.mark.parametrize("sizes", [(32, 32), (3, 128), (128, 3)])
def test_mask_texts_have_room(sizes):
    image = numbered(2, *sizes)
    image[:, :, 1] = np.nan
    image[0, :, 2] = np.nan
    assert texts_that_stick_out(plot.mask(image).figure) == []
    assert texts_that_stick_out(plot.mask(image.chunk(), max_pixels=8).figure) == []


def test_mask_on_given_axes(after):
    given = Figure().subplots()
    assert plot.mask(after, axes=given) is given


# --- cohort ---------------------------------------------------------------------------------------


def marks(axis, marker_colour):
    """(ratio, row) of the marks of a colour."""
    found = []
    for points in axis.collections:
        if len(points.get_offsets()) and np.allclose(
            points.get_facecolor()[0][:3], to_rgba(marker_colour)[:3]
        ):
            found += [tuple(point) for point in points.get_offsets() if np.isfinite(point).all()]
    return sorted(found)


def test_cohort_shows_ratios_and_outliers(fitted):
    axes = plot.cohort(fitted)
    assert [axis.get_title() for axis in axes] == ["quantile_norm", "sum_mask", "post_norm"]
    outliers = fitted.outliers()
    for axis, step in zip(axes, ["quantile_norm", "sum_mask", "post_norm"], strict=True):
        quantiles = fitted.measured[step]["quantile"].values.reshape(6, -1)
        ratios = quantiles / np.nanmedian(quantiles, axis=0)
        labels = [*fitted.labels] if quantiles.shape[1] > 1 else [None]
        far = outliers[outliers.step == step]
        expected = sorted(
            (
                ratios[fitted.fovs.index(row.fov), labels.index(row.channel)],
                labels.index(row.channel),
            )
            for row in far.itertuples()
            if row.fold > 0
        )
        orange = marks(axis, "#d55e00")
        edge = axis.get_xlim()[0]
        diamonds = [mark for mark in orange if mark[0] > edge]
        np.testing.assert_allclose(np.ravel(diamonds), np.ravel(expected))
        blue = marks(axis, "#0072b2")
        normal = sorted(
            (ratio, row)
            for (_, row), ratio in np.ndenumerate(ratios)
            if np.isfinite(ratio) and (ratio, row) not in expected
        )
        np.testing.assert_allclose(np.ravel(blue), np.ravel(normal))
        names = [label.get_text() for label in axis.get_yticklabels()]
        assert names == ([*fitted.labels] if len(labels) > 1 else ["all channels"])
    assert {"fov2", "fov1", "fov4"} <= {text.get_text() for text in axes[0].texts}
    ki67 = [*fitted.labels].index("Ki67")
    # No signal: a cross at the edge.
    assert (pytest.approx(axes[0].get_xlim()[0]), ki67) in marks(axes[0], "#d55e00")


def test_cohort_limits_are_those_of_outliers(fitted):
    (axis,) = plot.cohort(fitted, ["quantile_norm"], score=1e9, fold=2)
    # Only what has no signal is left.
    assert len(marks(axis, "#d55e00")) == 1
    (band,) = axis.patches
    assert (band.get_extents().x0, band.get_extents().x1) == pytest.approx(
        (axis.transData.transform((0.5, 0))[0], axis.transData.transform((2, 0))[0])
    )


def test_cohort_of_one_image(image):
    axes = plot.cohort(Pipeline.sparrow().fit(image))
    assert all(not marks(axis, "#d55e00") for axis in axes)
    assert texts_that_stick_out(axes[0].figure) == []


def test_cohort_with_a_silent_channel(fovs):
    silent = {name: fov.where(fov.c != "CD8", 0) for name, fov in fovs.items()}
    with pytest.warns(match="CD8"):
        fitted = Pipeline().quantile_norm().fit(silent)
    (axis,) = plot.cohort(fitted)
    row = [*fitted.labels].index("CD8")
    assert [mark[1] for mark in marks(axis, "#555555")].count(row) == 6


def test_cohort_with_a_median_of_zero(fovs):
    """Nothing is a multiple of it: such a channel has no marks."""
    images = {name: fov.where(fov.c != "CD8", 0) for name, fov in fovs.items()}
    with pytest.warns(match="CD8"):
        fitted = Pipeline().percentile_clip(1, 99, zeros="include").fit(images)
    (axis,) = plot.cohort(fitted)
    rows = {mark[1] for colour in ("#0072b2", "#d55e00", "#555555") for mark in marks(axis, colour)}
    labels = [*fitted.labels]
    assert labels.index("CD8") not in rows
    assert labels.index("CD3") in rows


@pytest.mark.parametrize("n", [1, 40])
def test_cohort_texts_have_room(n):
    rng = np.random.default_rng(0)
    names = [f"marker {i:02} (clone UCHL1) conjugated in house" for i in range(n)]
    images = {
        f"a rather long name of a slide {i}": xr.DataArray(
            rng.gamma(2, 10 * (1 + 9 * (i == 3)), (n, 20, 20)) + 5,
            dims=("c", "y", "x"),
            coords={"c": names},
        )
        for i in range(7)
    }
    axes = plot.cohort(Pipeline().quantile_norm().sum_mask().fit(images))
    assert any(text.get_text().endswith("…") for text in axes[0].texts)
    assert texts_that_stick_out(axes[0].figure) == []
    assert max(axes[0].figure.get_size_inches()) < 14


def test_cohort_on_given_axes(fitted):
    given = Figure().subplots(1, 2)
    axes = plot.cohort(fitted, ["post_norm", "sum_mask"], axes=given)
    assert [axis.get_title() for axis in given] == ["post_norm", "sum_mask"]
    assert [*axes] == [*given]


# --- all ------------------------------------------------------------------------------------------

METHODS = {
    "channels": (["DAPI"],),
    "histogram": (None, None, ["DAPI"]),
    "mask": (),
    "compare": None,
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
        with pytest.raises(ImageError, match="one image, got a tree: choose"):
            getattr(tree.pxprep.plot, name)(*arguments)
    assert tree["fov0/image"].pxprep.plot.channels(["DAPI"]).shape == (1, 1)


@pytest.mark.parametrize("name", ["channels", "histogram", "mask"])
def test_touches_nothing(image, name):
    before, copy = dict(matplotlib.rcParams), image.copy(deep=True)
    image = image.copy(deep=True)
    image.values.flags.writeable = False
    getattr(plot, name)(image)
    assert dict(matplotlib.rcParams) == before
    xr.testing.assert_identical(image, copy)


@pytest.mark.parametrize("name", ["channels", "histogram", "mask"])
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


@pytest.mark.parametrize("call", ["channels", "histogram", "mask", "cohort"])
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
    ("histogram", {"axes": "here"}, ParameterError, "axes must be a 2-D array.*'here'"),
    ("histogram", {"channels": ["CD99"]}, ChannelError, "no channel 'CD99'"),
    ("histogram", {"after": 3}, ImageError, "after must be an xarray.DataArray"),
    ("mask", {"axes": 3}, ParameterError, "axes must be one matplotlib.axes.Axes, got 3"),
    ("mask", {"max_pixels": 2.5}, ParameterError, "max_pixels must be a whole number"),
]


@pytest.mark.parametrize(("name", "change", "kind", "message"), BAD)
def test_bad_input(image, no_compute, name, change, kind, message):
    with no_compute(), pytest.raises(kind, match=message):
        getattr(plot, name)(image.chunk(), **change)


@pytest.mark.parametrize("name", ["channels", "histogram", "mask"])
def test_no_image(image, name):
    with pytest.raises(ImageError, match=r"must be an xarray\.DataArray"):
        getattr(plot, name)(image.values)


def test_histogram_needs_the_fitted_channels_and_image(image, fitted):
    other = image.assign_coords(c=[f"{c}x" for c in image.c.values])
    with pytest.raises(ChannelError, match=r"fitted has no numbers for.*'DAPIx'"):
        plot.histogram(other, fitted=fitted)
    with pytest.raises(ParameterError, match=r"fov must be.*got 'fov9': they are \['fov0'"):
        plot.histogram(image, fitted=fitted, fov="fov9")
    with pytest.raises(ImageError, match="before and after must have the same size"):
        plot.histogram(image, image.isel(y=slice(9)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fitted": Pipeline()}, "fitted must be a FittedPipeline"),
        ({"steps": ["blur"]}, "steps must be names of steps that measure quantiles, .*'blur'"),
        ({"steps": "post_norm"}, "steps must be a sequence of names"),
        ({"steps": []}, "steps must be a sequence of names"),
        ({"score": -1}, "score must be"),
        ({"fold": 0.5}, "fold must be"),
        ({"axes": [1, 2]}, "axes must be an array of 3 Axes"),
    ],
)
def test_cohort_bad_input(fitted, change, message):
    with pytest.raises(ParameterError, match=message):
        plot.cohort(**{"fitted": fitted, **change})


def test_cohort_without_quantiles(image):
    fitted = Pipeline().blur(1).fit(image)
    assert isinstance(fitted, FittedPipeline)
    with pytest.raises(ParameterError, match="a step that measures quantiles: it has none"):
        plot.cohort(fitted)

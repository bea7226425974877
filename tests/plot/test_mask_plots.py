"""Figures of what `sum_mask` drops, and of the numbers of a cohort."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from drawn import counted_reads, legend_texts, numbered, shown, texts_that_stick_out
from pxprep import FittedPipeline, Pipeline, plot
from pxprep.errors import ParameterError

# --- mask -----------------------------------------------------------------------------------------


def test_mask_share_is_exact(after):
    dropped = np.isnan(after.values).all(axis=0)
    axis = plot.mask(after).item()
    n = int(dropped.sum())
    assert axis.get_title(loc="left") == f"{100 * n / 4096:.1f} % dropped\n{n} of 4,096 pixels"
    np.testing.assert_array_equal(shown(axis), dropped)
    # Also of an image that is shown thinned, and of a lazy one that is not.
    small = plot.mask(after, max_pixels=5).item()
    assert small.get_title(loc="left") == axis.get_title(loc="left")
    np.testing.assert_array_equal(shown(small), dropped[::13, ::13])
    assert plot.mask(after.chunk())[0].get_title(loc="left") == axis.get_title(loc="left")


def test_mask_of_a_lazy_image_is_of_the_pixels_shown():
    plain = numbered(2, 40, 40)
    plain[:, :21] = np.nan
    lazy, seen = counted_reads(plain, (2, 10, 10))
    axis = plot.mask(lazy, max_pixels=2).item()
    assert seen == {"chunks": 4}
    assert axis.get_title(loc="left") == (
        "about 100 % dropped\nseen in 1 in 20 pixels of 1 in 20 rows"
    )


def test_mask_of_a_volume_counts_all_planes():
    volume = numbered(2, 3, 10, 10, dims=("z", "y", "x"))
    volume[:, 0] = np.nan
    axis = plot.mask(volume).item()
    assert axis.get_title(loc="left") == "33.3 % dropped\n100 of 300 pixels"
    assert not shown(axis).any()
    lazy = plot.mask(volume.chunk(z=1)).item()
    assert lazy.get_title(loc="left") == "about 0 % dropped\nseen in the middle plane"


def test_mask_tells_missing_in_some_channels_from_dropped():
    image = numbered(3, 4, 4)
    image[0, 0] = np.nan
    image[:, 1] = np.inf
    axis = plot.mask(image).item()
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
    assert plot.mask(image)[0].get_title(loc="left").startswith(f"{text} dropped")


@pytest.mark.parametrize("sizes", [(32, 32), (3, 128), (128, 3)])
def test_mask_texts_have_room(sizes):
    image = numbered(2, *sizes)
    image[:, :, 1] = np.nan
    image[0, :, 2] = np.nan
    assert texts_that_stick_out(plot.mask(image).figure) == []
    assert texts_that_stick_out(plot.mask(image.chunk(), max_pixels=8).figure) == []


def test_mask_on_given_axes(after):
    given = Figure().subplots()
    assert plot.mask(after, axes=given).item() is given


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

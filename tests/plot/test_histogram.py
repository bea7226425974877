"""Histograms: bars, lines at quantiles, odd channels, and room for texts."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from drawn import bars, counted_reads, legend_texts, lines, numbered, texts_that_stick_out
from pxprep import Pipeline, plot
from pxprep.errors import ChannelError, ImageError, ParameterError
from pxprep.steps import QuantileNorm


@dataclass(frozen=True)
class Referring(QuantileNorm):
    """Divides by quantiles of the input."""

    kind = "referring_norm"
    reference: str | None = "input"


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


@pytest.mark.parametrize("scale", np.linspace(0.5, 1, 8))
def test_histogram_counts_every_float32(scale):
    """NumPy 1 rounded the last edge to float32 where it cut values off."""
    values = np.full((1, 20, 20), scale, np.float32)
    values[0, 0, 0] = 1e6
    (axis,) = plot.histogram(xr.DataArray(values, dims=("c", "y", "x")))[0]
    assert bars(axis)[0].sum() == values.size


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
    assert legend_texts(axes[0, 0].figure) == ["fitted number", "of this image alone"]


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


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0, -1e18, np.inf])
def test_histogram_of_an_odd_channel(value):
    odd = xr.DataArray(np.full((1, 8, 8), value), dims=("c", "y", "x"))
    (axis,) = plot.histogram(odd)[0]
    counts, edges, _ = bars(axis)
    assert counts.sum() == (64 if np.isfinite(value) else 0)
    assert edges[0] <= min(value, 0) < edges[-1] if np.isfinite(value) else edges[0] <= 0
    assert [text.get_text() for text in axis.texts] == ([] if np.isfinite(value) else ["no values"])
    axis.figure.draw_without_rendering()


def test_histogram_axes_say_what_they_are(image, after):
    axes = plot.histogram(image, after)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == 2 * ["pixels before", "pixels after"]
    assert [axis.get_xlabel() for axis in axes[-1]] == 5 * ["value"]
    assert plot.histogram(image, channels=["DAPI"])[0, 0].get_ylabel() == "pixels"


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


def test_channels_in_any_form(image, after, fitted):
    labels = image.c[:2].values.tolist()
    for form in (lambda: image.c[:2], lambda: iter(labels), lambda: tuple(labels)):
        for axes in (
            plot.channels(image, form()),
            plot.histogram(image, channels=form(), fitted=fitted),
            plot.compare(image, after, form()),
        ):
            titles = [ax.get_title() for ax in axes.flat]
            assert [title for title in titles if title] == labels
        legend = plot.composite(image, form()).flat[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()][:2] == labels


def test_histogram_needs_the_fitted_channels_and_image(image, fitted):
    other = image.assign_coords(c=[f"{c}x" for c in image.c.values])
    with pytest.raises(ChannelError, match=r"fitted has no numbers for.*'DAPIx'"):
        plot.histogram(other, fitted=fitted)
    with pytest.raises(ParameterError, match=r"fov must be.*got 'fov9': they are \['fov0'"):
        plot.histogram(image, fitted=fitted, fov="fov9")
    with pytest.raises(ImageError, match="before and after must have the same size"):
        plot.histogram(image, image.isel(y=slice(9)))


def test_channels_that_are_dropped_have_lines_of_the_steps_before(image):
    """A line is that of its channel, also where a step has seen fewer of them."""
    pipeline = Pipeline().quantile_norm(99).subtract_channels({"CD3": "DAPI"}, 0.01, drop=True)
    fitted = pipeline.post_norm(90).fit(image)
    after = fitted.transform(image)
    axes = plot.histogram(image, after, fitted)
    titles = [axis.get_title() for axis in axes.ravel() if axis.get_title()]
    assert titles == after.c.values.tolist()
    for side, step, label in ((0, "quantile_norm", "CD3"), (1, "post_norm", "CD45")):
        place = titles.index(label)
        axis = axes[2 * (place // axes.shape[1]) + side, place % axes.shape[1]]
        drawn = axis.lines[0].get_xdata()[0]
        expected = 1 if side else fitted.measured[step].scale.sel(c=label)
        assert drawn == pytest.approx(float(expected))
    before = plot.histogram(image, None, fitted, ["DAPI"])
    expected = fitted.measured["quantile_norm"].scale.sel(c="DAPI")
    assert before[0, 0].lines[0].get_xdata()[0] == pytest.approx(float(expected))


def test_cohort_panels_have_the_channels_of_their_step(fovs):
    pipeline = Pipeline().quantile_norm(99).subtract_channels({"CD3": "DAPI"}, 0.01, drop=True)
    with pytest.warns(match="Ki67"):
        fitted = pipeline.post_norm(90).fit(fovs)
    panels = plot.cohort(fitted)
    rows = [[text.get_text() for text in panel.get_yticklabels()] for panel in panels]
    labels = [str(label) for label in fitted.labels]
    assert rows == [labels, [label for label in labels if label != "DAPI"]]

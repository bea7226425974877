"""How the values of each channel are distributed, and where the fitted quantiles lie."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import labels_or_positions, parse_channels, select_channels
from ..engine import computing
from ..errors import ChannelError, ParameterError
from ..images.image_numbers import BATCH, FOV, parse_fov
from ..images.parameters import parse_count
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.run import INPUT, NamedSteps
from ..steps.base import Step
from .comparison import require_same_size
from .given import one_image
from .layout import (
    BLUE,
    FONT,
    MOST_COLUMNS,
    SMALL,
    VERMILION,
    WIDTH,
    axes_of_channels,
    columns_of,
    legend_below,
    new_axes,
    require_matplotlib,
    titles_of,
    turn_off,
    write_side,
    write_title,
)
from .shown import AxesArray, as_axes_array
from .thumbnails import parse_max_pixels, thinned, thinning_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Bars go up to this quantile, times this factor; what is beyond is counted in the last one.
TAIL, BEYOND_TAIL = 0.999, 1.25
# Inches: each plot, the room left of, between and below them for numbers, and two lines of legend.
WIDEST, HEIGHT, LEFT, GAP, BELOW, LEGEND = 2.7, 0.8, 0.5, 0.2, 0.17, 0.56
# And for what the numbers below the last row are.
LABEL = 0.14
# What the lines are.
STYLES: dict[Literal["--", ":"], str] = {"--": "fitted number", ":": "of this image alone"}
# Of the logarithmic axis: below one pixel.
LEAST_COUNT = 0.7
COLOURS = {"before": BLUE, "after": VERMILION}


@dataclass(frozen=True)
class Line:
    """A fitted number: its name in its step, what a legend says, its values, how it is drawn."""

    number: str
    label: str
    values: Mapping[Label, float]
    style: str


def histogram(
    before: xr.DataArray,
    after: xr.DataArray | None = None,
    fitted: FittedPipeline | None = None,
    channels: Sequence[Label] | None = None,
    *,
    fov: object = None,
    bins: int = 50,
    axes: NumpyArray | None = None,
    max_pixels: int = 512,
) -> AxesArray:
    """Show how many pixels have which value in each channel, on a logarithmic scale.

    The bars are of equal width, from 0 (or the lowest value) to a little above the 99.9 % quantile
    of the non-zero values; the last one also counts all that is above. Missing pixels do not count.

    Parameters
    ----------
    before
        Dims ``c``, ``y``, ``x``, optionally ``z`` (the middle plane is counted), in any order; any
        real dtype. Of a lazy image, only chunks that hold pixels counted are computed.
    after
        The same image after preprocessing, which is shown below; None for none.
    fitted
        A fitted pipeline whose numbers are drawn as lines: in `before` those that were measured on
        the input; in `after` those of a step that changes each pixel by itself, if all later ones
        do, too, moved as these steps move pixels. Dotted: what this image alone would give, if
        several were fitted together.
    channels
        Labels of the channels to show, in that order; None for those of `after`, or of `before`.
    fov
        Which of the fitted images it is, by name. None takes the image's own name.
    bins
        How many bars; for whole numbers often fewer, as the width of a bar is one, too.
    axes
        Axes to draw on, a 2-D array as ``plt.subplots`` gives it, with room for all channels; with
        `after`, even rows for `before`, each with the row for `after` below it. None makes a
        figure.
    max_pixels
        Largest number of pixels that are counted along y and x. Of larger images every n-th pixel
        of every n-th row is counted, and the figure says so.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        `axes`, or those of the new figure, which a notebook shows, a script by ``plt.show()``, and
        ``axes.save(path)`` writes. Axes without a channel are turned off.

    Raises
    ------
    ParameterError
        If `fitted` is no fitted pipeline, `bins` or `max_pixels` no positive whole number, `axes`
        have the wrong shape, or Matplotlib is not installed.
    ChannelError
        If an image or `fitted` lacks one of the channels.
    ImageError
        If `before` or `after` is not an image, or they differ in size.

    Examples
    --------
    >>> from pxprep import Pipeline
    >>> from pxprep.datasets import tissue
    >>> image = tissue(size=64)["fov0"]
    >>> fitted = Pipeline.sparrow().fit(image)
    >>> axes = image.pxprep.plot.histogram(fitted.transform(image), fitted, ["DAPI", "CD3"])
    >>> axes.shape
    (2, 2)
    >>> [line.get_label() for line in axes[0, 0].lines]
    ['quantile_norm']
    """
    require_matplotlib()
    images = {"before": one_image(before, "before")}
    if after is not None:
        images["after"] = one_image(after, "after")
        require_same_size(images["before"], images["after"])
    before, last = images["before"], [*images.values()][-1]
    channels = parse_channels(channels) or labels_or_positions(last)
    bins = parse_count(bins, "bins", "a whole number of at least 1")
    max_pixels = parse_max_pixels(max_pixels)
    images = {side: select_channels(image, channels) for side, image in images.items()}
    fov = None if fov is None else parse_fov(fov)
    _check_fitted(fitted, fov, channels)
    lines: dict[str, list[Line]] = {"before": [], "after": []}
    if fitted is not None:
        lines = fitted_lines(fitted, before.name if fov is None else fov)
    if axes is None:
        axes = _new_axes(len(channels), len(images))
    places = axes_of_channels(axes, len(channels), rows=len(images))
    shown = computing.compute(*(thinned(image, max_pixels) for image in images.values()))
    drawn_on = places[: len(channels)]
    for side, thumbnails, row in zip(images, shown, zip(*drawn_on, strict=True), strict=True):
        for ax, thumbnail, key in zip(row, thumbnails, channels, strict=True):
            draw_histogram(ax, thumbnail, lines[side], key, bins, COLOURS[side])
    most = max(np.isfinite(thumbnails).sum(axis=(1, 2)).max() for thumbnails in shown)
    titles = titles_of([*images.values()][-1])
    for i, (title, of_channel) in enumerate(zip(titles, drawn_on, strict=True)):
        write_title(of_channel[0], title)
        is_first = i % axes.shape[1] == 0
        for side, ax in zip(images, of_channel, strict=True):
            scale_counts(ax, int(most), numbers=is_first)
            if is_first:
                write_side(ax, "pixels" if after is None else f"pixels {side}")
    turn_off(places[len(channels) :])
    for of_channel in drawn_on[-axes.shape[1] :]:
        of_channel[-1].set_xlabel("value", fontsize=SMALL, labelpad=0.5)
    drawn = [line for side in images for line in lines[side]]
    _explain(drawn_on[:: axes.shape[1]][-1][-1], drawn, thinning_text(before, max_pixels))
    return as_axes_array(axes)


def _check_fitted(fitted: object, fov: object, channels: Sequence[Label]) -> None:
    """Raise unless `fitted` is None or has numbers for these channels, and for the image `fov`."""
    if fitted is not None and not isinstance(fitted, FittedPipeline):
        raise ParameterError(f"fitted must be a FittedPipeline, got {fitted!r:.200}")
    if fov is not None and (fitted is None or fov not in fitted.fovs):
        known = "there is no fitted" if fitted is None else f"they are {[*fitted.fovs]}"
        raise ParameterError(f"fov must be one of the images of fitted, got {fov!r}: {known}")
    if fitted is None:
        return
    unknown = [key for key in channels if key not in fitted.labels]
    if unknown:
        raise ChannelError(
            f"channels: fitted has no numbers for {unknown}; it was fitted to {[*fitted.labels]}"
        )


def _new_axes(n_channels: int, rows: int) -> NumpyArray:
    width = min(WIDTH * MOST_COLUMNS / columns_of(n_channels), WIDEST)
    size = (width, HEIGHT)
    return new_axes(n_channels, size, rows=rows, left=LEFT, gap=GAP, below=BELOW, legend=LEGEND)


def fitted_lines(fitted: FittedPipeline, fov: object) -> dict[str, list[Line]]:
    """The lines drawn into ``before`` and ``after`` of the fitted image `fov`, or of any other."""
    lines: dict[str, list[Line]] = {"before": [], "after": []}
    steps = fitted.pipeline.steps
    measured = _numbers_of(fitted, fov)
    for position, (name, step) in enumerate(steps):
        is_before = step.reference == INPUT or (position == 0 and step.reference is None)
        is_after = step.reference is None and all(
            _is_pointwise(later, fitted.seen_by[later_name])
            for later_name, later in steps[position:]
        )
        for number, label, style, values in _marks(name, step, measured[name], fitted):
            if is_before:
                lines["before"].append(_line(number, label, style, values))
            if is_after:
                moved = _moved(values.astype(fitted.dtype), steps[position:], measured)
                lines["after"].append(_line(number, label, style, moved))
    return lines


def _is_pointwise(step: Step, labels: Sequence[Label]) -> bool:
    """Whether a step moves a quantile as it moves the pixels."""
    operation = step.operation(labels)
    return operation is not None and operation.is_pointwise


def _marks(
    name: str, step: Step, numbers: xr.Dataset, fitted: FittedPipeline
) -> Iterator[tuple[str, str, str, xr.DataArray]]:
    """The quantiles that a step applies, and the image's own: what `Line` has of each."""
    statistic = step.statistic(fitted.seen_by[name])
    for applied, of_image in () if statistic is None else statistic.made_from.items():
        if {FOV, BATCH} & set(numbers[applied].dims):
            continue
        label = name if applied == "scale" else f"{name} {applied}"
        yield applied, label, "--", numbers[applied]
        if FOV not in numbers[of_image].dims and fitted.pool is not None and len(fitted.fovs) > 1:
            yield applied, f"{label} of this image", ":", numbers[of_image]


def _numbers_of(fitted: FittedPipeline, fov: object) -> dict[str, xr.Dataset]:
    """The numbers of each step; those that differ between images for `fov`, if it was fitted."""
    name = fitted.fovs[0] if len(fitted.fovs) == 1 else fov
    here = {FOV: fitted.fovs.index(name)} if name in fitted.fovs else {}
    if name in fitted.batches:
        batches = [*dict.fromkeys(fitted.batches[measured] for measured in fitted.fovs)]
        here[BATCH] = batches.index(fitted.batches[name])
    return {
        step: numbers.isel(here, missing_dims="ignore") for step, numbers in fitted.measured.items()
    }


def _moved(
    values: xr.DataArray, steps: NamedSteps, measured: Mapping[str, xr.Dataset]
) -> xr.DataArray:
    """The values of each channel after `steps`."""
    image = values.reset_coords(drop=True).expand_dims({"y": 1, "x": 1}, (1, 2))
    for name, step in steps:
        image = step.apply(image, measured[name])
    return image.isel(y=0, x=0)


def _line(number: str, label: str, style: str, values: xr.DataArray) -> Line:
    by_label = dict(zip(labels_or_positions(values), values.values.tolist(), strict=True))
    return Line(number, label, by_label, style)


def draw_histogram(
    ax: "Axes", values: NumpyArray, lines: Sequence[Line], channel: Label, bins: int, colour: str
) -> None:
    """Draw the bars of the finite `values`, and the lines of a channel."""
    bars = Bars.of(values, lines, channel, bins)
    ax.stairs(bars.counts, bars.edges, baseline=LEAST_COUNT / 2, fill=True, color=colour)
    for line, value in bars.marks:
        ax.axvline(value, label=line.label, linestyle=line.style, color="black", linewidth=1.1)
    if not bars.values.size:
        ax.text(0.5, 0.5, "no values", ha="center", transform=ax.transAxes, fontsize=SMALL)
    ax.set_xlim(bars.edges[0], bars.edges[-1])


@dataclass(frozen=True, eq=False)
class Bars:
    """The histogram of a channel.

    Attributes
    ----------
    values
        The finite values.
    edges, counts
        Edges of the bins, and how many values are in each; the last one has all that are above.
    marks
        The lines that are in it, and where.
    """

    values: NumpyArray
    edges: NumpyArray
    counts: NumpyArray
    marks: Sequence[tuple[Line, float]]

    @classmethod
    def of(cls, values: NumpyArray, lines: Sequence[Line], channel: Label, bins: int) -> "Bars":
        """The histogram of `values`, with the finite numbers that lines have for a channel."""
        # float64, as the edges are: NumPy 1 would round the last one to float32, perhaps up.
        values = values[np.isfinite(values)].astype(np.float64)
        marks = [(line, line.values[channel]) for line in lines]
        marks = [(line, value) for line, value in marks if np.isfinite(value)]
        edges = _bin_edges(values, [value for _, value in marks], bins)
        counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
        return cls(values, edges, counts, marks)


def _bin_edges(values: NumpyArray, marks: Sequence[float], bins: int) -> NumpyArray:
    """Edges of bins from 0 or the lowest value to a little above nearly all, and all `marks`."""
    low = min([0.0, *marks, float(values.min(initial=0))])
    tail = float(np.quantile(values[values != 0], TAIL)) if values.any() else 0.0
    span = BEYOND_TAIL * (max([tail, *marks]) - low) or 1.0
    # Far below 0, edges that are closer to each other would be one number.
    span = max(span, bins * float(np.spacing(abs(low))))
    if (values == np.round(values)).all():
        # Each bin holds equally many whole numbers, so that counts have no gaps between them.
        width = max(np.ceil(span / bins), 1)
        return np.arange(np.floor(low) - 0.5, low + span + width, width)
    return np.linspace(low, low + span, bins + 1)


def scale_counts(ax: "Axes", most: int, *, numbers: bool) -> None:
    """A logarithmic y axis for counts up to `most`, with few numbers at both."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    ax.set_yscale("log")
    ax.set_ylim(LEAST_COUNT, 2 * max(most, 1))
    ax.yaxis.set_major_locator(LogLocator(numticks=4))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda value, _: tick_text(value))
    low, high = ax.get_xlim()
    ticks = np.asarray(MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low, high))
    # Not where a number would stick out.
    ticks = ticks[(ticks >= low) & (ticks <= high - 0.07 * (high - low))]
    ax.set_xticks(ticks, [tick_text(tick) for tick in ticks.tolist()])
    ax.tick_params(labelsize=SMALL, length=2, pad=1.5, labelleft=numbers)
    ax.spines[["top", "right"]].set_visible(False)


def tick_text(value: float) -> str:
    """A round number, in few characters."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e12:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


def _explain(ax: "Axes", lines: Sequence[Line], note: str) -> None:
    """Say below some axes what the lines are, and which pixels were counted."""
    from matplotlib.lines import Line2D

    used = {line.style for line in lines}
    handles: list[Artist] = [
        Line2D([], [], color="black", linewidth=1.1, linestyle=style, label=label)
        for style, label in STYLES.items()
        if style in used
    ]
    if handles or note:
        title = f"counted: {note}" if note else None
        legend_below(ax, handles, BELOW + LABEL, title=title, title_fontsize=FONT - 1)

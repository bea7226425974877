"""A fitted cohort: the quantiles of each image, and which are far from the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..aliases import NumpyArray
from ..channels import CHANNEL
from ..errors import ParameterError
from ..images.image_numbers import FOV
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.review import ratios_in_batches
from ..steps.image_values import compared, compared_as, has_image_values
from .layout import (
    BLUE,
    EDGE,
    FONT,
    GREY,
    LETTER,
    MOST_LETTERS,
    SMALL,
    VERMILION,
    cut_text,
    legend_below,
    new_axes_at,
    require_matplotlib,
)
from .shown import AxesArray, as_axes_array, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

# Inches: a row, a plot's width, and what is around.
ROW, PLOT, TITLE, BELOW = 0.19, 2.4, 0.25, 0.62
# Least room for names at the right of a plot.
LEAST_RIGHT = 0.4


class Symbol(NamedTuple):
    """How an image is drawn."""

    marker: str
    color: str
    alpha: float | None = None


SUMS = "all channels"
IMAGE, OUTLIER, SILENT = Symbol("o", BLUE, 0.6), Symbol("D", VERMILION), Symbol("x", GREY)
# The x axis shows at least this ratio in either direction, and has at most so many numbers.
LEAST_RATIO, MOST_TICKS = 2.2, 7


def cohort(
    fitted: FittedPipeline,
    steps: Sequence[str] | None = None,
    *,
    score: float = 3.5,
    fold: float = 1.5,
    axes: object = None,
) -> AxesArray:
    """Show the quantiles of each image of a cohort, and mark those far from the others.

    One plot for each step that measures quantiles, one row for each channel: a dot for each image
    at the ratio of its quantile (of its standard deviation for `zscore`, of its median distance for
    `robust_zscore`) to the median of all images (of its batch). What `FittedPipeline.outliers`
    finds is an orange diamond, with the image's name at the right. Images without signal in a
    channel, or below 0 where the median is above, are crosses at the left edge.

    Parameters
    ----------
    fitted
        A pipeline fitted to a cohort.
    steps
        Names of the steps to show; None for all that measure quantiles.
    score, fold
        As for `FittedPipeline.outliers`; up to `fold` in either direction the plot is shaded.
    axes
        Axes to draw on, an array with one for each step. None makes a figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One-dimensional: `axes`, or those of the new figure, which a notebook shows, a script by
        ``plt.show()``, and ``axes.save(path)`` writes.

    Raises
    ------
    ParameterError
        If `fitted` is no fitted pipeline, one of `steps` is unknown or measures no quantiles,
        `score` or `fold` breaks its rule, `axes` have the wrong shape, or Matplotlib is not
        installed.

    Examples
    --------
    >>> from pxprep import Pipeline
    >>> from pxprep.datasets import tissue
    >>> from pxprep.plot import cohort
    >>> fovs = tissue(n_fovs=5, size=64)
    >>> fovs["fov2"][{"c": 3}] *= 5
    >>> axes = cohort(Pipeline.sparrow().fit(fovs))
    >>> [ax.get_title() for ax in axes]
    ['quantile_norm', 'sum_mask', 'post_norm']
    """
    require_matplotlib()
    if not isinstance(fitted, FittedPipeline):
        raise ParameterError(f"fitted must be a FittedPipeline, got {fitted!r:.200}")
    names = chosen_steps(fitted, steps)
    outliers = fitted.outliers(score, fold)
    plots = [_StepPlot.of(fitted, name, outliers) for name in names]
    drawn = _new_axes(plots) if axes is None else _given_axes(axes, len(plots))
    for ax, plot in zip(drawn, plots, strict=True):
        plot.draw(ax, float(fold))
    # Below what is lowest, and of that the leftmost.
    _explain(min(drawn, key=lambda ax: ax.get_position().p0.tolist()[::-1]), plots)
    return as_axes_array(drawn)


def measuring_steps(fitted: FittedPipeline) -> list[str]:
    """Names of the steps that measured quantiles of each image."""
    return [name for name, numbers in fitted.measured.items() if has_image_values(numbers)]


def values_of_images(fitted: FittedPipeline, step: str) -> NumpyArray:
    """What a step measured of each image, axes (fov, c); one column for sums over channels."""
    values = compared(fitted.measured[step]).transpose(FOV, ...).values
    return values.reshape(len(fitted.fovs), -1)


def chosen_steps(fitted: FittedPipeline, steps: object) -> list[str]:
    """The steps to show; raises ParameterError if one of them has nothing to show."""
    known = measuring_steps(fitted)
    if not known:
        raise ParameterError("fitted must have a step that measures quantiles: it has none")
    if steps is None:
        return known
    if isinstance(steps, str) or not isinstance(steps, Sequence) or not steps:
        raise ParameterError(f"steps must be a sequence of names of steps, got {steps!r}")
    unknown = [name for name in steps if name not in known]
    if unknown:
        raise ParameterError(
            f"steps must be names of steps that measure quantiles, {known}, got {unknown}"
        )
    return [*steps]


@dataclass(frozen=True)
class _StepPlot:
    """The plot of one step.

    Attributes
    ----------
    step
        The step's name.
    what
        What it measured.
    rows
        What the channels are called.
    ratios
        Ratios of each image's quantile to the median, shape (fov, c): see `ratios_to_median`.
    far
        Which of them are outliers.
    fovs
        What the images are called.
    """

    step: str
    what: str
    rows: list[str]
    ratios: NumpyArray
    far: NumpyArray
    fovs: list[str]

    @classmethod
    def of(cls, fitted: FittedPipeline, step: str, outliers: DataFrame) -> _StepPlot:
        has_channels = CHANNEL in compared(fitted.measured[step]).dims
        labels = [*fitted.seen_by[step]] if has_channels else [None]
        values = values_of_images(fitted, step)
        far = np.zeros(values.shape, bool)
        for row in outliers[outliers["step"] == step].itertuples():
            far[fitted.fovs.index(row.fov), labels.index(row.channel)] = True
        return cls(
            step=step,
            what=compared_as(fitted.measured[step]),
            rows=[
                SUMS if label is None else cut_text(str(label), MOST_LETTERS) for label in labels
            ],
            ratios=ratios_in_batches(values, fitted.fovs, fitted.batches),
            far=far,
            fovs=[str(name) for name in fitted.fovs],
        )

    @property
    def left(self) -> float:
        """Room for the names of the channels, in inches."""
        return 0.15 + LETTER * max(map(len, self.rows))

    @property
    def right(self) -> float:
        """Room for the names of outliers, in inches."""
        return max(0.15 + LETTER * max(map(len, self.far_names)), LEAST_RIGHT)

    @property
    def far_names(self) -> list[str]:
        """For each channel the images that are far from the others."""
        texts = (", ".join(self.fovs[i] for i in np.flatnonzero(column)) for column in self.far.T)
        return [cut_text(text, MOST_LETTERS) for text in texts]

    def draw(self, ax: Axes, fold: float) -> None:
        """Draw the plot."""
        from matplotlib.ticker import NullLocator

        limit = self._limit(fold)
        ax.set_xscale("log")
        ax.set_xlim(1 / limit, limit)
        ax.set_ylim(len(self.rows) - 0.5, -0.5)
        ax.axvspan(1 / fold, fold, color="#ececec", linewidth=0)
        ax.axvline(1, color=GREY, linewidth=0.8)
        self._draw_marks(ax, limit)
        for row, names in enumerate(self.far_names):
            ax.text(
                1.02,
                row,
                names,
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=SMALL,
                color=VERMILION,
                parse_math=False,
            )
        ax.set_yticks(range(len(self.rows)), self.rows, fontsize=FONT - 1, parse_math=False)
        ticks = _ticks(limit)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=FONT - 1)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_title(self.step, fontsize=FONT, pad=4, parse_math=False)
        ax.tick_params(length=2)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel(f"{self.what} of each image / median", fontsize=FONT - 1, labelpad=2)

    def _limit(self, fold: float) -> float:
        """The largest ratio, in either direction, that is on the x axis."""
        ratios = self.ratios[self.ratios > 0]
        farthest = np.exp(np.abs(np.log(ratios)).max(initial=0))
        return float(max(1.2 * farthest, 1.2 * fold, LEAST_RATIO))

    def _draw_marks(self, ax: Axes, limit: float) -> None:
        rows = np.broadcast_to(np.arange(len(self.rows)), self.ratios.shape)
        is_silent = self.ratios == 0
        places = np.where(is_silent, 1 / limit, self.ratios)
        marks = [
            (~is_silent & ~self.far, IMAGE),
            (~is_silent & self.far, OUTLIER),
            (is_silent & ~self.far, SILENT),
            (is_silent & self.far, SILENT._replace(color=VERMILION)),
        ]
        for chosen, how in marks:
            ax.scatter(places[chosen], rows[chosen], s=16, clip_on=False, zorder=3, **how._asdict())


def _ticks(limit: float) -> list[float]:
    """Powers of 2, or of 10, up to `limit` in both directions, and not too many."""
    base = 2 if math.log2(limit) < MOST_TICKS // 2 + 1 else 10
    most = int(math.log(limit, base))
    step = -(-most // (MOST_TICKS // 2))
    return [float(base) ** power for power in range(-step * (most // step), most + 1, step)]


def _explain(ax: Axes, plots: Sequence[_StepPlot]) -> None:
    """Say below some axes what the marks are."""
    from matplotlib.lines import Line2D

    is_seen = {
        "an image": True,
        "far from the others": any((plot.far & (plot.ratios > 0)).any() for plot in plots),
        "no signal, or below 0": any((plot.ratios == 0).any() for plot in plots),
    }
    handles = [
        Line2D([], [], linestyle="", markersize=4, label=label, **how._asdict())
        for (label, seen), how in zip(is_seen.items(), (IMAGE, OUTLIER, SILENT), strict=True)
        if seen
    ]
    legend_below(ax, handles, 0.42, left=0.4, handletextpad=0.2)


def _new_axes(plots: Sequence[_StepPlot]) -> list[Axes]:
    """Axes side by side; a plot of one row stands below the one before it."""
    columns: list[list[_StepPlot]] = []
    for plot in plots:
        if columns and len(plot.rows) == 1:
            columns[-1].append(plot)
        else:
            columns.append([plot])
    widths = [
        [max(getattr(p, side) for p in column) for side in ("left", "right")] for column in columns
    ]
    heights = [sum(TITLE + ROW * len(p.rows) + BELOW for p in column) for column in columns]
    figure = new_figure(sum(left + PLOT + right for left, right in widths) + EDGE, max(heights))
    axes: list[Axes] = []
    x = 0.0
    for column, (left, right) in zip(columns, widths, strict=True):
        y = 0.0
        for plot in column:
            height = ROW * len(plot.rows)
            axes.append(new_axes_at(figure, x + left, y + TITLE, PLOT, height))
            y += TITLE + height + BELOW
        x += left + PLOT + right
    return axes


def _given_axes(axes: object, n_plots: int) -> list[Axes]:
    flat = np.ravel(np.asarray(axes, object)).tolist()
    if len(flat) != n_plots or not all(hasattr(ax, "scatter") for ax in flat):
        raise ParameterError(
            f"axes must be an array of {n_plots} Axes, one for each step, got {axes!r:.200}"
        )
    return flat

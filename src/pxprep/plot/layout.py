"""Where axes and texts go in a figure."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from ..aliases import NumpyArray
from ..channels import labels_or_positions
from ..errors import ParameterError
from .shown import AxesArray, as_axes_array, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

# A row of more channels than this is wrapped.
MOST_COLUMNS = 8
# Lengths in inches: the width of a thumbnail in a full row, the limits for any, and what is around.
WIDTH = 1.35
LEAST, MOST = 0.6, 2.7
GAP, ROW_GAP, EDGE = 0.05, 0.12, 0.05
TITLE, LABEL, LEGEND = 0.22, 0.25, 0.3
# Room for the legend.
LEAST_FIGURE = 1.8
# Points.
FONT, SMALL = 9, 7
# Inches for each letter of a name beside axes, and how many of them are shown.
LETTER, MOST_LETTERS = 0.075, 24
# What all legends have in common.
LEGEND_STYLE: dict[str, Any] = {
    "loc": "upper left",
    "borderpad": 0,
    "handlelength": 1,
    "handleheight": 1,
    "fontsize": FONT - 1,
    "frameon": False,
}
# Colours that the colour-blind can tell apart (Okabe and Ito).
BLUE, VERMILION, ORANGE, GREY = "#0072b2", "#d55e00", "#e69f00", "#555555"


def require_matplotlib() -> None:
    """Raise ParameterError if Matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ParameterError(
            "pxprep.plot needs Matplotlib, which is not installed: pip install 'pxprep[plot]'"
        ) from error


def columns_of(n_channels: int) -> int:
    """In how many columns channels are shown: rows are wrapped, and about equally long."""
    n_rows = -(-n_channels // MOST_COLUMNS)
    return -(-n_channels // n_rows)


def thumbnail_size(n_columns: int, aspect: float) -> tuple[float, float]:
    """Width and height in inches: as wide as a full row of thumbnails allows, and not too tall."""
    width = min(WIDTH * MOST_COLUMNS / n_columns, MOST)
    height = min(width * aspect, MOST)
    # No smaller than the texts beside it.
    return max(height / aspect, LEAST), max(height, LEAST)


def new_axes(
    n_channels: int,
    size: tuple[float, float],
    *,
    rows: int,
    left: float = LABEL,
    gap: float = GAP,
    below: float = 0.0,
    legend: float = LEGEND,
) -> AxesArray:
    """Axes of a new figure, placed by the inch so that only they take room.

    Parameters
    ----------
    n_channels
        How many channels there are to show.
    size
        Width and height of each of the axes.
    rows
        How many axes, one below the other, each channel has.
    left, gap, below, legend
        Room left of the first column, between columns, below each of the axes, and below all.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Shape (`rows` times the rows of channels, columns).
    """
    width, height = size
    n_columns = columns_of(n_channels)
    n_rows = -(-n_channels // n_columns)
    row_height = height + below + GAP
    channel_height = TITLE + rows * row_height - GAP
    figure_width = max(left + n_columns * (width + gap) - gap + EDGE, LEAST_FIGURE)
    figure_height = EDGE + n_rows * (channel_height + ROW_GAP) - ROW_GAP + legend
    figure = new_figure(figure_width, figure_height)
    axes = np.empty((rows * n_rows, n_columns), object)
    for row, column in np.ndindex(axes.shape):
        x = left + column * (width + gap)
        y = EDGE + row // rows * (channel_height + ROW_GAP) + TITLE + row % rows * row_height
        axes[row, column] = new_axes_at(figure, x, y, width, height)
    return as_axes_array(axes)


def new_axes_at(figure: "Figure", x: float, y: float, width: float, height: float) -> "Axes":
    """New axes in a figure, in inches from its top left corner."""
    figure_width, figure_height = figure.get_size_inches()
    return figure.add_axes(
        (
            x / figure_width,
            1 - (y + height) / figure_height,
            width / figure_width,
            height / figure_height,
        )
    )


def axes_of_channels(axes: NumpyArray, n_channels: int, rows: int) -> list[tuple["Axes", ...]]:
    """The axes of each channel, `rows` of them; raises ParameterError if `axes` have no room."""
    shape = getattr(axes, "shape", None)
    if not shape or len(shape) != 2 or shape[0] % rows or shape[0] // rows * shape[1] < n_channels:
        number = {1: "", 2: " an even number of rows and"}[rows]
        raise ParameterError(
            f"axes must be a 2-D array with{number} {rows} Axes per channel, as "
            f"plt.subplots({rows}, {n_channels}, squeeze=False) gives for {n_channels} channels, "
            "got " + (f"shape {shape}" if shape is not None else repr(axes))
        )
    odd = [ax for ax in axes.flat if not hasattr(ax, "set_axis_off")]
    if odd:
        raise ParameterError(f"axes must hold matplotlib's Axes, got {odd[0]!r:.200}")
    return [
        of_channel
        for first in range(0, shape[0], rows)
        for of_channel in zip(*axes[first : first + rows], strict=True)
    ]


def one_ax(axes: object) -> "Axes | None":
    """The one Axes that was given, or None; raises ParameterError if it is something else."""
    if isinstance(axes, AxesArray) and axes.size == 1:
        axes = axes.item()
    if axes is not None and not hasattr(axes, "imshow"):
        raise ParameterError(f"axes must be one matplotlib.axes.Axes, got {axes!r}")
    return cast("Axes | None", axes)


def turn_off(unused: Sequence[tuple["Axes", ...]]) -> None:
    """Hide the axes that no channel needs."""
    for ax in chain.from_iterable(unused):
        ax.set_axis_off()


def titles_of(image: xr.DataArray) -> list[str]:
    """The titles of channels in a figure: labels that are numbers get the word "channel"."""
    labels = labels_or_positions(image)
    return [label if isinstance(label, str) else f"channel {label}" for label in labels]


def write_title(ax: "Axes", title: str) -> None:
    """Write the title as large as fits, reckoned with letters of usual width."""
    width = 72 * ax.get_window_extent().width / ax.figure.dpi
    size = min(FONT, max(width / (0.6 * max(len(title), 1)), 0.7 * FONT))
    most = max(int(width / (0.6 * size)), 4)
    ax.set_title(cut_text(title, most), fontsize=size, pad=3, parse_math=False)


def cut_text(text: str, most: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def write_side(ax: "Axes", text: str) -> None:
    """Write what a row of axes shows, at its left."""
    inches = ax.get_window_extent().height / ax.figure.dpi
    size = min(FONT, max(72 * inches / (0.55 * len(text)), SMALL))
    ax.set_ylabel(text, fontsize=size, labelpad=3)


def legend_below(
    ax: "Axes", handles: Sequence["Artist"], down: float = 0, left: float = 0, **how: Any
) -> None:
    """A row of entries below axes, so many inches `down` and to the `left`."""
    from matplotlib.transforms import ScaledTranslation

    away = ScaledTranslation(-left, -down, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + away,
        borderaxespad=0.3,
        ncols=max(len(handles), 1),
        columnspacing=1,
        alignment="left",
        **LEGEND_STYLE,
        **how,
    )


def patch(colour: str, label: str, **edge: Any) -> "Patch":
    """An entry of a legend: a coloured square and what it means."""
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, label=label, **edge)


def number_text(value: float) -> str:
    """A number, in few characters."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"

"""Figures: Matplotlib Axes in and out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from . import _backends
from ._channels import channel_labels, label_keys, select_channels
from ._images import checked
from ._typing import Block, Label
from ._validate import float_dtype, parse_count
from .errors import ImageError, ParameterError

__all__ = ["compare"]

# Perceptually uniform and safe for the colour-blind; it has no grey, so grey can mean dropped.
COLORMAP = "magma"
DROPPED = "#6b7a86"
# A row of more thumbnails than this is wrapped.
MOST_COLUMNS = 8
# Lengths in inches: the width of a thumbnail in a full row, the limits for any, and what is around.
WIDTH = 1.35
LEAST, MOST = 0.6, 2.7
GAP, PAIR_GAP, EDGE = 0.05, 0.12, 0.05
TITLE, LABEL, LEGEND = 0.22, 0.25, 0.3
# Room for the legend.
LEAST_FIGURE = 1.8
# Points.
FONT = 9


def compare(
    before: xr.DataArray,
    after: xr.DataArray,
    channels: Sequence[Label] | None = None,
    *,
    axes: np.ndarray[Any, Any] | None = None,
    max_pixels: int = 512,
) -> np.ndarray[Any, Any]:
    """Show channels before and after preprocessing, as pairs of thumbnails.

    Each thumbnail has its own contrast, from 0 to the 99.5 % quantile of the finite pixels that it
    shows. Missing pixels are grey.

    Parameters
    ----------
    before, after
        Dims ``c``, ``y``, ``x``, optionally ``z`` (the middle plane is shown), in any order and of
        the same size in both; any real dtype. Of a lazy image, only chunks that hold pixels shown
        are computed.
    channels
        Labels of the channels to show, in that order; None for those of `after`. They are found
        by label, so that `after` may have fewer, or another order.
    axes
        Axes to draw on, a 2-D array as ``plt.subplots`` gives it: even rows for `before`, each with
        the row for `after` below it, and room for all channels. None makes a figure.
    max_pixels
        Largest height and width of a thumbnail in pixels. Larger images are thinned, not averaged:
        every n-th pixel of every n-th row is shown.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        `axes`, or those of the new figure, which is ``axes.flat[0].figure`` and is not registered
        with pyplot: ten channels give shape (4, 5), forty (10, 8). Axes without a channel are
        turned off.

    Raises
    ------
    ParameterError
        If `axes` have the wrong shape, `max_pixels` is no positive whole number, or Matplotlib is
        not installed.
    ChannelError
        If an image lacks one of the channels.
    ImageError
        If `before` or `after` is not an image, or they differ in size.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> from pxprep.plot import compare
    >>> image = tissue(size=64)["fov0"]
    >>> axes = compare(image, image.pxprep.preprocess(), ["DAPI", "CD3", "CD20"])
    >>> axes.shape
    (2, 3)
    >>> [axis.get_title() for axis in axes[0]]
    ['DAPI', 'CD3', 'CD20']

    To keep it: ``axes.flat[0].figure.savefig("compare.png")``.
    """
    _require_matplotlib()
    before, after = checked(before, "before"), checked(after, "after")
    _require_same_size(before, after)
    max_pixels = parse_count(max_pixels, "max_pixels", "a whole number of at least 1")
    if channels is None:
        channels = label_keys(after)
    before, after = select_channels(before, channels), select_channels(after, channels)
    if axes is None:
        axes = _new_axes(len(channels), before.sizes["y"] / before.sizes["x"])
    pairs = _pairs(axes, len(channels))
    shown = _backends.compute(_thinned(before, max_pixels), _thinned(after, max_pixels))
    titles = [str(key) if channel_labels(after) else f"channel {key}" for key in channels]
    for title, pair, *thumbnails in zip(titles, pairs, *shown, strict=False):
        for axis, thumbnail in zip(pair, thumbnails, strict=True):
            _draw(axis, thumbnail)
        _write_title(pair[0], title)
    for pair in pairs[len(channels) :]:
        for axis in pair:
            axis.set_axis_off()
    first_of_rows = pairs[: len(channels) : axes.shape[1]]
    for pair in first_of_rows:
        for axis, label in zip(pair, ("before", "after"), strict=True):
            axis.set_ylabel(label, fontsize=FONT, labelpad=3)
    if not np.isfinite(shown[1]).all():
        _explain_dropped(first_of_rows[-1][1])
    return axes


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ParameterError(
            "pxprep.plot needs Matplotlib, which is not installed: pip install 'pxprep[plot]'"
        ) from error


def _require_same_size(before: xr.DataArray, after: xr.DataArray) -> None:
    sizes = [
        {dim: image.sizes[dim] for dim in ("z", "y", "x") if dim in image.dims}
        for image in (before, after)
    ]
    if sizes[0] != sizes[1]:
        raise ImageError(f"before and after must have the same size, got {sizes[0]} and {sizes[1]}")


def _new_axes(n_channels: int, aspect: float) -> np.ndarray[Any, Any]:
    """Axes of a new figure, placed by the inch so that only thumbnails take room."""
    from matplotlib.figure import Figure

    n_pairs = -(-n_channels // MOST_COLUMNS)
    n_columns = -(-n_channels // n_pairs)
    width, height = _thumbnail_size(n_columns, aspect)
    pair_height = TITLE + 2 * height + GAP
    figure_width = max(LABEL + n_columns * (width + GAP) - GAP + EDGE, LEAST_FIGURE)
    figure_height = EDGE + n_pairs * (pair_height + PAIR_GAP) - PAIR_GAP + LEGEND
    inches = np.array([figure_width, figure_height] * 2)
    figure = Figure(figsize=(figure_width, figure_height), dpi=120)
    axes = np.empty((2 * n_pairs, n_columns), object)
    for row, column in np.ndindex(axes.shape):
        left = LABEL + column * (width + GAP)
        top = EDGE + row // 2 * (pair_height + PAIR_GAP) + TITLE + row % 2 * (height + GAP)
        box = np.array([left, figure_height - top - height, width, height]) / inches
        axes[row, column] = figure.add_axes(tuple(box.tolist()))
    return axes


def _thumbnail_size(n_columns: int, aspect: float) -> tuple[float, float]:
    """Width and height in inches: as wide as a full row of thumbnails allows, and not too tall."""
    width = min(WIDTH * MOST_COLUMNS / n_columns, MOST)
    height = min(width * aspect, MOST)
    # No smaller than the texts beside it.
    return max(height / aspect, LEAST), max(height, LEAST)


def _pairs(axes: Any, n_channels: int) -> list[tuple[Any, Any]]:
    """The axes for `before` and `after` of each channel."""
    shape = getattr(axes, "shape", None)
    if not shape or len(shape) != 2 or shape[0] % 2 or shape[0] // 2 * shape[1] < n_channels:
        raise ParameterError(
            "axes must be a 2-D array with an even number of rows and two Axes per channel, as "
            f"plt.subplots(2, {n_channels}, squeeze=False) gives for {n_channels} channels, got "
            + (f"shape {shape}" if shape is not None else repr(axes))
        )
    return [pair for i in range(0, shape[0], 2) for pair in zip(axes[i], axes[i + 1], strict=True)]


def _thinned(image: xr.DataArray, max_pixels: int) -> Any:
    """Array with axes (c, y, x), still lazy: the middle plane, at most `max_pixels` a side."""
    if "z" in image.dims:
        image = image.isel(z=image.sizes["z"] // 2)
    step = slice(None, None, -(-max(image.sizes["y"], image.sizes["x"]) // max_pixels))
    # Not `pixels`: two images that share work are to share it here, too.
    return image.isel(y=step, x=step).transpose("c", "y", "x").data


def _draw(axis: Any, thumbnail: Block) -> None:
    from matplotlib import colormaps

    # Matplotlib knows neither bool nor float16.
    thumbnail = thumbnail.astype(float_dtype(thumbnail.dtype), copy=False)
    finite = thumbnail[np.isfinite(thumbnail)]
    high = np.quantile(finite, 0.995) if finite.size else 0
    if high <= 0:
        # The channel is stained in a few pixels only, or in none.
        high = finite.max(initial=0) or 1
    axis.imshow(
        np.ma.masked_invalid(thumbnail),
        vmin=0,
        vmax=high,
        cmap=colormaps[COLORMAP].with_extremes(bad=DROPPED),
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _write_title(axis: Any, title: str) -> None:
    """Write the title as large as fits, to the width of a usual letter."""
    width = 72 * axis.get_window_extent().width / axis.figure.dpi
    size = min(FONT, max(width / (0.6 * max(len(title), 1)), 0.7 * FONT))
    most = max(int(width / (0.6 * size)), 4)
    shown = title if len(title) <= most else title[: most - 1] + "…"
    axis.set_title(shown, fontsize=size, pad=3, parse_math=False)


def _explain_dropped(axis: Any) -> None:
    from matplotlib.patches import Patch

    axis.legend(
        handles=[Patch(facecolor=DROPPED, label="dropped by the mask")],
        loc="upper left",
        bbox_to_anchor=(0, 0),
        borderaxespad=0.3,
        borderpad=0,
        handlelength=1,
        handleheight=1,
        fontsize=FONT - 1,
        frameon=False,
    )

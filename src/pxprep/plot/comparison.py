"""Channels before and after."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import labels_or_positions, parse_channels, select_channels
from ..engine import computing
from ..errors import ImageError
from .given import one_image
from .layout import (
    axes_of_channels,
    columns_of,
    legend_below,
    new_axes,
    patch,
    require_matplotlib,
    thumbnail_size,
    titles_of,
    turn_off,
    write_side,
    write_title,
)
from .scale_bar import draw_scale_bar
from .shown import AxesArray, as_axes_array
from .thumbnails import DROPPED, as_floats, draw, parse_max_pixels, thinned


def compare(
    before: xr.DataArray,
    after: xr.DataArray,
    channels: Sequence[Label] | None = None,
    *,
    axes: NumpyArray | None = None,
    max_pixels: int = 512,
) -> AxesArray:
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
        `axes`, or those of the new figure, which a notebook shows, a script by
        ``plt.show()``, and ``axes.save(path)`` writes: ten channels give shape (4, 5), forty
        (10, 8). Axes without a channel are turned off.

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
    >>> [ax.get_title() for ax in axes[0]]
    ['DAPI', 'CD3', 'CD20']

    To keep it: ``axes.save("compare.png")``.
    """
    require_matplotlib()
    before, after = one_image(before, "before"), one_image(after, "after")
    require_same_size(before, after)
    max_pixels = parse_max_pixels(max_pixels)
    channels = parse_channels(channels) or labels_or_positions(after)
    before, after = select_channels(before, channels), select_channels(after, channels)
    if axes is None:
        size = thumbnail_size(columns_of(len(channels)), before.sizes["y"] / before.sizes["x"])
        axes = new_axes(len(channels), size, rows=2)
    pairs = axes_of_channels(axes, len(channels), rows=2)
    shown = computing.compute(thinned(before, max_pixels), thinned(after, max_pixels))
    for title, pair, *thumbnails in zip(titles_of(after), pairs, *shown, strict=False):
        for ax, thumbnail in zip(pair, thumbnails, strict=True):
            draw(ax, as_floats(thumbnail))
        write_title(pair[0], title)
    draw_scale_bar(pairs[0][0], before, max_pixels)
    turn_off(pairs[len(channels) :])
    first_of_rows = pairs[: len(channels) : axes.shape[1]]
    for pair in first_of_rows:
        for ax, label in zip(pair, ("before", "after"), strict=True):
            write_side(ax, label)
    if not all(np.isfinite(part).all() for part in shown):
        legend_below(first_of_rows[-1][1], [patch(DROPPED, "no value")])
    return as_axes_array(axes)


def require_same_size(before: xr.DataArray, after: xr.DataArray, where: str = "") -> None:
    """Raise ImageError unless both have the same pixels; `where` they are goes before it."""
    sizes = [
        {dim: image.sizes[dim] for dim in ("z", "y", "x") if dim in image.dims}
        for image in (before, after)
    ]
    if sizes[0] != sizes[1]:
        raise ImageError(
            f"{where}before and after must have the same size, got {sizes[0]} and {sizes[1]}"
        )

"""The channels of an image as a grid of thumbnails."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import labels_or_positions, parse_channels, select_channels
from ..engine import computing
from ..images.parameters import parse_choice
from .given import one_image
from .layout import (
    EDGE,
    GREY,
    SMALL,
    axes_of_channels,
    columns_of,
    legend_below,
    new_axes,
    number_text,
    patch,
    require_matplotlib,
    thumbnail_size,
    titles_of,
    turn_off,
    write_title,
)
from .scale_bar import draw_scale_bar
from .shown import AxesArray, as_axes_array
from .thumbnails import COLORMAP, DROPPED, as_floats, draw, parse_max_pixels, thinned, upper_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTRASTS = ("channel", "shared")
# Inches below each thumbnail, for its range.
BELOW = 0.13


def channels(
    image: xr.DataArray,
    channels: Sequence[Label] | None = None,
    *,
    contrast: str = "channel",
    axes: NumpyArray | None = None,
    max_pixels: int = 512,
) -> AxesArray:
    """Show the channels of an image as a grid of thumbnails.

    Colours go from 0 to the 99.5 % quantile of the finite pixels shown, so that a few bright ones
    do not make all others dark; the range stands below. Missing pixels are grey.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z`` (the middle plane is shown), in any order; any
        real dtype. Of a lazy image, only chunks that hold pixels shown are computed.
    channels
        Labels of the channels to show, in that order; None for all of them.
    contrast
        ``"channel"``: each thumbnail has its own range. ``"shared"``: all have that of their
        pixels together, so that their brightness can be compared.
    axes
        Axes to draw on, a 2-D array as ``plt.subplots`` gives it, with room for all channels. None
        makes a figure.
    max_pixels
        Largest height and width of a thumbnail in pixels. Larger images are thinned, not averaged:
        every n-th pixel of every n-th row is shown.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        `axes`, or those of the new figure, which a notebook shows, a script by
        ``plt.show()``, and ``axes.save(path)`` writes: ten channels give shape (2, 5), forty
        (5, 8). Axes without a channel are turned off.

    Raises
    ------
    ParameterError
        If `contrast` is another word, `axes` have the wrong shape, `max_pixels` is no positive
        whole number, or Matplotlib is not installed.
    ChannelError
        If the image lacks one of the channels.
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> axes = tissue(size=64)["fov0"].pxprep.plot.channels(["DAPI", "CD3", "CD20"])
    >>> axes.shape
    (1, 3)
    >>> [ax.get_title() for ax in axes[0]]
    ['DAPI', 'CD3', 'CD20']
    """
    require_matplotlib()
    image = one_image(image)
    shared = parse_choice(contrast, "contrast", CONTRASTS) == "shared"
    max_pixels = parse_max_pixels(max_pixels)
    channels = parse_channels(channels) or labels_or_positions(image)
    image = select_channels(image, channels)
    if axes is None:
        size = thumbnail_size(columns_of(len(channels)), image.sizes["y"] / image.sizes["x"])
        axes = new_axes(len(channels), size, rows=1, left=EDGE, below=0 if shared else BELOW)
    places = axes_of_channels(axes, len(channels), rows=1)
    (shown,) = computing.compute(thinned(image, max_pixels))
    shown = as_floats(shown)
    high = upper_limit(shown) if shared else None
    for title, (ax,), thumbnail in zip(titles_of(image), places, shown, strict=False):
        limit = draw(ax, thumbnail, high)
        write_title(ax, title)
        if not shared:
            ax.set_xlabel(
                f"0 to {number_text(limit)}", fontsize=SMALL, labelpad=1.5, color=GREY, loc="left"
            )
    draw_scale_bar(places[0][0], image, max_pixels)
    turn_off(places[len(channels) :])
    _explain(places[: len(channels) : axes.shape[1]][-1][0], shown, high)
    return as_axes_array(axes)


def _explain(ax: "Axes", shown: NumpyArray, high: float | None) -> None:
    """Say below the last row what all thumbnails have in common."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    handles = []
    if high is not None:
        ends = {0.0: "0", 1.0: f"{number_text(high)} or more"}
        handles += [patch(to_hex(colormaps[COLORMAP](end)), label) for end, label in ends.items()]
    if not np.isfinite(shown).all():
        handles.append(patch(DROPPED, "no value"))
    if handles:
        legend_below(ax, handles, 0 if high is not None else BELOW)

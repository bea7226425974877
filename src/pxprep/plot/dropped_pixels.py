"""Which pixels were dropped."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..aliases import Array, NumpyArray
from ..channels import CHANNEL
from ..engine import backends, computing
from .given import one_image
from .layout import (
    EDGE,
    FONT,
    LEGEND,
    ORANGE,
    legend_below,
    new_axes_at,
    one_ax,
    patch,
    require_matplotlib,
)
from .scale_bar import draw_scale_bar
from .shown import AxesArray, as_axes_array, new_figure
from .thumbnails import DROPPED, bare, parse_max_pixels, thinned_image, thinning_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a pixel is, and in which colour it is shown.
KINDS = {"kept": "#f3ecd8", "dropped": DROPPED, "no value in some channels": ORANGE}
# Inches: the longer side, the narrowest figure that has room for its texts, and two lines.
SIZE, LEAST_FIGURE, TITLE = 3.6, 3.3, 0.4


def mask(image: xr.DataArray, *, axes: object = None, max_pixels: int = 512) -> AxesArray:
    """Show which pixels of a preprocessed image were dropped, and their share.

    A pixel is dropped if it has no finite value in any channel, as `pxprep.ops.sum_mask` and
    `pxprep.ops.sum_norm` leave it.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z`` (the middle plane is shown), in any order; any
        real dtype. Of a lazy image, only chunks that hold pixels shown are computed.
    axes
        A `matplotlib.axes.Axes` to draw on. None makes a figure.
    max_pixels
        Largest height and width of the picture in pixels. Larger images are thinned, not averaged:
        every n-th pixel of every n-th row is shown.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        The one of the figure, which a notebook shows, a script by ``plt.show()``, and
        ``axes.save(path)`` writes. The title says the share: exact for an image in memory; of a
        lazy one that is thinned, that of the pixels shown, as "about".

    Raises
    ------
    ParameterError
        If `axes` are no Axes, `max_pixels` is no positive whole number, or Matplotlib is not
        installed.
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> axes = tissue(size=64)["fov0"].pxprep.preprocess().pxprep.plot.mask()
    >>> print(axes[0].get_title(loc="left"))
    11.5 % dropped
    472 of 4,096 pixels
    """
    require_matplotlib()
    image = one_image(image)
    max_pixels = parse_max_pixels(max_pixels)
    ax = one_ax(axes)
    part = thinned_image(image, max_pixels)
    is_exact = part.size == image.size or not backends.is_lazy(image.data)
    whole = image if is_exact else part
    kinds, n_dropped = computing.compute(pixel_kinds(part), count_dropped(whole))
    n_pixels = whole.size // whole.sizes[CHANNEL]
    ax = _new_ax(*kinds.shape) if ax is None else ax
    _draw(ax, kinds)
    draw_scale_bar(ax, image, max_pixels)
    share = percent_text(int(n_dropped), n_pixels)
    title = (
        f"{share} dropped\n{n_dropped:,} of {n_pixels:,} pixels"
        if is_exact
        else f"about {share} dropped\nseen in {thinning_text(image, max_pixels)}"
    )
    ax.set_title(title, loc="left", fontsize=FONT, pad=3)
    return as_axes_array(ax)


def pixel_kinds(image: xr.DataArray) -> Array:
    """For each pixel (y, x) its position in `KINDS`, uint8; lazy if the image is."""
    finite: xr.DataArray = xr.apply_ufunc(np.isfinite, image, dask="allowed")
    has_any, has_all = finite.any(CHANNEL), finite.all(CHANNEL)
    kinds = (~has_any + 2 * (has_any & ~has_all)).astype(np.uint8)
    return kinds.transpose("y", "x").data


def count_dropped(image: xr.DataArray) -> Array:
    """How many pixels have no finite value in any channel; lazy if the image is.

    Channel by channel, so that no more than planes of an image in memory are held.
    """
    channels = range(image.sizes[CHANNEL])
    finite = (np.isfinite(image.isel({CHANNEL: i}, drop=True)) for i in channels)
    return (~reduce(or_, finite)).sum().data


def percent_text(part: int, whole: int) -> str:
    """A share in percent that is 0 or 100 only if it is exactly so."""
    if part in (0, whole):
        return "100 %" if part else "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "less than 0.1 %"
    return "more than 99.9 %" if percent > 99.9 else f"{percent:.1f} %"


def _new_ax(n_rows: int, n_columns: int) -> "Axes":
    scale = SIZE / max(n_rows, n_columns)
    # Wide enough to be seen.
    width, height = max(n_columns * scale, EDGE), max(n_rows * scale, EDGE)
    figure = new_figure(max(width + 2 * EDGE, LEAST_FIGURE), TITLE + height + LEGEND)
    return new_axes_at(figure, EDGE, TITLE, width, height)


def _draw(ax: "Axes", kinds: NumpyArray) -> None:
    from matplotlib.colors import ListedColormap

    ax.imshow(kinds, vmin=-0.5, vmax=len(KINDS) - 0.5, cmap=ListedColormap([*KINDS.values()]))
    bare(ax)
    entries = list(KINDS.items())[: 2 + bool((kinds == 2).any())]
    legend_below(ax, [patch(colour, label, edgecolor=DROPPED) for label, colour in entries])

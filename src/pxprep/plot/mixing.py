"""Channels of an image in colours of their own, mixed in one picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import labels_or_positions, parse_channels, select_channels
from ..engine import computing
from ..errors import ParameterError
from .given import one_image
from .layout import (
    EDGE,
    LEGEND_STYLE,
    LETTER,
    MOST_LETTERS,
    cut_text,
    new_axes_at,
    one_ax,
    patch,
    require_matplotlib,
    titles_of,
)
from .scale_bar import draw_scale_bar
from .shown import AxesArray, as_axes_array, new_figure
from .thumbnails import DROPPED, as_floats, bare, parse_max_pixels, thinned, upper_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In this order: blue first, as nuclei are in most panels; each is told from the others on black.
COLOURS = ("#4a6cff", "#00d26a", "#ff4b3e", "#ffd60a", "#ff4fd8", "#00d8ff", "#ffffff")
# Inches: the longer side of the picture, and a line of the legend.
SIZE, LINE = 3.6, 0.2


def composite(
    image: xr.DataArray,
    channels: Sequence[Label] | Mapping[Label, str] | None = None,
    *,
    axes: object = None,
    max_pixels: int = 512,
) -> AxesArray:
    """Show up to seven channels in one picture, each in a colour of its own.

    Each channel goes from black (0) to its colour (the 99.5 % quantile of its finite pixels shown),
    and the colours are added, as light is. Pixels that are missing in all of the channels are grey.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z`` (the middle plane is shown), in any order; any
        real dtype. Of a lazy image, only chunks that hold pixels shown are computed. Or a
        multiscale image, of which the finest scale is shown.
    channels
        Labels of the channels to show, in that order: blue, green, red, yellow, magenta, cyan,
        white. Or a mapping of labels to colours as Matplotlib takes them. None for all, or the
        first seven.
    axes
        A `matplotlib.axes.Axes` to draw on. None makes a figure.
    max_pixels
        Largest height and width of the picture in pixels. Larger images are thinned, not averaged:
        every n-th pixel of every n-th row is shown.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        The one of the figure, which a notebook shows, a script by ``plt.show()``, and
        ``axes.save(path)`` writes. There is a scale bar where the size of a pixel is known:
        ``image.attrs["um_per_pixel"]``, as imported images have it, or a transformation to microns
        of a SpatialData layer.

    Raises
    ------
    ParameterError
        If there are more than seven `channels`, a colour is none, `axes` are no Axes, `max_pixels`
        is no positive whole number, or Matplotlib is not installed.
    ChannelError
        If the image lacks one of the channels.
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> image = tissue(size=64)["fov0"]
    >>> axes = image.pxprep.plot.composite(["DAPI", "CD3", "CD20"])
    >>> axes = image.pxprep.plot.composite({"DAPI": "white", "panCK": "orange"})
    >>> [text.get_text() for text in axes[0].get_legend().get_texts()]
    ['DAPI', 'panCK']
    """
    require_matplotlib()
    image = one_image(image)
    max_pixels = parse_max_pixels(max_pixels)
    ax = one_ax(axes)
    colours = _parse_colours(image, channels)
    chosen = select_channels(image, list(colours))
    (shown,) = computing.compute(thinned(chosen, max_pixels))
    shown = as_floats(shown)
    names = [cut_text(title, MOST_LETTERS) for title in titles_of(chosen)]
    entries = [*zip(colours.values(), names, strict=True)]
    if not np.isfinite(shown).any(axis=0).all():
        entries.append((DROPPED, "no value"))
    if ax is None:
        ax = _new_ax(shown[0].shape, [name for _, name in entries])
    limits = [upper_limit(plane) for plane in shown]
    ax.imshow(mixed(shown, limits, list(colours.values())))
    bare(ax)
    _explain(ax, entries)
    draw_scale_bar(ax, image, max_pixels)
    return as_axes_array(ax)


def mixed(values: NumpyArray, limits: Sequence[float], colours: Sequence[str]) -> NumpyArray:
    """Channels, axes (c, y, x), as one picture: RGB, axes (y, x, 3), uint8.

    Each channel goes from black at 0 to its colour at its limit; missing values add nothing, and a
    pixel without any value is grey.
    """
    from matplotlib.colors import to_rgb

    picture = np.zeros((*values.shape[1:], 3))
    for plane, limit, colour in zip(values, limits, colours, strict=True):
        strength = np.clip(np.where(np.isfinite(plane), plane, 0) / limit, 0, 1)
        picture += strength[..., None] * np.array(to_rgb(colour))
    picture[~np.isfinite(values).any(axis=0)] = to_rgb(DROPPED)
    return np.round(255 * np.minimum(picture, 1)).astype(np.uint8)


def _parse_colours(
    image: xr.DataArray, channels: Sequence[Label] | Mapping[Label, str] | None
) -> dict[Label, str]:
    """The colour of each channel that is shown."""
    from matplotlib.colors import is_color_like

    most = len(COLOURS)
    if channels is None:
        channels = labels_or_positions(image)[:most]
    labels = parse_channels(list(channels) if isinstance(channels, Mapping) else channels) or []
    select_channels(image, labels)
    if len(labels) > most:
        raise ParameterError(
            f"channels must be at most {most}, as more colours cannot be told apart, got "
            f"{len(labels)}: choose some, or show all with plot.channels"
        )
    if not isinstance(channels, Mapping):
        return dict(zip(labels, COLOURS, strict=False))
    for label, colour in channels.items():
        if not is_color_like(colour):
            raise ParameterError(
                f"channels must be mapped to colours such as 'red' or '#ff0000': {label!r} is to "
                f"have {colour!r}"
            )
    return dict(channels)


def _new_ax(shape: tuple[int, ...], entries: Sequence[str]) -> "Axes":
    """Axes as wide as the picture, with room for the entries of a legend at the right."""
    height, width = (max(SIZE * n / max(shape), EDGE) for n in shape)
    beside = 0.35 + LETTER * max(map(len, entries))
    figure = new_figure(EDGE + width + beside, 2 * EDGE + max(height, LINE * len(entries)))
    return new_axes_at(figure, EDGE, EDGE, width, height)


def _explain(ax: "Axes", entries: Sequence[tuple[str, str]]) -> None:
    """Say at the right which colour is which channel."""
    handles = [patch(*entry, edgecolor=DROPPED, linewidth=0.5) for entry in entries]
    legend = ax.legend(handles=handles, bbox_to_anchor=(1, 1), borderaxespad=0.4, **LEGEND_STYLE)
    for text in legend.get_texts():
        text.set_parse_math(False)

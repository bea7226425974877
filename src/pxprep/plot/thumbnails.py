"""Thumbnails: which pixels of an image are shown, and in which colours."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..aliases import Array, NumpyArray
from ..engine.blocks import float_dtype
from ..images.parameters import parse_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Perceptually uniform and safe for the colour-blind; it has no grey, so grey can mean dropped.
COLORMAP = "magma"
DROPPED = "#6b7a86"
# Robust contrast: what is above this quantile of the finite pixels has the brightest colour.
BRIGHTEST = 0.995


def parse_max_pixels(value: object) -> int:
    """The largest height and width of a thumbnail in pixels."""
    return parse_count(value, "max_pixels", "a whole number of at least 1")


def step_of(image: xr.DataArray, max_pixels: int) -> int:
    """Every how many pixels, along y and x, one is shown."""
    return -(-max(image.sizes["y"], image.sizes["x"]) // max_pixels)


def thinned(image: xr.DataArray, max_pixels: int) -> Array:
    """Array with axes (c, y, x), still lazy: the middle plane, at most `max_pixels` a side."""
    return thinned_image(image, max_pixels).transpose("c", "y", "x").data


def thinned_image(image: xr.DataArray, max_pixels: int) -> xr.DataArray:
    """The pixels of an image that are shown, still lazy, in its dims but z."""
    if "z" in image.dims:
        image = image.isel(z=image.sizes["z"] // 2)
    step = slice(None, None, step_of(image, max_pixels))
    return image.isel(y=step, x=step)


def thinning_text(image: xr.DataArray, max_pixels: int) -> str:
    """Which pixels are shown, in words; nothing if all of them are."""
    step = step_of(image, max_pixels)
    pixels = "" if step == 1 else f"1 in {step} pixels of 1 in {step} rows"
    plane = "the middle plane" if image.sizes.get("z", 1) > 1 else ""
    return " of ".join(filter(None, [pixels, plane]))


def as_floats(thumbnail: NumpyArray) -> NumpyArray:
    """`thumbnail` as float32 or float64: NumPy takes no quantiles of bool."""
    return thumbnail.astype(float_dtype(thumbnail.dtype), copy=False)


def upper_limit(values: NumpyArray) -> float:
    """The value that gets the brightest colour; 0 gets the darkest."""
    finite = values[np.isfinite(values)]
    high = np.quantile(finite, BRIGHTEST) if finite.size else 0
    if high <= 0:
        # The channel is stained in a few pixels only, or in none.
        high = finite.max(initial=0) or 1
    return float(high)


def draw(ax: "Axes", thumbnail: NumpyArray, high: float | None = None) -> float:
    """Draw floats from 0 to `high`, or to their own limit for None; returns which it was."""
    high = upper_limit(thumbnail) if high is None else high
    ax.imshow(np.ma.masked_invalid(thumbnail), vmin=0, vmax=high, cmap=_colormap())
    bare(ax)
    return high


def bare(ax: "Axes") -> None:
    """Take ticks and frame away."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def coloured(thumbnail: NumpyArray, levels: int = 64) -> tuple[NumpyArray, NumpyArray]:
    """A thumbnail as `draw` shows it, in few colours: indices, and the colours (n, 3), uint8.

    Few colours make small files; at most 255, as the last one is that of missing pixels.
    """
    floats = as_floats(thumbnail)
    finite = np.isfinite(floats)
    scaled = np.where(finite, floats, 0) / upper_limit(floats)
    indices = np.clip(np.floor(scaled * levels), 0, levels - 1)
    colours = _colormap()([*np.linspace(0, 1, levels), np.nan], bytes=True)[:, :3]
    return np.where(finite, indices, levels).astype(np.uint8), colours


def _colormap() -> "Colormap":
    from matplotlib import colormaps

    return colormaps[COLORMAP].with_extremes(bad=DROPPED)

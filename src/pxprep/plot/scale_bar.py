"""Scale bars in pictures whose pixels have a known size."""

import math
from typing import TYPE_CHECKING

import xarray as xr

from .given import um_per_pixel
from .layout import SMALL
from .thumbnails import step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# At most this part of a picture's width.
PART = 0.3
# Of the picture's height and width: from its edge, and the thickness of the bar in points.
AWAY, THICKNESS = 0.045, 2.2


def draw_scale_bar(ax: "Axes", image: xr.DataArray, max_pixels: int) -> None:
    """Draw one into a picture of an image, if the size of its pixels is known."""
    size = um_per_pixel(image)
    if size is None:
        return
    step = step_of(image, max_pixels)
    n_columns = -(-image.sizes["x"] // step)
    length = bar_length(n_columns * step * size)
    part = length / (n_columns * step * size)
    from matplotlib.patheffects import withStroke

    # White with a dark rim: seen on black and on paper.
    rim = [withStroke(linewidth=THICKNESS + 1.4, foreground="#1c2126")]
    ax.plot(
        [1 - AWAY - part, 1 - AWAY],
        [AWAY, AWAY],
        color="white",
        linewidth=THICKNESS,
        solid_capstyle="butt",
        path_effects=rim,
        scalex=False,
        scaley=False,
        transform=ax.transAxes,
        zorder=5,
    )
    ax.annotate(
        length_text(length),
        (1 - AWAY - part / 2, AWAY),
        xycoords="axes fraction",
        xytext=(0, THICKNESS + 0.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color="white",
        fontsize=SMALL,
        path_effects=[withStroke(linewidth=1.4, foreground="#1c2126")],
        zorder=5,
    )


def bar_length(width: float) -> float:
    """How long the bar is in a picture of something so wide."""
    return round_length(PART * width)


def round_length(most: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is at most `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    factor = max(factor for factor in (1, 2, 5) if factor * power <= most * (1 + 1e-9))
    return factor * power


def length_text(um: float) -> str:
    """A length in the unit in which it is a short number."""
    if um >= 1e3:
        return f"{um / 1e3:g} mm"
    return f"{um:g} µm" if um >= 1 else f"{1e3 * um:g} nm"

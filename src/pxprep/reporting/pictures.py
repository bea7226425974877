"""The pictures of a report: PNG files in data URIs, and paths of SVG; small, as there are many."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import isqrt

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import CHANNEL
from ..plot.dropped_pixels import KINDS, pixel_kinds
from ..plot.histograms import LEAST_COUNT, Bars, Line
from ..plot.layout import number_text
from ..plot.mixing import mixed
from ..plot.thumbnails import as_floats, coloured, upper_limit
from .fovs import PicturedPixels

# Pixels of all thumbnails, before and after, and of all composites; and the sides of one.
THUMBNAIL_PIXELS, COMPOSITE_PIXELS = 18_000_000, 3_000_000
THUMBNAIL_SIDES, COMPOSITE_SIDES = (32, 128), (48, 160)
# How many colours a thumbnail has: enough for its size.
MANY_COLOURS, FEW_COLOURS, COMPOSITE_COLOURS = 64, 16, 128
BINS = 32
# Of scale bars: seen on black and on white.
BAR, RIM = (255, 255, 255), (28, 33, 38)
# Of a histogram, in its own units.
WIDTH, HEIGHT = 160, 40


@dataclass(frozen=True)
class Drawing:
    """A picture as the page shows it: its data URI, and its size in CSS pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Histogram:
    """How the values of a channel are distributed, on a logarithmic scale.

    Attributes
    ----------
    bars
        Path of their outline.
    marks
        Paths of vertical lines, and what each is: ``fitted`` or ``own``.
    low, high
        What the ends of the axis are.
    """

    bars: str
    marks: Sequence[tuple[str, str]]
    low: str
    high: str


@dataclass(frozen=True)
class Card:
    """The pictures of a channel; those from before are None where that image is gone."""

    anchor: str
    channel: str
    reason: str
    before: Drawing | None
    after: Drawing
    histograms: Mapping[str, Histogram]


def sides(n_cards: int, n_images: int) -> tuple[int, int]:
    """The longest sides, in pixels, of thumbnails and composites, when there are so many."""
    thumbnail = isqrt(THUMBNAIL_PIXELS // (2 * max(n_cards, 1)))
    composite = isqrt(COMPOSITE_PIXELS // max(n_images, 1))
    return (
        int(np.clip(thumbnail, *THUMBNAIL_SIDES)),
        int(np.clip(composite, *COMPOSITE_SIDES)),
    )


def cards(
    pixels: PicturedPixels,
    lines: Mapping[str, Sequence[Line]],
    channels: Mapping[int, tuple[Label, str, str]],
    side: int,
    bar_part: float = 0,
) -> Iterator[Card]:
    """The pictures of channels.

    `channels` has, by the place of each in the image, its label, its anchor and the reason why the
    image is an outlier in it, if it is. A scale bar takes the part `bar_part` of the width.
    """
    both = {"before": pixels.before, "after": pixels.after}
    images = {name: image for name, image in both.items() if image is not None}
    most = max(int(np.isfinite(image).sum(axis=(1, 2)).max()) for image in images.values())
    n_colours = MANY_COLOURS if side > 64 else FEW_COLOURS
    for i, (label, anchor, reason) in channels.items():
        thumbnails = {
            name: indexed(*with_bar(*coloured(averaged(image[i], side), n_colours), bar_part))
            for name, image in images.items()
        }
        histograms = {
            name: _histogram(image[i], lines[name], label, most) for name, image in images.items()
        }
        yield Card(
            anchor, str(label), reason, thumbnails.get("before"), thumbnails["after"], histograms
        )


def composite(
    image: NumpyArray,
    limits: Sequence[float | None],
    colours: Sequence[str],
    side: int,
    bar_part: float = 0,
) -> Drawing:
    """Channels of an image, axes (c, y, x), mixed; each up to its limit, None for its own.

    A scale bar takes the part `bar_part` of the width.
    """
    from PIL import Image

    small = np.stack([averaged(plane, side) for plane in image])
    most = [
        upper_limit(plane) if limit is None else limit
        for limit, plane in zip(limits, small, strict=True)
    ]
    picture = Image.fromarray(mixed(small, most, colours)).quantize(COMPOSITE_COLOURS)
    indices = np.asarray(picture)
    palette = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)[: int(indices.max()) + 1]
    return indexed(*with_bar(indices, palette, bar_part))


def with_bar(
    indices: NumpyArray, colours: NumpyArray, part: float
) -> tuple[NumpyArray, NumpyArray]:
    """A picture in few colours with a scale bar that takes `part` of its width, if that fits."""
    height, width = indices.shape
    columns = round(part * width)
    if not 0 < columns <= width - 4 or height < 8:
        return indices, colours
    right, low = width - 3, height - 3
    left, high = right - columns, low - max(1, height // 50)
    indices = indices.copy()
    indices[high - 1 : low + 1, left - 1 : right + 1] = len(colours)
    indices[high:low, left:right] = len(colours) + 1
    return indices, np.vstack([colours, np.array([RIM, BAR], colours.dtype)])


def dropped_pixels(image: NumpyArray, side: int) -> tuple[Drawing, Mapping[str, str]]:
    """Which pixels were dropped; and the colours of the kinds of pixels that there are."""
    step = step_to(image, side)
    kinds = pixel_kinds(xr.DataArray(image[:, ::step, ::step], dims=(CHANNEL, "y", "x")))
    colours = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in KINDS.values()]
    used = {
        name: colour
        for i, (name, colour) in enumerate(KINDS.items())
        if i < 2 or (kinds == i).any()
    }
    return indexed(kinds, np.array(colours, np.uint8)), used


def step_to(image: NumpyArray, side: int) -> int:
    """How many pixels along y and x become one, so that neither is longer than `side`."""
    return -(-int(max(image.shape[-2:])) // side)


def averaged(plane: NumpyArray, side: int) -> NumpyArray:
    """Means of squares of pixels; missing where most of a square is."""
    step = step_to(plane, side)
    plane = as_floats(plane)
    if step == 1:
        return plane
    starts = [np.arange(0, n, step) for n in plane.shape]
    sizes = np.outer(*(np.diff([*some, n]) for some, n in zip(starts, plane.shape, strict=True)))

    def sums(values: NumpyArray) -> NumpyArray:
        return np.add.reduceat(np.add.reduceat(values, starts[0], 0), starts[1], 1)

    finite = np.isfinite(plane)
    counts = sums(finite.astype(np.int32))
    means: NumpyArray = sums(np.where(finite, plane, 0)) / np.maximum(counts, 1)
    return np.where(2 * counts >= sizes, means, np.nan)


def indexed(indices: NumpyArray, colours: NumpyArray) -> Drawing:
    """A picture in few colours, RGB, or RGBA if some are transparent."""
    from PIL import Image

    height, width = indices.shape
    picture = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    picture.putpalette(np.ascontiguousarray(colours[:, :3]).tobytes())
    how = {"transparency": colours[:, 3].tobytes()} if colours.shape[1] == 4 else {}
    png = BytesIO()
    picture.save(png, format="png", **how)
    uri = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return Drawing(uri, width, height)


def _histogram(values: NumpyArray, lines: Sequence[Line], label: Label, most: int) -> Histogram:
    bars = Bars.of(values, lines, label, BINS)
    low, high = float(bars.edges[0]), float(bars.edges[-1])
    kinds = {"--": "fitted", ":": "own"}
    return Histogram(
        bars=_outline(bars.counts, most),
        marks=[
            (kinds[line.style], f"M{WIDTH * (value - low) / (high - low):.0f} 0V{HEIGHT}")
            for line, value in bars.marks
        ],
        # Bars of whole numbers begin half a number before them.
        low=number_text(0.0 if -1 < low < 0 and (bars.values >= 0).all() else low),
        high=number_text(high),
    )


def _outline(counts: NumpyArray, most: int) -> str:
    """The outline of bars as a path, their heights on a logarithmic scale up to `most`."""
    with np.errstate(divide="ignore"):
        parts = np.log(counts / LEAST_COUNT) / np.log(2 * max(most, 1) / LEAST_COUNT)
    tops = np.round(HEIGHT * (1 - np.clip(parts, 0, 1))).astype(int).tolist()
    ends = np.round(WIDTH * np.arange(1, len(tops) + 1) / len(tops)).astype(int).tolist()
    corners = [
        (top, end)
        for top, end, later in zip(tops, ends, [*tops[1:], None], strict=True)
        if top != later
    ]
    steps = "".join(f"V{top}H{end}" for top, end in corners)
    return f"M0 {HEIGHT}{steps}V{HEIGHT}Z"

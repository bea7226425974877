"""Pictures as PNG files in data URIs, small enough to hold many in one page."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Block
from ..channels import CHANNEL
from ..pipeline.pipeline import FittedPipeline
from ..plot import cohort
from ..plot.dropped_pixels import KINDS, percent_text, pixel_kinds
from ..plot.histograms import COLOURS, Line, draw_histogram, fitted_lines, scale_counts
from ..plot.layout import place
from ..plot.shown import new_figure, off_screen
from ..plot.thumbnails import coloured
from .fovs import Pixels, Seen

# Pixels along y and x of a thumbnail.
THUMBNAIL = 128
# Pixels per inch, and how many colours are enough for a drawing.
DPI, DRAWING_COLOURS = 180, 32
BINS = 40
# Inches: the width of histograms with the room at both sides, their height and the room below.
WIDTH, LEFT, RIGHT, HEIGHT, BELOW, EDGE = 1.9, 0.34, 0.15, 0.52, 0.19, 0.06


@dataclass(frozen=True)
class Drawing:
    """A drawing as the page shows it: its data URI, and its size in CSS pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Card:
    """The pictures of a channel; `before` is None where the image is no longer there."""

    channel: str
    before: Drawing | None
    after: Drawing
    histogram: Drawing


@dataclass(frozen=True)
class ImagePictures:
    """The pictures of an image."""

    title: str
    share: str
    note: str
    mask: Drawing
    kinds: Mapping[str, str]
    cards: list[Card]

    @classmethod
    def of(cls, seen: Seen, pixels: Pixels, fitted: FittedPipeline) -> "ImagePictures":
        """Those of the pixels that were read."""
        kinds = pixel_kinds(xr.DataArray(_thin(pixels.after), dims=(CHANNEL, "y", "x")))
        colours = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in KINDS.values()]
        return cls(
            title=seen.fov.title,
            share=percent_text(seen.n_dropped, seen.n_pixels),
            note=pixels.note,
            mask=_indexed(kinds, np.array(colours, np.uint8)),
            kinds={
                name: KINDS[name] for i, name in enumerate(KINDS) if i < 2 or (kinds == i).any()
            },
            cards=list(_cards(pixels, fitted, fitted_lines(fitted, seen.fov.name))),
        )


def _cards(
    pixels: Pixels, fitted: FittedPipeline, lines: Mapping[str, Sequence[Line]]
) -> Iterator[Card]:
    sides = {"before": pixels.before, "after": pixels.after}
    shown = {side: image for side, image in sides.items() if image is not None}
    most = max(np.isfinite(image).sum(axis=(1, 2)).max() for image in shown.values())
    # Axes take most of the time, and serve all channels.
    with off_screen():
        figure = new_figure(WIDTH, EDGE + len(shown) * (HEIGHT + BELOW))
    tops = [EDGE + row * (HEIGHT + BELOW) for row in range(len(shown))]
    axes = [place(figure, LEFT, top, WIDTH - LEFT - RIGHT, HEIGHT) for top in tops]
    for i, label in enumerate(fitted.labels):
        for axis, (side, image) in zip(axes, shown.items(), strict=True):
            for old in [*axis.patches, *axis.lines, *axis.texts]:
                old.remove()
            draw_histogram(axis, image[i], lines[side], label, BINS, COLOURS[side])
            scale_counts(axis, int(most), numbers=True)
        thumbnails = {side: _indexed(*coloured(_thin(image)[i])) for side, image in shown.items()}
        yield Card(str(label), thumbnails.get("before"), thumbnails["after"], _drawing(figure))


def cohort_picture(fitted: FittedPipeline, step: str) -> Drawing:
    """The quantiles that a step measured of each image."""
    with off_screen():
        return _drawing(cohort(fitted, [step]).figure)


def _thin(image: Block) -> Block:
    step = -(-max(image.shape[1:]) // THUMBNAIL)
    return image[:, ::step, ::step]


def _indexed(indices: Block, colours: Block) -> Drawing:
    """A picture in few colours."""
    from PIL import Image

    height, width = indices.shape
    picture = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    picture.putpalette(colours.tobytes())
    return Drawing(_png(picture), width, height)


def _drawing(figure: Any) -> Drawing:
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"compress_level": 0})
    picture = Image.open(buffer).convert("RGB").quantize(DRAWING_COLOURS)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Drawing(_png(picture), width, height)


def _png(picture: Any) -> str:
    buffer = BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

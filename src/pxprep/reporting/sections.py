"""The sections of a report: the pictures of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..aliases import ImageName, Label
from ..plot.dropped_pixels import percent_text
from ..plot.given import um_per_pixel
from ..plot.histograms import Line, fitted_lines
from ..plot.mixing import COLOURS
from ..plot.scale_bar import bar_length, length_text
from ..plot.thumbnails import DROPPED
from .distances import Distances
from .fovs import Anchors, DropCount, Fov, PicturedPixels
from .pictures import Card, Drawing, cards, composite, dropped_pixels, sides, step_to

# Pairs of an image and a channel that are pictured, and of each image at least so many.
MOST_CARDS, FEWEST = 4000, 2
# Sections of so many images are open from the start.
FEW = 3
# So many channels can be told apart in a small picture.
MIXED = 4
# Measured numbers that tell how bright the bright pixels of a channel are. Too many pixels are
# above a mean or a lower quantile, and a maximum may be that of a single pixel.
BRIGHT = ("scale", "high")


@dataclass(frozen=True)
class Section:
    """The pictures of an image."""

    anchor: str
    title: str
    is_far: bool
    headline: str
    share: str
    shown: str
    bar: str
    composite: Drawing
    dropped: Drawing
    kinds: Mapping[str, str]
    cards: Sequence[Card]
    rest: str


@dataclass(eq=False)
class Sections:
    """The sections of all images.

    Attributes
    ----------
    distances
        How far the images of the fitted cohort are from each other.
    titles
        What images are called, by their names.
    anchors
        Where images and their channels are shown.
    channels
        The positions of the channels that are pictured, by the name of the image.
    mixed
        The channels of composites, and their colours.
    sides
        The longest sides of thumbnails and of composites.
    """

    distances: Distances
    titles: Mapping[ImageName, str]
    anchors: Anchors
    channels: Mapping[ImageName, Sequence[int]]
    mixed: Mapping[Label, str]
    sides: tuple[int, int]
    _made: dict[ImageName, Section] = field(default_factory=dict)

    @classmethod
    def of(cls, fovs: Sequence[Fov], distances: Distances) -> Sections:
        """The sections of images that are still to be read: which channels, which sizes."""
        names, remaining = [fov.name for fov in fovs], distances.fitted.remaining
        most = max(MOST_CARDS // len(fovs), FEWEST)
        channels = {name: _pictured(distances, name, most) for name in names}
        anchors: dict[tuple[ImageName, Label | None], str] = {}
        for i, name in enumerate(names):
            anchors[name, None] = f"image-{i}"
            anchors |= {(name, remaining[c]): f"image-{i}-{c}" for c in channels[name]}
        n_cards = sum(map(len, channels.values()))
        return cls(
            distances=distances,
            titles={fov.name: fov.title for fov in fovs},
            anchors=anchors,
            channels=channels,
            mixed=dict(zip(distances.telling_channels(MIXED), COLOURS, strict=False)),
            sides=sides(n_cards, len(fovs)),
        )

    @property
    def in_order(self) -> list[Section]:
        """The sections of outliers first, and the farther ones before the nearer."""
        return [self._made[name] for name in self.distances.sorted(list(self._made))]

    @property
    def are_few(self) -> bool:
        """Whether all can be seen without a click."""
        return len(self.titles) <= FEW

    @property
    def colours(self) -> dict[str, str]:
        """The colours of composites by what they mean."""
        return {**{str(label): colour for label, colour in self.mixed.items()}, "no value": DROPPED}

    def add(self, count: DropCount, pixels: PicturedPixels) -> None:
        """Make the pictures of an image."""
        fov, side = count.fov, self.sides[0]
        lines = fitted_lines(self.distances.fitted, fov.name)
        reasons = self.distances.reasons(fov.name)
        remaining = self.distances.fitted.remaining
        chosen = {
            c: (label, self.anchors[fov.name, label], reasons.get(label, ""))
            for c in self.channels[fov.name]
            for label in [remaining[c]]
        }
        dropped, kinds = dropped_pixels(pixels.after, side)
        bar_part, bar, width = _scale_bar(fov)
        n_left = len(remaining) - len(chosen)
        self._made[fov.name] = Section(
            anchor=self.anchors[fov.name, None],
            title=fov.title,
            is_far=bool(reasons),
            headline=self.distances.headline(fov.name),
            share=percent_text(count.n_dropped, count.n_pixels),
            shown=" ".join(filter(None, [_shown(pixels, side), width])),
            bar=bar,
            composite=self._composite(pixels, lines["before"], bar_part),
            dropped=dropped,
            kinds=kinds,
            cards=list(cards(pixels, lines, chosen, side, bar_part)),
            rest=f"Channels nearer to the median, without pictures here: {n_left:,}."
            if n_left
            else "",
        )

    def _composite(self, pixels: PicturedPixels, lines: Sequence[Line], bar_part: float) -> Drawing:
        """Channels mixed: of the image before, or if it is gone, of that after.

        Before is as bright as the whole cohort's upper quantiles say, so that images compare.
        """
        positions = [self.distances.fitted.remaining.index(label) for label in self.mixed]
        bright = [line for line in lines if line.style == "--" and line.number in BRIGHT]
        by_label = bright[0].values if bright and pixels.before is not None else {}
        limits = [
            limit if limit > 0 else None for limit in (by_label.get(c, 0) for c in self.mixed)
        ]
        image = pixels.after if pixels.before is None else pixels.before
        return composite(
            image[positions], limits, list(self.mixed.values()), self.sides[1], bar_part
        )


def _pictured(distances: Distances, name: ImageName, most: int) -> list[int]:
    """The positions of the remaining channels that are pictured: outliers first, then in order."""
    labels, remaining = distances.fitted.labels, distances.fitted.remaining
    odd = [remaining.index(c) for c in distances.reasons(name) if c in remaining]
    far = distances.of_channels(name)[[labels.index(label) for label in remaining]]
    far = np.nan_to_num(far, nan=0, posinf=np.inf)
    nearer = [c for c in np.argsort(-far, kind="stable").tolist() if c not in odd]
    return odd + sorted(nearer[: max(most - len(odd), 0)])


def _scale_bar(fov: Fov) -> tuple[float, str, str]:
    """Which part of the width a scale bar covers, its length, and how wide the image is, in words.

    0 and empty where the size of a pixel is not known.
    """
    size = um_per_pixel(fov.after)
    if size is None:
        return 0, "", ""
    width = size * fov.after.sizes["x"]
    length = bar_length(width)
    wide, long = length_text(width), length_text(length)
    return length / width, long, f"The image is {wide} wide, the bars are {long} long."


def _shown(pixels: PicturedPixels, side: int) -> str:
    """Which pixels are shown; nothing if all."""
    step = step_to(pixels.after, side)
    means = f"means of {step} x {step} pixels" if step > 1 else ""
    shown = " in ".join(filter(None, [pixels.thinning, means]))
    return shown and f"Shown here: {shown}."

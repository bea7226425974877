"""The cohort as a heatmap: how far each image is from the median, channel by channel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import ImageName, NumpyArray
from ..plot.layout import cut_text
from .distances import Distances
from .fovs import Anchors
from .pictures import Drawing, indexed

# In CSS pixels: a cell, the room between steps, and a letter of a name, and of a step's.
CELL, GAP, LETTER, WIDE_LETTER = 12, 14, 6.4, 7.6
MOST_LETTERS = 20
# So many images stand in the first heatmap, the others in one of their own.
MOST_ROWS = 100
# Colours have their full strength at this ratio; below and above the median, and without signal.
LIMIT, SHADES = 4, 24
BELOW, ABOVE, SILENT = (0, 114, 178), (213, 94, 0), (128, 128, 128)


@dataclass(frozen=True)
class Mark:
    """An outlier: where its cell is, what links to, and what is said of it."""

    x: float
    y: float
    target: str
    text: str


@dataclass(frozen=True)
class Name:
    """A name beside a row or above a column."""

    x: float
    y: float
    text: str
    target: str = ""


@dataclass(frozen=True)
class Group:
    """The cells of one step."""

    x: float
    title: str
    picture: Drawing
    width: int
    height: int


@dataclass(frozen=True)
class Heatmap:
    """A heatmap as the page draws it: names as wide as `left`, and beside them the rest."""

    left: float
    width: float
    height: float
    top: float
    cell: int
    groups: Sequence[Group]
    rows: Sequence[Name]
    columns: Sequence[Name]
    marks: Sequence[Mark]


def heatmaps(
    distances: Distances,
    order: Sequence[ImageName],
    titles: Mapping[ImageName, str],
    anchors: Anchors,
) -> list[Heatmap]:
    """One of the first images, and one of the others, if there are many.

    Parameters
    ----------
    distances
        The distances of the fitted cohort.
    order
        The fitted images in the order of the rows.
    titles
        What images are called.
    anchors
        Where images and their channels are shown.
    """
    if len(order) < 2 or not distances.ratios:
        return []
    parts = [order[:MOST_ROWS], order[MOST_ROWS:]]
    return [_heatmap(distances, part, titles, anchors) for part in parts if part]


def _heatmap(
    distances: Distances,
    order: Sequence[ImageName],
    titles: Mapping[ImageName, str],
    anchors: Anchors,
) -> Heatmap:
    columns = {step: distances.columns(step) for step in distances.ratios}
    names = [cut_text(titles.get(name, str(name)), MOST_LETTERS) for name in order]
    left = LETTER * max(map(len, names)) + 8
    letters = max(len(cut_text(c, MOST_LETTERS)) for some in columns.values() for c in some)
    top = LETTER * letters + 26
    places = [distances.fitted.fovs.index(name) for name in order]
    groups, above, starts, x = [], [], {}, left
    for step, labels in columns.items():
        starts[step] = x
        picture = _cells(distances.ratios[step][places])
        width = CELL * len(labels)
        groups.append(Group(x, step, picture, width, CELL * len(order)))
        above += [
            Name(x + CELL * (i + 0.5), top - 5, cut_text(label, MOST_LETTERS))
            for i, label in enumerate(labels)
        ]
        # No narrower than its title.
        x += max(width, WIDE_LETTER * len(step)) + GAP
    return Heatmap(
        left=left,
        width=x - left,
        height=top + CELL * len(order) + 2,
        top=top,
        cell=CELL,
        groups=groups,
        rows=[
            Name(left - 6, top + CELL * (i + 0.8), text, anchors.get((name, None), ""))
            for i, (name, text) in enumerate(zip(order, names, strict=True))
        ],
        columns=above,
        marks=list(_marks(distances, order, titles, anchors, starts, top)),
    )


def _marks(
    distances: Distances,
    order: Sequence[ImageName],
    titles: Mapping[ImageName, str],
    anchors: Anchors,
    starts: Mapping[str, float],
    top: float,
) -> Iterator[Mark]:
    """The outliers among the rows of a heatmap."""
    rows = {name: i for i, name in enumerate(order)}
    for row in distances.outliers.itertuples():
        if row.fov not in rows:
            continue
        seen = distances.fitted.seen_by[row.step]
        column = 0 if row.channel is None else seen.index(row.channel)
        what = distances.columns(row.step)[column]
        yield Mark(
            starts[row.step] + CELL * column,
            top + CELL * rows[row.fov],
            anchors.get((row.fov, row.channel), anchors.get((row.fov, None), "")),
            f"{titles.get(row.fov, row.fov)}, {what}: {row.reason} ({row.step})",
        )


def _cells(ratios: NumpyArray) -> Drawing:
    """A pixel for each cell, the stronger in colour the farther from the median."""
    with np.errstate(divide="ignore"):
        strengths = np.nan_to_num(np.log(ratios) / np.log(LIMIT), nan=0, neginf=0)
    shades = np.round(SHADES * np.clip(strengths, -1, 1)).astype(int)
    indices = np.where(ratios == 0, 2 * SHADES + 1, shades + SHADES).astype(np.uint8)
    colours = [
        (*(BELOW if shade < 0 else ABOVE), round(255 * abs(shade) / SHADES))
        for shade in range(-SHADES, SHADES + 1)
    ]
    return indexed(indices, np.array([*colours, (*SILENT, 255)], np.uint8))

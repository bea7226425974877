"""Rows and columns of an image, and the pixels around a block in the pieces in which they come."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ._typing import Block


class Window(NamedTuple):
    """Rows and columns of an image, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, depth: int, height: int, width: int) -> "Window":
        """The window and all that is at most `depth` pixels away, within the image."""
        return Window(
            max(0, self.top - depth),
            min(height, self.bottom + depth),
            max(0, self.left - depth),
            min(width, self.right + depth),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where it lies in the image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, other: "Window") -> tuple[slice, slice]:
        """Where this window lies in an array of the pixels of `other`."""
        return (
            slice(self.top - other.top, self.bottom - other.top),
            slice(self.left - other.left, self.right - other.left),
        )

    def meets(self, other: "Window") -> "Window | None":
        """What both have in common; None if that is nothing."""
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        left, right = max(self.left, other.left), min(self.right, other.right)
        return Window(top, bottom, left, right) if top < bottom and left < right else None


class Part(NamedTuple):
    """Pixels of one channel and plane of a window: rows that a kernel can run along."""

    channel: int
    plane: int
    # Two-dimensional, its rows contiguous; where in it the pixels begin.
    values: Block
    top: int
    left: int
    # Where they lie in the window, and how many they are.
    row: int
    column: int
    height: int
    width: int


class Pixels:
    """The pixels around a block, in pieces: whole blocks, or what lies at the edges of some.

    Parameters
    ----------
    pieces
        First channel, place in the image, and array with axes (c, z, y, x), of each piece.
    n_channels
        Of all pieces together.
    """

    def __init__(self, pieces: Iterable[tuple[int, Window, Block]], n_channels: int) -> None:
        self.pieces = list(pieces)
        self.n_channels = n_channels
        _, _, first = self.pieces[0]
        self.dtype = first.dtype
        self.planes = first.shape[1]

    @classmethod
    def of(cls, block: Block, window: Window | None = None) -> "Pixels":
        """Those of one block with all channels, which lies at `window` or is the whole image."""
        height, width = block.shape[2:]
        return cls([(0, window or Window(0, height, 0, width), block)], len(block))

    def plane(self, channel: int, plane: int) -> "Pixels":
        """Those of one channel and plane."""
        pieces = [
            (0, place, array[index : index + 1, plane : plane + 1])
            for index, place, array in self._of_channel[channel]
        ]
        return Pixels(pieces, 1)

    @cached_property
    def _of_channel(self) -> list[list[tuple[int, Window, Block]]]:
        """For each channel: where it is in a piece, and the piece's place and array."""
        found: list[list[tuple[int, Window, Block]]] = [[] for _ in range(self.n_channels)]
        for first, place, array in self.pieces:
            for index in range(len(array)):
                found[first + index].append((index, place, array))
        return found

    def read(self, window: Window) -> Block:
        """The pixels of `window`, with axes (c, z, y, x); a view if one piece holds them all."""
        _, place, array = self.pieces[0]
        if array.shape[0] == self.n_channels and place.meets(window) == window:
            return array[(slice(None), slice(None), *window.within(place))]
        block = np.empty((self.n_channels, self.planes, *window.shape), self.dtype)
        for channels, part, values in self.within(window):
            block[(channels, slice(None), *part.within(window))] = values
        return block

    def within(self, window: Window) -> Iterator[tuple[slice, Window, Block]]:
        """Channels, place and pixels of each piece of `window`."""
        for first, place, array in self.pieces:
            part = place.meets(window)
            if part is not None:
                values = array[(slice(None), slice(None), *part.within(place))]
                yield slice(first, first + len(array)), part, values

    def parts(self, window: Window, dtype: np.dtype[Any]) -> Iterator[Part]:
        """The pixels of `window`, channel after channel; floats in float type `dtype`."""
        for channel, pieces in enumerate(self._of_channel):
            for index, place, array in pieces:
                met = place.meets(window)
                if met is None:
                    continue
                rows, columns = met.within(place)
                row, column = (part.start for part in met.within(window))
                for plane, values in enumerate(array[index]):
                    own, top, left = _in_rows(values, rows, columns, dtype)
                    yield Part(channel, plane, own, top, left, row, column, *met.shape)


class Kept:
    """Pixels of a block as they are between two operations, as far as some pass has made them.

    Parameters
    ----------
    pixels
        Room for them, axes (c, z, y, x).
    place
        Where they lie in the image.
    """

    def __init__(self, pixels: Block, place: Window) -> None:
        self.pixels = pixels
        self._place = place
        self._made: set[Window] = set()

    def at(self, window: Window) -> Block:
        """Those of a window, a view."""
        return self.pixels[:, :, *window.within(self._place)]

    def put(self, window: Window) -> None:
        """Those of a window are there now; windows do not overlap."""
        self._made.add(window)

    def has(self, window: Window) -> bool:
        """Whether those of a window are there."""
        return window in self._made or self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether all are there."""
        return sum(map(_area, self._made)) == _area(self._place)


def _area(window: Window) -> int:
    rows, columns = window.shape
    return rows * columns


def _in_rows(
    values: Block, rows: slice, columns: slice, dtype: np.dtype[Any]
) -> tuple[Block, int, int]:
    """A plane that a kernel can run along, or a copy of a part of it; and where the part begins."""
    wanted = dtype if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
    if values.dtype == wanted and values.flags.c_contiguous:
        return values, rows.start, columns.start
    return np.ascontiguousarray(values[rows, columns], wanted), 0, 0

"""Rows and columns of an image, and the pixels around a block in the pieces in which they come."""

from collections.abc import Iterable, Iterator
from operator import attrgetter
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..aliases import Block, DType

# Of a block: its place among planes, rows and columns of blocks.
Index = tuple[int, int, int]


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

    def edges(self, depth: int) -> "list[Window]":
        """What lies within `depth` pixels of its edges, in up to four parts that do not overlap."""
        top, left = min(self.top + depth, self.bottom), min(self.left + depth, self.right)
        bottom, right = max(self.bottom - depth, top), max(self.right - depth, left)
        parts = [
            self._replace(bottom=top),
            self._replace(top=bottom),
            Window(top, bottom, self.left, left),
            Window(top, bottom, right, self.right),
        ]
        return [part for part in parts if part.top < part.bottom and part.left < part.right]

    def meets(self, other: "Window") -> "Window | None":
        """What both have in common; None if that is nothing."""
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        left, right = max(self.left, other.left), min(self.right, other.right)
        return Window(top, bottom, left, right) if top < bottom and left < right else None


class Stretch(NamedTuple):
    """What a piece holds of a window, as one line of memory that a kernel can run along."""

    # Its first channel.
    first: int
    # One axis: all from the first to the last pixel, and what may lie between; read-only.
    values: Block
    # Where in it the first pixel is, and how far behind another the next channel, plane, row is.
    start: int
    strides: tuple[int, int, int]
    # Channels, planes, rows and columns; and where in the window they lie.
    shape: tuple[int, int, int, int]
    row: int
    column: int

    @property
    def channels(self) -> range:
        """Which of the image's channels these are."""
        return range(self.first, self.first + self.shape[0])

    def at(self, channel: int, plane: int) -> int:
        """Where the first pixel of one of these channels is, in a plane."""
        return self.start + (channel - self.first) * self.strides[0] + plane * self.strides[1]


class Pixels:
    """The pixels around a block, in pieces: whole blocks, or what lies at the edges of some.

    No two pieces hold the same pixel of a channel: what is made of the pixels must not depend on
    the pieces in which they come, and sums would count it twice.

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

    def read(self, window: Window) -> Block:
        """The pixels of `window`, with axes (c, z, y, x); a view if one piece holds them all."""
        _, place, array = self.pieces[0]
        if array.shape[0] == self.n_channels and place.meets(window) == window:
            return array[(slice(None), slice(None), *window.within(place))]
        block = np.empty((self.n_channels, self.planes, *window.shape), self.dtype)
        for channels, part, values in self.within(window):
            block[(channels, slice(None), *part.within(window))] = values
        return block

    def in_rows(self, rows: range) -> "Pixels":
        """Only some rows, one below the other, as if there were no others."""
        pieces = []
        for first, place, array in self.pieces:
            own = rows[_n_below(rows, place.top) : _n_below(rows, place.bottom)]
            if own:
                lines = slice(own[0] - place.top, own[-1] + 1 - place.top, rows.step)
                top = rows.index(own[0])
                at = place._replace(top=top, bottom=top + len(own))
                pieces.append((first, at, array[:, :, lines]))
        return Pixels(pieces, self.n_channels)

    def within(self, window: Window) -> Iterator[tuple[slice, Window, Block]]:
        """Channels, place and pixels of each piece of `window`."""
        for first, place, array in self.pieces:
            part = place.meets(window)
            if part is not None:
                values = array[(slice(None), slice(None), *part.within(place))]
                yield slice(first, first + len(array)), part, values

    def parts(self, window: Window, dtype: DType, channels: range | None = None) -> list[Stretch]:
        """The pixels of `window`, of all channels or some; floats in float type `dtype`.

        Parts of a place are in the order of their channels.
        """
        wanted = dtype if self.dtype.kind == "f" else self.dtype.newbyteorder("=")
        found = []
        for first, place, array in self.pieces:
            met = place.meets(window)
            if channels is not None:
                begin = max(first, channels.start)
                end = min(first + len(array), channels.stop)
                first, array = begin, array[begin - first : max(begin, end) - first]
            if met is None or not len(array):
                continue
            row, column = met.top - window.top, met.left - window.left
            top, left, (n_rows, n_columns) = met.top - place.top, met.left - place.left, met.shape
            steps, is_line = _steps(array)
            if not is_line or array.dtype != wanted:
                block = array[:, :, top : top + n_rows, left : left + n_columns]
                array, top, left = np.ascontiguousarray(block, wanted), 0, 0
                steps, _ = _steps(array)
            channel, plane, line, _ = steps
            size = array.itemsize
            n_values = 1 + sum([(n - 1) * step for n, step in zip(array.shape, steps, strict=True)])
            values = as_strided(array, (n_values,), (size,), writeable=False)
            shape = *array.shape[:2], n_rows, n_columns
            start = top * line + left
            own = Stretch(first, values, start, (channel, plane, line), shape, row, column)
            found.append(own)
        return sorted(found, key=attrgetter("first"))


def _steps(array: Block) -> tuple[list[int], bool]:
    """How many values each axis goes ahead, and whether rows are lines that a kernel can read."""
    steps = [stride // array.itemsize for stride in array.strides]
    are_whole = [step * array.itemsize for step in steps] == [*array.strides]
    return steps, are_whole and steps[3] == 1 and min(steps) >= 0


class Kept:
    """Pixels of a block as they are between two operations, as far as some pass has made them.

    Several threads may use them at once when all are there, and one alone before: first who makes
    this.

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
        self._users = 1
        self._is_taken = False
        self._lock = Lock()

    def use(self) -> bool:
        """True if the block may be read until `leave`.

        While it is filled it holds intermediate values, so that a second user gets False.
        """
        with self._lock:
            is_free = not self._is_taken and (self._users == 0 or self.is_complete)
            self._users += is_free
            return is_free

    def leave(self) -> None:
        """Use them no more."""
        with self._lock:
            self._users -= 1

    @property
    def is_gone(self) -> bool:
        """Whether somebody has written over them."""
        return self._is_taken

    def take(self) -> bool:
        """Whether all are there, and may be written over: nobody else uses them, now or later."""
        with self._lock:
            self._is_taken |= self._users == 1 and self.is_complete
            return self._is_taken

    def at(self, window: Window) -> Block:
        """Those of a window, a view."""
        return self.pixels[:, :, *window.within(self._place)]

    def put(self, window: Window) -> None:
        """Those of a window are there now; windows do not overlap."""
        with self._lock:
            self._made.add(window)

    def has(self, window: Window) -> bool:
        """Whether those of a window are there."""
        return window in self._made or self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether all are there."""
        return sum(map(_area, self._made)) == _area(self._place)


def _n_below(rows: range, end: int) -> int:
    """How many of the rows come before one."""
    return len(range(rows.start, min(end, rows.stop), rows.step))


def _area(window: Window) -> int:
    rows, columns = window.shape
    return rows * columns

"""Rows and columns of an image, and the pixels around a block in the pieces in which they come."""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..aliases import Block, DType
from ..memory import scratch

# Which block: its place in z, in rows of blocks, and in columns of blocks.
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
    def n_pixels(self) -> int:
        """How many pixels of a plane it has."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the window lies in the image."""
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

    def overlap(self, other: "Window") -> "Window | None":
        """The part that both windows have in common; None if there is none."""
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        left, right = max(self.left, other.left), min(self.right, other.right)
        return Window(top, bottom, left, right) if top < bottom and left < right else None


class Stretch(NamedTuple):
    """What a piece holds of a window, as one line of memory that a kernel can run along."""

    # The first channel that it holds.
    first_channel: int
    # One axis, read-only: the memory from the first to the last pixel of the piece, and whatever
    # lies between them.
    values: Block
    # At which index of `values` the window's first pixel is; and how many values it takes from a
    # pixel to the same one of the next channel, of the next plane, and of the next row.
    start: int
    strides: tuple[int, int, int]
    # How many channels, planes, rows and columns it holds; and where in the window they lie.
    shape: tuple[int, int, int, int]
    row: int
    column: int

    @property
    def channels(self) -> range:
        """Which of the image's channels these are."""
        return range(self.first_channel, self.first_channel + self.shape[0])

    def at(self, channel: int, plane: int) -> int:
        """The index in `values` of the first pixel of one of the channels, in a plane."""
        within = channel - self.first_channel
        return self.start + within * self.strides[0] + plane * self.strides[1]


class Pixels:
    """The pixels of a block and around it, in pieces: whole blocks, or only edges of neighbours.

    No two pieces hold the same pixel of a channel: sums would count it twice, and results must not
    depend on the pieces in which pixels come.

    Parameters
    ----------
    pieces
        Of each piece its first channel, its window, and its array with axes (c, z, y, x).
    n_channels
        How many channels all pieces have together.
    """

    def __init__(self, pieces: Iterable[tuple[int, Window, Block]], n_channels: int) -> None:
        # Which chunk along z these are of, if an image comes in several: notes tell them apart.
        self.z_chunk: int | None = None
        self.pieces = list(pieces)
        self.n_channels = n_channels
        _, _, first = self.pieces[0]
        self.dtype = first.dtype
        self.planes = first.shape[1]

    @classmethod
    def of(cls, block: Block, window: Window | None = None) -> "Pixels":
        """The pixels of one block with all channels: of `window`, or else of the whole image."""
        height, width = block.shape[2:]
        return cls([(0, window or Window(0, height, 0, width), block)], len(block))

    def read(self, window: Window) -> Block:
        """The pixels of `window`, with axes (c, z, y, x); a view if one piece holds them all."""
        _, held, array = self.pieces[0]
        if array.shape[0] == self.n_channels and held.overlap(window) == window:
            return array[(slice(None), slice(None), *window.within(held))]
        block = scratch((self.n_channels, self.planes, *window.shape), self.dtype)
        for channels, part, values in self.within(window):
            block[(channels, slice(None), *part.within(window))] = values
        return block

    def in_rows(self, rows: range, window: Window) -> "Pixels":
        """Only some rows, in the columns of a window, as an image of their own."""
        block = self.read(window._replace(top=rows[0], bottom=rows[-1] + 1))
        return Pixels.of(block[:, :, :: rows.step])

    def within(self, window: Window) -> Iterator[tuple[slice, Window, Block]]:
        """What each piece holds of `window`: the channels, where it lies, and the pixels."""
        for first, held, array in self.pieces:
            part = held.overlap(window)
            if part is not None:
                values = array[(slice(None), slice(None), *part.within(held))]
                yield slice(first, first + len(array)), part, values

    def stretches(
        self, window: Window, dtype: DType, channels: range | None = None
    ) -> list[Stretch]:
        """The pixels of `window`, of all channels or some, as lines of memory.

        Floats come in the float type `dtype`, integers in their own type. Stretches are in the
        order of their channels.
        """
        wanted = dtype if self.dtype.kind == "f" else self.dtype.newbyteorder("=")
        stretches = []
        for first, held, array in self.pieces:
            met = held.overlap(window)
            if channels is not None:
                begin = max(first, channels.start)
                end = min(first + len(array), channels.stop)
                first, array = begin, array[begin - first : max(begin, end) - first]
            if met is None or not len(array):
                continue
            row, column = met.top - window.top, met.left - window.left
            top, left, (n_rows, n_columns) = met.top - held.top, met.left - held.left, met.shape
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
            strides = channel, plane, line
            stretches.append(Stretch(first, values, start, strides, shape, row, column))
        return sorted(stretches, key=attrgetter("first_channel"))


def _steps(array: Block) -> tuple[list[int], bool]:
    """The strides in values, not bytes; and whether each row is one line of memory to be read."""
    steps = [stride // array.itemsize for stride in array.strides]
    are_whole = [step * array.itemsize for step in steps] == [*array.strides]
    return steps, are_whole and steps[3] == 1 and min(steps) >= 0


class ResultSoFar:
    """A block as it is between two operations of a program, kept by one pass for later ones.

    One pass fills it: of a lazy image one thread, of an image in memory all threads of the pass.
    Once all its pixels are there, several threads may use it at once. Passes over lazy images count
    its users, and the maker is the first.

    Parameters
    ----------
    pixels
        The array to be filled, axes (c, z, y, x).
    window
        Where the block lies in the image.
    """

    def __init__(self, pixels: Block, window: Window) -> None:
        self.pixels = pixels
        self._window = window
        self._n_left = window.n_pixels
        self._users = 1
        self._is_claimed = False
        self._lock = Lock()

    def use(self) -> bool:
        """Become a user until `leave`, and return True; or return False if that is not possible.

        It is not possible before the maker has filled the block, as values there are intermediate,
        nor once somebody has claimed it.
        """
        with self._lock:
            is_free = self.is_complete and not self._is_claimed
            self._users += is_free
            return is_free

    def leave(self) -> None:
        """Stop being a user."""
        with self._lock:
            self._users -= 1

    @property
    def is_lost(self) -> bool:
        """Whether nobody can use it: its maker left it unfinished, or somebody has claimed it."""
        return self._is_claimed or (self._users == 0 and not self.is_complete)

    def claim(self) -> bool:
        """Whether a user may write over the block: if it is complete, and nobody else uses it.

        Then nobody else will use it any more.
        """
        with self._lock:
            self._is_claimed |= self._users == 1 and self.is_complete
            return self._is_claimed

    def at(self, window: Window) -> Block:
        """The pixels of a window: a view."""
        return self.pixels[:, :, *window.within(self._window)]

    def put(self, window: Window) -> None:
        """Say that the pixels of a window are there now; no two windows may overlap."""
        with self._lock:
            self._n_left -= window.n_pixels

    @property
    def is_complete(self) -> bool:
        """Whether all pixels are there."""
        return self._n_left == 0


def kept_among(numbers: Sequence[object]) -> tuple[int, ResultSoFar | None]:
    """The `ResultSoFar` among what the operations of a program take, and which of them takes it.

    A program has one at most; (-1, None) if it has none.
    """
    for position, number in enumerate(numbers):
        if isinstance(number, ResultSoFar):
            return position, number
    return -1, None

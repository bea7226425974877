"""Chains of operations that run on a block of pixels while it is in cache.

A program is a sequence of operations on blocks with the axes (c, z, y, x) and all channels. It runs
strip by strip: a few rows of the block, with as much around them as the blurs of the program read,
go through all operations before the next strip is touched.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import _blocks
from ._kernels.blur import blur_radius
from ._kernels.brackets import gather
from ._typing import Block

# Values of a strip: about what the second- and third-level caches hold while it is worked on.
STRIP_VALUES = 1 << 21


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


@dataclass(frozen=True)
class Operation:
    """What happens to the values of a block, given numbers that were measured, or None."""

    @property
    def depth(self) -> int:
        """How far away the pixels lie that a pixel's new value depends on."""
        return 0

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The block after this operation, in float type `dtype`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Divide(Operation):
    """Each channel is divided by a measured scale."""

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The quotient."""
        return _blocks.divide(block, numbers, dtype=dtype)


@dataclass(frozen=True)
class KeepAbove(Operation):
    """Pixels whose sum is not above a measured threshold are NaN in every channel."""

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The masked block."""
        sums = _blocks.add_channels(block, dtype=dtype)
        return _blocks.keep_above(block, sums, numbers, dtype=dtype)


@dataclass(frozen=True)
class DivideBySums(Operation):
    """Pixels are divided by their sum over channels."""

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The quotient, NaN where the sum is not positive."""
        sums = _blocks.add_channels(block, dtype=dtype)
        return _blocks.divide_by_sums(block, sums, dtype=dtype)


@dataclass(frozen=True)
class ClipAbove(Operation):
    """Values above the limit of their channel become that limit."""

    limits: tuple[float, ...]

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The clipped block."""
        return _blocks.clip_above(block, np.array(self.limits), dtype=dtype)


@dataclass(frozen=True)
class AddChannels(Operation):
    """The sum over channels, as the only channel."""

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The sums, with axes (1, z, y, x)."""
        return _blocks.add_channels(block, dtype=dtype)[np.newaxis]


def blur_depth(sigmas: Iterable[float]) -> int:
    """How far a blur reads that has these sigmas in its channels."""
    return max(blur_radius(float(sigma)) for sigma in sigmas)


@dataclass(frozen=True)
class Blur(Operation):
    """Each channel is blurred, with its own sigma in pixels."""

    sigmas: tuple[float, ...]

    @property
    def depth(self) -> int:
        """The radius of the widest kernel."""
        return blur_depth(self.sigmas)

    def __call__(self, block: Block, numbers: Any, dtype: np.dtype[Any]) -> Block:
        """The block blurred as if it were the whole image."""
        return _blocks.blur(block, np.array(self.sigmas), dtype=dtype)

    def inner(self, block: Block, have: Window, want: Window, dtype: np.dtype[Any]) -> Block:
        """The blurred pixels of `want`, given those of `have`: more of the image by `depth`."""
        return _blocks.blur(
            block,
            np.array(self.sigmas),
            dtype=dtype,
            origin=(want.top - have.top, want.left - have.left),
            shape=want.shape,
        )


@dataclass(frozen=True)
class Program:
    """Operations in their order, the float type they run in, and the size of the image.

    Attributes
    ----------
    operations
        None leaves pixels as they are, in their own type.
    dtype
        Float type of what comes out of any operation.
    height, width
        Of the image that blocks are part of.
    """

    operations: tuple[Operation, ...]
    dtype: np.dtype[Any]
    height: int
    width: int

    @property
    def depth(self) -> int:
        """How far around a pixel the program reads."""
        return sum(operation.depth for operation in self.operations)

    def reads(self, window: Window) -> Window:
        """The pixels that are needed for those of `window`."""
        return window.grown(self.depth, self.height, self.width)

    def out_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Type of what comes out, for pixels of type `dtype`."""
        return self.dtype if self.operations else dtype

    def out_channels(self, n_channels: int) -> int:
        """How many channels come out."""
        adds = any(isinstance(operation, AddChannels) for operation in self.operations)
        return 1 if adds else n_channels

    def run(self, pixels: "Pixels", window: Window, numbers: Sequence[Any]) -> Block:
        """The pixels of `window`, shape (c, z, y, x), at the end of the program.

        Parameters
        ----------
        pixels
            At least those that `reads(window)` asks for.
        window
            A strip of the image.
        numbers
            For each operation the numbers that it needs, or None.
        """
        have = self.reads(window)
        block = pixels.read(have)
        left = self.depth
        for operation, number in zip(self.operations, numbers, strict=True):
            if isinstance(operation, Blur):
                left -= operation.depth
                want = window.grown(left, self.height, self.width)
                block = operation.inner(block, have, want, self.dtype)
                have = want
            else:
                block = operation(block, number, self.dtype)
        return block

    def strips(self, window: Window, n_values: int) -> Iterator[Window]:
        """Strips of `window` of which one after the other is run; `n_values` are in one row."""
        rows = max(1, STRIP_VALUES // n_values, 4 * self.depth)
        for top in range(window.top, window.bottom, rows):
            yield window._replace(top=top, bottom=min(top + rows, window.bottom))


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

    def read(self, window: Window) -> Block:
        """The pixels of `window`, with axes (c, z, y, x); a view if one piece holds them all."""
        _, place, array = self.pieces[0]
        if array.shape[0] == self.n_channels and place.meets(window) == window:
            return array[(slice(None), slice(None), *window.within(place))]
        block = np.empty((self.n_channels, self.planes, *window.shape), self.dtype)
        for first, place, array in self.pieces:
            part = place.meets(window)
            if part is not None:
                channels = slice(first, first + array.shape[0])
                block[(channels, slice(None), *part.within(window))] = array[
                    (slice(None), slice(None), *part.within(place))
                ]
        return block


def run_into(
    program: Program,
    pixels: Pixels,
    window: Window,
    numbers: Sequence[Any],
    targets: Sequence[Block],
) -> None:
    """Write the pixels of `window` at the end of a program to `targets`.

    Each target holds a run of channels, one behind the other.
    """
    for strip in program.strips(window, pixels.n_channels * pixels.planes * window.shape[1]):
        block = program.run(pixels, strip, numbers)
        place = strip.within(window)
        first = 0
        for target in targets:
            target[(slice(None), slice(None), *place)] = block[first : first + len(target)]
            first += len(target)


def count_into(
    program: Program,
    pixels: Pixels,
    window: Window,
    numbers: Sequence[Any],
    prefixes: Block | None,
    level: int,
    zeros: bool,
    counts: Block,
) -> None:
    """Add to `counts` the digits of the pixels of `window`; see `_blocks.count_digits`."""
    for strip in program.strips(window, pixels.n_channels * pixels.planes * window.shape[1]):
        block = program.run(pixels, strip, numbers)
        _blocks.count_digits(block, prefixes, level, zeros, counts)


@dataclass(frozen=True, eq=False)
class Gathered:
    """What lies between two bounds of the values of a channel.

    Attributes
    ----------
    tally
        How many values are counted, negative, infinite and below the lower bound.
    inside
        The values between the bounds, in any order; None if they are too many.
    """

    tally: Block
    inside: Block | None

    @classmethod
    def merged(cls, parts: Sequence["Gathered"], most: int) -> "Gathered":
        """What lies there of all the values together, if it is at most so many."""
        inside = [part.inside for part in parts if part.inside is not None]
        complete = len(inside) == len(parts) and sum(one.size for one in inside) <= most
        return cls(
            np.sum([part.tally for part in parts], axis=0),
            np.concatenate(inside) if complete else None,
        )


def gather_strips(
    program: Program,
    pixels: Pixels,
    window: Window,
    numbers: Sequence[Any],
    low: Block,
    high: Block,
    zeros: bool,
    most: int,
) -> Block:
    """The `Gathered` of each channel of the pixels of `window` at the end of a program.

    At most `most` values of each channel are gathered.
    """
    merged = np.empty(len(low), object)
    merged[:] = [Gathered(np.zeros(4, np.int64), np.empty(0, program.dtype)) for _ in low]
    for strip in program.strips(window, pixels.n_channels * pixels.planes * window.shape[1]):
        block = program.run(pixels, strip, numbers)
        room = np.empty(block[0].size + 1, program.dtype)
        for index, channel in enumerate(block):
            found = _gathered(channel, low[index], high[index], zeros, room)
            merged[index] = Gathered.merged([merged[index], found], most)
    return merged


def _gathered(values: Block, low: Any, high: Any, zeros: bool, room: Block) -> Gathered:
    tally = np.zeros(4, np.int64)
    flat = np.ascontiguousarray(values, room.dtype).reshape(-1)
    n = gather(flat, room.dtype.type(low), room.dtype.type(high), zeros, tally, room)
    return Gathered(tally, room[:n].copy())

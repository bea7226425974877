"""A few rows of an image on their way through a program."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..aliases import Block, DType
from . import blocks
from .notes import Note
from .windows import Pixels, Window


class Running(Protocol):
    """The program that a strip goes through, as far as that matters on the way."""

    @property
    def dtype(self) -> DType:
        """Float type of what comes out of any operation."""

    @property
    def height(self) -> int:
        """Of the image that the strip is part of."""

    @property
    def width(self) -> int:
        """Likewise."""

    def run_in_rows(
        self, pixels: Pixels, numbers: Sequence[object], rows: range, window: Window
    ) -> Block:
        """The pixels of some rows at the end of the program."""

    def sums_behind(self, n: int, numbers: Sequence[object]) -> "tuple[Running, list[object]]":
        """The sums over channels behind so many operations, and the numbers for those."""


class Strip:
    """What a few rows have become on the way through a program.

    Division and masking are delayed until the pixels are next read or written, where they cost
    nothing; a mask also waits in case the next step divides by the same sums.

    Parameters
    ----------
    pixels
        At least those that the program reads for the window that is wanted.
    window
        All that it reads.
    program
        The program.
    place
        Where the pixels that are wanted may be put right away, with axes (c, z, y, x), if anywhere.
    """

    def __init__(
        self, pixels: Pixels, window: Window, program: Running, place: Block | None = None
    ) -> None:
        self.pixels = pixels
        self.window = window
        self.program = program
        # The pixels that are wanted in the end, where notes are taken of them.
        self.own: Window | None = None
        # What all of it is made from: pixels, and numbers for each operation; None where the
        # program began with pixels that were kept.
        self.begun: tuple[Pixels, Sequence[object]] | None = None
        self._place = place
        self._block: Block | None = None
        self._scale: Block | None = None
        self._sums: Block | None = None

    def noted(self, note: Note | None, count: Callable[[Window], npt.ArrayLike]) -> None:
        """Have a note take what `count` finds in the pixels that are wanted in the end."""
        if note is not None and self.own is not None:
            rows, columns = self.own.shape
            n_values = self.pixels.n_channels * self.pixels.planes * rows * columns
            note.take(self.own, n_values, partial(count, self.own))

    def become(self, block: Block, window: Window) -> None:
        """Go on as a new block, which may be written to, of the pixels of `window`."""
        self._block, self._scale, self._sums = block, None, None
        self.window, self.pixels = window, Pixels.of(block, window)

    def keep(self, block: Block, window: Window) -> None:
        """Go on as a block that is written now, the pixels of `window`, and not again."""
        self.write(list(block))
        self.become(block, window)
        self._block = self._place = None

    def room(self, window: Window) -> Block:
        """A new block for the pixels of `window`, each channel of which is contiguous."""
        shape = self.pixels.n_channels, self.pixels.planes, *window.shape
        place, self._place = self._place, None
        if place is not None and place.shape == shape and place[0].flags.c_contiguous:
            return place
        return np.empty(shape, self.program.dtype)

    def block(self) -> Block:
        """As a block that may be written to."""
        if self._scale is not None:
            shape = self.pixels.n_channels, self.pixels.planes, *self.window.shape
            made = np.empty(shape, self.program.dtype)
            blocks.divide(self.pixels, self.window, self._scale, dtype=made.dtype, out=list(made))
            self.become(made, self.window)
        elif self._sums is not None:
            blocks.keep_above(self.kept, self._sums)
            self._sums = None
        return self.kept

    def values(self) -> Block:
        """As a block that is not written to."""
        if self._block is None and self._scale is None and self.pixels.dtype == self.program.dtype:
            return self.pixels.read(self.window)
        return self.block()

    @property
    def kept(self) -> Block:
        """As a block that may be written to, from which no pixel has been dropped yet."""
        if self._block is None:
            read = self.pixels.read(self.window)
            self.become(np.array(read, self.program.dtype, order="C"), self.window)
        return self._block  # type: ignore[return-value]

    def divide(self, scale: Block) -> None:
        """Divide each channel, as soon as somebody needs the quotients."""
        if self._scale is not None or self._sums is not None:
            self.block()
        self._scale = scale

    def undivided(self) -> tuple[Pixels, Block | None]:
        """Pixels, and what they must still be divided by, if anything."""
        if self._sums is not None:
            self.block()
        return self.pixels, self._scale

    @property
    def is_dropping(self) -> bool:
        """Whether pixels are yet to be dropped."""
        return self._sums is not None

    def sums(self) -> Block:
        """The sums over channels, NaN where pixels were dropped."""
        if self._sums is not None:
            return self._sums
        pixels, scale = self.undivided()
        return blocks.add_channels(pixels, self.window, scale, dtype=self.program.dtype)

    def drop(self, sums: Block) -> None:
        """Drop the pixels whose sums are NaN; the others have these sums over channels."""
        self.block()
        self._sums = sums

    def write(self, targets: Sequence[Block]) -> None:
        """Write an array with axes (z, y, x) for each channel."""
        fits = all(plane.flags.c_contiguous for target in targets for plane in target)
        if self._scale is not None and fits:
            _, _, piece = self.pixels.pieces[0]
            if np.may_share_memory(piece, targets[0]):
                blocks.divide_in_place(targets, self._scale)
            else:
                blocks.divide(
                    self.pixels, self.window, self._scale, dtype=self.program.dtype, out=targets
                )
            return
        block = self.values()
        if not np.may_share_memory(block, targets[0]):
            for target, channel in zip(targets, block, strict=True):
                target[...] = channel

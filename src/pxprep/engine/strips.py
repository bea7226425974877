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
    """What a strip, and the operations on it, need of the program that they are part of."""

    @property
    def dtype(self) -> DType:
        """Float type of what comes out of any operation."""

    @property
    def height(self) -> int:
        """Height of the whole image, of which the strip is a part."""

    @property
    def width(self) -> int:
        """Width of the whole image."""

    def run_in_rows(
        self, pixels: Pixels, numbers: Sequence[object], rows: range, window: Window
    ) -> Block:
        """The pixels of some rows at the end of the program."""

    def sums_after(self, n: int, numbers: Sequence[object]) -> "tuple[Running, list[object]]":
        """A program of the first `n` operations and the sum over channels; what those take."""


class Strip:
    """What a few rows have become on the way through a program.

    A strip is divided, and its pixels are dropped, only when they are next read or written: done
    along with that, it costs nothing. The sums that tell which pixels to drop wait, too: the next
    step often divides by the same sums.

    Parameters
    ----------
    pixels
        At least those of `window`.
    window
        Where the strip lies at first: all that the program reads for the pixels wanted in the end.
    program
        The program.
    target
        An array with axes (c, z, y, x) into which the pixels wanted in the end may be put as soon
        as they are made; or None.
    """

    def __init__(
        self, pixels: Pixels, window: Window, program: Running, target: Block | None = None
    ) -> None:
        self.pixels = pixels
        self.window = window
        self.program = program
        # The pixels wanted in the end, if notes are taken of them.
        self.noted_window: Window | None = None
        # What the program began with: pixels, and what each operation takes. None if it began with
        # pixels that an earlier pass had kept.
        self.begun: tuple[Pixels, Sequence[object]] | None = None
        self._target = target
        self._block: Block | None = None
        self._scale: Block | None = None
        self._sums: Block | None = None

    def notice(self, note: Note | None, count: Callable[[Window], npt.ArrayLike]) -> None:
        """Have a note take what `count` finds in the pixels wanted in the end."""
        if note is not None and self.noted_window is not None:
            rows, columns = self.noted_window.shape
            n_values = self.pixels.n_channels * self.pixels.planes * rows * columns
            note.take(self.noted_window, n_values, partial(count, self.noted_window))

    def become(self, block: Block, window: Window) -> None:
        """Go on as a new block of the pixels of `window`; the block may be written to."""
        self._block, self._scale, self._sums = block, None, None
        self.window, self.pixels = window, Pixels.of(block, window)

    def move_to(self, block: Block, window: Window) -> None:
        """Write the pixels of `window` to a block, and go on from it without changing it."""
        self.write(list(block))
        self.become(block, window)
        self._block = self._target = None

    def block_for(self, window: Window) -> Block:
        """A block for the pixels of `window`: `target` if it fits; its channels are contiguous."""
        shape = self.pixels.n_channels, self.pixels.planes, *window.shape
        target = self._target
        if target is not None and target.shape == shape and target[0].flags.c_contiguous:
            self._target = None
            return target
        return np.empty(shape, self.program.dtype)

    def block(self) -> Block:
        """The strip as a block that may be written to; what was delayed is done now."""
        if self._scale is not None:
            shape = self.pixels.n_channels, self.pixels.planes, *self.window.shape
            made = np.empty(shape, self.program.dtype)
            blocks.divide(self.pixels, self.window, self._scale, dtype=made.dtype, out=list(made))
            self.become(made, self.window)
        elif self._sums is not None:
            blocks.keep_above(self.undropped, self._sums)
            self._sums = None
        return self.undropped

    def values(self) -> Block:
        """The strip as a block that must not be written to."""
        if self._block is None and self._scale is None and self.pixels.dtype == self.program.dtype:
            return self.pixels.read(self.window)
        return self.block()

    @property
    def undropped(self) -> Block:
        """As `block`, but pixels that are yet to be dropped still have their values."""
        if self._block is None:
            read = self.pixels.read(self.window)
            self.become(np.array(read, self.program.dtype, order="C"), self.window)
        return self._block  # type: ignore[return-value]

    def divide(self, scale: Block) -> None:
        """Divide each channel by its scale, when the quotients are needed."""
        if self._scale is not None or self._sums is not None:
            self.block()
        self._scale = scale

    def undivided(self) -> tuple[Pixels, Block | None]:
        """The pixels, and the scale by which they must still be divided, or None."""
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
        """Drop the pixels whose sums are NaN, when the pixels are needed.

        The other pixels have these sums over channels.
        """
        self.block()
        self._sums = sums

    def write(self, targets: Sequence[Block]) -> None:
        """Write the strip to `targets`, an array with axes (z, y, x) for each channel."""
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

"""Chains of operations that run on a block of pixels while it is in cache.

A program is a sequence of operations on blocks with the axes (c, z, y, x) and all channels. It runs
strip by strip: a few rows of the block, with as much around them as the blurs of the program read,
go through all operations before the next strip is touched.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..aliases import Block, DType
from ..memory import scratch
from . import blocks
from .notes import MakeNote, Note
from .windows import Pixels, Window, kept_among

# Values of a strip: about what the second- and third-level caches hold while it is worked on.
STRIP_VALUES = 1 << 21
# Makes the sums over channels in some rows, and in the columns of a window.
SumsInRows = Callable[[range, Window], Block]
# Given a strip, returns what makes the sums on which the strip's threshold was measured; or None.
SumsAgain = Callable[["Strip"], SumsInRows | None]


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
        self, pixels: Pixels, window: Window, program: "Program", target: Block | None = None
    ) -> None:
        self.pixels = pixels
        self.window = window
        self.program = program
        # What the operation that runs now must make: the pixels that those after it need.
        self.want = window
        # The pixels wanted in the end, if notes are taken of them, and which chunk along z.
        self.noted_window: Window | None = None
        self.z_chunk: int | None = None
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
            n_values = self.pixels.n_channels * self.pixels.planes * self.noted_window.n_pixels
            counted = partial(count, self.noted_window)
            note.take(self.noted_window, n_values, counted, self.z_chunk)

    def become(self, block: Block, window: Window) -> None:
        """Go on as a new block of the pixels of `window`; the block may be written to."""
        self._block, self._scale, self._sums = block, None, None
        self.window, self.pixels = window, Pixels.of(block, window)

    def move_to(self, block: Block, window: Window) -> None:
        """Write the pixels of `window` to a block, and go on from it without changing it."""
        self.write(list(block))
        self.become(block, window)
        self._block = self._target = None

    def new_block(self) -> Block:
        """A block for the pixels of `want`: `target` if it fits; its channels are contiguous."""
        shape = self.pixels.n_channels, self.pixels.planes, *self.want.shape
        target = self._target
        if target is not None and target.shape == shape and target[0].flags.c_contiguous:
            self._target = None
            return target
        return scratch(shape, self.program.dtype)

    def block(self) -> Block:
        """The strip as a block that may be written to; what was delayed is done now."""
        block = self.undropped
        if self._sums is not None:
            blocks.drop_where_nan(block, self._sums)
            self._sums = None
        return block

    def values(self) -> Block:
        """The strip as a block that must not be written to."""
        if self._block is None and self._scale is None and self.pixels.dtype == self.program.dtype:
            return self.pixels.read(self.window)
        return self.block()

    @property
    def undropped(self) -> Block:
        """As `block`, but pixels that are yet to be dropped still have their values."""
        if self._scale is not None:
            shape = self.pixels.n_channels, self.pixels.planes, *self.window.shape
            made = scratch(shape, self.program.dtype)
            blocks.divide(self.pixels, self.window, self._scale, list(made))
            self.become(made, self.window)
        elif self._block is None:
            read = self.pixels.read(self.window)
            block = scratch(read.shape, self.program.dtype)
            block[...] = read
            self.become(block, self.window)
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

    def sums(self) -> Block:
        """The sums over channels, NaN where pixels were dropped."""
        if self._sums is not None:
            return self._sums
        pixels, scale = self.undivided()
        return blocks.add_channels(pixels, self.window, scale, dtype=self.program.dtype)

    def sums_after(self, n: int) -> SumsInRows | None:
        """What makes the sums as they were after the first `n` operations of the program.

        None if it began with pixels that an earlier pass had kept.
        """
        if self.begun is None:
            return None
        pixels, numbers = self.begun
        program, taken = self.program.without_keeping(numbers)
        first = replace(program, operations=(*program.operations[:n], AddChannels()))
        return partial(first.run_in_rows, pixels, [*taken[:n], None])

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
                blocks.divide(self.pixels, self.window, self._scale, targets)
            return
        block = self.values()
        if not np.may_share_memory(block, targets[0]):
            for target, channel in zip(targets, block, strict=True):
                target[...] = channel


@dataclass(frozen=True)
class Operation:
    """What happens to the values of a strip, given numbers that were measured, or None."""

    # Whether a pixel's new value in a channel depends on nothing but the old one.
    is_pointwise: ClassVar[bool] = True
    # Whether it takes less time to do it once more than to read what came out.
    is_cheap: ClassVar[bool] = True

    @property
    def depth(self) -> int:
        """How far away the pixels lie that a pixel's new value depends on."""
        return 0

    def channels_per_chunk(self, before: Sequence[int]) -> Sequence[int]:
        """How many channels each chunk has after it, given how many each has before."""
        return before

    def noticing(self, make_note: MakeNote, reference: SumsAgain | None) -> "Operation":
        """The same operation on one image, where it notes what the user should know.

        `make_note` makes the note. `reference` makes the sums again on which a threshold was
        measured; None if it was not, or if they cannot be made.
        """
        return self

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Change the strip; the operations after this one need the pixels of `strip.want`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Divide(Operation):
    """Each channel is divided by a measured scale."""

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Divide."""
        strip.divide(numbers)


@dataclass(frozen=True)
class KeepResult(Operation):
    """The pixels are put into a `ResultSoFar`, for later passes.

    If an earlier pass has put them there, the program begins here, with those. No operation after
    this one may read neighbours.
    """

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Put them there."""
        strip.move_to(numbers.at(strip.want), strip.want)
        numbers.put(strip.want)


@dataclass(frozen=True)
class AddChannels(Operation):
    """The sum over channels, as the only channel."""

    is_pointwise = False

    def channels_per_chunk(self, before: Sequence[int]) -> Sequence[int]:
        """One."""
        return (1,)

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Become the sums."""
        strip.become(strip.sums()[np.newaxis], strip.window)


@dataclass(frozen=True)
class Program:
    """Operations in their order, the float type they run in, and the size of the image.

    Attributes
    ----------
    operations
        In their order; an empty tuple leaves pixels as they are, in their own type.
    dtype
        Float type of what comes out of any operation.
    height, width
        Size of the whole image, of which blocks are parts.
    """

    operations: tuple[Operation, ...]
    dtype: DType
    height: int
    width: int

    @cached_property
    def depth(self) -> int:
        """How far around a pixel the program reads."""
        return sum([operation.depth for operation in self.operations])

    @cached_property
    def depths_after(self) -> list[int]:
        """For each operation, how far around a pixel all operations after it read together."""
        depths = accumulate([operation.depth for operation in self.operations])
        return [self.depth - depth for depth in depths]

    def without_keeping(self, numbers: Sequence[object]) -> tuple["Program", list[object]]:
        """The program without a `KeepResult`; what its operations take."""
        position, _ = kept_among(numbers)
        left = [n for n in range(len(numbers)) if n != position]
        operations = tuple(self.operations[n] for n in left)
        return replace(self, operations=operations), [numbers[n] for n in left]

    def reads(self, window: Window) -> Window:
        """The window of the pixels that the program reads to make those of `window`."""
        return window.grown(self.depth, self.height, self.width)

    def out_dtype(self, dtype: DType) -> DType:
        """Type of what comes out, for pixels of type `dtype`."""
        return self.dtype if self.operations else dtype

    def channels_per_chunk(self, before: Sequence[int]) -> tuple[int, ...]:
        """How many channels each chunk of the result has, given how many each chunk read has."""
        after = before
        for operation in self.operations:
            after = operation.channels_per_chunk(after)
        return tuple(after)

    def out_channels(self, n_channels: int) -> int:
        """How many channels come out."""
        return sum(self.channels_per_chunk((n_channels,)))

    def run(
        self, pixels: Pixels, window: Window, numbers: Sequence[object], *, noted: bool = False
    ) -> Block:
        """The pixels of `window`, a strip, at the end of the program; axes (c, z, y, x).

        `pixels` are at least those of `reads(window)`, `numbers` what each operation takes, or
        None. Operations take notes only if `noted`: not on a mere sample of the image.
        """
        if not self.operations:
            return pixels.read(window)
        return self._strip(pixels, window, numbers, noted=noted).values()

    def run_in_rows(
        self, pixels: Pixels, numbers: Sequence[object], rows: range, window: Window
    ) -> Block:
        """As `run`, in some rows and the columns of `window`.

        The program must not read neighbours: so the rows can be run as an image of their own.
        """
        height, width = len(rows), window.shape[1]
        alone = replace(self, height=height, width=width)
        taken = [one.in_rows(rows, window) if isinstance(one, Pixels) else one for one in numbers]
        return alone.run(pixels.in_rows(rows, window), Window(0, height, 0, width), taken)

    def write(
        self, pixels: Pixels, window: Window, numbers: Sequence[object], targets: Sequence[Block]
    ) -> None:
        """As `run`, into `targets`: the first holds the first few channels, and so on."""
        for strip in self.strips(window, pixels):
            parts = [target[:, :, *strip.within(window)] for target in targets]
            channels = [channel for part in parts for channel in part]
            if self.operations:
                alone = parts[0] if len(parts) == 1 else None
                self._strip(pixels, strip, numbers, alone, noted=True).write(channels)
                continue
            for target, channel in zip(channels, pixels.read(strip), strict=True):
                target[...] = channel

    def values_in_strips(
        self, pixels: Pixels, window: Window, numbers: Sequence[object], where: Pixels | None
    ) -> Iterator[Block]:
        """As `run`, strip by strip: all values, or those inside a mask; shape (c, ...)."""
        for strip in self.strips(window, pixels):
            mask = None if where is None else where.read(strip)
            if mask is None:
                yield self.run(pixels, strip, numbers, noted=True)
            elif mask.any() or kept_among(numbers)[1] is not None:
                yield blocks.inside(self.run(pixels, strip, numbers, noted=True), mask)

    def _strip(
        self,
        pixels: Pixels,
        window: Window,
        numbers: Sequence[object],
        target: Block | None = None,
        *,
        noted: bool,
    ) -> Strip:
        begin, reads, z_chunk = 0, self.reads(window), pixels.z_chunk
        position, kept = kept_among(numbers)
        if kept is not None:
            target = kept.at(window)
            if kept.is_complete:
                begin, reads = position + 1, window
                pixels, target = Pixels.of(target, window), None
        strip = Strip(pixels, reads, self, target)
        if noted:
            strip.noted_window, strip.begun = window, None if begin else (pixels, numbers)
            strip.z_chunk = z_chunk
        for position in range(begin, len(self.operations)):
            strip.want = window.grown(self.depths_after[position], self.height, self.width)
            self.operations[position](strip, numbers[position])
        return strip

    def strips(self, window: Window, pixels: Pixels) -> Iterator[Window]:
        """The strips of `window`, from top to bottom; they are run one after the other."""
        n_values = pixels.n_channels * pixels.planes * window.shape[1]  # in one row
        rows = max(1, STRIP_VALUES // n_values, 4 * self.depth)
        for top in range(window.top, window.bottom, rows):
            yield window._replace(top=top, bottom=min(top + rows, window.bottom))

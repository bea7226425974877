"""Chains of operations that run on a block of pixels while it is in cache.

A program is a sequence of operations on blocks with the axes (c, z, y, x) and all channels. It runs
strip by strip: a few rows of the block, with as much around them as the blurs of the program read,
go through all operations before the next strip is touched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np

from ..aliases import Block, DType
from . import blocks
from .notes import TakeNote
from .strips import Strip
from .windows import Kept, Pixels, Window

# Values of a strip: about what the second- and third-level caches hold while it is worked on.
STRIP_VALUES = 1 << 21


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

    def noticing(self, take_note: TakeNote, reference: object) -> "Operation":
        """The same operation on one image, where it notes what the user should know.

        `take_note` makes the note. `reference` tells the image on which a threshold was measured,
        if it is at hand: see `KeepAbove`.
        """
        return self

    def __call__(self, strip: Strip, numbers: object, want: Window) -> None:
        """Change the strip, of which the operations after this one need the pixels of `want`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Divide(Operation):
    """Each channel is divided by a measured scale."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Divide."""
        strip.divide(numbers)


@dataclass(frozen=True)
class Keep(Operation):
    """The pixels are put into a `Kept` block for later passes.

    If an earlier pass has put them there, the program begins here, with those. No operation after
    this one may read neighbours.
    """

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Put them there."""
        strip.move_to(numbers.at(want), want)
        numbers.put(want)


@dataclass(frozen=True)
class KeepInside(Operation):
    """Pixels outside a mask become NaN in every channel; `numbers` are the `Pixels` of the mask."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Drop those pixels."""
        blocks.keep_inside(strip.block(), numbers.read(strip.window))


@dataclass(frozen=True)
class AddChannels(Operation):
    """The sum over channels, as the only channel."""

    is_pointwise = False

    def channels_per_chunk(self, before: Sequence[int]) -> Sequence[int]:
        """One."""
        return (1,)

    def __call__(self, strip: Strip, numbers: object, want: Window) -> None:
        """Become the sums."""
        strip.become(strip.sums()[np.newaxis], strip.window)


@dataclass(frozen=True)
class PickChannels(Operation):
    """Only some channels stay: those at these positions, in the order that they have."""

    positions: tuple[int, ...]

    def channels_per_chunk(self, before: Sequence[int]) -> Sequence[int]:
        """How many channels stay in each chunk; a chunk of which none stays is left out."""
        ends = accumulate(before, initial=0)
        counts = [
            sum(first <= position < last for position in self.positions)
            for first, last in pairwise(ends)
        ]
        return tuple(count for count in counts if count)

    def __call__(self, strip: Strip, numbers: object, want: Window) -> None:
        """Go on with those channels."""
        strip.become(strip.values()[list(self.positions)], strip.window)


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

    def sums_after(self, n: int, numbers: Sequence[object]) -> tuple["Program", list[object]]:
        """A program of the first `n` operations and the sum over channels; what those take."""
        pairs = list(zip(self.operations, numbers, strict=True))
        first = [pair for pair in pairs if not isinstance(pair[0], Keep)][:n]
        operations = (*(operation for operation, _ in first), AddChannels())
        return replace(self, operations=operations), [*(taken for _, taken in first), None]

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
        """The pixels of `window`, shape (c, z, y, x), at the end of the program.

        Parameters
        ----------
        pixels
            At least those that `reads(window)` asks for.
        window
            A strip of the image.
        numbers
            For each operation what it takes, or None.
        noted
            Whether operations take notes: they do not on a mere sample of the image.
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
        alone = replace(self, height=len(rows))
        taken = [one.in_rows(rows) if isinstance(one, Pixels) else one for one in numbers]
        return alone.run(pixels.in_rows(rows), window._replace(top=0, bottom=len(rows)), taken)

    def write(
        self,
        pixels: Pixels,
        window: Window,
        numbers: Sequence[object],
        targets: Sequence[Block],
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
            elif mask.any() or any(isinstance(one, Keep) for one in self.operations):
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
        begin, reads = 0, self.reads(window)
        for position, kept in enumerate(numbers):
            if isinstance(kept, Kept):
                target = kept.at(window)
                if kept.has(window):
                    begin, reads = position + 1, window
                    pixels, target = Pixels.of(target, window), None
        strip = Strip(pixels, reads, self, target)
        if noted:
            strip.noted_window, strip.begun = window, None if begin else (pixels, numbers)
        for position in range(begin, len(self.operations)):
            want = window.grown(self.depths_after[position], self.height, self.width)
            self.operations[position](strip, numbers[position], want)
        return strip

    def strips(self, window: Window, pixels: Pixels) -> Iterator[Window]:
        """The strips of `window`, from top to bottom; they are run one after the other."""
        n_values = pixels.n_channels * pixels.planes * window.shape[1]  # in one row
        rows = max(1, STRIP_VALUES // n_values, 4 * self.depth)
        for top in range(window.top, window.bottom, rows):
            yield window._replace(top=top, bottom=min(top + rows, window.bottom))

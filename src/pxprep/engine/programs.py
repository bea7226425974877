"""Chains of operations that run on a block of pixels while it is in cache.

A program is a sequence of operations on blocks with the axes (c, z, y, x) and all channels. It runs
strip by strip: a few rows of the block, with as much around them as the blurs of the program read,
go through all operations before the next strip is touched.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from ..aliases import Block
from . import blocks
from .kernels.blur import blur_radius
from .notes import Note, Say, TakeNote, sampled_rows, say_missing, say_nothing
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

    def noticing(self, take_note: TakeNote, reference: Any) -> "Operation":
        """The operation that notices what the user should know of what it does to an image.

        `take_note` makes a note on that; `reference` is what a threshold was measured on, if that
        is known: see `KeepAbove`.
        """
        return self

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
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
    """The pixels are put into what is `Kept`; where that has them the program begins here.

    No operation after this one reads neighbours.
    """

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Put them there."""
        strip.keep(numbers.at(want), want)
        numbers.put(want)


@dataclass(frozen=True)
class KeepInside(Operation):
    """Pixels outside a mask, of which the `Pixels` are given, are NaN in every channel."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Drop those pixels."""
        blocks.keep_inside(strip.block(), numbers.read(strip.window))


@dataclass(frozen=True)
class KeepAbove(Operation):
    """Pixels whose sum is not above a threshold, of these or of other sums, are NaN throughout.

    Attributes
    ----------
    of_others
        Whether the threshold is that of other sums.
    say
        What is said of the pixels that only those have above the threshold.
    reference
        What gives those: behind how many operations of the same program they are, or a chain of
        their own.
    note
        Takes what `blocks.count_lost` finds in some rows.
    """

    of_others: bool = False
    say: Say = field(default=say_nothing, compare=False, repr=False)
    reference: Any = field(default=None, compare=False, repr=False)
    note: Note | None = field(default=None, compare=False, repr=False)

    is_pointwise = False

    def noticing(self, take_note: TakeNote, reference: Any) -> Operation:
        """The operation that notices how many pixels are lost that the reference has."""
        if reference is None or not self.of_others:
            return self
        return replace(self, reference=reference, note=take_note("sum_mask", self.say))

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Drop those pixels."""
        sums = strip.sums()
        blocks.sums_above(sums, numbers, of_others=self.of_others)
        values = self._reference_sums(strip)
        if values is not None:
            height = strip.program.height

            def count(own: Window) -> Block:
                rows = sampled_rows(height, own.top, own.bottom)
                if not rows:
                    return np.zeros(3, np.int64)
                _, columns = own.within(strip.window)
                lines = slice(
                    rows[0] - strip.window.top, rows[-1] + 1 - strip.window.top, rows.step
                )
                return blocks.count_lost(values(rows, own)[0], sums[:, lines, columns], numbers)

            strip.noted(self.note, count)
        strip.drop(sums)

    def _reference_sums(self, strip: Strip) -> Callable[[range, Window], Block] | None:
        """What gives the sums of the reference in some rows; None if they are not at hand."""
        if not isinstance(self.reference, int):
            return None if self.reference is None else self.reference.in_rows
        if strip.begun is None:
            return None
        pixels, numbers = strip.begun
        program, own = strip.program.sums_behind(self.reference, numbers)
        return partial(program.run_in_rows, pixels, own)


@dataclass(frozen=True)
class DivideBySums(Operation):
    """Pixels are divided by their sum over channels; NaN where that is not positive.

    `note` counts negative sums.
    """

    note: Note | None = field(default=None, compare=False, repr=False)

    is_pointwise = False

    def noticing(self, take_note: TakeNote, reference: Any) -> Operation:
        """The operation that notices negative sums; those of zero are where nothing was seen."""
        say = partial(say_missing, "became NaN, as their sum over channels is negative")
        sight = "pixels whose sum over channels is negative became NaN"
        return replace(self, note=take_note("sum_norm", say, sight))

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Divide."""
        sums = strip.sums()
        strip.noted(self.note, lambda own: [(sums[:, *own.within(strip.window)] < 0).sum()])
        block = strip.kept if strip.is_dropping else strip.block()
        blocks.divide_by_sums(block, sums)
        strip.become(block, strip.window)


@dataclass(frozen=True)
class ClipAbove(Operation):
    """Values above the limit of their channel become that limit."""

    limits: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Clip."""
        blocks.clip_above(strip.block(), np.array(self.limits))


@dataclass(frozen=True)
class ClipBetween(Operation):
    """Values become at least the first and at most the second of two measured limits."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Clip."""
        blocks.clip_between(strip.block(), numbers)


@dataclass(frozen=True)
class Rescale(Operation):
    """Values between two measured limits are brought to 0 to 1."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Rescale."""
        blocks.rescale(strip.block(), numbers)


@dataclass(frozen=True)
class SubtractConstant(Operation):
    """The constant of its channel is subtracted from each value, down to 0."""

    constants: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Subtract."""
        blocks.subtract_constant(strip.block(), np.array(self.constants))


@dataclass(frozen=True)
class Arcsinh(Operation):
    """Inverse hyperbolic sine of each value, divided by the cofactor of its channel."""

    cofactors: tuple[float, ...]
    is_cheap = False

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Divide, and transform."""
        strip.divide(np.array(self.cofactors))
        blocks.arcsinh(strip.block())


@dataclass(frozen=True)
class Log1p(Operation):
    """Natural logarithm of one plus each value; `note` counts those of which there is none."""

    note: Note | None = field(default=None, compare=False, repr=False)

    is_cheap = False

    def noticing(self, take_note: TakeNote, reference: Any) -> Operation:
        """The operation that notices values without a logarithm."""
        say = partial(say_missing, "became NaN, as they were -1 or below")
        return replace(self, note=take_note("log1p", say, "values of -1 or below became NaN"))

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Transform."""
        block = strip.block()
        strip.noted(self.note, lambda own: blocks.count_low(block[:, :, *own.within(strip.window)]))
        blocks.log1p(block)


@dataclass(frozen=True)
class CoolHotPixels(Operation):
    """Values above all their neighbours by more than a threshold become the largest of these."""

    thresholds: tuple[float, ...]
    is_pointwise = is_cheap = False

    @property
    def depth(self) -> int:
        """The neighbours."""
        return 1

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the pixels of `want` without hot ones."""
        block, inner = strip.block(), want.within(strip.window)
        strip.become(blocks.cool_hot_pixels(block, inner, np.array(self.thresholds)), want)


@dataclass(frozen=True)
class AddChannels(Operation):
    """The sum over channels, as the only channel."""

    is_pointwise = False

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the sums."""
        strip.become(strip.sums()[np.newaxis], strip.window)


def blur_depth(sigmas: Iterable[float]) -> int:
    """How far a blur reads that has these sigmas in its channels."""
    return max(blur_radius(float(sigma)) for sigma in sigmas)


@dataclass(frozen=True)
class Blur(Operation):
    """Each channel is blurred, with its own sigma in pixels."""

    sigmas: tuple[float, ...]
    is_pointwise = is_cheap = False

    @property
    def depth(self) -> int:
        """The radius of the widest kernel."""
        return blur_depth(self.sigmas)

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the blurred pixels of `want`."""
        pixels, scale = strip.undivided()
        program = strip.program
        blurred = blocks.blur(
            pixels,
            want,
            np.array(self.sigmas),
            scale,
            dtype=program.dtype,
            height=program.height,
            width=program.width,
            out=strip.room(want),
        )
        strip.become(blurred, want)


def opening_depth(radii: Iterable[float]) -> int:
    """How far an opening reads that has these radii in its channels."""
    return 2 * max(int(radius) for radius in radii)


@dataclass(frozen=True)
class SubtractOpening(Operation):
    """White top-hat of each channel, by a disc with its own radius in pixels; 0 leaves it be."""

    radii: tuple[int, ...]
    is_pointwise = is_cheap = False

    @property
    def depth(self) -> int:
        """Two radii: an erosion, and a dilation of that."""
        return opening_depth(self.radii)

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the pixels of `want` without their background."""
        pixels, scale = strip.undivided()
        program = strip.program
        raised = blocks.subtract_opening(
            pixels,
            want,
            self.radii,
            scale,
            dtype=program.dtype,
            height=program.height,
            width=program.width,
        )
        strip.become(raised, want)


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

    @cached_property
    def depth(self) -> int:
        """How far around a pixel the program reads."""
        return sum(operation.depth for operation in self.operations)

    @cached_property
    def depths_after(self) -> list[int]:
        """For each operation, how far around a pixel those behind it read."""
        depths = [operation.depth for operation in self.operations]
        return [sum(depths[position + 1 :]) for position in range(len(depths))]

    def sums_behind(self, n: int, numbers: Sequence[Any]) -> tuple["Program", list[Any]]:
        """The sums over channels behind so many operations, and the numbers for those."""
        pairs = list(zip(self.operations, numbers, strict=True))
        first = [pair for pair in pairs if not isinstance(pair[0], Keep)][:n]
        operations = (*(operation for operation, _ in first), AddChannels())
        return replace(self, operations=operations), [*(own for _, own in first), None]

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

    def run(
        self, pixels: Pixels, window: Window, numbers: Sequence[Any], *, noted: bool = False
    ) -> Block:
        """The pixels of `window`, shape (c, z, y, x), at the end of the program.

        Parameters
        ----------
        pixels
            At least those that `reads(window)` asks for.
        window
            A strip of the image.
        numbers
            For each operation the numbers that it needs, or None.
        noted
            Whether operations notice what they find: this is no sample of the image.
        """
        if not self.operations:
            return pixels.read(window)
        return self._strip(pixels, window, numbers, noted=noted).values()

    def run_in_rows(
        self, pixels: Pixels, numbers: Sequence[Any], rows: range, window: Window
    ) -> Block:
        """As `run`, in some rows and the columns of `window`.

        The program reads no neighbours: the rows are as good as an image of their own.
        """
        alone = replace(self, height=len(rows))
        own = [one.in_rows(rows) if isinstance(one, Pixels) else one for one in numbers]
        return alone.run(pixels.in_rows(rows), window._replace(top=0, bottom=len(rows)), own)

    def write(
        self,
        pixels: Pixels,
        window: Window,
        numbers: Sequence[Any],
        targets: Sequence[Block],
        place: Block | None = None,
    ) -> None:
        """As `run`, into an array with axes (z, y, x) for each channel; of `place`, if of one."""
        if self.operations:
            self._strip(pixels, window, numbers, place, noted=True).write(targets)
            return
        for target, channel in zip(targets, pixels.read(window), strict=True):
            target[...] = channel

    def _strip(
        self,
        pixels: Pixels,
        window: Window,
        numbers: Sequence[Any],
        place: Block | None = None,
        *,
        noted: bool,
    ) -> Strip:
        begin, reads = 0, self.reads(window)
        for position, number in enumerate(numbers):
            if isinstance(number, Kept):
                place = number.at(window)
                if number.has(window):
                    begin, reads = position + 1, window
                    pixels, place = Pixels.of(place, window), None
        strip = Strip(pixels, reads, self, place)
        if noted:
            strip.own, strip.begun = window, None if begin else (pixels, numbers)
        for position in range(begin, len(self.operations)):
            want = window.grown(self.depths_after[position], self.height, self.width)
            self.operations[position](strip, numbers[position], want)
        return strip

    def strips(self, window: Window, n_values: int) -> Iterator[Window]:
        """Strips of `window` of which one after the other is run; `n_values` are in one row."""
        rows = max(1, STRIP_VALUES // n_values, 4 * self.depth)
        for top in range(window.top, window.bottom, rows):
            yield window._replace(top=top, bottom=min(top + rows, window.bottom))


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
        own = [target[:, :, *strip.within(window)] for target in targets]
        channels = [channel for target in own for channel in target]
        program.write(pixels, strip, numbers, channels, own[0] if len(own) == 1 else None)


def measured_strips(
    program: Program,
    pixels: Pixels,
    window: Window,
    numbers: Sequence[Any],
    where: Pixels | None,
) -> Iterator[Block]:
    """The values at the end of a program, strip by strip, shape (c, ...): all, or inside a mask."""
    for strip in program.strips(window, pixels.n_channels * pixels.planes * window.shape[1]):
        mask = None if where is None else where.read(strip)
        if mask is None:
            yield program.run(pixels, strip, numbers, noted=True)
        elif mask.any() or any(isinstance(one, Keep) for one in program.operations):
            yield blocks.inside(program.run(pixels, strip, numbers, noted=True), mask)


def count_into(
    program: Program,
    pixels: Pixels,
    window: Window,
    numbers: Sequence[Any],
    prefixes: Block | None,
    level: int,
    zeros: bool,
    counts: Block,
    where: Pixels | None = None,
) -> None:
    """Add to `counts` the digits of the pixels of `window`; see `blocks.count_digits`.

    Of those inside a mask, if there is one.
    """
    if not program.operations and where is None:
        for channels, _, values in pixels.within(window):
            own = None if prefixes is None else prefixes[channels]
            blocks.count_digits(values, own, level, zeros, counts[channels])
        return
    for values in measured_strips(program, pixels, window, numbers, where):
        blocks.count_digits(values, prefixes, level, zeros, counts)

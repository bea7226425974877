"""Chains of operations that run on a block of pixels while it is in cache.

A program is a sequence of operations on blocks with the axes (c, z, y, x) and all channels. It runs
strip by strip: a few rows of the block, with as much around them as the blurs of the program read,
go through all operations before the next strip is touched.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import _blocks
from ._kernels.blur import blur_radius
from ._typing import Block
from ._windows import Kept, Pixels, Window

# Values of a strip: about what the second- and third-level caches hold while it is worked on.
STRIP_VALUES = 1 << 21


class Strip:
    """What a few rows have become on the way through a program.

    Divisors wait until the next operation, and which pixels are dropped until it is known whether
    they are divided by their sums: what is done while pixels are read or written costs nothing.

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
        self, pixels: Pixels, window: Window, program: "Program", place: Block | None = None
    ) -> None:
        self.pixels = pixels
        self.window = window
        self.program = program
        self._place = place
        self._block: Block | None = None
        self._scale: Block | None = None
        self._sums: Block | None = None

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
            _blocks.divide(self.pixels, self.window, self._scale, dtype=made.dtype, out=list(made))
            self.become(made, self.window)
        elif self._sums is not None:
            _blocks.keep_above(self.kept, self._sums)
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
        return _blocks.add_channels(pixels, self.window, scale, dtype=self.program.dtype)

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
                _blocks.divide_in_place(targets, self._scale)
            else:
                _blocks.divide(
                    self.pixels, self.window, self._scale, dtype=self.program.dtype, out=targets
                )
            return
        block = self.values()
        if not np.may_share_memory(block, targets[0]):
            for target, channel in zip(targets, block, strict=True):
                target[...] = channel


@dataclass(frozen=True)
class Operation:
    """What happens to the values of a strip, given numbers that were measured, or None."""

    @property
    def depth(self) -> int:
        """How far away the pixels lie that a pixel's new value depends on."""
        return 0

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
        _blocks.keep_inside(strip.block(), numbers.read(strip.window))


@dataclass(frozen=True)
class KeepAbove(Operation):
    """Pixels whose sum is not above a threshold, of these or of other sums, are NaN throughout."""

    of_others: bool = False

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Drop those pixels."""
        sums = strip.sums()
        _blocks.sums_above(sums, numbers, of_others=self.of_others)
        strip.drop(sums)


@dataclass(frozen=True)
class DivideBySums(Operation):
    """Pixels are divided by their sum over channels; NaN where that is not positive."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Divide."""
        sums = strip.sums()
        block = strip.kept if strip.is_dropping else strip.block()
        _blocks.divide_by_sums(block, sums)
        strip.become(block, strip.window)


@dataclass(frozen=True)
class ClipAbove(Operation):
    """Values above the limit of their channel become that limit."""

    limits: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Clip."""
        _blocks.clip_above(strip.block(), np.array(self.limits))


@dataclass(frozen=True)
class ClipBetween(Operation):
    """Values become at least the first and at most the second of two measured limits."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Clip."""
        _blocks.clip_between(strip.block(), numbers)


@dataclass(frozen=True)
class Rescale(Operation):
    """Values between two measured limits are brought to 0 to 1."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Rescale."""
        _blocks.rescale(strip.block(), numbers)


@dataclass(frozen=True)
class SubtractConstant(Operation):
    """The constant of its channel is subtracted from each value, down to 0."""

    constants: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Subtract."""
        _blocks.subtract_constant(strip.block(), np.array(self.constants))


@dataclass(frozen=True)
class Arcsinh(Operation):
    """Inverse hyperbolic sine of each value, divided by the cofactor of its channel."""

    cofactors: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Divide, and transform."""
        strip.divide(np.array(self.cofactors))
        _blocks.arcsinh(strip.block())


@dataclass(frozen=True)
class Log1p(Operation):
    """Natural logarithm of one plus each value."""

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Transform."""
        _blocks.log1p(strip.block())


@dataclass(frozen=True)
class CoolHotPixels(Operation):
    """Values above all their neighbours by more than a threshold become the largest of these."""

    thresholds: tuple[float, ...]

    @property
    def depth(self) -> int:
        """The neighbours."""
        return 1

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the pixels of `want` without hot ones."""
        block, inner = strip.block(), want.within(strip.window)
        strip.become(_blocks.cool_hot_pixels(block, inner, np.array(self.thresholds)), want)


@dataclass(frozen=True)
class AddChannels(Operation):
    """The sum over channels, as the only channel."""

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

    @property
    def depth(self) -> int:
        """The radius of the widest kernel."""
        return blur_depth(self.sigmas)

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the blurred pixels of `want`."""
        pixels, scale = strip.undivided()
        program = strip.program
        blurred = _blocks.blur(
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

    @property
    def depth(self) -> int:
        """Two radii: an erosion, and a dilation of that."""
        return opening_depth(self.radii)

    def __call__(self, strip: Strip, numbers: Any, want: Window) -> None:
        """Become the pixels of `want` without their background."""
        pixels, scale = strip.undivided()
        program = strip.program
        raised = _blocks.subtract_opening(
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

    def run(self, pixels: Pixels, window: Window, numbers: Sequence[Any]) -> Block:
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
        if not self.operations:
            return pixels.read(window)
        return self._strip(pixels, window, numbers).values()

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
            self._strip(pixels, window, numbers, place).write(targets)
            return
        for target, channel in zip(targets, pixels.read(window), strict=True):
            target[...] = channel

    def _strip(
        self, pixels: Pixels, window: Window, numbers: Sequence[Any], place: Block | None = None
    ) -> Strip:
        begin, reads = 0, self.reads(window)
        for position, number in enumerate(numbers):
            if isinstance(number, Kept):
                place = number.at(window)
                if number.has(window):
                    begin, reads = position + 1, window
                    pixels, place = Pixels.of(place, window), None
        strip = Strip(pixels, reads, self, place)
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
            yield program.run(pixels, strip, numbers)
        elif mask.any() or any(isinstance(one, Keep) for one in program.operations):
            yield _blocks.inside(program.run(pixels, strip, numbers), mask)


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
    """Add to `counts` the digits of the pixels of `window`; see `_blocks.count_digits`.

    Of those inside a mask, if there is one.
    """
    if not program.operations and where is None:
        for channels, _, values in pixels.within(window):
            own = None if prefixes is None else prefixes[channels]
            _blocks.count_digits(values, own, level, zeros, counts[channels])
        return
    for values in measured_strips(program, pixels, window, numbers, where):
        _blocks.count_digits(values, prefixes, level, zeros, counts)

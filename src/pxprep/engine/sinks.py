"""What becomes of the results of a pass: each sink takes them block by block, and merges them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np

from ..aliases import Block, DType
from . import digits
from .gathering import Bounds, Gathered, Gatherer, Limits, merged
from .kernels.counts import N_SLOTS
from .programs import Program
from .sums import BinLayout, add_channel
from .windows import Pixels, Window, kept_among

# Several blocks for each thread, so that none has to wait long for the last one to end.
BLOCKS_PER_THREAD = 2
INT64 = np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class Opened:
    """A chain whose pixels were read.

    Attributes
    ----------
    program
        What runs on each block.
    pixels
        At least those that the program reads.
    numbers
        What each operation takes.
    """

    program: Program
    pixels: Pixels
    numbers: Sequence[object]

    @property
    def n_channels(self) -> int:
        """How many channels the result has."""
        # The pixels may be those that were kept, of which channels had been dropped before.
        position, kept = kept_among(self.numbers)
        n_channels = self.pixels.n_channels if kept is None else len(kept.pixels)
        left = self.program.operations[position + 1 :]
        return replace(self.program, operations=left).out_channels(n_channels)

    @cached_property
    def _without_keeping(self) -> tuple[Program, Sequence[object]]:
        """The program and its numbers, without a `KeepResult` that would still write."""
        _, kept = kept_among(self.numbers)
        if kept is None or kept.is_complete:
            return self.program, self.numbers
        return self.program.without_keeping(self.numbers)

    def finished(self, strip: Window) -> "Opened":
        """The result in a strip, as a chain to which nothing more is to happen."""
        values = self.program.run(self.pixels, strip, self.numbers, noted=True)
        return Opened(replace(self.program, operations=()), Pixels.of(values, strip), ())

    def values(self, window: Window) -> Block:
        """The result in a window, axes (c, z, y, x); nothing is kept of it."""
        program, numbers = self._without_keeping
        return program.run(self.pixels, window, numbers)


class Sink:
    """What becomes of the results of a pass."""

    # How many blocks for each thread are best.
    blocks_per_thread: ClassVar[int] = BLOCKS_PER_THREAD
    # Whether it measures: then a later pass will run the same operations once more.
    measures: ClassVar[bool] = False

    def given(self, *waited: Any) -> Self:
        """The sink with what it takes, which is computed only when the tasks of a graph run."""
        raise NotImplementedError

    def prepare(self, opened: Opened, where: Pixels | None) -> None:
        """Find out, from the chain and its mask, what must be known before the first block."""

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> Any:
        """Run the chain on a block, and return what the sink keeps of the result.

        `where` has the mask of the pixels that are measured; None measures all.
        """
        raise NotImplementedError

    def merge(self, parts: Sequence[Any]) -> Any:
        """One part made of those of several blocks, in any order; none of them is changed."""
        raise NotImplementedError

    def merge_unless_none(self, parts: Sequence[object]) -> Any:
        """As `merge`, but None if any of the parts is None."""
        return None if any(part is None for part in parts) else self.merge(parts)

    def finish(self, total: Any) -> Any:
        """What is made of the merged part of all blocks."""
        return total


@dataclass(frozen=True, eq=False)
class Fill(Sink):
    """The result is written to its place in `out`, axes (c, z, y, x)."""

    out: Block

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> None:
        """Write a block."""
        target = self.out[:, :, *window.slices]
        opened.program.write(opened.pixels, window, opened.numbers, [target])


@dataclass(frozen=True, eq=False)
class Several(Sink):
    """Several sinks that measure: the chain is run once for all of them."""

    sinks: tuple[Sink, ...]
    measures = True

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> list[Any]:
        """Run a block strip by strip; returns what each of the sinks keeps of the result."""
        for sink in self.sinks:
            sink.prepare(opened, where)
        totals: list[object] = []
        for strip in opened.program.strips(window, opened.pixels):
            finished = opened.finished(strip)
            parts = [sink.run_block(finished, strip, where) for sink in self.sinks]
            both = zip(self.sinks, totals, parts, strict=True) if totals else ()
            totals = [sink.merge_unless_none([*pair]) for sink, *pair in both] or parts
        return totals


@dataclass(frozen=True, eq=False)
class Count(Sink):
    """Counts how many pixels of the result have which digit; see `digits.count_digits`.

    Attributes
    ----------
    prefixes, level, zeros
        As for `count_digits`.
    select
        What is made of the counts of all blocks.
    most
        How many values of a channel there are at most, if that is known.
    """

    prefixes: Block | None
    level: int
    zeros: bool
    select: Callable[[Any], object]
    most: float = inf
    # Counts are as large as a small block of pixels, so there are few of them.
    blocks_per_thread = 1
    measures = True

    def given(self, prefixes: Block | None) -> Self:
        """The sink with these prefixes."""
        return replace(self, prefixes=prefixes)

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> Block:
        """Count a block."""
        program, pixels, prefixes = opened.program, opened.pixels, self.prefixes
        n_prefixes, n_slots = 1 if prefixes is None else prefixes.shape[1], N_SLOTS
        if not program.operations and digits.n_digits(pixels.dtype) == 1:
            n_slots = digits.slots_for(values for *_, values in pixels.within(window))
        counts = np.zeros((opened.n_channels, n_prefixes, n_slots), np.uint32)
        if program.operations or where is not None:
            for values in program.values_in_strips(pixels, window, opened.numbers, where):
                digits.count_digits(values, prefixes, self.level, self.zeros, counts)
        else:
            for channels, _, values in pixels.within(window):
                some = None if prefixes is None else prefixes[channels]
                digits.count_digits(values, some, self.level, self.zeros, counts[channels])
        digits.repeat_counts(counts, prefixes)
        return counts

    def merge(self, parts: Sequence[Block]) -> Block:
        """The sum of the counts, in a type that holds it; those of some may have fewer slots."""
        return sum_of(parts, np.dtype(np.uint32 if self.most < 1 << 32 else np.int64))

    def finish(self, total: Block | None) -> object:
        """What `select` makes of the counts of all blocks."""
        return self.select(total)


class SharedBounds:
    """Bounds that the blocks of a pass share: what is learnt from one serves for the others.

    They are chosen when they are first needed: `choose` is called with the chain whose block
    comes first, and its mask.
    """

    def __init__(self, choose: Callable[[Opened, Pixels | None], Bounds | None]) -> None:
        self._choose = choose
        self._lock = Lock()
        self._chosen: list[Bounds | None] = []

    def of(self, opened: Opened, where: Pixels | None) -> Bounds | None:
        """The bounds, as narrow as they are by now; None if there are none."""
        with self._lock:
            if not self._chosen:
                self._chosen.append(self._choose(opened, where))
        return self._chosen[0]

    def narrow(self, low: Block, high: Block) -> None:
        """Narrow the bounds to those between which values were gathered from a block."""
        with self._lock:
            (before,) = self._chosen
            if before is not None:
                narrowed = np.maximum(low, before.low), np.minimum(high, before.high)
                self._chosen = [Bounds(*narrowed)]


@dataclass(frozen=True, eq=False)
class Gather(Sink):
    """Gathers the values that lie between bounds: a `Gathered` of them.

    It is None if there are no bounds, or if more values lie there than may be held.

    Attributes
    ----------
    bounds
        Between which values are gathered: known, or chosen when the first block runs
        (`SharedBounds`); None gathers nothing.
    zeros
        Whether zeros are counted.
    limits
        How many values are enough, and how many may be held.
    select
        What is made of the values of all blocks.
    """

    bounds: Bounds | SharedBounds | None
    zeros: bool
    limits: Limits
    select: Callable[[Gathered], object]
    measures = True

    def given(self, bounds: Bounds | Block) -> Self:
        """The sink with these bounds, which may come in a box."""
        return replace(self, bounds=bounds if isinstance(bounds, Bounds) else bounds[0])

    def prepare(self, opened: Opened, where: Pixels | None) -> None:
        """Choose the bounds, if they are not known yet."""
        if isinstance(self.bounds, SharedBounds):
            self.bounds.of(opened, where)

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> Gathered | None:
        """Gather from a block."""
        program, bounds = opened.program, self.bounds
        if isinstance(bounds, SharedBounds):
            bounds = bounds.of(opened, where)
        if bounds is None:
            return None
        gatherer = Gatherer(bounds, self.limits, self.zeros, program.dtype)
        strips = program.values_in_strips(opened.pixels, window, opened.numbers, where)
        for values in strips:
            gatherer.take(values)
            if gatherer.n_held > self.limits.most:
                for _ in strips:  # a `KeepResult` in the program needs the others, too
                    pass
                return None
            if isinstance(self.bounds, SharedBounds):
                self.bounds.narrow(*gatherer.bounds.T)
        return gatherer.gathered()

    def merge(self, parts: Sequence[Gathered]) -> Gathered | None:
        """What was gathered from all; None if that is too much."""
        return merged(parts, self.limits)

    def finish(self, total: Gathered | None) -> object:
        """What `select` makes of the values of all blocks; None if they were too many."""
        return None if total is None else self.select(total)


@dataclass(frozen=True, eq=False)
class AddUp(Sink):
    """Exact sums of the values of the result and of their squares: rows in a `BinLayout`.

    Attributes
    ----------
    float_type
        The rows are in the layout of this type, which can hold all values.
    """

    float_type: DType
    measures = True

    def run_block(self, opened: Opened, window: Window, where: Pixels | None) -> Block:
        """Add up a block."""
        program, layout = opened.program, BinLayout.of(self.float_type)
        rows = np.zeros((opened.n_channels, layout.row_size), np.int64)
        bins = np.zeros(layout.bins, np.int64)
        for values in program.values_in_strips(opened.pixels, window, opened.numbers, where):
            for channel, row in zip(values, rows, strict=True):
                add_channel(channel, program.dtype, layout, bins, row)
        return rows

    def merge(self, parts: Sequence[Block]) -> Block:
        """The sums of all."""
        return sum_of(parts)


def sum_of(parts: Sequence[Block], dtype: DType = INT64) -> Block:
    """The sum of several arrays of counts, or of rows of sums, in a new array.

    Where the last axis is shorter, zeros are missing.
    """
    total = np.zeros((*parts[0].shape[:-1], max(part.shape[-1] for part in parts)), dtype)
    for part in parts:
        total[..., : part.shape[-1]] += part
    return total

"""What becomes of the results of a pass: each sink takes them block by block, and merges them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np

from ..aliases import Block, DType
from . import blocks
from .gathering import Bounds, Gathered, Limits, merged, n_held
from .kernels.counts import N_SLOTS
from .programs import Program
from .sums import BinLayout, add_channel
from .windows import Kept, Pixels, Window

# Blocks for each thread, so that none waits long for the last one.
BLOCKS_PER_THREAD = 4


@dataclass(frozen=True, eq=False)
class Opened:
    """A chain whose pixels are at hand.

    Attributes
    ----------
    program
        What runs on each block.
    pixels
        At least those that it reads.
    numbers
        What each operation takes.
    """

    program: Program
    pixels: Pixels
    numbers: Sequence[object]

    @property
    def n_channels(self) -> int:
        """Of the result."""
        return self.program.out_channels(self.pixels.n_channels)

    @cached_property
    def _unkept(self) -> tuple[Program, Sequence[object]]:
        """The program and its numbers, without what is yet to be kept."""
        pairs = list(zip(self.program.operations, self.numbers, strict=True))
        left = [pair for pair in pairs if not isinstance(pair[1], Kept) or pair[1].is_complete]
        program = replace(self.program, operations=tuple(operation for operation, _ in left))
        return program, [own for _, own in left]

    def values(self, window: Window) -> Block:
        """The result in a window, axes (c, z, y, x); nothing is kept of it."""
        program, numbers = self._unkept
        return program.run(self.pixels, window, numbers)


class Sink:
    """What becomes of the results of a pass."""

    # How many blocks for each thread are best.
    blocks_per_thread: ClassVar[int] = BLOCKS_PER_THREAD
    # Whether a later pass will want what the results are made of.
    measures: ClassVar[bool] = False
    # Whether what a graph keeps is merged in the order of blocks, not as a tree: so that there is
    # only one large total, and, where merging takes no time, few edges are held.
    in_order: ClassVar[bool] = False

    def given(self, *waited: Any) -> Self:
        """The sink with what it has waited for, which is known when the tasks of a graph run."""
        raise NotImplementedError

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> Any:
        """Run the chain on a block, and return what the sink keeps of the result.

        `where` has the mask of the pixels that are measured; None measures all.
        """
        raise NotImplementedError

    def merge(self, parts: Sequence[Any]) -> Any:
        """What is kept of several blocks as one, in whatever order they come; none is changed."""
        raise NotImplementedError

    def merge_if_all(self, parts: Sequence[object]) -> Any:
        """As `merge`; None if that is what is kept of any of them."""
        return None if any(part is None for part in parts) else self.merge(parts)

    def finish(self, total: Any) -> Any:
        """What is made of that of all blocks."""
        return total


@dataclass(frozen=True, eq=False)
class Fill(Sink):
    """The result is written to its place in `out`, axes (c, z, y, x)."""

    out: Block

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> None:
        """Write a block."""
        target = self.out[:, :, *window.slices]
        opened.program.write(opened.pixels, window, opened.numbers, [target])


@dataclass(frozen=True, eq=False)
class Count(Sink):
    """How many pixels of the result have which digit; see `blocks.count_digits`.

    Attributes
    ----------
    prefixes, level, zeros
        As for `count_digits`.
    select
        What is made of the counts of all blocks, int64.
    """

    prefixes: Block | None
    level: int
    zeros: bool
    select: Callable[[Any], Any]
    # Counts are as large as a small block of pixels, so there are few of them.
    blocks_per_thread = 1
    measures = True

    def given(self, prefixes: Block | None) -> Self:
        """With prefixes that are known now."""
        return replace(self, prefixes=prefixes)

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> Block:
        """Count a block."""
        program, pixels, prefixes = opened.program, opened.pixels, self.prefixes
        n_prefixes = 1 if prefixes is None else prefixes.shape[1]
        counts = np.zeros((opened.n_channels, n_prefixes, N_SLOTS), np.uint32)
        if program.operations or where is not None:
            for values in program.measured(pixels, window, opened.numbers, where):
                blocks.count_digits(values, prefixes, self.level, self.zeros, counts)
        else:
            for channels, _, values in pixels.within(window):
                own = None if prefixes is None else prefixes[channels]
                blocks.count_digits(values, own, self.level, self.zeros, counts[channels])
        blocks.repeat_counts(counts, prefixes)
        return counts

    def merge(self, parts: Sequence[Block]) -> Block:
        """The sum, of a type that no number of pixels exceeds."""
        return sum_of(parts)

    def finish(self, total: Block | None) -> Any:
        """What is selected by the counts."""
        return self.select(total)


class FirstSeen:
    """Bounds that are chosen when they are first needed, by `choose`, of what is at hand then."""

    def __init__(self, choose: Callable[[Opened, Pixels | None], Bounds | None]) -> None:
        self._choose = choose
        self._lock = Lock()
        self._chosen: list[Bounds | None] = []

    def of(self, opened: Opened, where: Pixels | None) -> Bounds | None:
        """The same for all who ask."""
        with self._lock:
            if not self._chosen:
                self._chosen.append(self._choose(opened, where))
        return self._chosen[0]


@dataclass(frozen=True, eq=False)
class Gather(Sink):
    """The values that lie between bounds, for each quantile: a list of `Gathered`.

    None if there are no bounds, or if the values are more than may be held.

    Attributes
    ----------
    bounds
        The bounds.
    zeros
        Whether zeros are counted.
    limits
        How many values are enough, and how many may be held.
    select
        What is made of the values of all blocks.
    """

    bounds: Bounds | FirstSeen | None
    zeros: bool
    limits: Limits
    select: Callable[[Sequence[Gathered]], Any]
    measures = in_order = True

    def given(self, bounds: Bounds | Block) -> Self:
        """With bounds, or a box of them, that are known now."""
        return replace(self, bounds=bounds if isinstance(bounds, Bounds) else bounds[0])

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> list[Gathered] | None:
        """Gather from a block."""
        program, bounds = opened.program, self.bounds
        if isinstance(bounds, FirstSeen):
            bounds = bounds.of(opened, where)
        if bounds is None:
            return None
        # Bounds are values of the float type, as those that are compared with them.
        low, high = (bound.astype(program.dtype) for bound in bounds)
        pairs = list(zip(low, high, strict=True))
        parts: list[list[Gathered]] = []
        for values in program.measured(opened.pixels, window, opened.numbers, where):
            n, room = len(values), np.empty(values[0].size + 1, program.dtype)
            parts.append(
                [
                    Gathered.of(values[index % n], pair, self.zeros, room)
                    for index, pair in enumerate(pairs)
                ]
            )
            # Bounds that have been narrowed leave less to gather in the strips that follow.
            before, since = n_held(parts[0]), n_held(list(chain(*parts[1:])))
            if len(parts) == 1 or since > min(before, self.limits.most - before):
                together = merged(parts, self.limits)
                if together is None:
                    return None
                parts, pairs = [together], [each.bounds for each in together]
        if len(parts) > 1:
            return merged(parts, self.limits)
        return parts[0] if parts else [Gathered.nothing(pair) for pair in pairs]

    def merge(self, parts: Sequence[list[Gathered]]) -> list[Gathered] | None:
        """Those of all; None if they are too many."""
        return merged(parts, self.limits)

    def finish(self, total: list[Gathered] | None) -> Any:
        """What is selected from the values; None if they were too many."""
        return None if total is None else self.select(total)


@dataclass(frozen=True, eq=False)
class AddUp(Sink):
    """Exact sums of the values of the result and of their squares: rows in a `BinLayout`.

    Attributes
    ----------
    dtype
        Float type that has room for the values.
    """

    dtype: DType
    measures = True

    def take(self, opened: Opened, window: Window, where: Pixels | None) -> Block:
        """Add up a block."""
        program, layout = opened.program, BinLayout.of(self.dtype)
        rows = np.zeros((opened.n_channels, layout.n_numbers), np.int64)
        bins = np.zeros(layout.bins, np.int64)
        for values in program.measured(opened.pixels, window, opened.numbers, where):
            for channel, row in zip(values, rows, strict=True):
                add_channel(channel, program.dtype, layout, bins, row)
        return rows

    def merge(self, parts: Sequence[Block]) -> Block:
        """The sums of all."""
        return sum_of(parts)


def sum_of(parts: Sequence[Block]) -> Block:
    """The sum of counts, or of rows, in a new array."""
    total: Block = parts[0].astype(np.int64)
    for part in parts[1:]:
        total += part
    return total

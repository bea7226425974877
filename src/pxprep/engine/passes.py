"""Passes over images in memory: a program is run on each block, and a sink takes what comes out.

All blocks of all passes share the threads, so that a cohort of small images keeps them as busy as
one large image does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import Any, Protocol

import numpy as np

from ..aliases import Block
from . import blocks
from .gathering import Bounds, Gathered, Limits, gather_strips, merged
from .kernels.counts import N_SLOTS
from .programs import Operation, Program, count_into, run_into
from .threads import n_threads, run_all
from .windows import Pixels, Window

# Values of a block: fewer are not worth the hand-over to another thread.
LEAST_VALUES = 1 << 17
# Blocks for each thread, so that none waits long for the last one.
BLOCKS_PER_THREAD = 4


@dataclass(frozen=True, eq=False)
class ArrayChain:
    """An image in memory, and the operations that are to happen to it.

    Attributes
    ----------
    array
        Axes (c, z, y, x); any real dtype, byte order and memory layout; never written to.
    float_type
        Type of what comes out of any operation.
    operations
        In their order.
    numbers
        For each operation the numbers, or the pixels of the mask, that it takes, or None.
    is_own
        Whether nobody else needs the array, so that it may be written over.
    """

    array: Block
    float_type: np.dtype[Any]
    operations: tuple[Operation, ...] = ()
    numbers: tuple[Any, ...] = ()
    is_own: bool = False

    def then(self, operation: Operation, numbers: Any = None) -> "ArrayChain":
        """The chain with one more operation."""
        return replace(
            self,
            operations=(*self.operations, operation),
            numbers=(*self.numbers, numbers),
        )

    @cached_property
    def program(self) -> Program:
        """What runs on each block."""
        return Program(self.operations, self.float_type, *self.array.shape[2:])

    @cached_property
    def pixels(self) -> Pixels:
        """All pixels: wherever a block lies, its surroundings are at hand."""
        return Pixels.of(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the result."""
        return (self.program.out_channels(len(self.array)), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result."""
        return self.program.out_dtype(self.array.dtype)

    def blocks(self, n: int) -> list[Window]:
        """The image in about `n` blocks of whole rows; fewer if they would be too small."""
        height, width = self.array.shape[2:]
        n = max(1, min(n, height, self.array.size // LEAST_VALUES))
        edges = [height * number // n for number in range(n + 1)]
        return [Window(top, bottom, 0, width) for top, bottom in pairwise(edges)]

    def values(self, window: Window) -> Block:
        """The result in a window, axes (c, z, y, x)."""
        return self.program.run(self.pixels, window, self.numbers)

    def astype(self, dtype: np.dtype[Any]) -> "ArrayChain":
        """A chain whose result is that of this one in a wider type."""
        (made,) = results([replace(self, is_own=False)])  # whoever has this chain still needs it
        return ArrayChain(made.astype(dtype), dtype, is_own=True)

    @property
    def is_cheap(self) -> bool:
        """Whether it takes less time to run it once more than to keep the result."""
        return all(operation.is_cheap for operation in self.operations)


class Sink(Protocol):
    """What becomes of the results of a pass."""

    # How many blocks for each thread are best.
    blocks_per_thread: int

    def take(self, chain: ArrayChain, window: Window, where: Pixels | None) -> Any:
        """Run the chain on a block, and return what the sink keeps of the result.

        `where` has the mask of the pixels that are measured; None measures all.
        """

    def merge(self, first: Any, second: Any) -> Any:
        """What is kept of two blocks, or of more, as one; in whatever order they come."""

    def finish(self, total: Any) -> Any:
        """What is made of that of all blocks."""
        return total


@dataclass(frozen=True, eq=False)
class Fill(Sink):
    """The result is written to its place in `out`, axes (c, z, y, x)."""

    out: Block
    blocks_per_thread = BLOCKS_PER_THREAD

    def take(self, chain: ArrayChain, window: Window, where: Pixels | None) -> None:
        """Write a block."""
        target = self.out[:, :, *window.slices]
        run_into(chain.program, chain.pixels, window, chain.numbers, [target])

    def merge(self, first: None, second: None) -> None:
        """Nothing is kept."""


@dataclass(frozen=True, eq=False)
class Count(Sink):
    """How many pixels of the result have which digit; see `blocks.count_digits`.

    Attributes
    ----------
    prefixes, level, zeros
        As for `count_digits`.
    select
        What is made of the counts of all blocks.
    """

    prefixes: Block | None
    level: int
    zeros: bool
    select: Callable[[Block], Any]
    # Counts are as large as a small block of pixels, so there are few of them.
    blocks_per_thread = 1

    def take(self, chain: ArrayChain, window: Window, where: Pixels | None) -> Block:
        """Count a block."""
        n_prefixes = 1 if self.prefixes is None else self.prefixes.shape[1]
        counts = np.zeros((chain.shape[0], n_prefixes, N_SLOTS), np.uint32)
        count_into(
            chain.program,
            chain.pixels,
            window,
            chain.numbers,
            self.prefixes,
            self.level,
            self.zeros,
            counts,
            where,
        )
        blocks.repeat_counts(counts, self.prefixes)
        return counts

    def merge(self, first: Block, second: Block) -> Block:
        """The sum, of a type that no number of pixels exceeds."""
        total: Block = first.astype(np.int64, copy=False)
        total += second
        return total

    def finish(self, total: Block) -> Any:
        """What is selected by the counts."""
        return self.select(total.astype(np.int64, copy=False))


@dataclass(frozen=True, eq=False)
class Gather(Sink):
    """The values that lie between bounds, for each quantile: a list of `Gathered`.

    None if they are more than may be held.

    Attributes
    ----------
    bounds, zeros, limits
        As for `gather_strips`.
    select
        What is made of the values of all blocks.
    """

    bounds: Bounds
    zeros: bool
    limits: Limits
    select: Callable[[Sequence[Gathered]], Any]
    blocks_per_thread = BLOCKS_PER_THREAD

    def take(
        self, chain: ArrayChain, window: Window, where: Pixels | None
    ) -> list[Gathered] | None:
        """Gather from a block."""
        return gather_strips(
            chain.program,
            chain.pixels,
            window,
            chain.numbers,
            self.bounds,
            self.zeros,
            self.limits,
            where,
        )

    def merge(
        self, first: list[Gathered] | None, second: list[Gathered] | None
    ) -> list[Gathered] | None:
        """Those of both."""
        if first is None or second is None:
            return None
        return merged([first, second], self.limits)

    def finish(self, total: list[Gathered] | None) -> Any:
        """What is selected from the values; None if they were too many."""
        return None if total is None else self.select(total)


@dataclass(frozen=True, eq=False)
class Pass:
    """One look at all blocks of an image.

    Attributes
    ----------
    chain
        The image, and what is run on it.
    sink
        What becomes of the result; passes over several images may share one.
    where
        The pixels of the mask of what is measured, or None.
    """

    chain: ArrayChain
    sink: Sink
    where: Pixels | None = None


def run(passes: Sequence[Pass]) -> list[Any]:
    """Run passes, all their blocks in one queue.

    Returns what each sink, in the order in which they occur first, has made of its passes.
    """
    # One image needs blocks for all threads; of many, each has fewer.
    share = -(-n_threads() // max(1, len(passes)))
    blocks = [
        (each, window)
        for each in passes
        for window in each.chain.blocks(share * each.sink.blocks_per_thread)
    ]
    expected = Counter(id(each.sink) for each, _ in blocks)
    results = {id(each.sink): _Result(each.sink, expected[id(each.sink)]) for each in passes}

    def run_block(block: tuple[Pass, Window]) -> None:
        each, window = block
        part = each.sink.take(each.chain, window, each.where)
        results[id(each.sink)].add(part)

    run_all(run_block, blocks)
    return [result.value for result in results.values()]


class _Result:
    """What a sink makes of its blocks: two parts that meet are merged at once."""

    def __init__(self, sink: Sink, n_blocks: int) -> None:
        self._sink = sink
        self._n_left = n_blocks
        self._lock = Lock()
        self._parts: list[Any] = []
        self.value: Any = None

    def add(self, part: Any) -> None:
        """Add what was kept of a block; the last one makes the `value`."""
        while True:
            with self._lock:
                if not self._parts and self._n_left > 1:
                    self._parts.append(part)
                    return
                if not self._parts:
                    break
                other = self._parts.pop()
                self._n_left -= 1  # two become one
            part = self._sink.merge(other, part)
        self.value = self._sink.finish(part)


def results(chains: Sequence[ArrayChain]) -> list[Block]:
    """The results of chains as arrays, in place of what nobody else needs where that can be."""
    places = [_place(chain) for chain in chains]
    run([Pass(chain, Fill(out)) for chain, out in zip(chains, places, strict=True)])
    return places


def _place(chain: ArrayChain) -> Block:
    is_alike = chain.array.dtype == chain.dtype and chain.array.shape == chain.shape
    fits = chain.is_own and not chain.program.depth and is_alike
    return chain.array if fits else np.empty(chain.shape, chain.dtype)

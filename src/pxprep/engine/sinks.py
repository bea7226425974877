"""What becomes of the results of a pass: each sink takes them block by block, and merges them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np

from ..aliases import Block
from . import blocks
from .gathering import Bounds, Gathered, Limits, gather_strips, merged
from .kernels.counts import N_SLOTS
from .programs import Program, count_into, run_into
from .sums import sum_strips
from .windows import Pixels, Window

# Blocks for each thread, so that none waits long for the last one.
BLOCKS_PER_THREAD = 4


class Opened(Protocol):
    """A chain whose pixels are at hand."""

    @property
    def program(self) -> Program:
        """What runs on each block."""

    @property
    def pixels(self) -> Pixels:
        """All pixels."""

    @property
    def numbers(self) -> tuple[Any, ...]:
        """What each operation takes."""

    @property
    def n_channels(self) -> int:
        """Of the result."""

    def values(self, window: Window) -> Block:
        """The result in a window, axes (c, z, y, x)."""


class Sink(Protocol):
    """What becomes of the results of a pass."""

    # How many blocks for each thread are best.
    blocks_per_thread: int

    def take(self, chain: Opened, window: Window, where: Pixels | None) -> Any:
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

    def take(self, chain: Opened, window: Window, where: Pixels | None) -> None:
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

    def take(self, chain: Opened, window: Window, where: Pixels | None) -> Block:
        """Count a block."""
        n_prefixes = 1 if self.prefixes is None else self.prefixes.shape[1]
        counts = np.zeros((chain.n_channels, n_prefixes, N_SLOTS), np.uint32)
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
        return self.select(total)


@dataclass(eq=False)
class Gather(Sink):
    """The values that lie between bounds, for each quantile: a list of `Gathered`.

    None if there are no bounds, or if the values are more than may be held.

    Attributes
    ----------
    choose
        Gives the bounds, asked once: of the first chain that is at hand, and its mask.
    zeros, limits
        As for `gather_strips`.
    select
        What is made of the values of all blocks.
    """

    choose: Callable[[Opened, Pixels | None], Bounds | None]
    zeros: bool
    limits: Limits
    select: Callable[[Sequence[Gathered]], Any]
    blocks_per_thread = BLOCKS_PER_THREAD

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._chosen: list[Bounds | None] = []

    def take(self, chain: Opened, window: Window, where: Pixels | None) -> list[Gathered] | None:
        """Gather from a block."""
        with self._lock:
            if not self._chosen:
                self._chosen.append(self.choose(chain, where))
        bounds = self._chosen[0]
        if bounds is None:
            return None
        return gather_strips(
            chain.program,
            chain.pixels,
            window,
            chain.numbers,
            bounds,
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
class AddUp(Sink):
    """Exact sums of the values of the result and of their squares; see `sum_strips`.

    Attributes
    ----------
    dtype
        Float type that has room for the values.
    """

    dtype: np.dtype[Any]
    blocks_per_thread = BLOCKS_PER_THREAD

    def take(self, chain: Opened, window: Window, where: Pixels | None) -> Block:
        """Add up a block."""
        return sum_strips(chain.program, chain.pixels, window, chain.numbers, self.dtype, where)

    def merge(self, first: Block, second: Block) -> Block:
        """The sums of both."""
        return first + second

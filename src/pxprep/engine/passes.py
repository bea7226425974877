"""Passes that are run now: a program is run on each block, and a sink takes what comes out.

All blocks of all passes share the threads, so that a cohort of small images keeps them as busy as
one large image does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from threading import Lock
from typing import Any

from ..aliases import Block, DType
from ..memory import empty
from .at_hand import BlockChain
from .chains import Chain
from .operations import KeepInside
from .programs import AddChannels, KeepResult, SumsAgain
from .progress import counted
from .sinks import Fill, Opened, Several, Sink
from .sources import Area
from .threads import n_threads, run_all
from .windows import Pixels, ResultSoFar, Window

# Values of a block: with fewer, threads wait for Python, and for each other, longer than they work.
LEAST_VALUES = 1 << 20


@dataclass(frozen=True, eq=False)
class ArrayChain(Chain):
    """An image in memory, and the operations that are to happen to it.

    Its source is an array with axes (c, z, y, x), of any real dtype, byte order and memory layout;
    it is never written to, unless it `is_own`. A mask among the numbers comes as `Pixels`.

    Attributes
    ----------
    is_own
        Whether nobody else needs the array, so that it may be written over.
    """

    is_own: bool = False

    def shared(self) -> "ArrayChain":
        """The same chain, whose array somebody else may still need."""
        return replace(self, is_own=False)

    @cached_property
    def opened(self) -> Opened:
        """The chain with all its pixels: those around any block are among them."""
        return Opened(self.program, Pixels.of(self.source), self.numbers)

    def blocks(self, n: int) -> list[Window]:
        """The image in about `n` blocks of whole rows; fewer if they would be too small."""
        height, width = self.source.shape[2:]
        n = max(1, min(n, height, self.source.size // LEAST_VALUES))
        tops = [height * block // n for block in range(n + 1)]
        return [Window(top, bottom, 0, width) for top, bottom in pairwise(tops)]

    def run_block(self, sink: Sink, window: Window, where: Pixels | None) -> Any:
        """Run the chain on a block, and return what a sink keeps of the result."""
        return sink.run_block(self.opened, window, where)

    def sums_again(self, other: Chain, area: Area | None) -> SumsAgain | None:
        """What makes the sums over channels again, inside an area, for another image of this shape.

        None if that has another shape, or if it would take long.
        """
        if not self.is_cheap or self.shape != other.shape:
            return None
        chain = self if area is None else self.then(KeepInside(), Pixels.of(area.whole()))
        chain = chain.then(AddChannels())
        sums = partial(chain.program.run_in_rows, chain.opened.pixels, chain.numbers)
        return lambda strip: sums

    def target(self) -> Block:
        """An array for the result: the image itself if it may be written over, else a new one."""
        is_alike = self.source.dtype == self.dtype and self.source.shape == self.shape
        fits = self.is_own and not self.program.depth and is_alike
        return self.source if fits else empty(self.shape, self.dtype)

    def keeping_result(self) -> "ArrayChain":
        """The chain whose result the first pass over it keeps."""
        height, width = self.source.shape[2:]
        return self.then(KeepResult(), ResultSoFar(self.target(), Window(0, height, 0, width)))

    def astype(self, dtype: DType) -> "ArrayChain":
        """A new chain: the result of this one, computed now, in a wider type."""
        (made,) = results([self.shared()])  # whoever has this chain still needs its array
        return ArrayChain(made.astype(dtype, copy=False), is_own=True)

    @property
    def kept(self) -> ResultSoFar | None:
        """Where the result is kept; None if it is not."""
        last = self.numbers[-1] if self.numbers else None
        return last if isinstance(last, ResultSoFar) else None


# A chain whose passes are run now, without a Dask graph.
Chained = ArrayChain | BlockChain


@dataclass(frozen=True, eq=False)
class Pass:
    """One look at all blocks of an image.

    Attributes
    ----------
    chain
        The image, and what is run on it.
    sinks
        What becomes of the result: one sink, or several that measure. Passes may share a sink.
    where
        The mask of the pixels that are measured, or None for all.
    """

    chain: Chained
    sinks: tuple[Sink, ...]
    where: Pixels | None = None

    def blocks(self, n: int) -> list[Window]:
        """The blocks in which the image is looked at: `n` times as many as sinks want, about."""
        return self.chain.blocks(n * min(sink.blocks_per_thread for sink in self.sinks))

    @cached_property
    def sink(self) -> Sink:
        """All sinks as one."""
        return self.sinks[0] if len(self.sinks) == 1 else Several(self.sinks)


def run(passes: Sequence[Pass]) -> dict[Sink, Any]:
    """Run passes, all their blocks in one queue; returns what each sink has made of its passes."""
    # One image alone must have blocks for all threads; many images share the threads.
    share = -(-n_threads() // max(1, len(passes)))
    blocks = [(each, window) for each in passes for window in each.blocks(share)]
    expected = Counter(sink for each, _ in blocks for sink in each.sinks)
    results = {sink: _Result(sink, n_blocks) for sink, n_blocks in expected.items()}

    def run_block(block: tuple[Pass, Window]) -> None:
        each, window = block
        part = each.chain.run_block(each.sink, window, each.where)
        parts = [part] if len(each.sinks) == 1 else part
        for sink, own in zip(each.sinks, parts, strict=True):
            results[sink].add(own)
        count()

    with counted(len(blocks)) as count:
        run_all(run_block, blocks)
    return {sink: result.value for sink, result in results.items()}


class _Result:
    """What a sink makes of its blocks: as soon as two parts are there, a thread merges them."""

    def __init__(self, sink: Sink, n_blocks: int) -> None:
        self._sink = sink
        self._n_left = n_blocks
        self._lock = Lock()
        self._parts: list[object] = []
        self.value: object = None

    def add(self, part: object) -> None:
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
            part = self._sink.merge_unless_none([other, part])
        self.value = self._sink.finish(part)


def begin_at_result(chain: Chained) -> ArrayChain:
    """A new chain: what a pass has kept of this one's result, or else what is made now."""
    if isinstance(chain, ArrayChain):
        if chain.is_own and not chain.operations:
            return chain
        if chain.kept is not None and chain.kept.is_complete:
            return ArrayChain(chain.kept.pixels, is_own=True)
    (made,) = results([chain])
    return ArrayChain(made, is_own=True)


def results(chains: Sequence[Chained]) -> list[Block]:
    """The results of chains as arrays; images that nobody else needs are written over."""
    targets = [chain.target() for chain in chains]
    run([Pass(chain, (Fill(out),)) for chain, out in zip(chains, targets, strict=True)])
    return targets

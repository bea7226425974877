"""Lazy images of one block that any thread can read: passes over them are run now, without Dask."""

from dataclasses import dataclass
from typing import Any

import dask.array as da

from ..aliases import Block
from ..memory import empty
from .lazy import LazyChain
from .sinks import Sink
from .sources import Area
from .windows import Pixels, Window


@dataclass(frozen=True, eq=False)
class BlockChain(LazyChain):
    """A lazy image of one block, and the operations that are to happen to it.

    What `passes.ArrayChain` is for an image in memory. The pixels are read anew for each pass,
    unless the source's cache has kept them.

    Attributes
    ----------
    others
        What reading the block needs: arrays on disk or in memory.
    """

    others: tuple[object, ...] = ()

    @classmethod
    def of_chain(cls, chain: LazyChain) -> "BlockChain | None":
        """The same chain; None if its block cannot be read, or its numbers computed, without Dask.

        Nor if one of its operations takes a mask.
        """
        if any(isinstance(number, da.Array | Area) for number in chain.numbers):
            return None
        others = chain.source.needed_values()
        own = chain.source, chain.operations, chain.numbers
        return None if others is None else cls(*own, others=others)

    def shared(self) -> "BlockChain":
        """The same chain: no result is ever written over what it reads."""
        return self

    def keeping_result(self) -> "BlockChain":
        """The same chain: what it reads may be kept by the source's cache, but not its result."""
        return self

    def target(self) -> Block:
        """A new array for the result."""
        return empty(self.shape, self.dtype)

    def blocks(self, n: int) -> list[Window]:
        """The image as one block: it is read as a whole."""
        return [self.source.window((0, 0, 0))]

    def run_block(self, sink: Sink, window: Window, where: Pixels | None) -> Any:
        """Run the chain, and return what a sink keeps of the result."""
        job, *_ = self._tasks("", [where]).block_task((0, 0, 0), sink, {})
        return job(*self.others)

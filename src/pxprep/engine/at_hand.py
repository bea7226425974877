"""What any thread can read is run now, without Dask: images of one block, and copies of chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
from dask.array.core import slices_from_chunks
from dask.core import flatten
from dask.typing import Key

from ..aliases import Array, Block
from ..memory import empty
from .lazy import LazyChain
from .progress import counted
from .readings import Reader, is_at_hand, reader_of
from .sinks import Sink
from .sources import Area
from .threads import run_all
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
        """The same chain; None if its block cannot be read without Dask.

        None as well if an operation takes lazy numbers, or a mask.
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


def copy_chunks(arrays: Sequence[Array], targets: Sequence[Any]) -> bool:
    """Write Dask arrays chunk by chunk, each chunk by one thread; returns whether that was done.

    Nothing is written if a chunk needs more than what is at hand, or if two would need the same
    result.
    """
    layers = [name for array in arrays for name in array.dask.layers]
    if len(set(layers)) < len(layers):
        return False
    found: list[tuple[Reader, Key, Any, tuple[slice, ...]]] = []
    for array, target in zip(arrays, targets, strict=True):
        keys = list(flatten(array.__dask_keys__()))
        reader = reader_of(array, ([key] for key in keys))
        if not all(is_at_hand(reader.data(key)) for key in reader.shared):
            return False
        places = zip(keys, slices_from_chunks(array.chunks), strict=True)
        found += [(reader, key, target, place) for key, place in places]

    def copy(chunk: tuple[Reader, Key, Any, tuple[slice, ...]]) -> None:
        reader, key, target, place = chunk
        reading = reader.reading([key])
        (target[place],) = reading.chunks([reader.data(other) for other in reading.others])
        count()

    with counted(len(found)) as count:
        run_all(copy, found)
    return True

"""Lazy images of one block that any thread can read: passes over them are run now, without Dask."""

from dataclasses import dataclass, replace
from typing import Any

from ..aliases import Array, Block, DType
from .jobs import BlockJob
from .lazy import LazyChain
from .memory import empty
from .programs import Operation
from .sinks import Sink
from .windows import Pixels, Window


@dataclass(frozen=True, eq=False)
class BlockChain:
    """A lazy image of one block, and the operations that are to happen to it.

    What `passes.ArrayChain` is for an image in memory. The pixels are read anew for each pass,
    unless the source's keeper has kept them.

    Attributes
    ----------
    chain
        The image and the operations.
    others
        What reading the block needs: arrays on disk or in memory.
    """

    chain: LazyChain
    others: tuple[object, ...]

    @classmethod
    def of(cls, array: Array) -> "BlockChain | None":
        """The chain of a Dask array; None unless it is one block that can be read without Dask."""
        chain = LazyChain.of(array)
        others = None if chain.operations else chain.source.needed_alone()
        return None if others is None else cls(chain, others)

    def then(self, operation: Operation, numbers: object = None) -> "BlockChain":
        """The chain with one more operation."""
        return replace(self, chain=self.chain.then(operation, numbers))

    def shared(self) -> "BlockChain":
        """The same chain: no result is ever written over what it reads."""
        return self

    def n_operations_before(self, other: object) -> int | None:
        """As `LazyChain.n_operations_before`."""
        if not isinstance(other, BlockChain):
            return None
        return self.chain.n_operations_before(other.chain)

    @property
    def float_type(self) -> DType:
        """Type of what comes out of any operation."""
        return self.chain.float_type

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        n_channels, *others = self.chain.source.shape
        return (self.chain.program.out_channels(n_channels), *others)

    @property
    def dtype(self) -> DType:
        """Type of the result."""
        return self.chain.program.out_dtype(self.chain.source.array.dtype)

    @property
    def is_cheap(self) -> bool:
        """Whether it takes less time to run it once more than to keep the result."""
        return all(operation.is_cheap for operation in self.chain.program.operations)

    def keeping_result(self) -> "BlockChain":
        """The same chain: what it reads may be kept by the source's keeper, but not its result."""
        return self

    def target(self) -> Block:
        """A new array for the result."""
        return empty(self.shape, self.dtype)

    def blocks(self, n: int) -> list[Window]:
        """The image as one block: it is read as a whole."""
        return [self.chain.source.window((0, 0, 0))]

    def run_block(self, sink: Sink, window: Window, where: Pixels | None) -> Any:
        """Run the chain, and return what a sink keeps of the result."""
        reading = self.chain.source.reading((0, 0, 0))
        numbers = tuple(bound.numbers for bound in self.chain.operations)
        keeping_points = () if reading.keeper is None else self.chain._keeping_points
        job = BlockJob(
            self.chain.program, window, reading, (), (*numbers, where), sink, keeping_points
        )
        return job(*self.others)

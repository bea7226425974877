"""Chains: operations that are to happen to an image, and what each of them takes."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from ..aliases import DType
from .blocks import float_dtype
from .programs import Operation, Program


@dataclass(frozen=True, eq=False)
class Chain:
    """An image, and the operations that are to happen to it.

    Attributes
    ----------
    source
        What is read, with the axes (c, z, y, x): an array in memory, or a `Source`.
    operations
        In their order.
    numbers
        For each operation what it takes: measured numbers, a mask, or None.
    """

    source: Any
    operations: tuple[Operation, ...] = ()
    numbers: tuple[Any, ...] = ()

    def then(self, operation: Operation, numbers: object = None) -> Self:
        """The chain with one more operation."""
        operations, all_numbers = (*self.operations, operation), (*self.numbers, numbers)
        return replace(self, operations=operations, numbers=all_numbers)

    @property
    def float_type(self) -> DType:
        """Type of what comes out of any operation."""
        return float_dtype(self.source.dtype)

    @cached_property
    def program(self) -> Program:
        """What runs on each block."""
        return Program(self.operations, self.float_type, *self.source.shape[2:])

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        n_channels, *others = self.source.shape
        return (self.program.out_channels(n_channels), *others)

    @property
    def dtype(self) -> DType:
        """Type of the result."""
        return self.program.out_dtype(self.source.dtype)

    @property
    def is_cheap(self) -> bool:
        """Whether it takes less time to run it once more than to keep the result."""
        return all(operation.is_cheap for operation in self.operations)

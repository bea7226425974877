"""Dask graphs: made when looked into, with results merged, in an order that holds little."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from dask.core import flatten

from ._typing import Array

Graph = dict[Any, Any]
# One result for several.
Merge = Callable[[Sequence[Any]], Any]

# Partial results that one task merges: each may be as large as a small block.
FAN_IN = 4
# As many are added at once where they are merged in order.
LINK = 8


class LazyGraph(Mapping[Any, Any]):
    """A graph that is made when somebody looks into it."""

    def __init__(self, make: Callable[[], Graph]) -> None:
        self._make = make

    @cached_property
    def _graph(self) -> Graph:
        return self._make()

    def __getitem__(self, key: Any) -> Any:
        return self._graph[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._graph)

    def __len__(self) -> int:
        return len(self._graph)

    def __reduce__(self) -> Any:
        return dict, (self._graph,)


def only_key(array: Array) -> Any:
    """The key of the one chunk of an array."""
    (key,) = flatten(array.__dask_keys__())
    return key


def merge_in_tree(graph: Graph, name: str, merged: Merge, parts: list[Any]) -> Any:
    """Add the tasks that merge partial results; returns the key of the last."""
    level = 0
    while len(parts) > 1:
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        level += 1
        parts = [(name, level, number) for number in range(len(groups))]
        graph.update({key: (merged, group) for key, group in zip(parts, groups, strict=True)})
    return parts[0]


def merge_in_order(graph: Graph, name: str, merged: Merge, parts: list[Any]) -> Any:
    """As `merge_in_tree`, but in the order of `parts`: only one result is ever of many of them."""
    total = parts[0]
    for number, first in enumerate(range(1, len(parts), LINK)):
        key = (name, number)
        graph[key] = (merged, [total, *parts[first : first + LINK]])
        total = key
    return total


def line_task(graph: Graph, name: str, number: int) -> list[Any]:
    """What the blocks of a line depend on so that Dask runs one line after the other.

    It goes by how many tasks come before a block, and by names, 10 before 2, where these are as
    many; and would hold the edges around all that it left out. So each line has a task more before
    it, which does nothing: to compute some blocks no others are needed.
    """
    if number == 0:
        return []
    key = (f"{name}-line", number)
    graph[key] = (_nothing, *([(f"{name}-line", number - 1)] if number > 1 else []))
    return [key]


def _nothing(*_: Any) -> None:
    """What a task does that is there to be waited for."""

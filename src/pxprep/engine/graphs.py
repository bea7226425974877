"""Dask graphs: made when looked into, with results merged, in an order that holds little.

And Dask arrays as they enter the package.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

import dask.array as da
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from ..aliases import Array

Graph = dict[Key, Any]
# One result for several.
Merge = Callable[[Sequence[object]], Any]

# Partial results that one task merges: each may be as large as a small block.
FAN_IN = 4
# As many are added at once where they are merged in order.
LINK = 8
# What the names of this package's layers begin with, each of which is used once.
OWN = "pxprep-"
# Likewise those of arrays in memory, in which Dask and xarray put a hash of all values.
_IN_MEMORY = ("array-", "xarray-")
# In a name that Dask made up: a hash of what it stands for, or a number that is used once.
_UNIQUE = re.compile("[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class LazyGraph(Mapping[Key, Any]):
    """A graph that is made when somebody looks into it."""

    def __init__(self, make: Callable[[], Graph]) -> None:
        self._make = make

    @cached_property
    def _graph(self) -> Graph:
        return self._make()

    def __getitem__(self, key: Key) -> object:
        return self._graph[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._graph)

    def __len__(self) -> int:
        return len(self._graph)

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (self._graph,)


def adopt(array: Array) -> Array:
    """A Dask array as the package works on it: no chunk is empty, no other array has its names.

    A name that the user chose, as in `from_array(..., name="image")`, may be that of many arrays;
    and in one graph, or by that name, one of them would stand for all.
    """
    if array.name.startswith(OWN):
        return array
    for axis, sizes in enumerate(array.chunks):
        filled = [number for number, size in enumerate(sizes) if size]
        if len(filled) < len(sizes):
            array = array.blocks[(*[slice(None)] * axis, filled)]
    if all(_is_unique(name, layer, array.dask) for name, layer in array.dask.layers.items()):
        return array
    # The same object again, with the same graph, is the same array: what is read of it is shared.
    graph, own = array.__dict__.get(_RENAMED, (None, None))
    if graph is not array.dask:
        name = f"{OWN}own-{uuid4().hex}"
        layer = MaterializedLayer(LazyGraph(partial(_renamed_graph, array, name)))
        made = HighLevelGraph({name: layer}, {name: set()})
        own = da.Array(made, name, array.chunks, meta=array._meta)
        array.__dict__[_RENAMED] = array.dask, own
    return own


# Where an array keeps itself with a name of its own.
_RENAMED = "_pxprep_renamed"


def _is_unique(name: str, layer: Mapping[Key, Any], graph: HighLevelGraph) -> bool:
    """Whether a layer of a graph must be the only one with its name."""
    called = str(name)
    if not (called.startswith(OWN) or _UNIQUE.search(called)):
        return False
    if called.startswith((OWN, *_IN_MEMORY)) or graph.dependencies[name]:
        return True
    # Chunks below which there is nothing, as `persist` leaves them: what they were made from is not
    # known any more, so that the hash may be of a name that the user chose.
    return not (isinstance(layer, MaterializedLayer) and isinstance(next(iter(layer), ""), tuple))


def _renamed_graph(array: Array, name: str) -> Graph:
    """The graph of an array under another name; no key is as it was."""
    graph = dict(array.__dask_graph__())
    keys = {key: (name, key) for key in graph}
    keys |= {key: (name, *key[1:]) for key in flatten(array.__dask_keys__())}
    return {new: _renamed(graph[old], keys, new) for old, new in keys.items()}


def _renamed(value: Any, keys: Mapping[Key, Key], key: Key | None = None) -> object:
    """A value of a graph, to be that of `key`, with other keys in it."""
    if isinstance(value, tuple) and value and callable(value[0]):  # as older versions write a task
        return (value[0], *(_renamed(each, keys) for each in value[1:]))
    if isinstance(value, list):
        return [_renamed(each, keys) for each in value]
    if isinstance(value, dict):
        return {name: _renamed(each, keys) for name, each in value.items()}
    if hasattr(value, "dependencies"):
        return value.substitute(keys, key=key)
    try:
        return keys.get(value, value)
    except TypeError:  # not even a key
        return value


def only_key(array: Array) -> Key:
    """The key of the one chunk of an array."""
    key: Key
    (key,) = flatten(array.__dask_keys__())
    return key


def merge_in_tree(graph: Graph, name: str, merged: Merge, parts: list[Key]) -> Key:
    """Add the tasks that merge partial results; returns the key of the last."""
    level = 0
    while len(parts) > 1:
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        level += 1
        parts = [(name, level, number) for number in range(len(groups))]
        graph.update({key: (merged, group) for key, group in zip(parts, groups, strict=True)})
    return parts[0]


def merge_in_order(graph: Graph, name: str, merged: Merge, parts: list[Key]) -> Key:
    """As `merge_in_tree`, but in the order of `parts`: only one result is ever of many of them."""
    total = parts[0]
    for number, first in enumerate(range(1, len(parts), LINK)):
        key = (name, number)
        graph[key] = (merged, [total, *parts[first : first + LINK]])
        total = key
    return total


def line_task(graph: Graph, name: str, number: int) -> list[Key]:
    """What the blocks of a line depend on so that Dask runs one line after the other.

    Dask orders tasks by the number of those before them, then by name as text (10 before 2), and
    would hold many edges. One empty task for each line, each after the one before, keeps the lines
    in order, and no block needs another one for it.
    """
    if number == 0:
        return []
    key = (f"{name}-line", number)
    graph[key] = (_nothing, *([(f"{name}-line", number - 1)] if number > 1 else []))
    return [key]


def _nothing(*_: object) -> None:
    """What a task does that is there to be waited for."""

"""Dask graphs: made only when they are looked into; merging; an order that holds few blocks.

And Dask arrays as they enter the package: with names of their own, without empty chunks.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import product
from typing import Any
from uuid import uuid4

import dask.array as da
from dask.array.core import slices_from_chunks
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from ..aliases import Array, Block

Graph = dict[Key, Any]
# Makes one result of several.
Merge = Callable[[Sequence[object]], object]

# So many partial results are added to the total by one task.
LINK = 8
# The names of this package's layers begin with this. Each name is used once.
OWN = "pxprep-"
# The names that Dask and xarray give arrays in memory begin so, and have a hash of all values.
_IN_MEMORY = ("array-", "xarray-")
# The attribute of a Dask array that has the same array under a name of its own.
_RENAMED = "_pxprep_renamed"
# What is in a name that Dask has made up: a hash, or a number that is used once.
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

    A name that the user chose, as in `from_array(..., name="image")`, may be the name of several
    arrays. In one graph, all of them would be taken for one.
    """
    if array.name.startswith(OWN):
        return array
    for axis, sizes in enumerate(array.chunks):
        filled = [number for number, size in enumerate(sizes) if size]
        if len(filled) < len(sizes):
            array = array.blocks[(*[slice(None)] * axis, filled)]
    if all(_is_unique(name, layer, array.dask) for name, layer in array.dask.layers.items()):
        return array
    # The next call with this object returns the same array, and so shares what is read of it.
    graph, renamed = array.__dict__.get(_RENAMED, (None, None))
    if graph is not array.dask:
        name = f"{OWN}own-{uuid4().hex}"
        layer = MaterializedLayer(LazyGraph(partial(_renamed_graph, array, name)))
        made = HighLevelGraph({name: layer}, {name: set()})
        renamed = da.Array(made, name, array.chunks, meta=array._meta)
        array.__dict__[_RENAMED] = array.dask, renamed
    return renamed


def _is_unique(name: str, layer: Mapping[Key, object], graph: HighLevelGraph) -> bool:
    """Whether no other layer can have this layer's name, as it is used once or is a hash."""
    called = str(name)
    if not (called.startswith(OWN) or _UNIQUE.search(called)):
        return False
    if called.startswith((OWN, *_IN_MEMORY)) or graph.dependencies[name]:
        return True
    # Chunks without dependencies, such as `persist` leaves: what they were made from is not known
    # any more, so that the hash may be that of a name which the user chose.
    return not (isinstance(layer, MaterializedLayer) and isinstance(next(iter(layer), ""), tuple))


def _renamed_graph(array: Array, name: str) -> Graph:
    """The graph of an array under another name: all its keys are new."""
    graph = dict(array.__dask_graph__())
    keys = {key: (name, key) for key in graph}
    keys |= {key: (name, *key[1:]) for key in flatten(array.__dask_keys__())}
    return {new: _renamed(graph[old], keys, new) for old, new in keys.items()}


def _renamed(value: Any, keys: Mapping[Key, Key], key: Key | None = None) -> object:
    """A value of a graph with new keys in place of the old ones; `key` is a task's own new key."""
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
    except TypeError:  # not hashable, so it is no key
        return value


def of_views(array: Block, name: str, chunks: tuple[tuple[int, ...], ...]) -> Array:
    """A Dask array whose chunks are views of a NumPy array: Dask's own function would copy it."""
    keys = product([name], *(range(len(sizes)) for sizes in chunks))
    graph = {key: array[part] for key, part in zip(keys, slices_from_chunks(chunks), strict=True)}
    return da.Array(graph, name, chunks, dtype=array.dtype)


def only_key(array: Array) -> Key:
    """The key of the one chunk of an array."""
    key: Key
    (key,) = flatten(array.__dask_keys__())
    return key


def merge_in_order(graph: Graph, name: str, merged: Merge, parts: list[Key]) -> Key:
    """Add the tasks that merge partial results; returns the key of the last.

    They are merged in their order: so there is only one large total, and Dask runs neighbouring
    blocks one after the other, so that few edges are held.
    """
    total = parts[0]
    for link, first in enumerate(range(1, len(parts), LINK)):
        key = (name, link)
        graph[key] = (merged, [total, *parts[first : first + LINK]])
        total = key
    return total


def line_task(graph: Graph, name: str, number: int) -> list[Key]:
    """The key of a task on which the blocks of a line depend, so that Dask runs line after line.

    Dask orders tasks by how many others come before them, then by their names as text (10 before
    2): so it would run blocks far from each other, and hold many edges. The tasks that are added
    here, one for each line but the first, do nothing and depend on each other, line by line.
    """
    if number == 0:
        return []
    key = (f"{name}-line", number)
    graph[key] = (_nothing, *([(f"{name}-line", number - 1)] if number > 1 else []))
    return [key]


def _nothing(*_: object) -> None:
    """The function of a task that is only waited for."""

"""What a task needs to read a block of a Dask array: a part of the array's graph, or a slice.

A graph is cut so that each block has the part which no other block needs. A task that reads a block
runs that part itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
from dask.array.core import getter, getter_nofancy
from dask.blockwise import Blockwise
from dask.core import get, get_dependencies
from dask.layers import ArraySliceDep
from dask.typing import Key

from ..aliases import Array, Block
from ..store.zarr_chunks import direct, require_there
from .axes import AXES, standard_axes
from .cache import NO_CACHE, ImageCache, edges_of
from .graphs import Graph
from .windows import Index

# The functions in Dask's tasks that read a part of an array on disk.
SLICING = (getter, getter_nofancy)


@dataclass(frozen=True)
class Reading:
    """A part of a graph that a task runs itself.

    Attributes
    ----------
    graph
        The tasks.
    keys
        Keys whose results are wanted: the chunks of the block.
    others
        Keys outside the graph that its tasks depend on.
    sliced
        Those of `others` whose values are used only to take slices of them.
    axes
        The axes of the chunks as they come; what `run` returns has the axes (c, z, y, x).
    index
        Which block is read.
    cache
        Keeps what is read for the next pass.
    """

    graph: Graph
    keys: tuple[Key, ...]
    others: tuple[Key, ...]
    sliced: frozenset[Key] = frozenset()
    axes: str = AXES
    index: Index = (0, 0, 0)
    cache: ImageCache = NO_CACHE

    def run(self, others: Sequence[object]) -> list[Block]:
        """The chunks of the block, given the values of `others`."""
        if not self.graph:
            return self._read(others)
        return self.cache.blocks(self.index, partial(self._read, others))

    def edges(self, depth: int, others: Sequence[object]) -> list[Block]:
        """What lies within `depth` pixels of the block's edges, as `edges_of` cuts it."""
        return self.cache.edges(self.index, depth, lambda: edges_of(self.run(others), depth))

    def _read(self, others: Sequence[object]) -> list[Block]:
        return [standard_axes(chunk, self.axes) for chunk in self.chunks(others)]

    def chunks(self, others: Sequence[object]) -> list[Block]:
        """The chunks of the block with the axes that they have, read anew."""
        sliced = [
            direct(value) if key in self.sliced else value
            for key, value in zip(self.others, others, strict=True)
        ]
        known: dict[Key, Any] = dict(zip(self.others, sliced, strict=True))
        missing = [key for key in self.keys if key not in known]
        results = (
            dict(zip(missing, get(self.graph, missing, known), strict=True)) if missing else {}
        )
        for value in others:
            require_there(value)
        return [results[key] if key in results else known[key] for key in self.keys]


class SlicedArray:
    """A Dask array whose chunks are slices of an array on disk: they are read without Dask's tasks.

    Parameters
    ----------
    name
        Name of the Dask array.
    original
        The key of the array on disk.
    stored
        The array on disk.
    starts
        Where chunks begin, along each axis.
    """

    def __init__(
        self, name: str, original: str, stored: object, starts: Sequence[Sequence[int]]
    ) -> None:
        self.name = name
        self.original = original
        self.stored = stored
        self.starts = starts
        self.graph: Graph = {}
        self.shared = {original}

    @classmethod
    def of(cls, array: Array) -> "SlicedArray | None":
        """For an array from `dask.array.from_array` or `from_zarr`; None for any other."""
        layer = array.dask.layers.get(array.name)
        if not isinstance(layer, Blockwise) or len(layer.io_deps) != 1 or len(layer.indices) != 2:
            return None
        (original, no_axes), (slices, _) = layer.indices
        original = getattr(original, "key", original)
        is_sliced = isinstance(layer.io_deps.get(str(slices)), ArraySliceDep)
        older: Any = getattr(layer, "dsk", None)
        task = layer.task if older is None else older.get(array.name)
        if not is_sliced or no_axes is not None or not _is_slicing(task):
            return None
        if not isinstance(original, str) or array.dask.dependencies.get(original, {original}):
            return None
        stored = array.dask.layers[original][original]
        starts = [list(accumulate(sizes, initial=0)) for sizes in array.chunks]
        return cls(array.name, original, getattr(stored, "value", stored), starts)

    def data(self, key: Key) -> Any:
        """The array on disk, whatever the key."""
        return self.stored

    def reading(self, keys: Sequence[Any]) -> Reading:
        """What reads a block, given the keys of all its chunks: a single slice."""
        (_, *first), (_, *last) = keys[0], keys[-1]
        ends = tuple(
            slice(starts[low], starts[high + 1])
            for starts, low, high in zip(self.starts, first, last, strict=True)
        )
        return Reading(
            {keys[0]: (getter, self.original, ends)},
            (keys[0],),
            (self.original,),
            frozenset([self.original]),
        )


class InlinedGraph:
    """A graph that is cut: a part for each block, which no other needs, and what they share."""

    def __init__(self, graph: Graph, blocks: Iterable[Sequence[Key]]) -> None:
        self.graph = graph
        self.shared = self._shared(blocks)
        self.sliced = self._sliced()

    def data(self, key: Key) -> Any:
        """The value of a key; None if that is a task."""
        value = self.graph[key]
        return None if _is_task(self.graph, key) else getattr(value, "value", value)

    def _sliced(self) -> frozenset[Key]:
        """The shared keys that stand for no task, and that tasks use only to take slices."""
        sliced = {key for key in self.shared if not _is_task(self.graph, key)}
        for key, task in self.graph.items() if sliced else ():
            if not _is_slicing(task):
                sliced.difference_update(_dependencies(self.graph, key))
        return frozenset(sliced)

    def _shared(self, blocks: Iterable[Sequence[Key]]) -> set[Key]:
        owner: dict[Key, int] = {}
        shared: set[Key] = set()
        for number, keys in enumerate(blocks):
            todo = list(keys)
            while todo:
                key = todo.pop()
                if key in shared or owner.get(key) == number:
                    continue
                if key in owner or not _is_task(self.graph, key):
                    shared.add(key)
                    continue
                owner[key] = number
                todo.extend(_dependencies(self.graph, key))
        # What shared tasks depend on is shared, too, or else blocks would compute it once more.
        todo = list(shared)
        while todo:
            for key in _dependencies(self.graph, todo.pop()):
                if key not in shared:
                    shared.add(key)
                    todo.append(key)
        return shared

    def reading(self, keys: Sequence[Key]) -> Reading:
        """What reads a block: the part of the graph that makes `keys`, its chunks."""
        part: Graph = {}
        others: dict[Key, None] = {}
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key in self.shared:
                others[key] = None
            elif key not in part:
                part[key] = self.graph[key]
                todo.extend(_dependencies(self.graph, key))
        return Reading(part, tuple(keys), tuple(others), self.sliced)


# What makes the readings of an array.
Reader = SlicedArray | InlinedGraph


def reader_of(array: Array, blocks: Iterable[Sequence[Key]]) -> Reader:
    """What reads a Dask array block by block, given the keys of each block's chunks."""
    return SlicedArray.of(array) or InlinedGraph(dict(array.__dask_graph__()), blocks)


def is_at_hand(value: object) -> bool:
    """Whether any thread may use a value: an array, or slices; not the future of a cluster.

    An array is in memory, of zarr, or of the package: pixels in files.
    """
    package = type(value).__module__.partition(".")[0]
    return isinstance(value, np.ndarray | tuple) or package in ("zarr", "pxprep")


def _is_slicing(task: object) -> bool:
    """Whether a task is that of `dask.array.from_array` without options."""
    if isinstance(task, tuple):  # as older versions of Dask write it
        return len(task) == 3 and any(task[0] is function for function in SLICING)
    function, options = getattr(task, "func", None), getattr(task, "kwargs", None)
    return any(function is each for each in SLICING) and not options


def _is_task(graph: Graph, key: Key) -> bool:
    """Whether the value of a key is a task: data, and futures on a cluster, are none."""
    value = graph[key]
    if isinstance(value, str | tuple):  # a task as older versions of Dask write it, or another key
        return bool(value) and (callable(value[0]) or value in graph)
    return hasattr(value, "dependencies") and not hasattr(value, "value")


def _dependencies(graph: Graph, key: Key) -> Any:
    found = getattr(graph[key], "dependencies", None)
    return get_dependencies(graph, key) if found is None else found

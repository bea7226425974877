"""Dask arrays as sources that are read in blocks of all channels, again for every pass.

A task that reads a block runs that part of the Dask array's graph itself which no other block
needs. So none of it is held for the next pass, which reads the block again.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.typing import Key

from ..aliases import Array, Block, DType
from . import blocks
from .axes import AXES, chunk_keys, standard_axes
from .cache import NO_CACHE, SAMPLE_BYTES, Sampling, cut
from .graphs import OWN, adopt, of_views
from .readings import Reader, Reading, SlicedArray, is_at_hand, reader_of
from .windows import Index, Window

# Chunks with fewer rows or columns are thin, and are joined with their neighbours.
THIN = 64
# Joined chunks have at most so many rows or columns, and at most so many pixels, but for those that
# are still thin.
THICK = 256
THICK_PIXELS = 1 << 18
# The attribute of a Dask array that has the same array in thick chunks.
_THICK = "_pxprep_thick"
# Sources by the id of their array's graph, its name and its axes: arrays may have the same name. A
# source holds the graph, so that no other graph gets its id while the source lives.
_SOURCES: "WeakValueDictionary[tuple[int, str, str], Source]" = WeakValueDictionary()


class Sample(NamedTuple):
    """A tile of an image, with axes (c, z, y, x), and the tiles of masks at the same place."""

    block: Block
    masks: Sequence[Block] = ()


class Source:
    """A Dask array that is read in blocks of all channels, with axes (c, z, y, x).

    Attributes
    ----------
    array
        The array.
    axes
        Its axes: y, x and perhaps c and z, in any order.
    chunks
        Sizes of its chunks along c, z, y and x.
    """

    def __init__(self, array: Array, axes: str) -> None:
        self.array = array
        self.axes = axes
        by_axis = dict(zip(axes, array.chunks, strict=True))
        self.chunks: tuple[tuple[int, ...], ...] = tuple(by_axis.get(axis, (1,)) for axis in AXES)
        self.cache = NO_CACHE
        self._readings: dict[Index, Reading] = {}

    @classmethod
    def of(cls, array: Array, axes: str = AXES) -> "Source":
        """The source that reads `array`; the same one for all chains, as long as one lives."""
        key = id(array.dask), array.name, axes
        source = _SOURCES.get(key)
        if source is None:
            source = _SOURCES[key] = cls(array, axes)
        return source

    @property
    def token(self) -> str:
        """The name of the source, for the keys of tasks."""
        return f"{self.array.name}-{self.axes}"

    @property
    def layers(self) -> dict[str, object]:
        """Layers of the array's graph, by name: those on which tasks that read it may depend."""
        layers = dict(self.array.dask.layers)
        sliced = SlicedArray.of(self.array)
        return layers if sliced is None else {sliced.original: layers[sliced.original]}

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along c, z, y and x."""
        return tuple(sum(sizes) for sizes in self.chunks)

    @property
    def dtype(self) -> DType:
        """Type of the pixels as they are read."""
        dtype: DType = self.array.dtype
        return dtype

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """Where the chunks along c, z, y and x begin."""
        return tuple(tuple(accumulate(sizes, initial=0)) for sizes in self.chunks)

    def window(self, index: Index) -> Window:
        """The rows and columns of a block."""
        _, i, j = index
        _, _, rows, columns = self.starts
        return Window(rows[i], rows[i + 1], columns[j], columns[j + 1])

    def lines(self) -> Iterator[list[Index]]:
        """All blocks, row by row or column by column, whichever lines are shorter.

        So few blocks come between two neighbours in neighbouring lines.
        """
        planes, rows, columns = (range(len(sizes)) for sizes in self.chunks[1:])
        for z in planes:
            if len(columns) <= len(rows):
                yield from ([(z, row, column) for column in columns] for row in rows)
            else:
                yield from ([(z, row, column) for row in rows] for column in columns)

    def indices(self) -> Iterator[Index]:
        """All blocks, line by line."""
        return (index for line in self.lines() for index in line)

    def neighbours(self, index: Index, window: Window) -> list[Index]:
        """The other blocks of the plane that hold pixels of `window`."""
        z, i, j = index
        _, _, rows, columns = self.starts
        first_row = bisect_right(rows, window.top) - 1
        first_column = bisect_right(columns, window.left) - 1
        return [
            (z, row, column)
            for row in range(first_row, len(rows) - 1)
            if rows[row] < window.bottom
            for column in range(first_column, len(columns) - 1)
            if columns[column] < window.right and (row, column) != (i, j)
        ]

    def reading(self, index: Index) -> "Reading":
        """What a task needs to read a block."""
        reading = self._readings.get(index)
        if reading is None:
            reading = self._reader.reading(self._keys(index))
            reading = self._readings[index] = replace(reading, axes=self.axes, index=index)
        return reading if self.cache is NO_CACHE else replace(reading, cache=self.cache)

    def needed_values(self) -> tuple[object, ...] | None:
        """The values of `others` for reading an image of one block.

        None if it has several blocks, or if a task must compute one of the values.
        """
        if any(len(sizes) != 1 for sizes in self.chunks[1:]):
            return None
        values = [self._reader.data(key) for key in self.reading((0, 0, 0)).others]
        return tuple(values) if all(map(is_at_hand, values)) else None

    def samples(self, areas: "Sequence[Area]" = ()) -> list[Sample]:
        """Tiles of the image, with those of areas over it, as far as they need not be read first.

        They are what the cache has sampled, or are cut from blocks that are in memory.
        """
        tiles_of = self.cache.samples()
        places = dict(self.cache.places) if tiles_of else self._places
        tiles_of = tiles_of or self._in_memory(places)
        masks = []
        for area in areas:
            kept = self.cache.beside(area.name).samples()
            sampled = kept or area.source(self.chunks)._in_memory(places)
            masks.append({index: list(map(area.choose, tiles)) for index, tiles in sampled.items()})
        return [
            Sample(tile, over)
            for index, tiles in tiles_of.items()
            if all(index in mask for mask in masks)
            for tile, *over in zip(tiles, *(mask[index] for mask in masks), strict=True)
        ]

    @cached_property
    def _places(self) -> dict[Index, list[Window]]:
        """Where blocks are sampled, if all of them are in memory; else nothing."""
        indices = list(self.indices())
        sampling = Sampling(SAMPLE_BYTES, len(indices))
        places = {}
        for index in indices:
            chunks = self._chunks_in_memory(index)
            if not chunks:
                return {}
            places[index] = sampling.places(index, chunks)
        return places

    def _in_memory(self, places: Mapping[Index, Sequence[Window]]) -> dict[Index, list[Block]]:
        """The tiles at `places` of those blocks that are in memory."""
        in_memory = {index: self._chunks_in_memory(index) for index in places}
        return {
            index: [cut(chunks, place) for place in places[index]]
            for index, chunks in in_memory.items()
            if chunks
        }

    def _chunks_in_memory(self, index: Index) -> list[Block]:
        """The chunks of a block, if all of them are in memory; else none."""
        values = [self._reader.graph.get(key) for key in self._keys(index)]
        chunks: list[Any] = [getattr(value, "value", value) for value in values]
        if not all(isinstance(chunk, np.ndarray) for chunk in chunks):
            return []
        return [standard_axes(chunk, self.axes) for chunk in chunks]

    @cached_property
    def _reader(self) -> Reader:
        """What makes the readings of blocks."""
        return reader_of(self.array, map(self._keys, self.indices()))

    def _keys(self, index: Index) -> list[Key]:
        """The keys of a block's chunks, each of some of the channels."""
        return chunk_keys(self.array.name, self.axes, index, len(self.chunks[0]))


def stored_in(array: Array) -> Iterator[object]:
    """The values that a Dask array was made from, such as zarr arrays.

    They are those that have a layer of the graph to themselves, whose only key is its name. No task
    is made or looked at to find them.
    """
    for name, layer in array.dask.layers.items():
        graph = getattr(layer, "mapping", None)
        if isinstance(graph, dict) and len(graph) == 1 and name in graph:
            yield getattr(graph[name], "value", graph[name])


def in_chunks(array: Array, chunks: tuple[tuple[int, ...], ...]) -> Array:
    """A Dask array in other chunks."""
    if array.chunks == chunks:
        return array
    sliced = SlicedArray.of(array)
    if sliced is None:
        return array.rechunk(chunks, method="tasks")
    # Sliced anew in these chunks: so no old chunk is held until all new ones have their part of it.
    name = f"{OWN}read-{tokenize(array.name, chunks)}"
    return da.from_array(sliced.stored, chunks=chunks, name=name, meta=array._meta)


def in_thick_chunks(array: Array, axes: str) -> Array:
    """A Dask array with these axes whose thin chunks along y and x are joined.

    Else each thin chunk would take a task, and a blur would need the edges of many neighbours.
    """
    graph, its_axes, made = array.__dict__.get(_THICK, (None, "", None))
    if graph is array.dask and its_axes == axes:
        return made
    chunks = dict(zip(axes, array.chunks, strict=True))
    for axis, beside in ("yx", "xy"):
        most = max(THIN, min(THICK, THICK_PIXELS // max(chunks[beside])))
        chunks[axis] = _joined(chunks[axis], most)
    made = in_chunks(array, tuple(chunks[axis] for axis in axes))
    if made is not array:  # the next call returns the same object, and so shares what is read of it
        array.__dict__[_THICK] = array.dask, axes, made
    return made


def _joined(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """Sizes of chunks, of which thin neighbours are joined up to the size `most`."""
    joined: list[int] = []
    grows = False
    for size in sizes:
        if grows and size < THIN and joined[-1] + size <= most:
            joined[-1] += size
        else:
            joined.append(size)
            grows = size < THIN
    return tuple(joined)


class Area:
    """Pixels of an image, chosen by an array over it: a mask, or labels.

    Parameters
    ----------
    array
        NumPy or Dask, of bool or integers.
    axes
        Its axes: y, x and perhaps z, in any order.
    labels
        The labels whose pixels are chosen; None for all but zero.
    inverted
        Whether all other pixels are chosen instead.
    """

    def __init__(
        self, array: Array, axes: str, labels: tuple[int, ...] | None, inverted: bool
    ) -> None:
        self.array = adopt(array) if isinstance(array, da.Array) else array
        self.axes = axes
        # A function: which pixels of a block of the array are chosen.
        self.choose = partial(blocks.chosen, wanted=labels, inverted=inverted)
        token = uuid4().hex if isinstance(array, np.ndarray) else self.array.name
        self.name = f"pxprep-area-{tokenize(token, axes, labels, inverted)}"
        self._sources: dict[tuple[tuple[int, ...], ...], Source] = {}

    def whole(self) -> Block:
        """Which pixels of an array in memory are chosen, with axes (c, z, y, x)."""
        return self.choose(standard_axes(self.array, self.axes))

    def source(self, chunks: Sequence[Sequence[int]]) -> Source:
        """The source that reads the array in the blocks of an image that has these chunks."""
        sizes = dict(zip(AXES, map(tuple, chunks), strict=True))
        wanted = tuple(sizes[axis] for axis in self.axes)
        if wanted not in self._sources:
            self._sources[wanted] = Source.of(self._in_chunks(wanted), self.axes)
        return self._sources[wanted]

    def _in_chunks(self, chunks: tuple[tuple[int, ...], ...]) -> Array:
        if isinstance(self.array, np.ndarray):
            return of_views(self.array, f"{self.name}-{tokenize(chunks)}", chunks)
        return in_chunks(self.array, chunks)

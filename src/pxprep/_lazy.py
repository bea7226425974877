"""Lazy images as Dask graphs of few tasks, which read their source again instead of holding it.

A `Chain` is a source and a program to run on it. It becomes a Dask array with one task for each
spatial block of all channels: the task reads the block's chunks, runs the program, and returns the
result. The layer of the graph keeps the chain, so that the next operation makes a longer chain of
the same source instead of adding tasks, and a statistic makes a pass of its own over the source.

What a task reads is a part of the source's own graph that no other block needs, and runs inside the
task. A block's surroundings, if a blur needs them, come from tasks that read the neighbours and
keep their edges.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import getitem
from typing import Any, ClassVar
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from . import _blocks
from ._kernels.counts import N_SLOTS
from ._programs import (
    Gathered,
    Operation,
    Program,
    count_into,
    gather_strips,
    run_into,
)
from ._sources import AXES, Graph, Index, Reading, Source, standard_axes
from ._typing import Array, Block
from ._windows import Pixels, Window

# Partial counts that one task adds up: each is as large as a small block.
FAN_IN = 4
# In a job: numbers that are not known yet, and a neighbour of which only the edges are given.
LATER = "later"
EDGES = -1


@dataclass(frozen=True)
class Step:
    """An operation of a chain, and the small array that it takes, if it takes one."""

    operation: Operation
    numbers: Array | None


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps on a source.

    Attributes
    ----------
    source
        What is read.
    steps
        In their order.
    dtype
        Float type of what comes out of any step.
    """

    source: Source
    steps: tuple[Step, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Array, dtype: np.dtype[Any]) -> "Chain":
        """The chain that a Dask array was made from, or one without steps on the array itself."""
        layer = _top_layer(array)
        if layer is not None and layer.axes == AXES and layer.chain.dtype == dtype:
            return layer.chain
        return cls(Source.of(array), (), dtype)

    def then(self, operation: Operation, numbers: Array | None = None) -> "Chain":
        """The chain with one more step."""
        return replace(self, steps=(*self.steps, Step(operation, numbers)))

    @cached_property
    def program(self) -> Program:
        """What runs on each block."""
        _, _, height, width = self.source.shape
        return Program(tuple(step.operation for step in self.steps), self.dtype, height, width)

    @cached_property
    def token(self) -> str:
        """Names what comes out of the chain."""
        numbers = [
            None if step.numbers is None else getattr(step.numbers, "name", step.numbers)
            for step in self.steps
        ]
        return tokenize(self.source.array.name, self.source.axes, self.program, numbers)

    def array(self, axes: str = AXES) -> Array:
        """The result as a Dask array with these axes, chunked like the source."""
        chunks = dict(zip(AXES, self.source.chunks, strict=True))
        chunks["c"] = self._runs
        name = f"pxprep-{axes}-{self.token}"
        layer = ChainLayer(_LazyGraph(partial(self._graph, name, axes)), self, axes)
        dtype = self.program.out_dtype(self.source.array.dtype)
        return da.Array(
            self._collected(name, layer),
            name,
            tuple(chunks[axis] for axis in axes),
            dtype=dtype,
            meta=np.empty((0,) * len(axes), dtype),
        )

    def counts(self, prefixes: Array | None, level: int, zeros: bool) -> Array:
        """The digits of the result, counted: a Dask array of shape (c, prefix, slot)."""
        n_channels = sum(self._runs)
        n_prefixes = 1 if prefixes is None else prefixes.shape[1]
        known = getattr(prefixes, "name", prefixes)
        name = f"pxprep-counts-{tokenize(self.token, known, level, zeros)}"
        job = Counting(level, zeros)
        layer = MaterializedLayer(_LazyGraph(partial(self._reducing_graph, name, job, prefixes)))
        return da.Array(
            self._collected(name, layer, prefixes),
            name,
            ((n_channels,), (n_prefixes,), (N_SLOTS,)),
            dtype=np.int64,
            meta=np.empty((0, 0, 0), np.int64),
        )

    def gathered(
        self,
        low: Block,
        high: Block,
        zeros: bool,
        most: int,
        then: Callable[[Sequence[Gathered]], Any],
    ) -> Array:
        """`then` of what lies between bounds of each channel, as the only item of an array.

        At most `most` values of each channel are gathered; they are given to `then`, a sequence of
        `Gathered`, where they are.
        """
        name = f"pxprep-gathered-{tokenize(self.token, low, high, zeros, most, then)}"
        job = Gathering(low, high, zeros, most, then)
        layer = MaterializedLayer(_LazyGraph(partial(self._reducing_graph, name, job, None)))
        return da.Array(
            self._collected(name, layer),
            name,
            ((1,),),
            dtype=object,
            meta=np.empty(0, object),
        )

    def filling(self, out: Block) -> Array:
        """A pass that writes the result to `out`, of axes (c, z, y, x); its own result is empty."""
        name = f"pxprep-filling-{uuid4().hex}"
        job = Filling(out)
        layer = MaterializedLayer(_LazyGraph(partial(self._reducing_graph, name, job, None)))
        return da.Array(self._collected(name, layer), name, ((0,),), dtype=np.int64)

    def samples(self) -> list[Block]:
        """The result for a small part of the source, if that can be had without reading."""
        numbers = [step.numbers for step in self.steps]
        if any(isinstance(number, da.Array) for number in numbers):
            return []
        made = []
        for sample in self.source.samples():
            # As if it were an image of its own: near enough for a sample.
            height, width = sample.shape[2:]
            program = replace(self.program, height=height, width=width)
            whole = Window(0, height, 0, width)
            made.append(program.run(Pixels([(0, whole, sample)], len(sample)), whole, numbers))
        return made

    def _collected(self, name: str, layer: Any, *more: Array) -> HighLevelGraph:
        layers, dependencies = {name: layer}, {name: set(self.source.array.dask.layers)}
        for array in (self.source.array, *(step.numbers for step in self.steps), *more):
            if isinstance(array, da.Array):
                layers.update(array.dask.layers)
                dependencies.update(array.dask.dependencies)
                dependencies[name].add(array.name)
        # Tasks may depend on any layer of the source: so none of them is fused into another.
        return HighLevelGraph(layers, dependencies)

    @cached_property
    def _runs(self) -> tuple[int, ...]:
        """Channels in each chunk of what comes out."""
        runs = self.source.chunks[0]
        return runs if self.program.out_channels(sum(runs)) == sum(runs) else (1,)

    def _graph(self, name: str, axes: str) -> Graph:
        runs = self._runs
        graph: Graph = {}
        for index in self.source.indices():
            place = dict(zip("zyx", index, strict=True))
            keys = [(name, *(place.get(axis, run) for axis in axes)) for run in range(len(runs))]
            finish = Writing(runs, axes)
            if len(keys) == 1:
                graph[keys[0]] = self._task(graph, name, index, replace(finish, only=True))
                continue
            whole = (f"{name}-block", *index)
            graph[whole] = self._task(graph, name, index, finish)
            for run, key in enumerate(keys):
                graph[key] = (getitem, whole, run)
        return graph

    def _reducing_graph(
        self, name: str, finish: "Counting | Gathering | Filling", prefixes: Array | None
    ) -> Graph:
        """A pass over all blocks whose partial results are added up."""
        graph: Graph = {}
        parts: list[tuple[Any, ...]] = []
        more = () if prefixes is None else (prefixes,)
        for number, index in enumerate(self.source.indices()):
            parts.append((f"{name}-block", number))
            graph[parts[-1]] = self._task(graph, name, index, finish, *more)
        level = 0
        while len(parts) > 1 or level == 0:
            groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
            level += 1
            parts = [(f"{name}-sum", level, number) for number in range(len(groups))]
            add = partial(_added, most=getattr(finish, "most", 0))
            graph.update({key: (add, group) for key, group in zip(parts, groups, strict=True)})
        last: Any = parts[0]
        if isinstance(finish, Gathering):
            last = (partial(_boxed, finish.then), last)
        graph[(name, *finish.corner)] = last
        return graph

    def _task(
        self, graph: Graph, name: str, index: Index, finish: "Finish", *more: Array
    ) -> tuple[Any, ...]:
        """The task that runs the program on a block; adds the tasks that it needs to `graph`."""
        program, source = self.program, self.source
        window = source.window(index)
        own = source.reading(index)
        surroundings: list[tuple[Window, int]] = []
        keys: list[Any] = [*own.others]
        for neighbour in source.neighbours(index, program.reads(window)):
            reading = source.reading(neighbour)
            if not reading.graph:  # in memory: nothing is read twice
                surroundings.append((source.window(neighbour), len(reading.keys)))
                keys.extend(reading.keys)
                continue
            edges = (f"{name}-edges", *neighbour)
            if edges not in graph:
                graph[edges] = (Edges(reading, program.depth), *reading.others)
            surroundings.append((source.window(neighbour), EDGES))
            keys.append(edges)
        constants: list[Any] = []
        for array in (*(step.numbers for step in self.steps), *more):
            if isinstance(array, da.Array):
                (key,) = flatten(array.__dask_keys__())
                keys.append(key)
                constants.append(LATER)
            else:
                constants.append(array)
        first_channels = source.starts[0][:-1]
        job = BlockJob(
            program, window, own, first_channels, tuple(surroundings), tuple(constants), finish
        )
        return (job, *keys)


class ChainLayer(MaterializedLayer):
    """The last layer of the graph of a chain, of an array with some order of axes."""

    def __init__(self, mapping: Mapping[Any, Any], chain: Chain, axes: str) -> None:
        super().__init__(mapping)
        self.chain = chain
        self.axes = axes

    def __reduce__(self) -> Any:
        # Workers need the tasks only.
        return MaterializedLayer, (dict(self.mapping),)


class _LazyGraph(Mapping[Any, Any]):
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


@dataclass(frozen=True)
class Edges:
    """A task that reads a block and keeps what lies within `depth` pixels of its edges."""

    reading: Reading
    depth: int

    def __call__(self, *others: Any) -> list[Block]:
        """Those edges."""
        return self.reading.edges(self.depth, others)


@dataclass(frozen=True)
class BlockJob:
    """A task that runs a program on a block.

    Attributes
    ----------
    program
        What is run.
    window
        Rows and columns of the block.
    reading
        What reads it.
    first_channels
        Of each of its chunks.
    surroundings
        Place of each neighbour, and how many chunks of it are given, or `EDGES`.
    numbers
        What the operations and `finish` take; `LATER` where it is given when the task runs.
    finish
        What becomes of the program's result.
    """

    program: Program
    window: Window
    reading: Reading
    first_channels: tuple[int, ...]
    surroundings: tuple[tuple[Window, int], ...]
    numbers: tuple[Any, ...]
    finish: "Finish"

    def __call__(self, *values: Any) -> Any:
        """Run, given the results of all tasks that this one depends on."""
        given = iter(values)
        own = self.reading.run([next(given) for _ in self.reading.others])
        pieces = [
            (first, self.window, run) for first, run in zip(self.first_channels, own, strict=True)
        ]
        for place, kind in self.surroundings:
            if kind == EDGES:
                pieces += _edge_pieces(place, next(given))
            else:
                pieces += [
                    (first, place, standard_axes(next(given), self.reading.axes))
                    for first in self.first_channels
                ]
        numbers = [next(given) if isinstance(number, str) else number for number in self.numbers]
        n_channels = self.first_channels[-1] + len(own[-1])
        return self.finish(self.program, Pixels(pieces, n_channels), self.window, numbers)


@dataclass(frozen=True)
class Writing:
    """The result as an array for each chunk of channels, with the axes that the user has."""

    runs: tuple[int, ...]
    axes: str
    only: bool = False

    def __call__(
        self, program: Program, pixels: Pixels, window: Window, numbers: Sequence[Any]
    ) -> Any:
        """Run the program; its one array, or a list."""
        # Arrays of the size of a chunk use memory again that others had; larger ones would be
        # fresh each time.
        dtype = program.out_dtype(pixels.dtype)
        shape = (pixels.planes, *window.shape)
        blocks = [np.empty((run, *shape), dtype) for run in self.runs]
        run_into(program, pixels, window, numbers, blocks)
        order = [AXES.index(axis) for axis in self.axes]
        rest = [axis for axis in range(4) if axis not in order]
        turned = [
            block.transpose(*order, *rest).reshape([block.shape[axis] for axis in order])
            for block in blocks
        ]
        return turned[0] if self.only else turned


@dataclass(frozen=True)
class Counting:
    """How many pixels of the result have which digit."""

    level: int
    zeros: bool
    corner: ClassVar[tuple[int, ...]] = (0, 0, 0)

    def __call__(
        self, program: Program, pixels: Pixels, window: Window, numbers: Sequence[Any]
    ) -> Block:
        """Run the program and count; `numbers` end with the prefixes, but at the first level."""
        prefixes = None
        if self.level > 0:
            *numbers, prefixes = numbers
        counts = _blocks.no_counts(program.out_channels(pixels.n_channels), prefixes)
        count_into(program, pixels, window, numbers, prefixes, self.level, self.zeros, counts)
        _blocks.repeat_counts(counts, prefixes)
        return counts


@dataclass(frozen=True, eq=False)
class Gathering:
    """The values of the result that lie between bounds, for each channel."""

    low: Block
    high: Block
    zeros: bool
    most: int
    then: Callable[[Sequence[Gathered]], Any]
    corner: ClassVar[tuple[int, ...]] = (0,)

    def __call__(
        self, program: Program, pixels: Pixels, window: Window, numbers: Sequence[Any]
    ) -> Block:
        """Run the program and gather."""
        return gather_strips(
            program, pixels, window, numbers, self.low, self.high, self.zeros, self.most
        )


@dataclass(frozen=True, eq=False)
class Filling:
    """The result written to its place in an array of this process."""

    out: Block
    corner: ClassVar[tuple[int, ...]] = (0,)

    def __call__(
        self, program: Program, pixels: Pixels, window: Window, numbers: Sequence[Any]
    ) -> Block:
        """Run the program; nothing is returned."""
        rows, columns = window.within(Window(0, program.height, 0, program.width))
        run_into(program, pixels, window, numbers, [self.out[:, :, rows, columns]])
        return np.empty(0, np.int64)


Finish = Writing | Counting | Gathering | Filling


def _edge_pieces(place: Window, edges: Sequence[Block]) -> list[tuple[int, Window, Block]]:
    top, bottom, left, right = edges
    return [
        (0, place._replace(bottom=place.top + top.shape[2]), top),
        (0, place._replace(top=place.bottom - bottom.shape[2]), bottom),
        (0, place._replace(right=place.left + left.shape[3]), left),
        (0, place._replace(left=place.right - right.shape[3]), right),
    ]


def _boxed(then: Callable[[Sequence[Gathered]], Any], found: Sequence[Gathered]) -> Block:
    box = np.empty(1, object)
    box[0] = then(found)
    return box


def _added(parts: Sequence[Block], *, most: int) -> Block:
    if parts[0].dtype == object:
        return np.array([Gathered.merged(each, most) for each in zip(*parts, strict=True)], object)
    total = parts[0].astype(np.int64)
    for part in parts[1:]:
        total += part
    return total


def _top_layer(array: Array) -> ChainLayer | None:
    layer = array.dask.layers.get(array.name)
    return layer if isinstance(layer, ChainLayer) else None


def with_axes(array: Array, axes: str) -> Array | None:
    """A chain's array, which has the axes (c, z, y, x), with others; None if it is no chain's."""
    layer = _top_layer(array)
    return None if layer is None or layer.axes != AXES else layer.chain.array(axes)


def standard(array: Array, axes: str) -> Array | None:
    """The array with axes (c, z, y, x) of a chain whose array has `axes`; None if it is none's."""
    layer = _top_layer(array)
    return None if layer is None or layer.axes != axes else layer.chain.array()

"""The tasks of a pass over a lazy image: one for each block, and others for what lies around it.

To read a block, a task runs a part of the source's own graph (see `readings`). If a blur needs what
lies around the block, other tasks read the neighbours and return their edges.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import zip_longest
from typing import Any

import dask.array as da
from dask.typing import Key

from ..aliases import Array, Block
from .axes import chunk_keys
from .cache import EDGE_BYTES
from .chains import Chain
from .graphs import Graph, line_task, merge_in_order, only_key
from .jobs import BlockJob, Edges, Later, MaskReading, ReturnChunks
from .sinks import Sink
from .sources import Area
from .windows import Index, Window

# What decides if a pass runs, when it is computed: `jobs.if_full` or `if_empty`, and a lazy box.
Gate = tuple[Callable[..., object], Array]
Task = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class PassTasks:
    """Makes the graph of a pass, or only the task of a block.

    Attributes
    ----------
    chain
        A `Source`, and the operations that are run on each block of it.
    name
        The name of the array that the pass makes.
    kept_after
        As for `BlockJob`.
    more
        What the sink is `given`, and last what is measured: an area, its `Pixels`, or None for all.
    gate
        None if the pass always runs.
    """

    chain: Chain
    name: str
    kept_after: tuple[tuple[int, str], ...]
    more: Sequence[object] = (None,)
    gate: Gate | None = None

    def returning(self, sink: ReturnChunks) -> Graph:
        """The graph whose chunks are those that the sink returns."""
        graph, n_chunks = Graph(), len(sink.channels_per_chunk)
        for number, line in enumerate(self.chain.source.lines()):
            after = line_task(graph, self.name, number) if self.chain.program.depth else []
            for index in line:
                keys = chunk_keys(self.name, sink.axes, index, n_chunks)
                task = (*self.block_task(index, sink, graph), *after)
                if n_chunks == 1:
                    graph[keys[0]] = task
                    continue
                whole = (f"{self.name}-block", *index)
                graph[whole] = task
                for chunk, key in enumerate(keys):
                    graph[key] = (operator.getitem, whole, chunk)
        return graph

    def reducing(self, sink: Sink, close: Callable[[object], Block], ndim: int) -> Graph:
        """The graph of one chunk with `ndim` axes: what `close` makes of the sink's merged part."""
        graph, parts = Graph(), list[Key]()
        for number, index in enumerate(self.chain.source.indices()):
            parts.append((f"{self.name}-block", number))
            graph[parts[-1]] = self.block_task(index, sink, graph)
        total = merge_in_order(graph, f"{self.name}-merged", sink.merge_unless_none, parts)
        graph[(self.name, *[0] * ndim)] = (close, total)
        return graph

    def block_task(self, index: Index, sink: Sink, graph: Graph) -> Task:
        """The task that runs the program on a block; tasks that it needs are added to the graph."""
        source, program = self.chain.source, self.chain.program
        reading, window = source.reading(index), source.window(index)
        neighbours, around = self._neighbours(index, graph)
        numbers, needed = self._numbers(index)
        block = program, window, reading, neighbours, numbers
        job = BlockJob(*block, sink, self.kept_after)
        return self._gated(job, *reading.others, *around, *needed)

    def _gated(self, job: Callable[..., object], *keys: Key) -> Task:
        """The task of a job that gets the results of these keys, and runs if the pass runs."""
        if self.gate is None:
            return (job, *keys)
        run_if, box = self.gate
        return (partial(run_if, job), only_key(box), *keys)

    def _neighbours(
        self, index: Index, graph: Graph
    ) -> tuple[tuple[tuple[Window, int | None], ...], list[Key]]:
        """The `neighbours` of a `BlockJob`, and the keys whose results it gets for them.

        Tasks that read neighbours and cut their edges are added to the graph.
        """
        program, source = self.chain.program, self.chain.source
        neighbours: list[tuple[Window, int | None]] = []
        keys: list[Key] = []
        for neighbour in source.neighbours(index, program.reads(source.window(index))):
            reading = source.reading(neighbour)
            if not reading.graph:  # in memory: nothing is read twice
                neighbours.append((source.window(neighbour), len(reading.keys)))
                keys.extend(reading.keys)
                continue
            job = Edges(reading, program.depth)
            task: Task
            if self._shares_edges:
                edges = (f"pxprep-edges-{source.token}-{program.depth}", *neighbour)
                task = (job, *reading.others)
            else:
                # They wait for what the block waits for: else they would be made, and held, long
                # before the block needs them.
                edges = (f"{self.name}-edges", *neighbour)
                task = self._gated(job, *reading.others, *self._lazy)
            graph.setdefault(edges, task)
            neighbours.append((source.window(neighbour), None))
            keys.append(edges)
        return tuple(neighbours), keys

    @cached_property
    def _shares_edges(self) -> bool:
        """Whether the edges of all blocks are so small that passes may share the tasks for them."""
        source = self.chain.source
        n_channels, planes, height, width = source.shape
        _, _, rows, columns = (len(sizes) for sizes in source.chunks)
        pixels = 2 * self.chain.program.depth * (rows * width + columns * height)
        values = n_channels * planes * pixels
        return bool(values * source.dtype.itemsize <= EDGE_BYTES)

    @cached_property
    def _lazy(self) -> list[Key]:
        """The keys of all numbers that must be computed first."""
        numbers = (*self.chain.numbers, *self.more)
        return [only_key(number) for number in numbers if isinstance(number, da.Array)]

    def _numbers(self, index: Index) -> tuple[tuple[object, ...], list[Key]]:
        """The `numbers` of a `BlockJob`, and the keys whose results it gets for them."""
        numbers: list[object] = []
        keys: list[Key] = []
        depths = self.chain.program.depths_after
        for number, depth in zip_longest((*self.chain.numbers, *self.more), depths, fillvalue=0):
            if isinstance(number, da.Array):
                keys.append(only_key(number))
                numbers.append(Later.NUMBER)
            elif isinstance(number, Area):
                mask = self._mask(number, index, depth)
                keys.extend(key for _, reading in mask.readings for key in reading.others)
                numbers.append(mask)
            else:
                numbers.append(number)
        return tuple(numbers), keys

    def _mask(self, area: Area, index: Index, depth: int) -> MaskReading:
        """What reads an area in a block and `depth` pixels around it."""
        source, over = self.chain.source, area.source(self.chain.source.chunks)
        window, cache = source.window(index), source.cache.beside(area.name)
        around = window.grown(depth, *source.shape[2:])
        readings = [
            (source.window(block), replace(over.reading(block), index=block, cache=cache))
            for block in [index, *source.neighbours(index, around)]
        ]
        return MaskReading(area.choose, tuple(readings))

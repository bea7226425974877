"""Lazy images as Dask graphs of few tasks, which read their source again instead of holding it.

A `Chain` is a source and a program to run on it. It becomes a Dask array with one task for each
block, of all channels: the task reads the block's chunks, runs the program, and returns the result.
The layer of the graph holds the chain. So the next operation makes a longer chain of the same
source instead of adding tasks, and a statistic makes a pass of its own over the source.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from ..aliases import Array, Block, DType
from .axes import AXES
from .cache import NO_CACHE, Sampling
from .chains import Chain
from .digits import integer_offset
from .gathering import Gathered, Limits
from .graphs import Graph, LazyGraph, only_key
from .jobs import (
    Choose,
    Later,
    ReturnChunks,
    Survey,
    WriteChunks,
    boxed,
    choose_bounds,
    if_empty,
    if_full,
    processed,
)
from .kernels.counts import N_SLOTS
from .programs import AddChannels, Strip, SumsAgain
from .sinks import AddUp, Count, Gather, Sink
from .sources import Area, Source
from .sums import BinLayout
from .tasks import Gate, PassTasks

Then = Callable[[Gathered], object]


@dataclass(frozen=True, eq=False)
class LazyChain(Chain):
    """A lazy image, and the operations that are to happen to it.

    What an operation takes is a small array, which may be lazy, an area, or None.
    """

    source: Source

    @classmethod
    def of(cls, array: Array) -> "LazyChain":
        """The chain that a Dask array was made from, or one that only reads the array itself."""
        layer = _top_layer(array)
        return cls(Source.of(array)) if layer is None or layer.axes != AXES else layer.chain

    def sums_again(self, other: Chain, area: Area | None) -> SumsAgain | None:
        """What makes the sums over this chain's channels again, if another chain goes on from it.

        None if it does not, if the sums were measured in an area, or if an operation of this chain
        reads neighbours: then it would take long to run them once more.
        """
        if area is not None or self.program.depth or not isinstance(other, LazyChain):
            return None
        n = len(self.operations)
        own = self.source.array, *self.operations, *self.numbers
        begun = other.source.array, *other.operations[:n], *other.numbers[:n]
        goes_on = len(own) == len(begun) and all(map(operator.is_, own, begun))
        return partial(Strip.sums_after, n=n) if goes_on else None

    @cached_property
    def token(self) -> str:
        """A hash that tells the result of the chain from any other, for names of arrays."""
        numbers = [getattr(number, "name", number) for number in self.numbers]
        return tokenize(self.source.array.name, self.source.axes, self.program, numbers)

    def array(self, axes: str = AXES) -> Array:
        """The result as a Dask array with these axes, chunked like the source."""
        chunks = dict(zip(AXES, self.source.chunks, strict=True))
        chunks["c"] = self.channels_per_chunk
        name = f"pxprep-{axes}-{self.token}"
        sink = ReturnChunks(self.channels_per_chunk, axes)
        layer = ChainLayer(LazyGraph(lambda: self._tasks(name).returning(sink)), self, axes)
        return self._dask_array(name, layer, [chunks[axis] for axis in axes], self.dtype)

    def counts(
        self,
        prefixes: Array | None,
        level: int,
        zeros: bool,
        unless: Array | None = None,
        where: Area | None = None,
    ) -> Array:
        """How often each digit occurs in the result: a Dask array of shape (c, prefix, slot).

        See `digits.count_digits`. With `where`, only pixels of that area are counted. `unless` is
        a lazy box: if its item is not None when it is computed, nothing is counted.
        """
        n_prefixes = 1 if prefixes is None else prefixes.shape[1]
        shape = (self.shape[0], n_prefixes, N_SLOTS)
        most = prod(self.source.shape[1:])
        sink = Count(None, level, zeros, partial(_as_counts, shape=shape), most)
        gate = None if unless is None else (if_empty, unless)
        dtype = np.dtype(np.int64)
        return self._reduced("counts", sink, [prefixes, where], shape, dtype, gate)

    def gathered(
        self, bounds: object, zeros: bool, limits: Limits, then: Then, where: Area | None = None
    ) -> Array:
        """A lazy box with what `then` makes of the values between bounds.

        `then` is called inside a task, with a `Gathered`. `bounds` may be lazy, from the
        method `bounds`. The boxed item is None if there are no bounds, or if more values lie there
        than may be held.
        """
        gate = (if_full, bounds) if isinstance(bounds, da.Array) else None
        sink = Gather(None, zeros, limits, then)
        return self._reduced("gathered", sink, [bounds, where], (1,), np.dtype(object), gate)

    def sums(self, float_type: DType, where: Area | None = None) -> Array:
        """Exact sums of the result, or of an area of it: a Dask array with a row per channel."""
        shape = (self.shape[0], BinLayout.of(float_type).row_size)
        return self._reduced("sums", AddUp(float_type), [where], shape, np.dtype(np.int64))

    def surveyed(self, n_bytes: int, where: Area | None = None) -> Array:
        """A first look at the source: a lazy box with a `Surveyed`.

        Its samples have about `n_bytes` at most. `where` is the area that is measured.
        """
        plain = replace(self, operations=(), numbers=())
        sampling = Sampling(n_bytes, len(list(self.source.indices())))
        given = [*self._areas(), where]
        return plain._reduced("surveyed", Survey(sampling), given, (1,), np.dtype(object))

    def first_counts(self, zeros: bool, n_bytes: int, where: Area | None = None) -> Array:
        """As `counts` for the first digit, from a first look at a source of small integers.

        The same first look serves `bounds` of later operations on this source. The chain must have
        no operations.
        """
        survey = self.surveyed(n_bytes, where)
        name = f"pxprep-first-counts-{tokenize(survey.name, zeros)}"
        left_out = None if zeros else integer_offset(self.source.dtype)
        shape = (self.shape[0], 1, N_SLOTS)
        graph = {(name, 0, 0, 0): (_first_counts, only_key(survey), left_out, shape)}
        chunks = tuple((size,) for size in shape)
        layer = MaterializedLayer(graph)
        return self._dask_array(name, layer, chunks, np.dtype(np.int64), survey)

    def bounds(self, n_bytes: int, choose: Choose, where: Area | None = None) -> Array:
        """A lazy box with the bounds that `choose` returns for samples of the result, or None."""
        survey = self.surveyed(n_bytes, where)
        numbers = self._sampled_numbers
        lazy = [number for number in numbers if isinstance(number, da.Array)]
        constants = tuple(
            Later.NUMBER if isinstance(number, da.Array) else number for number in numbers
        )
        name = f"pxprep-bounds-{tokenize(self.token, survey.name, choose)}"
        keys = [only_key(array) for array in (survey, *lazy)]
        graph = {(name, 0): (partial(choose_bounds, self.program, constants, choose), *keys)}
        layer = MaterializedLayer(graph)
        return self._dask_array(name, layer, [(1,)], np.dtype(object), survey)

    def storing(self, sink: WriteChunks) -> Array:
        """A pass that writes the result chunk by chunk; the Dask array that is returned is empty.

        The source must have all planes in one chunk.
        """
        return self._reduced("storing", sink, [None], (0,), np.dtype(np.int64))

    def samples(self, where: Area | None = None) -> list[Block]:
        """The result for samples of the source, as far as they need not be read first."""
        numbers = self._sampled_numbers
        if any(isinstance(number, da.Array) for number in numbers):
            return []
        return processed(self.program, self.source.samples(self._areas(where)), numbers)

    def _areas(self, where: Area | None = None) -> list[Area]:
        """The areas that the operations take, and then `where`."""
        return [area for area in (*self.numbers, where) if isinstance(area, Area)]

    @property
    def _sampled_numbers(self) -> list[object]:
        """What operations take; `Later.MASK` in place of an area, see `processed`."""
        return [Later.MASK if isinstance(number, Area) else number for number in self.numbers]

    def _reduced(
        self,
        kind: str,
        sink: Sink,
        numbers: Sequence[object],
        shape: tuple[int, ...],
        dtype: DType,
        gate: Gate | None = None,
    ) -> Array:
        """A pass over all blocks: what the sink makes of it, as a Dask array of one chunk.

        `numbers` are what the sink is `given`, and last the area that is measured, or None. With
        the `dtype` object the array is a box.
        """
        waits_for = [*numbers, *(gate or ())]
        token = tokenize(self.token, sink, [getattr(value, "name", value) for value in waits_for])
        name = f"pxprep-{kind}-{token}"
        close = partial(_closed, sink, dtype.hasobject)

        def make() -> Graph:
            return self._tasks(name, numbers, gate).reducing(sink, close, len(shape))

        layer = MaterializedLayer(LazyGraph(make))
        return self._dask_array(name, layer, [(size,) for size in shape], dtype, *waits_for)

    def _dask_array(
        self,
        name: str,
        layer: object,
        chunks: Sequence[tuple[int, ...]],
        dtype: DType,
        *more: object,
    ) -> Array:
        """The array of a new layer, whose tasks need the chain's source and numbers, and `more`."""
        layers: dict[str, Any] = {name: layer}
        dependencies: dict[str, Any] = {name: set()}
        numbers = (*self.numbers, *more)
        areas = (number for number in numbers if isinstance(number, Area))
        for source in (self.source, *(area.source(self.source.chunks) for area in areas)):
            layers.update(source.layers)
            dependencies.update({key: source.array.dask.dependencies[key] for key in source.layers})
            dependencies[name].update(source.layers)
        for array in numbers:
            if isinstance(array, da.Array):
                layers.update(array.dask.layers)
                dependencies.update(array.dask.dependencies)
                dependencies[name].add(array.name)
        # The new layer depends on all layers of the source: so Dask fuses none into another one.
        graph = HighLevelGraph(layers, dependencies)
        return da.Array(graph, name, tuple(chunks), dtype=dtype)

    @cached_property
    def channels_per_chunk(self) -> tuple[int, ...]:
        """How many channels each chunk of the result has."""
        return self.program.channels_per_chunk(self.source.chunks[0])

    def _tasks(
        self, name: str, more: Sequence[object] = (None,), gate: Gate | None = None
    ) -> PassTasks:
        kept_after = () if self.source.cache is NO_CACHE else self._kept_after
        return PassTasks(self, name, kept_after, more, gate)

    @cached_property
    def _kept_after(self) -> tuple[tuple[int, str], ...]:
        """As for `BlockJob`.

        To keep a block pays only after a blur, and no later operation may read neighbours.
        """
        kept_after = []
        for done in range(1, len(self.operations) + 1):
            first, rest = self.operations[:done], self.operations[done:]
            keeps_channels = not any(isinstance(operation, AddChannels) for operation in first)
            reaches = [any(operation.depth for operation in part) for part in (first, rest)]
            if keeps_channels and reaches == [True, False]:
                begun = replace(self, operations=first, numbers=self.numbers[:done])
                kept_after.append((done, begun.token))
        return tuple(kept_after)


class ChainLayer(MaterializedLayer):
    """The last layer of the graph of a chain's array, which holds the chain, and has these axes."""

    def __init__(self, mapping: Mapping[Key, object], chain: LazyChain, axes: str) -> None:
        super().__init__(mapping)
        self.chain = chain
        self.axes = axes

    def __reduce__(self) -> tuple[object, ...]:
        # Sent to a worker, only the tasks are needed.
        return MaterializedLayer, (dict(self.mapping),)


def _closed(sink: Sink, is_boxed: bool, total: object) -> Block:
    """What a sink makes of the merged part of all blocks, in a box if `is_boxed`."""
    made: Any = sink.finish(total)
    return boxed(made) if is_boxed else made


def _first_counts(survey: Block, left_out: int | None, shape: tuple[int, ...]) -> Block:
    """The counts of a survey; the count of the digit `left_out`, if any, becomes 0."""
    counts = _as_counts(survey[0].counts, shape=shape)
    if left_out is not None:
        counts[:, :, left_out] = 0
    return counts


def _as_counts(total: Block | None, *, shape: tuple[int, ...]) -> Block:
    """The counts in this shape, with zeros for slots that they lack, or if there are none."""
    counts = np.zeros(shape, np.int64)
    if total is not None:
        counts[..., : total.shape[-1]] = total
    return counts


def _top_layer(array: Array) -> ChainLayer | None:
    layer = array.dask.layers.get(array.name)
    return layer if isinstance(layer, ChainLayer) else None


def in_axes(array: Array, own: str, wanted: str) -> Array | None:
    """A chain's array, whose axes are `own`, with the axes `wanted`; None if it has no chain."""
    layer = _top_layer(array)
    return None if layer is None or layer.axes != own else layer.chain.array(wanted)


def chain_and_axes(array: Array) -> tuple[LazyChain, str] | None:
    """The chain that a Dask array was made from, and the array's axes; None if it has no chain."""
    layer = _top_layer(array)
    return None if layer is None else (layer.chain, layer.axes)


def numbers_of(array: Array) -> dict[str, Array]:
    """The lazy numbers that the chains in the graph of a Dask array take, by their names."""
    chains = [layer.chain for layer in array.dask.layers.values() if isinstance(layer, ChainLayer)]
    numbers = [number for chain in chains for number in chain.numbers]
    return {one.name: one for one in numbers if isinstance(one, da.Array)}


def with_numbers(array: Array, values: Mapping[str, Block]) -> Array:
    """The same Dask array, with `values` in its graph instead of the layers that compute them."""
    graph = array.dask
    layers, dependencies = dict(graph.layers), dict(graph.dependencies)
    for name in values.keys() & layers.keys():
        layers[name] = MaterializedLayer({(name, *[0] * values[name].ndim): values[name]})
        dependencies[name] = set()
    return da.Array(
        HighLevelGraph(layers, dependencies).cull_layers([array.name]),
        array.name,
        array.chunks,
        meta=array._meta,
    )

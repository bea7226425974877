"""Runs block functions over whole images, NumPy arrays or Dask arrays of NumPy blocks.

Modules outside the engine ask only this one whether an array is lazy. A NumPy image is cut into
blocks of whole rows that several threads work on at once (kernels release the GIL); a Dask image
becomes a graph, and nothing is computed yet. Both call the same functions of `blocks` and give the
same bits.

Images have the axes (c, z, y, x).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..aliases import Array, Block, DType
from . import blocks, graphs, passes
from .at_hand import BlockChain, copy_chunks
from .axes import AXES, own_axes, standard_axes
from .cache import (
    COHORT_SAMPLE_BYTES,
    EDGE_BYTES,
    NO_CACHE,
    SAMPLE_BYTES,
    Budget,
    ImageCache,
    Sampling,
)
from .computing import compute, computes_here, scheduler_of, some_wait
from .jobs import WriteChunks
from .lazy import LazyChain, chain_and_axes, in_axes, numbers_of, with_numbers
from .notes import Note
from .programs import Operation, SumsAgain
from .sources import Area, Source, in_thick_chunks
from .threads import n_cores
from .windows import Pixels, Window

# Fewest rows of the blocks into which a NumPy image is cut when it is made lazy.
LEAST_ROWS = 256
# A band of an image that is read band by band: one row of blocks, or as many as fit in here.
BAND_BYTES = 32 * 2**20


def is_lazy(array: Array | Area | None) -> bool:
    """Whether `array` is a Dask array, or an area that one gives."""
    return isinstance(array.array if isinstance(array, Area) else array, da.Array)


def kind_of(array: Array) -> Array:
    """What tells the kind of an array: itself, or of a Dask array an empty block of its kind."""
    return array._meta if is_lazy(array) else array


def adopt(array: Array) -> Array:
    """An array as the package works on it: see `graphs.adopt`; a NumPy array as it is."""
    return graphs.adopt(array) if is_lazy(array) else array


def adopt_image(array: Array, dims: Sequence[str]) -> Array:
    """As `adopt`, of an image: no chunk of it is thin, see `sources.in_thick_chunks`."""
    return in_thick_chunks(graphs.adopt(array), "".join(dims)) if is_lazy(array) else array


def apply(image: Array, operation: Operation, numbers: Array | Area | None = None) -> Array:
    """An operation on all of `image`; lazy if the image or `numbers` are."""
    if is_lazy(image) or is_lazy(numbers):
        return chain_of(image).then(operation, in_one_chunk(numbers)).array()
    taken = Pixels.of(numbers.whole()) if isinstance(numbers, Area) else numbers
    (made,) = passes.results([passes.ArrayChain(image, (operation,), (taken,))])
    return made


def sums_again(begun: Array, image: Array, area: Area | None) -> SumsAgain | None:
    """For lazy arrays what `LazyChain.sums_again` says of their chains; else None."""
    if not (is_lazy(begun) and is_lazy(image)):
        return None
    return LazyChain.of(begun).sums_again(LazyChain.of(image), area)


def read_here(image: Array) -> BlockChain | None:
    """A lazy image as a chain on which passes can be run now.

    None if the user chose another scheduler or threads of their own, if the image cannot be read
    without Dask, or if operations are to happen to it.
    """
    if not (is_lazy(image) and computes_here([image])):
        return None
    chain = LazyChain.of(image)
    return None if chain.operations else BlockChain.of_chain(chain)


def note_missing(note: Note, before: Array, after: Array, dims: Sequence[str]) -> Array:
    """Return `after`, and have a note count the values of `before` that are missing in it.

    Both have the axes `dims`. If they are lazy, the note counts when `after` is computed. If only
    one of them is, nothing is counted.
    """
    if not is_lazy(before) and not is_lazy(after):
        return _note_missing(after, before, note=note, dims=dims)
    # The operations of a chain have notes of their own.
    if not (is_lazy(before) and is_lazy(after)) or in_axes(after, "".join(dims), AXES) is not None:
        return after
    return da.map_blocks(
        partial(_note_missing, note=note, dims=dims),
        after,
        before.rechunk(after.chunks),
        dtype=after.dtype,
        meta=after._meta,
    )


def _note_missing(
    after: Block, before: Block, *, note: Note, dims: Sequence[str], block_info: Any = None
) -> Block:
    ends = block_info[0]["array-location"] if block_info else [(0, size) for size in after.shape]
    place = dict(zip(dims, ends, strict=True))

    def count() -> Block:
        found = np.zeros(len(note.labels), np.int64)
        others = tuple(axis for axis, dim in enumerate(dims) if dim != "c")
        found[slice(*place["c"])] = (np.isfinite(before) & ~np.isfinite(after)).sum(axis=others)
        return found

    part = place["c"], place.get("z")
    note.take(Window(*place["y"], *place["x"]), after.size, count, part)
    return after


def chain_of(image: Array) -> LazyChain:
    """The operations that made a lazy image; a NumPy image becomes lazy."""
    return LazyChain.of(as_lazy(image))


def sample_bytes(n_images: int) -> int:
    """How much is sampled of a lazy image, one of several."""
    return min(SAMPLE_BYTES, COHORT_SAMPLE_BYTES // max(1, n_images))


@contextmanager
def keeping(
    images: Iterable[Array],
    n_bytes: int,
    depth: int = 0,
    *,
    results: bool = False,
) -> Iterator[None]:
    """Passes over these lazy images share what they read, as far as `n_bytes` allow.

    `depth` is how far around a pixel later passes read: so wide are the edges of blocks, and the
    rims of tiles that are sampled. With `results`, a pass that measures blurred blocks keeps the
    blurred blocks, as a later pass will go on from them. An image that an outer `keeping` holds
    already is left to that.
    """
    of_blocks, of_edges = Budget(n_bytes), Budget(max(n_bytes, EDGE_BYTES))
    sources = [
        source
        for image in images
        if is_lazy(image) and (source := LazyChain.of(image).source).cache is NO_CACHE
    ]
    sampled, caches = sample_bytes(len(sources)), []
    for source in sources:
        sampling = Sampling.for_depth(sampled, len(list(source.indices())), depth)
        caches.append(ImageCache(of_blocks, of_edges, sampling, depth, results=results))
        source.cache = caches[-1]
    # A thread that waits for a block holds memory, so there are more threads only if memory may be
    # used. Where an outer `keeping` holds the images, it has decided already.
    more_threads = some_wait() if n_bytes and sources else nullcontext()
    try:
        with more_threads:
            yield
    finally:
        for source, cache in zip(sources, caches, strict=True):
            source.cache = NO_CACHE
            cache.close()


def per_channel(
    function: Callable[..., Block],
    *operands: tuple[Array, str],
    dtype: DType,
    axes: str = "c",
) -> Array:
    """`function(*arrays)`, which has the axes `axes`, of small arrays; each is given with its axes.

    It is called once, with whole arrays; lazily if any of them is a Dask array.
    """
    if not any(is_lazy(array) for array, _ in operands):
        return function(*[array for array, _ in operands])
    # NumPy arrays are bound into the function. In the graph many results would share them, and Dask
    # would start all results before it finishes one.
    in_memory = [None if is_lazy(array) else array for array, _ in operands]
    lazy = [array.rechunk(-1) for array, _ in operands if is_lazy(array)]
    call = partial(_call_with, function, in_memory)
    name = f"pxprep-numbers-{tokenize(call, [array.name for array in lazy])}"
    task: graphs.Graph = {(name, *[0] * len(axes)): (call, *map(graphs.only_key, lazy))}
    graph = HighLevelGraph.from_collections(name, task, dependencies=lazy)
    sizes = {axis: n for array, own in operands for axis, n in zip(own, array.shape, strict=True)}
    return da.Array(graph, name, tuple((sizes[axis],) for axis in axes), dtype=dtype)


def _call_with(function: Callable[..., Block], in_memory: Sequence[object], *lazy: Block) -> Block:
    computed = iter(lazy)
    return function(*[next(computed) if array is None else array for array in in_memory])


def coarsen(image: Array, factors: tuple[int, int, int], *, dtype: DType) -> Array:
    """Mean over boxes of `factors` pixels along z, y, x, without NaNs; no box is partly outside."""
    ends = [size - size % factor for size, factor in zip(image.shape[1:], factors, strict=True)]
    image = image[:, : ends[0], : ends[1], : ends[2]]
    coarsen_block = partial(blocks.coarsen, factors=factors, dtype=dtype)
    if not is_lazy(image):
        return coarsen_block(image)
    # In chunks that hold whole boxes.
    image = image.rechunk(
        {
            axis: max(factor, max(image.chunks[axis]) // factor * factor)
            for axis, factor in enumerate(factors, start=1)
            if any(size % factor for size in image.chunks[axis])
        }
    )
    chunks = tuple(
        tuple(size // factor for size in sizes)
        for sizes, factor in zip(image.chunks, (1, *factors), strict=True)
    )
    meta = image._meta.astype(dtype)
    return da.map_blocks(coarsen_block, image, chunks=chunks, dtype=dtype, meta=meta)


def without_pixels(array: Array) -> Array:
    """A lazy array of the same type, shape and chunks, whose blocks are empty when computed.

    Dask writes no empty block: so it can be written to a store without writing a chunk.
    """
    nothing = np.empty((0,) * array.ndim, array.dtype)
    axes = range(array.ndim)
    return da.blockwise(
        nothing.copy,
        axes,
        new_axes=dict(zip(axes, array.chunks, strict=True)),
        name=f"pxprep-nothing-{uuid4().hex}",  # Dask's own would be the same for other chunks
        dtype=array.dtype,
        meta=nothing,
    )


def from_zarr(path: Path) -> Array:
    """The zarr array in a folder, lazily, in its own chunks."""
    from zarr import open_array

    # Given a path, Dask would read it through a file system of fsspec.
    return da.from_zarr(open_array(path, mode="r"))


def store(arrays: Sequence[Array], targets: Sequence[Any]) -> None:
    """Compute lazy arrays together, and write each to its target: ``target[place] = block``.

    No two chunks of an array lie in the same chunk of its target. Threads of this process write now
    if they can; else Dask computes a graph.
    """
    here = computes_here(arrays)
    found = [each for array in arrays if (each := chain_and_axes(array)) is not None]
    if len(found) < len(arrays) or any(len(chain.source.chunks[1]) > 1 for chain, _ in found):
        # If only some have chains that can be written, Dask writes all of them: then an image from
        # which coarser scales are made is computed once.
        if not (here and copy_chunks(arrays, targets)):
            da.store(list(arrays), list(targets), lock=False, scheduler=scheduler_of(arrays))
        return
    writes = [
        (chain, WriteChunks(target, chain.channels_per_chunk, axes))
        for (chain, axes), target in zip(found, targets, strict=True)
    ]
    readable = [BlockChain.of_chain(chain) if here else None for chain, _ in writes]
    each_now = zip(readable, writes, strict=True)
    now = [passes.Pass(chain, (sink,)) for chain, (_, sink) in each_now if chain is not None]
    if len(now) == len(writes):
        passes.run(now)
    else:
        compute(*[chain.storing(sink) for chain, sink in writes])


def with_numbers_known(arrays: Sequence[Array]) -> list[Array]:
    """The same arrays; in lazy ones the numbers of their chains are computed, all at once.

    Else, if an array is computed part by part, its numbers would be measured anew for each part.
    """
    by_array = [numbers_of(array) if is_lazy(array) else {} for array in arrays]
    together = {name: one for numbers in by_array for name, one in numbers.items()}
    values = dict(zip(together, compute(*together.values()), strict=True))
    return [
        with_numbers(array, values) if numbers else array
        for array, numbers in zip(arrays, by_array, strict=True)
    ]


def bands(image: Array, *others: Array) -> Iterator[tuple[int, tuple[Block, ...]]]:
    """The rows of an image, and of others of its size, as NumPy arrays, from top to bottom.

    With each band comes the row at which it begins. Lazy arrays are computed band by band.
    """
    row_bytes = image.nbytes // image.shape[-2]
    sizes = image.chunks[-2] if is_lazy(image) else (1,) * image.shape[-2]
    start = stop = 0
    for size in (*sizes, None):
        if stop > start and (size is None or (stop + size - start) * row_bytes > BAND_BYTES):
            yield start, compute(*[array[..., start:stop, :] for array in (image, *others)])
            start = stop
        stop += size or 0


def from_dims(array: Array, dims: Sequence[str]) -> Array:
    """An image's array, whose axes are `dims`, with the axes (c, z, y, x)."""
    if is_lazy(array):
        axes = "".join(dims)
        chained = in_axes(array, axes, AXES)
        if chained is not None:
            return chained
        return LazyChain(Source.of(array, axes)).array()
    return standard_axes(array, "".join(dims))


def to_dims(array: Array, dims: Sequence[str]) -> Array:
    """An array whose axes are (c, z, y, x), with the axes `dims`: all four, or all but z."""
    axes = "".join(dims)
    if is_lazy(array) and (chained := in_axes(array, AXES, axes)) is not None:
        return chained
    return own_axes(array, axes)


def as_lazy(image: Array) -> Array:
    """`image` as a Dask array; a NumPy image is cut into blocks of all channels, one per core.

    There are fewer if they would have less than LEAST_ROWS rows.
    """
    if is_lazy(image):
        return image
    size = max(LEAST_ROWS, -(-image.shape[2] // n_cores()))
    chunks = normalize_chunks((-1, -1, size, -1), image.shape)
    return graphs.of_views(image, f"pxprep-image-{uuid4().hex}", chunks)


def in_one_chunk(numbers: Array) -> Array:
    """What an operation takes: lazy numbers, which are small, in one chunk; all else as it is."""
    return numbers.rechunk(-1) if isinstance(numbers, da.Array) else numbers

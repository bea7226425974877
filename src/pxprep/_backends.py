"""Runs block functions over whole images, NumPy arrays or Dask arrays of NumPy blocks.

The only module that asks what kind of array it holds. A NumPy image is cut into bands that a
thread pool works on at once (the kernels release the GIL); a Dask image becomes a graph and nothing
is computed. Both call the same functions of `_blocks` and give the same bits.

Images have the axes (c, z, y, x).
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask import config
from dask.array.overlap import overlap
from dask.base import compute as dask_compute

from . import _blocks
from ._kernels.blur import blur_radius
from ._kernels.counts import N_SLOTS
from ._typing import Array, Block
from .errors import ImageError

AXES = "czyx"
# Rows of a band: small enough to stay in cache between operations, large enough to be worth a task.
BAND_ROWS = 128
# Rows and columns of the blocks into which a NumPy image is cut when it is made lazy.
LAZY_CHUNK = 1024


def is_lazy(array: Array) -> bool:
    """Whether `array` is a Dask array."""
    return isinstance(array, da.Array)


def check_supported(array: Array, parameter: str = "image") -> None:
    """Raise ImageError unless `array` is a NumPy array or a Dask array of NumPy arrays."""
    inner = array._meta if is_lazy(array) else array
    if not isinstance(inner, np.ndarray) or isinstance(inner, np.ma.MaskedArray):
        raise ImageError(
            f"{parameter} must hold a NumPy array or a Dask array of NumPy arrays, got "
            f"{type(inner).__module__}.{type(inner).__qualname__}"
        )
    if is_lazy(array) and any(np.isnan(size) for size in array.shape):
        raise ImageError(f"{parameter} must have a known shape, got {array.shape}")


def map_blocks(
    function: Callable[..., Block],
    image: Array,
    *operands: tuple[Array, str],
    dtype: np.dtype[Any],
) -> Array:
    """`function(block, *parts, dtype=dtype)` on every block of `image`, of the block's shape.

    Each operand comes with its axes, a part of "czyx", and the function sees the part of it that
    lies at the block. The result is lazy if the image or any operand is.
    """
    run = partial(function, dtype=dtype)
    if is_lazy(image) or any(is_lazy(array) for array, _ in operands):
        pairs: list[Any] = [_as_dask(image), AXES]
        for array, axes in operands:
            pairs += [_as_dask(array), axes]
        return da.blockwise(run, AXES, *pairs, dtype=dtype, meta=_meta(4, dtype))
    out = np.empty(image.shape, dtype)

    def work(band: slice) -> None:
        parts = [array[..., band, :] if "y" in axes else array for array, axes in operands]
        out[:, :, band] = run(image[:, :, band], *parts)

    _in_threads(work, _bands(image.shape[2]))
    return out


def sum_channels(image: Array, *, dtype: np.dtype[Any]) -> Array:
    """Sum over channels in their order, in `dtype`; axes (z, y, x)."""
    if is_lazy(image):
        return da.blockwise(
            partial(_blocks.add_channels, dtype=dtype),
            AXES[1:],
            image,
            AXES,
            concatenate=False,
            dtype=dtype,
            meta=_meta(3, dtype),
        )
    out = np.empty(image.shape[1:], dtype)

    def work(band: slice) -> None:
        out[:, band] = _blocks.add_channels([image[:, :, band]], dtype=dtype)

    _in_threads(work, _bands(image.shape[2]))
    return out


def blur(image: Array, sigmas: Block, *, dtype: np.dtype[Any]) -> Array:
    """Gaussian blur of every plane, each channel with its sigma (in pixels)."""
    if is_lazy(image):
        return _blur_lazily(image, sigmas, dtype)
    out = np.empty(image.shape, dtype)

    def work(channel: int) -> None:
        out[channel : channel + 1] = _blocks.blur(
            image[channel : channel + 1], sigmas[channel : channel + 1], dtype=dtype
        )

    _in_threads(work, range(image.shape[0]))
    return out


def _blur_lazily(image: Array, sigmas: Block, dtype: np.dtype[Any]) -> Array:
    depth = max(blur_radius(float(sigma)) for sigma in sigmas)
    if depth == 0:
        return map_blocks(_blocks.blur, image, (sigmas, "c"), dtype=dtype)
    chunks = image.chunks
    # An axis no longer than the halo is one block, which then holds all that the blur reads.
    image = image.rechunk({axis: -1 for axis in (2, 3) if image.shape[axis] <= depth})
    halo = {axis: depth for axis in (2, 3) if image.numblocks[axis] > 1}
    if not halo:
        blurred = map_blocks(_blocks.blur, image, (sigmas, "c"), dtype=dtype)
    else:
        # May merge chunks that are smaller than the halo; `inner` are the chunks without it.
        haloed = overlap(image, depth=halo, boundary="none")
        inner = tuple(
            tuple(
                size - halo.get(axis, 0) * ((i > 0) + (i < len(sizes) - 1))
                for i, size in enumerate(sizes)
            )
            for axis, sizes in enumerate(haloed.chunks)
        )
        blurred = da.map_blocks(
            partial(_blur_haloed, sigmas=sigmas, halo=halo, inner=inner, dtype=dtype),
            haloed,
            chunks=inner,
            dtype=dtype,
            meta=_meta(4, dtype),
        )
    return blurred.rechunk(chunks)


def _blur_haloed(
    block: Block,
    *,
    sigmas: Block,
    halo: dict[int, int],
    inner: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    block_info: Any,
) -> Block:
    location = block_info[0]["chunk-location"]
    first = sum(inner[0][: location[0]])
    top, left = (halo.get(axis, 0) if location[axis] > 0 else 0 for axis in (2, 3))
    shape = inner[2][location[2]], inner[3][location[3]]
    own = sigmas[first : first + block.shape[0]]
    return _blocks.blur(block, own, dtype=dtype, origin=(top, left), shape=shape)


def count_digits(image: Array, prefixes: Array | None, level: int, zeros: bool) -> Array:
    """`_blocks.count_digits` summed over all blocks: int64, axes (c, prefix, slot)."""
    n_prefixes = 1 if prefixes is None else prefixes.shape[1]
    count = partial(_blocks.count_digits, level=level, zeros=zeros)
    if is_lazy(image):
        pairs: list[Any] = [image, AXES, None, None]
        if prefixes is not None:
            pairs[2:] = [_as_dask(prefixes), "cp"]
        partials = da.blockwise(
            partial(_count_dask_block, count),
            "czyxns",
            *pairs,
            new_axes={"n": n_prefixes, "s": N_SLOTS},
            adjust_chunks={"z": 1, "y": 1, "x": 1},
            concatenate=True,
            dtype=np.uint32,
            meta=_meta(6, np.dtype(np.uint32)),
        )
        return partials.sum(axis=(1, 2, 3), dtype=np.int64)

    def work(band: slice) -> Block:
        return count(image[:, :, band], prefixes)

    total = np.zeros((image.shape[0], n_prefixes, N_SLOTS), np.int64)
    # One band per thread: the partial counts are as large as a small band of pixels.
    for found in _in_threads(work, _bands(image.shape[2], -(-image.shape[2] // _n_threads()))):
        total += found
    return total


def _count_dask_block(count: Callable[..., Block], block: Block, prefixes: Block | None) -> Block:
    counts = count(block, prefixes)
    return counts[:, np.newaxis, np.newaxis, np.newaxis]


def per_channel(
    function: Callable[..., Block],
    *operands: tuple[Array, str],
    dtype: np.dtype[Any],
    axes: str = "c",
) -> Array:
    """`function(*arrays)`, of the given axes, for small arrays given with theirs.

    Called once with whole arrays; lazily if any of them is a Dask array.
    """
    if not any(is_lazy(array) for array, _ in operands):
        return function(*[array for array, _ in operands])
    pairs: list[Any] = []
    for array, own_axes in operands:
        pairs += [_as_dask(array).rechunk(-1), own_axes]
    return da.blockwise(
        function, axes, *pairs, concatenate=True, dtype=dtype, meta=_meta(len(axes), dtype)
    )


def coarsen(image: Array, factors: tuple[int, int, int], *, dtype: np.dtype[Any]) -> Array:
    """Mean over blocks of `factors` pixels along z, y, x, NaN ignored; a partial block is cut."""
    kept = [size - size % factor for size, factor in zip(image.shape[1:], factors, strict=True)]
    image = image[:, : kept[0], : kept[1], : kept[2]]
    run = partial(_blocks.coarsen, factors=factors, dtype=dtype)
    if not is_lazy(image):
        return run(image)
    # Chunks that blocks do not straddle.
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
    return da.map_blocks(run, image, chunks=chunks, dtype=dtype, meta=_meta(4, dtype))


def from_zarr(path: Path) -> Array:
    """The zarr array in a folder, lazily, in its own chunks."""
    return da.from_zarr(str(path))


@contextmanager
def threads_at_rest() -> Iterator[None]:
    """Dask's threads have no task left on exit, also after one of them failed.

    Else those that were under way at a failure go on, and may write into a folder that is being
    removed.
    """
    if config.get("pool", None) is not None:
        yield  # the user's own threads
        return
    workers = config.get("num_workers", None) or _n_threads()
    with ThreadPoolExecutor(workers) as pool, config.set(pool=pool):
        yield


def compute(*arrays: Array) -> tuple[Array, ...]:
    """All arrays as NumPy arrays, the lazy ones computed together."""
    computed: tuple[Array, ...] = dask_compute(*arrays)
    return computed


def as_lazy(image: Array) -> Array:
    """`image` as a Dask array, in blocks of all channels if it was a NumPy array."""
    if is_lazy(image):
        return image
    chunks = (*image.shape[:2], LAZY_CHUNK, LAZY_CHUNK)
    return da.from_array(image, chunks=chunks, name=False)


def _as_dask(array: Array) -> Array:
    return array if is_lazy(array) else da.from_array(array, chunks=-1, name=False)


def _meta(ndim: int, dtype: Any) -> Block:
    return np.empty((0,) * ndim, dtype)


def _bands(rows: int, size: int = BAND_ROWS) -> list[slice]:
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _n_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_threads(work: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
    parts = list(parts)
    if len(parts) == 1 or _n_threads() == 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(min(len(parts), _n_threads())) as pool:
        return list(pool.map(work, parts))

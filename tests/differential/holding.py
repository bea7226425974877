"""Ways to hold an array, an image and a cohort: NumPy, Dask, zarr; lists, mappings and trees."""

from pathlib import Path
from tempfile import mkdtemp

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

from differential import contents
from differential.cases import LABELS, Holding

# Names of images in boxes that have names; the third lies deeper in a tree.
NAMES = ("fov0", "fov1", "slide/fov2")


# Arrays


def in_memory(array, layout, is_swapped):
    """A copy of an array in some layout and byte order."""
    array = array.astype(array.dtype.newbyteorder("S" if is_swapped else "="))
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        room = np.full([2 * size + 1 for size in array.shape], array.flat[-1])
        view = room[(slice(1, None, 2),) * array.ndim]
        view[...] = array
        return view
    if layout == "negative":
        return np.ascontiguousarray(np.flip(array))[(slice(None, None, -1),) * array.ndim]
    if layout == "unaligned":
        room = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
        view = room.reshape(array.shape)
        view[...] = array
        return view
    array = np.ascontiguousarray(array)
    array.flags.writeable = layout != "readonly"
    return array


def held(array, axes, holding, folder):
    """An array with these axes as a `Holding` says, with its axes."""
    array = array.transpose([axes.index(axis) for axis in holding.dims])
    chunks = tuple(holding.chunks[axes.index(axis)] for axis in holding.dims if holding.chunks)
    before = tuple(holding.before[axes.index(axis)] for axis in holding.dims if holding.before)
    laid = in_memory(array, holding.layout, holding.is_swapped)
    if holding.kind == "numpy":
        return laid
    if holding.kind == "rechunked":
        return lazy(laid, before, holding).rechunk(chunks)
    return LAZY[holding.kind](laid, chunks, holding, folder)


def lazy(array, chunks, holding):
    """The array in chunks; many arrays may have the same name."""
    return da.from_array(array, chunks=chunks, name="image" if holding.has_name else None)


def _arithmetic(array, chunks, holding, folder):
    # Of an axis of one pixel Dask's operations leave out the chunks of size 0, but count them.
    chunks = tuple((1,) if sum(sizes) == 1 else sizes for sizes in chunks)
    made = lazy(array, chunks, holding)
    return ~~made if array.dtype.kind == "b" else made * 1


def _zarr(array, chunks, holding, folder):
    # Chunks of a file are all alike: those that are wanted are cut from them.
    store = Path(mkdtemp(dir=folder)) / "array.zarr"
    shape = tuple(max(1, max(sizes)) for sizes in chunks)
    made = zarr.create_array(store, shape=array.shape, chunks=shape, dtype=array.dtype)
    made[...] = np.ascontiguousarray(array)
    return da.from_zarr(zarr.open_array(store, mode="r"))


def _sliced(array, chunks, holding, folder):
    wider = tuple((1, *sizes, 1) for sizes in chunks)
    made = lazy(np.pad(array, 1, mode="edge"), wider, holding)
    return made[(slice(1, -1),) * array.ndim]


def _reversed(array, chunks, holding, folder):
    # Backwards, Dask loses the pixels before a chunk of size 0.
    chunks = tuple(tuple(filter(None, sizes[::-1])) for sizes in chunks)
    made = lazy(np.flip(array), chunks, holding)
    return made[(slice(None, None, -1),) * array.ndim]


def _parts(array, chunks, axis):
    """Parts of an array along an axis, each with its chunks."""
    starts = np.cumsum([0, *chunks[axis]])
    for start, size in zip(starts, chunks[axis], strict=False):
        part = np.take(array, range(start, start + size), axis)
        yield part, [(size,) if a == axis else sizes for a, sizes in enumerate(chunks)]


def _concatenated(array, chunks, holding, folder):
    axis = array.ndim - 2
    return da.concatenate([da.from_array(*part) for part in _parts(array, chunks, axis)], axis=axis)


def _stacked(array, chunks, holding, folder):
    return da.stack([da.from_array(plane, chunks=chunks[1:]) for plane in array])


def _delayed(array, chunks, holding, folder):
    load, axis = dask.delayed(_same, pure=False), array.ndim - 1
    parts = [
        da.from_delayed(load(part), part.shape, part.dtype)
        for part, _ in _parts(array, chunks, axis)
    ]
    return da.concatenate(parts, axis=axis)


def _blocks(array, chunks, holding, folder):
    return lazy(array, chunks, holding).map_blocks(_same)


def _persisted(array, chunks, holding, folder):
    return _arithmetic(array, chunks, holding, folder).persist(scheduler="synchronous")


def _transposed(array, chunks, holding, folder):
    return lazy(array.T, chunks[::-1], holding).T


def _chunked(array, chunks, holding, folder):
    image = xr.DataArray(array)
    return image.chunk(dict(zip(image.dims, chunks, strict=True))).data


def _same(block):
    return block


LAZY = {
    "from_array": lambda array, chunks, holding, folder: lazy(array, chunks, holding),
    "arithmetic": _arithmetic,
    "blocks": _blocks,
    "sliced": _sliced,
    "reversed": _reversed,
    "persisted": _persisted,
    "concatenated": _concatenated,
    "stacked": _stacked,
    "delayed": _delayed,
    "transposed": _transposed,
    "xarray": _chunked,
    "zarr": _zarr,
}


# Images


def images(case, way, pixels, folder):
    """The labeled images of a case, held as `way` says; `pixels` have channels by number."""
    made = []
    for number, (picture, array, holding) in enumerate(
        zip(case.pictures, pixels, way.holdings, strict=True)
    ):
        own = array[list(picture.order)]
        axes = "czyx" if own.ndim == 4 else "cyx"
        image = xr.DataArray(
            held(own, axes, holding, folder),
            dims=list(holding.dims),
            attrs={"fov": number},
            name="image",
        )
        if case.labels != "none":
            image = image.assign_coords(c=[LABELS[case.labels][n] for n in picture.order])
        made.append(image.assign_coords(y=np.arange(image.sizes["y"]) * 0.5))
    return made


def mask_arrays(masks, way, sizes, folder):
    """The labeled arrays of masks, bool or integers, and None where there is none."""
    made = []
    for mask, holding, size in zip(masks, way.masks, sizes, strict=True):
        if mask is None:
            made.append(None)
            continue
        array = contents.labels(mask, size)
        array = array > 0 if mask.form == "bool" else array.astype(np.int32)
        axes = "zyx"[-array.ndim :]
        if set(holding.dims) != set(axes):
            holding = Holding(dims=axes)
        made.append(xr.DataArray(held(array, axes, holding, folder), dims=list(holding.dims)))
    return made


# Cohorts


def boxed(images, box):
    """Images as one, a list, a mapping or a tree."""
    if box == "one":
        return images[0]
    if box == "list":
        return images
    named = dict(zip(NAMES, images, strict=False))
    if box == "dict":
        return named
    if box == "tree":
        nodes = {name: image.to_dataset() for name, image in named.items()}
    else:
        nodes = {
            f"{name}/scale{level}": scale.to_dataset()
            for name, image in named.items()
            for level, scale in enumerate([image, coarser(image)])
        }
    return xr.DataTree.from_dict(nodes)


def coarser(image):
    """A second scale of an image: half the size, of any values."""
    steps = {dim: slice(size // 2) for dim, size in image.sizes.items() if dim in "yx" and size > 1}
    return image.isel(steps)


def unboxed(boxed, box, count):
    """The images of a cohort in their order."""
    if box == "one":
        return [boxed]
    if box == "list":
        return list(boxed)
    names = NAMES[:count]
    if box == "dict":
        assert list(boxed) == list(names)
        return [boxed[name] for name in names]
    return [boxed[name if box == "tree" else f"{name}/scale0"]["image"] for name in names]


def coarse_scales(boxed, count):
    """The second scales of a cohort of multiscale images."""
    return [boxed[f"{name}/scale1"]["image"] for name in NAMES[:count]]

"""Pixels in files as lazy images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from ..aliases import DType, Label, NumpyArray, Region
from ..errors import ImageError, PxprepError

# The dims of an image in their usual order; z only where there are planes.
DIMS = ("c", "z", "y", "x")


@contextmanager
def reading(what: str, as_what: str = "") -> Iterator[None]:
    """Whatever fails within is an error: `what` cannot be read, perhaps `as_what`."""
    try:
        yield
    except PxprepError:
        raise
    except Exception as error:
        # Messages of other packages may hold all of the metadata.
        raise ImageError(f"{what} cannot be read{as_what}: {error!r:.300}") from error


class FilePixels(ABC):
    """An image in files, that is read when a part of it is asked for.

    Files are opened for each part and closed after it: there may be thousands, and a part may be
    read in any thread or process.

    Parameters
    ----------
    shape
        Sizes along c, y and x, or c, z, y and x.
    dtype
        Type of what is read, in native byte order.
    """

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        self.shape = tuple(shape)
        self.dtype: DType = np.dtype(dtype)
        self.ndim = len(self.shape)

    @abstractmethod
    def read(self, region: Region) -> NumpyArray:
        """The pixels of a region, from the files."""

    def __getitem__(self, selection: object) -> NumpyArray:
        given = selection if isinstance(selection, tuple) else (selection,)
        parts = [*given, *[slice(None)] * (self.ndim - len(given))]
        found = [_ends(part, size) for part, size in zip(parts, self.shape, strict=True)]
        return self.read([ends for ends, _ in found])[tuple(rest for _, rest in found)]


class Joined(FilePixels):
    """The channels of several images, one after the other, cut to a common size at the upper left.

    Parameters
    ----------
    parts
        The images.
    """

    def __init__(self, parts: Sequence[FilePixels]) -> None:
        sizes = [min(own) for own in zip(*(part.shape[1:] for part in parts), strict=True)]
        n_channels = sum(part.shape[0] for part in parts)
        super().__init__((n_channels, *sizes), np.result_type(*{part.dtype for part in parts}))
        self.parts = tuple(parts)

    def read(self, region: Region) -> NumpyArray:
        """The pixels of a region, of the channels in it only."""
        (start, stop), *rest = region
        out = np.empty([last - first for first, last in region], self.dtype)
        before = 0
        for part in self.parts:
            first, last = max(start, before), min(stop, before + part.shape[0])
            if first < last:
                out[first - start : last - start] = part.read(
                    [(first - before, last - before), *rest]
                )
            before += part.shape[0]
        return out


def _ends(part: int | slice | NumpyArray, size: int) -> tuple[tuple[int, int], slice | NumpyArray]:
    """Where a selection along an axis begins and ends, and what it selects of that."""
    positions = np.arange(size)[part]
    if not positions.size:
        return (0, 0), slice(None)
    ends = (int(positions.min()), int(positions.max()) + 1)
    return ends, slice(None, None, part.step) if isinstance(part, slice) else positions - ends[0]


def lazy_image(
    pixels: FilePixels,
    chunks: Sequence[int],
    labels: Sequence[Label],
    attrs: Mapping[str, object],
) -> xr.DataArray:
    """The image that reads `pixels` chunk by chunk."""
    dims = [dim for dim in DIMS if dim != "z" or pixels.ndim == 4]
    # A name of its own: the same files may hold something else later.
    array = da.from_array(pixels, chunks=tuple(chunks), name=False, meta=np.empty(0, pixels.dtype))
    return xr.DataArray(array, dims=dims, coords={"c": list(labels)}, attrs=dict(attrs))


def with_channels(image: xr.DataArray, pairs: Sequence[tuple[int, Label]]) -> xr.DataArray:
    """The channels at some positions with new labels, given pairs of position and label."""
    positions = [position for position, _ in pairs]
    if positions != list(range(image.sizes["c"])):
        image = image.isel(c=positions)
    return image.assign_coords(c=[label for _, label in pairs])

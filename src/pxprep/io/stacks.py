"""The pages that make an image in a TIFF file: what tifffile finds, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .._typing import Label
from ..errors import ImageError, ParameterError, PxprepError
from .arrays import lazy_image
from .planes import Plane, TiffPixels

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

SUFFIXES = (".tif", ".tiff")
MISSING = "TIFFs need the package tifffile: pip install 'pxprep[io]'"
# Rows and columns that are read at once, as far as tiles and strips allow.
BLOCK = 1024
# What the pages of a TIFF may be that are channels: a plain one does not say.
CHANNEL_AXES = ("C", "Q", "I")


@contextmanager
def opened(file: Path) -> Iterator[TiffFile]:
    """An open TIFF file; whatever fails within is an error that names the file."""
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise ParameterError(MISSING) from error
    try:
        with TiffFile(file) as tiff:
            yield tiff
    except PxprepError:
        raise
    except Exception as error:
        raise ImageError(f"{str(file)!r} cannot be read as a TIFF: {error!r}") from error


def stacks_of(file: Path) -> list[Stack]:
    """The images in a TIFF file."""
    with opened(file) as tiff:
        return [Stack.of(series, file) for series in tiff.series]


@dataclass(frozen=True)
class Stack:
    """The pages of one image.

    Attributes
    ----------
    name
        In the file's metadata, or empty.
    has_channels
        Whether there are pages of several channels.
    planes
        The pages, with the axes c, or c and z.
    size
        Rows and columns.
    dtype
        Of the pixels, in native byte order.
    block
        Rows and columns that are best read at once.
    """

    name: str
    has_channels: bool
    planes: np.ndarray[Any, Any]
    size: tuple[int, int]
    dtype: np.dtype[Any]
    block: tuple[int, int]

    @classmethod
    def of(cls, series: TiffPageSeries, file: Path) -> Stack:
        """That of a series that tifffile found, or an ImageError."""
        what = f"an image in {str(file)!r}"
        axes, shape = _axes(series, what)
        page = series.keyframe
        if page.shape != (page.imagelength, page.imagewidth) or page.dtype is None:
            raise ImageError(
                f"{what} must have a page of numbers for each plane, got pages of shape "
                f"{page.shape} and {page.bitspersample} bits per sample"
            )
        try:
            page.decode(None, 0)
        except (ValueError, NotImplementedError) as error:
            raise ImageError(
                f"{what} cannot be decoded: {error}; the package imagecodecs has more decoders: "
                "pip install imagecodecs"
            ) from error
        listed = _planes(series, what)
        planes = np.empty(len(listed), object)
        planes[:] = listed
        planes = planes.reshape(shape)
        if axes == "ZC":
            planes = planes.T
        return cls(
            series.name,
            "C" in axes,
            planes if "C" in axes else planes[np.newaxis],
            (page.imagelength, page.imagewidth),
            np.dtype(page.dtype),
            _block(page, is_plain=listed[0].stored is not None),
        )

    def image(self, labels: Sequence[Label], attrs: Mapping[str, Any]) -> xr.DataArray:
        """The lazy image, with labels of its channels."""
        shape = (*self.planes.shape, *self.size)
        pixels = TiffPixels(self.planes.ravel().tolist(), shape, self.dtype)
        chunks = (*[1] * self.planes.ndim, *self.block)
        return lazy_image(pixels, chunks, labels, attrs)


def joined(stacks: Sequence[Stack]) -> Stack:
    """The channels of several stacks of one size, in their order."""
    rows, columns = zip(*(stack.block for stack in stacks), strict=True)
    return replace(
        stacks[0],
        has_channels=True,
        planes=np.concatenate([stack.planes for stack in stacks]),
        dtype=np.result_type(*{stack.dtype for stack in stacks}),
        # The largest: a strip that is larger than the block would be decoded for each.
        block=(max(rows), max(columns)),
    )


def _axes(series: TiffPageSeries, what: str) -> tuple[str, tuple[int, ...]]:
    """The axes of a series' pages, some of C and Z, and their lengths."""
    sizes = {
        axis: size
        for axis, size in zip(series.axes, series.shape, strict=True)
        if size > 1 or axis in "YX"
    }
    if "S" in sizes:
        raise ImageError(f"{what} has {sizes['S']} samples for each pixel (RGB?), it must have one")
    if "T" in sizes:
        raise ImageError(f"{what} has {sizes['T']} points in time, it must have one")
    *leading, row, column = sizes
    of_channels = [axis for axis in leading if axis in CHANNEL_AXES]
    others = [axis for axis in leading if axis not in CHANNEL_AXES]
    if (row, column) != ("Y", "X") or len(of_channels) > 1 or others not in ([], ["Z"]):
        raise ImageError(
            f"{what} must have the axes C, Z, Y and X or some of them, it has {series.axes!r} of "
            f"sizes {tuple(series.shape)}"
        )
    axes = "".join("Z" if axis == "Z" else "C" for axis in leading)
    return axes, tuple(sizes[axis] for axis in leading)


def _planes(series: TiffPageSeries, what: str) -> list[Plane]:
    """The pages of a series in their order."""
    page = series.keyframe
    # Pixels of all pages behind each other, perhaps with one directory for all of them.
    if series.dataoffset is not None and not series.is_multifile:
        file = page.parent.filehandle
        stored = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        n_pages = series.size // page.size
        _check_length(file.path, series.dataoffset + n_pages * page.nbytes, what)
        return [
            Plane(file.path, series.dataoffset + number * page.nbytes, stored)
            for number in range(n_pages)
        ]
    planes = []
    for number, item in enumerate(series):
        if item is None:
            raise ImageError(f"{what} lacks page {number}: is one of its files missing?")
        path = item.parent.filehandle.path
        ends = map(sum, zip(item.dataoffsets, item.databytecounts, strict=True))
        _check_length(path, max(ends, default=0), what)
        planes.append(Plane(path, item.offset, None))
    return planes


def _check_length(path: str, end: int, what: str) -> None:
    if Path(path).stat().st_size < end:
        raise ImageError(f"{what} is not complete: {path!r} ends before its last pixel")


def _block(page: TiffPage, is_plain: bool) -> tuple[int, int]:
    """Rows and columns to read at once: whole tiles or strips, about `BLOCK`."""
    segment = (1, 1) if is_plain else page.chunks
    rows, columns = (
        min(size, max(part, BLOCK // part * part))
        for part, size in zip(segment, page.shape, strict=True)
    )
    return rows, columns

"""Pages of TIFF files, read window by window: only the tiles or strips that a window needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

import numpy as np

from .._typing import Block
from .._windows import Window
from ..errors import ImageError
from .arrays import FilePixels, Region


@dataclass(frozen=True)
class Plane:
    """One page of a TIFF file.

    Attributes
    ----------
    file
        Its path.
    offset
        Where in the file its directory lies; or its pixels, if those are just one behind the other.
    stored
        The pixels' type in the file, byte order included, if they are so; else None.
    """

    file: str
    offset: int
    stored: np.dtype[Any] | None


class TiffPixels(FilePixels):
    """An image whose planes are pages of TIFF files.

    Parameters
    ----------
    planes
        One for each channel, or for each plane of the first channel, the second, and so on.
    shape, dtype
        Of the image.
    """

    def __init__(self, planes: Sequence[Plane], shape: Sequence[int], dtype: Any) -> None:
        super().__init__(shape, dtype)
        self.planes = tuple(planes)

    def read(self, region: Region) -> Block:
        """The pixels of a region, each file opened once for planes that follow each other."""
        *leading, rows, columns = region
        window = Window(*rows, *columns)
        sizes = [stop - start for start, stop in leading]
        out = np.empty((*sizes, *window.shape), self.dtype)
        numbers = np.arange(len(self.planes)).reshape(self.shape[:-2])
        wanted = numbers[tuple(slice(*ends) for ends in leading)].ravel()
        targets = zip(
            (self.planes[n] for n in wanted), out.reshape(len(wanted), *window.shape), strict=True
        )
        for file, group in groupby(targets, key=lambda target: target[0].file):
            try:
                self._read_file(file, list(group), window)
            except Exception as error:
                raise ImageError(f"{file!r} cannot be read: {error!r}") from error
        return out

    def _read_file(self, file: str, targets: list[tuple[Plane, Block]], window: Window) -> None:
        height, width = self.shape[-2:]
        for plane, out in targets:
            if plane.stored is not None:
                pixels = np.memmap(file, plane.stored, "r", plane.offset, (height, width))
                out[...] = pixels[window.within(Window(0, height, 0, width))]
        if all(plane.stored is not None for plane, _ in targets):
            return
        from tifffile import TiffFile

        with TiffFile(file) as tiff:
            for plane, out in targets:
                if plane.stored is None:
                    _decode(tiff, plane.offset, window, out)


def _decode(tiff: Any, offset: int, window: Window, out: Block) -> None:
    """Fill `out` with the window of a page, from the segments that lie in it."""
    from tifffile import TiffPage

    tiff.filehandle.seek(offset)
    page = TiffPage(tiff, 0)
    out[...] = page.nodata
    indices = list(_segments(page, window))
    segments = tiff.filehandle.read_segments(
        [page.dataoffsets[index] for index in indices],
        [page.databytecounts[index] for index in indices],
        indices,
    )
    for data, index in segments:
        decoded, (_, _, row, column, _), (_, height, width, _) = page.decode(
            data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
        )
        segment = Window(row, row + height, column, column + width)
        common = window.meets(segment)
        if decoded is not None and common is not None:
            out[common.within(window)] = decoded[0, :, :, 0][common.within(segment)]


def _segments(page: Any, window: Window) -> Iterator[int]:
    """The indices of the tiles or strips of a page that lie in a window."""
    height, width = page.chunks
    across = -(-page.imagewidth // width)
    rows = range(window.top // height, -(-window.bottom // height))
    columns = range(window.left // width, -(-window.right // width))
    for row, column in product(rows, columns):
        yield row * across + column

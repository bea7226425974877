"""Pages of TIFF files, read window by window: only the tiles or strips that a window needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..aliases import DType, NumpyArray, Region
from ..engine.windows import Window
from .arrays import FilePixels, reading

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

# Compressions of bytes, whatever these mean: LZW, deflate by its two numbers, PackBits, zstd.
OF_BYTES = {5, 8, 32946, 32773, 50000}
# Bits of samples that fill bytes.
WHOLE = {8, 16, 32, 64}
# Strips with fewer rows are thin.
THIN = 64
# What was decoded of a page: which plane it lies in, and where; with axes row, column and sample.
Segment = tuple[int, Window, NumpyArray]


@dataclass(frozen=True)
class Page:
    """One page of a TIFF file.

    Attributes
    ----------
    file
        Path of the file.
    offset
        Where in the file its directory lies; or its pixels, if those are plain.
    """

    file: str
    offset: int


@dataclass(frozen=True)
class PageOrder:
    """How an image lies in pages.

    Attributes
    ----------
    sizes
        Sizes of the axes that the pages span, and then of a page: samples, rows and columns.
    is_planar
        Whether a page holds one plane for each sample, not the samples of each pixel together.
    c, z, y, x
        Positions in `sizes` of the axes that make the channels (the last varies fastest), and of
        depth, rows and columns.
    """

    sizes: tuple[int, ...]
    is_planar: bool
    c: tuple[int, ...]
    z: tuple[int, ...]
    y: int
    x: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image: c, perhaps z, y and x."""
        n_channels = int(np.prod([self.sizes[axis] for axis in self.c], dtype=int))
        return (n_channels, *(self.sizes[axis] for axis in (*self.z, self.y, self.x)))

    @property
    def n_together(self) -> int:
        """How many channels lie together: the length of the last channel axis."""
        return self.sizes[self.c[-1]] if self.c else 1

    def box(self, start: int, stop: int, rest: Region) -> Region:
        """Where the channels from `start` to `stop`, which lie together, are in the pages."""
        found = [(0, 1)] * len(self.sizes)
        for axis, ends in zip((*self.z, self.y, self.x), rest, strict=True):
            found[axis] = ends
        if self.c:
            first = np.unravel_index(start, [self.sizes[axis] for axis in self.c])
            for axis, index in zip(self.c, map(int, first), strict=True):
                found[axis] = (index, index + 1)
            found[self.c[-1]] = (int(first[-1]), int(first[-1]) + stop - start)
        return found

    def in_order(self, box: NumpyArray) -> NumpyArray:
        """What lies in a box, with axes c, perhaps z, y and x."""
        kept = (*self.c[-1:], *self.z, self.y, self.x)
        rest = [axis for axis in range(box.ndim) if axis not in kept]
        sizes = [box.shape[axis] for axis in kept]
        turned = box.transpose([*rest, *kept])
        return turned.reshape(sizes if self.c else [1, *sizes])


@dataclass(eq=False)
class TiffPixels(FilePixels):
    """An image in pages of TIFF files.

    Attributes
    ----------
    pages
        The pages, in the order of the axes that they span.
    order
        How the image lies in them.
    stored
        Type of the pixels in the files, with its byte order.
    is_plain
        Whether the pixels of each page lie one after the other and are not compressed.
    """

    pages: Sequence[Page]
    order: PageOrder
    stored: DType
    is_plain: bool

    def __post_init__(self) -> None:
        super().__init__(self.order.shape, self.stored.newbyteorder("="))

    def read(self, region: Region) -> NumpyArray:
        """The pixels of a region; a file is opened once for pages that follow each other."""
        (first, last), *rest = region
        out = np.empty([stop - start for start, stop in region], self.dtype)
        together, start = self.order.n_together, first
        while start < last:
            stop = min(last, (start // together + 1) * together)
            box = self._box(self.order.box(start, stop, rest))
            out[start - first : stop - first] = self.order.in_order(box)
            start = stop
        return out

    def _box(self, box: Region) -> NumpyArray:
        """What lies in a box along the axes of the pages."""
        *leading, samples, rows, columns = box
        window = Window(*rows, *columns)
        numbers = np.arange(len(self.pages)).reshape(self.order.sizes[:-3])
        wanted = numbers[tuple(slice(*ends) for ends in leading)].ravel().tolist()
        out = np.empty((len(wanted), samples[1] - samples[0], *window.shape), self.dtype)
        targets = zip((self.pages[number] for number in wanted), out, strict=True)
        for file, group in groupby(targets, key=lambda target: target[0].file):
            with reading(repr(file)):
                self._read_file(file, list(group), samples, window)
        return out.reshape([stop - start for start, stop in box])

    def _read_file(
        self,
        file: str,
        targets: list[tuple[Page, NumpyArray]],
        samples: tuple[int, int],
        window: Window,
    ) -> None:
        if self.is_plain:
            for page, out in targets:
                out[...] = self._plain(page)[(slice(*samples), *window.slices)]
            return
        from tifffile import TiffFile

        with TiffFile(file) as tiff:
            for page, out in targets:
                _decode(self._opened(tiff, page), samples, window, out)

    def _opened(self, tiff: TiffFile, page: Page) -> TiffPage:
        """A page of an open file; an error if it is not like the others."""
        from tifffile import TiffPage

        tiff.filehandle.seek(page.offset)
        found = TiffPage(tiff, 0)
        own = (found.samplesperpixel, found.imagelength, found.imagewidth), found.dtype
        usual = self.order.sizes[-3:], self.dtype
        if own != usual:
            raise ValueError(f"samples, rows, columns and type of a page are {own}, not {usual}")
        return found

    def _plain(self, page: Page) -> NumpyArray:
        """The pixels of a page where they are plain, with axes samples, rows and columns."""
        n_samples, *size = self.order.sizes[-3:]
        shape = (n_samples, *size) if self.order.is_planar else (*size, n_samples)
        pixels: NumpyArray = np.memmap(page.file, self.stored, "r", page.offset, shape)
        return pixels if self.order.is_planar else pixels.transpose(2, 0, 1)


def _decode(page: TiffPage, samples: tuple[int, int], window: Window, out: NumpyArray) -> None:
    """Fill `out` with a window of some samples of a page, from the segments that lie in it."""
    out[...] = page.nodata
    is_planar = is_planar_page(page)
    planes = range(*samples) if is_planar else range(1)
    indices = list(_segments(page, planes, window))
    read = _joined_strips if _has_thin_strips(page) else _decoded_segments
    for plane, segment, decoded in read(page, indices):
        common = window.overlap(segment)
        if common is None:
            continue
        pixels = decoded[common.within(segment)]
        target = out[(slice(None), *common.within(window))]
        if is_planar:
            target[plane - samples[0]] = pixels[..., 0]
        else:
            target[...] = pixels[..., slice(*samples)].transpose(2, 0, 1)


def _decoded_segments(page: TiffPage, indices: Sequence[int]) -> Iterator[Segment]:
    """The tiles or strips of a page, one after the other."""
    for data, index in _encoded(page, indices):
        found: Any = page.decode(
            data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
        )
        decoded, (plane, _, row, column, _), (_, height, width, _) = found
        yield plane, Window(row, row + height, column, column + width), decoded[0]


def _encoded(page: TiffPage, indices: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """The bytes of tiles or strips, each with its index, in the order of the file.

    Without those that the file lacks: beside them tifffile reads others at a wrong place.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    there = [index for index in indices if offsets[index] and counts[index]]
    places = [offsets[index] for index in there], [counts[index] for index in there]
    # Without the indices: old versions of tifffile take them for positions in `places`.
    found: Any = page.parent.filehandle.read_segments(*places)
    for data, position in found:
        yield data, there[position]


def _has_thin_strips(page: TiffPage) -> bool:
    """Whether a page lies in strips of few rows that were compressed as mere bytes."""
    is_plain = page.fillorder == 1 and page.predictor in (1, 2) and page.bitspersample in WHOLE
    is_thin = not page.is_tiled and page.rowsperstrip < THIN
    is_whole = all(page.dataoffsets) and all(page.databytecounts)
    return bool(is_thin and is_plain and is_whole and page.compression in OF_BYTES)


def _joined_strips(page: TiffPage, indices: Sequence[int]) -> Iterator[Segment]:
    """The strips of a page, those of a plane as one.

    tifffile takes longer to make an array of a strip of one row than to decompress it.
    """
    from tifffile import TIFF

    decompress = TIFF.DECOMPRESSORS[page.compression]
    height, width = segment_size(page)
    down = -(-page.imagelength // height)
    shape = width, 1 if is_planar_page(page) else page.samplesperpixel
    dtype = np.dtype(page.dtype)
    row_bytes = prod(shape) * dtype.itemsize
    strips = {}
    for data, index in _encoded(page, indices):
        n_bytes = min(height, page.imagelength - index % down * height) * row_bytes
        strips[index] = decompress(data, out=n_bytes)[:n_bytes]
        if len(strips[index]) < n_bytes:
            raise ValueError(f"strip {index} has {len(strips[index])} bytes, not {n_bytes}")
    for plane, group in groupby(indices, key=lambda index: index // down):
        own = list(group)
        top = own[0] % down * height
        bottom = min((own[-1] % down + 1) * height, page.imagelength)
        joined = b"".join(strips[index] for index in own)
        stored = np.frombuffer(joined, dtype.newbyteorder(page.parent.byteorder))
        rows = stored.reshape(bottom - top, *shape).astype(dtype, copy=False)
        if page.predictor == 2:
            rows = TIFF.UNPREDICTORS[2](rows, axis=-2)
        yield plane, Window(top, bottom, 0, width), rows


def is_planar_page(page: TiffPage) -> bool:
    """Whether a page holds one plane after the other for its samples."""
    return bool(page.axes[:1] == "S")


def segment_size(page: TiffPage) -> tuple[int, int]:
    """Rows and columns of a tile or strip."""
    rows, columns = page.chunks[:2]
    return int(rows), int(columns)


def _segments(page: TiffPage, planes: Sequence[int], window: Window) -> Iterator[int]:
    """The indices of the tiles or strips of a page that lie in a window."""
    height, width = segment_size(page)
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    rows = range(window.top // height, -(-window.bottom // height))
    columns = range(window.left // width, -(-window.right // width))
    for plane, row, column in product(planes, rows, columns):
        yield (plane * down + row) * across + column

"""The images in a TIFF file: which pages make each, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError, ParameterError, spelled
from .arrays import reading
from .axes import as_asked, meanings
from .ome import OmeImage
from .page_names import names_of_pages
from .pages import Page, PageOrder, TiffPixels, is_planar_page, segment_size

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

SUFFIXES = (".tif", ".tiff", ".qptiff", ".btf", ".tf2", ".tf8")
AS_TIFF = " as a TIFF"
NO_TIFFFILE = "TIFFs need the package tifffile: pip install 'pxprep[io]'"
# Rows and columns that are read at once, as far as tiles and strips allow.
SIDE = 1024
# What a page holds whose samples are colours: RGB, CMYK, YCbCr, CIELab and its relatives.
COLOURS = {2, 5, 6, 8, 9, 10}
SMALL = re.compile(r"(thumbnail|macro|label|overview)( image)?", re.IGNORECASE)


@contextmanager
def opened(file: Path, alone: bool = False) -> Iterator[TiffFile]:
    """An open TIFF file; whatever fails within is an error that names the file.

    `alone` is without the pages that lie in other files of a set.
    """
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise ParameterError(NO_TIFFFILE) from error
    with reading(repr(str(file)), AS_TIFF), TiffFile(file, _multifile=not alone) as tiff:
        yield tiff


@dataclass(frozen=True)
class Stack:
    """The pages of one image.

    Attributes
    ----------
    file
        The file.
    name
        Name of the image in the file's metadata; empty if there is none.
    axes, sizes
        Letters and sizes of the axes, from tifffile: those that the pages span, then those of a
        page.
    pages
        Pages of tifffile; None for one that is missing.
    keyframe
        One of them: all have its size and type.
    offset
        Where the pixels begin, if those of all pages are plain: in order, and not compressed.
    names
        Names of the channels, or of the pages; None or nothing where the file does not tell.
    about
        What else the metadata tell.
    """

    file: Path
    name: str
    axes: str
    sizes: tuple[int, ...]
    pages: Sequence[Any]
    keyframe: TiffPage
    offset: int | None = None
    names: Sequence[str | None] = ()
    about: OmeImage = field(default_factory=OmeImage)

    @classmethod
    def of(cls, series: TiffPageSeries, file: Path) -> Stack:
        """The image that a series of tifffile is."""
        # A page without bytes has the offset 0.
        offset = None if series.is_multifile else series.dataoffset or None
        sizes = tuple(series.shape)
        return cls(file, series.name, series.axes, sizes, list(series), series.keyframe, offset)

    @classmethod
    def of_pages(cls, pages: Sequence[TiffPage], file: Path, names: Sequence[str] = ()) -> Stack:
        """Pages of one size, each a channel."""
        first = pages[0]
        sizes = (len(pages), *first.shape)
        return cls(file, "", "I" + first.axes, sizes, pages, first, None, tuple(names))

    @property
    def is_picture(self) -> bool:
        """Whether the samples of its pixels are colours: three of them, or four of a byte."""
        dtype = self.keyframe.dtype
        is_coloured = "S" in self.axes and int(self.keyframe.photometric) in COLOURS
        if not is_coloured or dtype not in (np.uint8, np.uint16):
            return False
        n_samples = self.sizes[self.axes.index("S")]
        return n_samples == 3 or (n_samples == 4 and dtype == np.uint8 and self.axes.endswith("S"))

    @property
    def is_picture_or_preview(self) -> bool:
        """Whether it is a picture, or a small view of what another image shows."""
        return self.is_picture or SMALL.fullmatch(self.name.strip()) is not None

    def n_channels(self, asked: str | None = None) -> int:
        """How many there would be if all axes but depth, rows and columns were channels.

        `asked` is what the user says that the axes are; where it does not fit, the file says it.
        """
        letters = as_asked(self.axes, self.sizes, asked) if asked is not None else None
        sizes = zip(letters or self.axes, self.sizes, strict=True)
        return prod(size for axis, size in sizes if axis not in "ZYX")

    def with_about(self, about: OmeImage) -> Stack:
        """The image with what OME metadata tell of it."""
        return replace(self, name=about.name, names=about.labels, about=about)

    def with_page_names(self) -> Stack:
        """The image with the names that its pages have for themselves."""
        return replace(self, names=tuple(names_of_pages(self.pages)))

    def pixels(self, asked: str | None, channel_counts: Collection[int]) -> TiffPixels:
        """What reads the image, given the axes and the numbers of channels that the user named."""
        with reading(repr(str(self.file)), AS_TIFF):
            return self._pixels(asked, channel_counts)

    def _pixels(self, asked: str | None, channel_counts: Collection[int]) -> TiffPixels:
        what = f"an image in {str(self.file)!r}"
        rgba = self.is_picture and self.n_channels() == 4 and 4 in channel_counts
        if self.is_picture and asked is None and not rgba:
            told = "".join(axis if axis in "ZYX" else "C" for axis in self.axes)
            raise ImageError(
                f"{what} has {self.keyframe.samplesperpixel} samples for each pixel, colours "
                f"(RGB?); if they are channels, say what the axes are: {spelled(f'axes={told!r}')}"
            )
        page = self.keyframe
        is_whole = tuple(page.shape) == self.sizes[-len(page.shape) :]
        if page.dtype is None or not is_whole or page.imagedepth != 1:
            raise ImageError(
                f"{what} must have a page of numbers for each plane, got pages of shape "
                f"{page.shape} and {page.bitspersample} bits per sample"
            )
        if page.dtype.kind not in "buif":
            raise ImageError(f"{what} must hold integers, bool or floats, got {page.dtype}")
        letters = meanings(self.axes, self.sizes, asked, channel_counts, what)
        if self.offset is None:
            kinds = {one.keyframe.hash: one.keyframe for one in self.pages}
            for keyframe in kinds.values():
                _check_decoder(keyframe, what)
        # By its name: what tifffile calls integers of 64 bits is another type for zarr.
        stored = np.dtype(page.parent.byteorder + page.dtype.str[1:])
        pages, order = self._pages(what), self._page_order(letters, what)
        return TiffPixels(pages, order, stored, self.offset is not None)

    def chunk_sizes(self, pixels: TiffPixels) -> tuple[int, ...]:
        """Sizes of chunks for reading: whole TIFF tiles or strips, about `SIDE` on each side."""
        order, page = pixels.order, self.keyframe
        first = 1
        if order.c and order.c[-1] == len(order.sizes) - 3 and not order.is_planar:
            first = order.n_together
        whole = (1, 1) if pixels.is_plain else segment_size(page)
        edge = max(64, int(SIDE / first**0.5))
        own = [*[1] * (len(order.sizes) - 2), *whole]
        rows, columns = (
            min(order.sizes[axis], own[axis] * max(1, edge // own[axis]))
            for axis in (order.y, order.x)
        )
        return (first, *[1] * len(order.z), rows, columns)

    def channel_names(self, pixels: TiffPixels) -> Sequence[str | None]:
        """The names of the image's channels, as far as the file tells."""
        # Pages of planes are not called like channels.
        is_told = len(self.names) == pixels.shape[0] and not pixels.order.z
        return self.names if is_told or self.about.labels else ()

    def _page_order(self, letters: str, what: str) -> PageOrder:
        page = self.keyframe
        n_leading = len(self.sizes) - len(page.shape)
        # Samples, rows and columns of a page come last, in this order.
        within = {axis: n_leading + number for number, axis in enumerate("SYX")}
        places = [*range(n_leading), *(within[axis] for axis in page.axes)]
        sizes = [*self.sizes[:n_leading], page.samplesperpixel, page.imagelength, page.imagewidth]
        by_letter: dict[str, list[int]] = {letter: [] for letter in "CZYX"}
        for letter, place, size in zip(letters, places, self.sizes, strict=True):
            if size > 1 or letter in "YX":
                by_letter.get(letter, []).append(place)
        if len(by_letter["Y"]) != 1 or len(by_letter["X"]) != 1:
            raise ImageError(f"{what} must have rows and columns, it has the axes {self.axes}")
        return PageOrder(
            tuple(map(int, sizes)),
            is_planar_page(page),
            tuple(by_letter["C"]),
            tuple(by_letter["Z"]),
            by_letter["Y"][0],
            by_letter["X"][0],
        )

    def _pages(self, what: str) -> list[Page]:
        """The pages in their order; an error if a file does not hold all of their pixels."""
        page = self.keyframe
        n_bytes = prod(page.shape) * np.dtype(page.dtype).itemsize
        if self.offset is not None:
            path = page.parent.filehandle.path
            n_pages = prod(self.sizes) // prod(page.shape)
            _check_length(path, self.offset + n_pages * n_bytes, what)
            return [Page(path, self.offset + n * n_bytes) for n in range(n_pages)]
        found = []
        for item in self.pages:
            path = item.parent.filehandle.path
            ends = [*map(sum, zip(item.dataoffsets, item.databytecounts, strict=False))]
            n_segments = prod(item.chunked)
            if len(ends) < n_segments:
                raise ImageError(
                    f"{what} is not complete: {path!r} tells where {len(ends)} tiles or strips of "
                    f"a page are, it has {n_segments}"
                )
            _check_length(path, max(ends), what)
            found.append(Page(path, item.offset))
        return found


def _check_decoder(page: TiffPage, what: str) -> None:
    file = page.parent.filehandle
    file.open()  # the decoder of JPEG looks into it
    try:
        page.decode(None, 0)  # decodes nothing, but raises if there is no decoder
    except (ValueError, NotImplementedError) as error:
        raise ImageError(
            f"{what} cannot be decoded: {error}; the package imagecodecs has more decoders: "
            "pip install imagecodecs"
        ) from error
    finally:
        file.close()


def _check_length(path: str, end: int, what: str) -> None:
    if Path(path).stat().st_size < end:
        raise ImageError(f"{what} is not complete: {path!r} ends before its last pixel")

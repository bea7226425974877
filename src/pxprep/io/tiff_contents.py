"""What images a TIFF file holds, and what it calls them and their channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError, ParameterError, listed_names, spelled, warn
from .file_options import FileOptions
from .names import image_names
from .ome import Ome, parse_ome
from .page_names import imagej_labels, mibi_pages
from .stacks import Stack, opened

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries


@dataclass(frozen=True)
class TiffContents:
    """The images of a TIFF file.

    Attributes
    ----------
    file
        The file.
    stacks
        The images.
    ome
        What the OME metadata of the file tell.
    why_unread
        Why the OME metadata could not be used; empty if they could, or if there are none.
    """

    file: Path
    stacks: Sequence[Stack]
    ome: Ome = field(default_factory=Ome)
    why_unread: str = ""

    @property
    def names(self) -> list[str]:
        """What the images are called: the file, and of several, each by its own name."""
        numbers = range(len(self.stacks))
        return image_names(self.file, [stack.name for stack in self.stacks], numbers)

    @property
    def known_as(self) -> list[set[str | int]]:
        """What `images` may call each: by its names and number; by "1", too, if no name is that."""
        called = {*self.names, *(stack.name for stack in self.stacks)}
        return [
            {name, stack.name, number, *{str(number)} - called}
            for number, (name, stack) in enumerate(zip(self.names, self.stacks, strict=True))
        ]

    def is_single(self, options: FileOptions) -> bool:
        """Whether there is one image, with one channel."""
        return len(self.stacks) == 1 and self.stacks[0].n_channels(options.axes) == 1

    def chosen(self, options: FileOptions) -> dict[str, Stack]:
        """The images that the user wants, by name; without pictures if others remain."""
        names = dict(zip(self.names, self.stacks, strict=True))
        if options.images is not None:
            return {
                name: stack
                for (name, stack), known_as in zip(names.items(), self.known_as, strict=True)
                if known_as & set(options.images)
            }
        kept = {name: stack for name, stack in names.items() if not stack.is_picture_or_preview}
        if kept and len(kept) < len(names):
            out = [_told(name, stack) for name, stack in names.items() if name not in kept]
            warn(
                f"pictures and small views in {str(self.file)!r} are left out: {', '.join(out)}; "
                f"{spelled('images=')} chooses others"
            )
            # What is left alone has the name of the file.
            if len(kept) == 1:
                return {image_names(self.file, [""], [0])[0]: next(iter(kept.values()))}
        return kept or names


def find_images(file: Path, *, alone: bool = False) -> TiffContents:
    """Open a TIFF file to find its images; `alone` without those pages that other files hold."""
    with opened(file, alone) as tiff:
        targets = mibi_pages(tiff)
        if targets:
            _check_last_page(tiff, file)
            names, pages = zip(*targets, strict=True)
            return TiffContents(file, [Stack.of_pages(pages, file, names)])
        if not tiff.is_ome:
            return TiffContents(file, _stacks_of(tiff, file))
        try:
            ome = parse_ome(tiff.ome_metadata or "")
        except ValueError as error:
            tiff.is_ome = False  # tifffile does not read them either
            return TiffContents(file, _stacks_of(tiff, file), why_unread=f"{error!s:.200}")
        return _of_ome(tiff, file, ome, alone)


def _of_ome(tiff: TiffFile, file: Path, ome: Ome, alone: bool) -> TiffContents:
    """The images of an OME-TIFF, as its metadata tell them, or else as its pages do."""
    if alone and ome.is_set:
        tiff.is_ome = False
        return _own_pages(TiffContents(file, _stacks_of(tiff, file), ome))
    missing = ome.missing_files(file.parent) if ome.is_set else []
    if missing:
        raise ImageError(
            f"{str(file)!r} is one of the {len(ome.files)} files of an OME-TIFF, of which "
            f"{len(missing)} are missing: {listed_names(missing)}"
        )
    stacks = [Stack.of(series, file) for series in tiff.series]
    pages = [page for stack in stacks for page in stack.pages]
    why_unread = ""
    if None in pages:
        why_unread = f"they tell of {len(pages)} planes, {pages.count(None)} of them without a page"
    elif len(stacks) != len(ome.images):
        why_unread = f"they tell of {len(ome.images)} images, it has {len(stacks)}"
    elif _share_pages(stacks):
        why_unread = "they tell of the same pages for several images"
    if why_unread:
        return TiffContents(file, _plain_stacks(file), ome, why_unread)
    if not ome.is_set:
        _tell_untold(tiff, file, stacks)
    pairs = zip(stacks, ome.images, strict=True)
    return TiffContents(file, [stack.with_about(about) for stack, about in pairs], ome)


def _share_pages(stacks: Sequence[Stack]) -> bool:
    """Whether a page is one of several images."""
    of_each = [{(page.parent, page.offset) for page in stack.pages} for stack in stacks]
    return len(set().union(*of_each)) < sum(map(len, of_each))


def _tell_untold(tiff: TiffFile, file: Path, stacks: Sequence[Stack]) -> None:
    """Warn of pages like those of an image that the metadata do not tell of."""
    told = {page.offset for stack in stacks for page in stack.pages}
    if len(told) >= len(tiff.pages):
        return
    kinds = {(stack.keyframe.shape, stack.keyframe.dtype) for stack in stacks}
    untold = [page.aspage() for page in tiff.pages if page.offset not in told]
    number = sum((page.shape, page.dtype) in kinds for page in untold)
    if number:
        warn(f"{number} pages of {str(file)!r} are not in its OME metadata: they are left out")


def _plain_stacks(file: Path) -> list[Stack]:
    """The images as the pages of a file make them, whatever its metadata tell."""
    with opened(file, True) as tiff:
        tiff.is_ome = False
        return _stacks_of(tiff, file)


def _own_pages(found: TiffContents) -> TiffContents:
    """The images of one file of a set, with those names that the metadata have for its pages."""
    for about in found.ome.images:
        channels = about.channels_of_pages.get(found.ome.uuid, ())
        kept = list(dict.fromkeys(channels))
        if len(found.stacks) == 1 and kept and max(kept) < len(about.labels):
            own = replace(about, labels=[about.labels[channel] for channel in kept])
            stack = found.stacks[0].with_about(own)
            if len(kept) == 1 < len(channels):  # planes of one channel
                stack = replace(stack, axes=stack.axes.replace("I", "Z"))
            return replace(found, stacks=[stack])
    return found


def _check_last_page(tiff: TiffFile, file: Path) -> None:
    """Raise ImageError if a page should follow the last one: tifffile leaves it out."""
    tiff.filehandle.seek(tiff.pages.next_page_offset or 0)
    told = tiff.filehandle.read(tiff.tiff.offsetsize)
    offset = int.from_bytes(told, "little" if tiff.byteorder == "<" else "big")
    is_cut = len(told) < tiff.tiff.offsetsize
    if is_cut or (offset and offset not in {page.offset for page in tiff.pages}):
        raise ImageError(
            f"{str(file)!r} is not complete: what should follow page {len(tiff.pages)} is not there"
        )


def _stacks_of(tiff: TiffFile, file: Path) -> list[Stack]:
    """The images of a TIFF without OME metadata; planes of one size and type are channels."""
    _check_last_page(tiff, file)
    alike: dict[object, list[TiffPageSeries]] = {}
    for number, series in enumerate(tiff.series):
        # tifffile takes pages apart that are compressed in other ways, or cut into other tiles.
        is_planes = series.axes == "YX" or (series.kind == "generic" and series.axes == "IYX")
        is_alike = is_planes and not series.name.strip()
        kind = (series.shape[-2:], series.keyframe.dtype) if is_alike else number
        alike.setdefault(kind, []).append(series)
    stacks = []
    for same in alike.values():
        if len(same) == 1:
            stacks.append(_named(tiff, Stack.of(same[0], file)))
        else:
            pages = [page.aspage() for one in same for page in one if page is not None]
            found = Stack.of_pages(sorted(pages, key=lambda page: page.treeindex), file)
            stacks.append(found.with_page_names())
    return stacks


def _named(tiff: TiffFile, stack: Stack) -> Stack:
    if stack.is_picture:
        return stack
    names = imagej_labels(tiff, len(stack.pages)) if tiff.is_imagej else []
    return replace(stack, names=tuple(names)) if names else stack.with_page_names()


def _told(name: str, stack: Stack) -> str:
    *_, rows, columns = (
        size for axis, size in zip(stack.axes, stack.sizes, strict=True) if axis in "YX"
    )
    return f"{name!r} ({rows} x {columns}{', RGB' if stack.is_picture else ''})"


def check_images(options: FileOptions, found: Sequence[TiffContents]) -> None:
    """Raise ParameterError if `images` names an image that none of the files holds."""
    known = {name for one in found for known_as in one.known_as for name in known_as}
    unknown = [str(name) for name in options.images or () if name not in known]
    if unknown:
        there = [name for one in found for name in one.names]
        raise ParameterError(
            f"{spelled('images')} must name images in the files, {listed_names(unknown)} is not "
            f"there; there are {listed_names(there)}"
        )

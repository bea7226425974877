"""The TIFFs of one folder: a channel in each, or images in each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from ..aliases import Label
from ..errors import ChannelError, ImageError, listed_names, spelled, warn
from ..images.scales import SIZES
from .arrays import Joined, lazy_image, with_channels
from .file_options import FILES, METADATA, FileOptions
from .names import stem
from .tiff import images_of, images_of_all
from .tiff_contents import TiffContents, find_images

# What files of labels are called, or end in.
MASK = re.compile(r"(^|[^a-z])(masks?|labels?|seg(mentation)?|segmented|nuclei|cells?)$", re.I)

_BY_METADATA, _BY_FILES = (f"names_from={name!r}" for name in (METADATA, FILES))

# One file with one channel: its path, or what was found in it when it was opened.
Channel = Path | TiffContents


def channels_of(
    folder: Path, tiffs: Sequence[Path], options: FileOptions
) -> dict[str, Channel] | list[TiffContents]:
    """What the TIFFs of a folder hold.

    If each holds one channel, they are returned as a dict, by the channel's label; otherwise each
    holds images, and what was found in them is returned as a list. Files of channels that are not
    wanted are not opened, if files are called like channels.
    """
    wanted = options.channels
    if wanted is not None and options.panel is None and options.names_from != METADATA:
        files = [file for file in tiffs if stem(file) in wanted]
        if len(files) == len(wanted) and {stem(file) for file in files} == set(wanted):
            by_stem = by_name(files)
            return {str(label): by_stem[str(label)] for label in wanted}
    found = _without_pictures([find_images(file, alone=True) for file in tiffs])
    sets = {frozenset(one.ome.files) for one in found if one.ome.is_set}
    are_single = all(one.is_single(options) for one in found)
    repeats_channels = any(one.ome.repeats_channels for one in found if one.ome.is_set)
    if not are_single or len(sets) > 1 or repeats_channels or options.all_are_named:
        return _whole_sets(_images(_without_listed(found), options), options)
    if sets and wanted is None:
        _check_set(found)
    return _labelled(folder, found, options)


def by_name(tiffs: Sequence[Path]) -> dict[str, Channel]:
    """The files by the label of their channel, which is the name of the file."""
    files: dict[str, Channel] = {}
    for label, file in zip(_with_cycles([stem(one) for one in tiffs], tiffs), tiffs, strict=True):
        other = files.setdefault(label, file)
        if other != file:
            raise ChannelError(f"channel {label!r} has two files: {str(other)!r} and {str(file)!r}")
    return files


def _with_cycles(names: Sequence[str], files: Sequence[Path]) -> list[str]:
    """The names; those that files of several cycles have with the cycle after them."""
    cycles = [file.parent.name for file in files]
    return [
        f"{name}({cycle})" if names.count(name) > 1 and len(set(cycles)) > 1 else name
        for name, cycle in zip(names, cycles, strict=True)
    ]


def _without_pictures(found: Sequence[TiffContents]) -> list[TiffContents]:
    """The files that hold more than RGB pictures; all of them if none does."""
    kept = [one for one in found if not all(stack.is_picture for stack in one.stacks)]
    if kept and len(kept) < len(found):
        out = [one.file.name for one in found if one not in kept]
        warn(f"{out} of {str(found[0].file.parent)!r} hold RGB pictures: they are left out")
    return kept or list(found)


def _check_set(found: Sequence[TiffContents]) -> None:
    """Raise ImageError if a file of a set is missing."""
    ome = next(one.ome for one in found if one.ome.is_set)
    opened = {ome.files.get(one.ome.uuid) for one in found}
    missing = [name for name in ome.missing_files(found[0].file.parent) if name not in opened]
    if missing:
        raise ImageError(
            f"{str(found[0].file.parent)!r} lacks files of an OME-TIFF: "
            f"{listed_names(missing)}; {spelled('channels=')} chooses among those that are there"
        )


def _labelled(
    folder: Path, found: Sequence[TiffContents], options: FileOptions
) -> dict[str, Channel]:
    """The files by channel label: as the metadata call each, if they do, or else the file."""
    own = [_own_name(one) for one in found]
    if all(own):
        own = _with_cycles(own, [one.file for one in found])
    is_named = all(own) and len(set(own)) == len(own)
    if options.names_from == METADATA and not is_named:
        raise ChannelError(
            f"{spelled(_BY_METADATA)} needs a name of its own for each channel of {str(folder)!r}, "
            f"the metadata tell {listed_names(own)}"
        )
    if not is_named or options.names_from == FILES:
        files = by_name([one.file for one in found])
        return {label: found[n] for n, label in enumerate(files)}
    if options.names_from is None:
        stems = [stem(one.file) for one in found]
        odd = [
            (one.file.name, name)
            for one, name, called in zip(found, own, stems, strict=True)
            if not one.ome.is_set
            and _own_name(one).casefold() not in called.casefold()
            # A table finds channels by either name, and only that of another file misleads it.
            and (options.panel is None or name in stems)
        ]
        if odd:
            warn(
                f"channels of {str(folder)!r} are called as their metadata say, {odd[0][1]!r} for "
                f"{odd[0][0]!r}; {spelled(_BY_FILES)} calls them as their files"
            )
    return dict(zip(own, found, strict=True))


def _own_name(found: TiffContents) -> str:
    """What OME metadata call the one channel of a file."""
    labels = found.stacks[0].about.labels
    return labels[0] or "" if len(labels) == 1 else ""


def read_fov(
    labels: Sequence[Label], files: Sequence[Channel], options: FileOptions
) -> xr.DataArray:
    """One field of view from the file of each of its channels."""
    found = [find_images(one, alone=True) if isinstance(one, Path) else one for one in files]
    for one in found:
        picture = next((stack for stack in one.stacks if stack.is_picture), None)
        if picture is not None:
            picture.pixels(None, ())  # raises: it says that these are RGB pixels
        if not one.is_single(options):
            raise ImageError(f"{str(one.file)!r} must hold one channel, it holds several")
    parts = [one.stacks[0].pixels(options.axes, ()) for one in found]
    sizes = {one.file: part.shape[1:] for one, part in zip(found, parts, strict=True)}
    usual = Counter(sizes.values()).most_common(1)[0][0]
    odd = [f"{str(file)!r} has {size}" for file, size in sizes.items() if size != usual]
    can_crop = len({len(size) for size in sizes.values()}) == 1
    if odd and not (options.crop and can_crop):
        crops = f"; {spelled('crop=True')} cuts all to the size that they share, at the upper left"
        raise ImageError(
            f"the channels must all have {usual} pixels: {', '.join(odd):.500}"
            f"{crops if can_crop else ''}"
        )
    # The largest chunks of all channels: a strip larger than the chunk would be decoded again for
    # each chunk.
    sizes_of_each = [
        one.stacks[0].chunk_sizes(part) for one, part in zip(found, parts, strict=True)
    ]
    chunks = [max(sizes) for sizes in zip(*sizes_of_each, strict=True)]
    sources = {str(one.file.parent) for one in found}
    source = sources.pop() if len(sources) == 1 else str(found[0].file.parent.parent)
    attrs = {"source": source, SIZES: _agreed_um_per_pixel(found)}
    known = {key: value for key, value in attrs.items() if value}
    return lazy_image(Joined(parts), chunks, labels, known)


def _agreed_um_per_pixel(found: Sequence[TiffContents]) -> dict[str, float]:
    """The size of a pixel that the metadata of channels tell, by dim unless they contradict."""
    sizes = [dict(one.stacks[0].about.um_per_pixel) for one in found]
    told = {dim: [size[dim] for size in sizes if dim in size] for dim in "zyx"}
    # Programs round to 32 bits, or write 172 nm for 0.172 µm.
    odd = [dim for dim, own in told.items() if own and max(own) / min(own) > 1 + 1e-6]
    if odd:
        examples = {str(size): str(one.file) for one, size in zip(found, sizes, strict=True)}
        by_file = "; ".join(f"{file!r} {size}" for size, file in examples.items())
        warn(
            f"channels of one image differ in their pixel sizes, those along {', '.join(odd)} are "
            f"not kept: {by_file:.500}"
        )
    return {dim: own[0] for dim, own in told.items() if own and dim not in odd}


def _images(found: Sequence[TiffContents], options: FileOptions) -> list[TiffContents]:
    """The files that hold images: without masks beside them; an error if some hold one channel."""
    several = [one for one in found if not one.is_single(options) or one.ome.is_set]
    single = [one for one in found if one not in several]
    names = [stem(one.file) for one in several]
    masks = [one for one in single if several and _is_mask(stem(one.file), names)]
    if masks:
        listed = [one.file.name for one in masks]
        warn(f"{listed} of {str(masks[0].file.parent)!r} seem to be masks: they are left out")
    left = [one for one in single if one not in masks]
    if several and left:
        raise ImageError(
            "the TIFFs in a folder must hold one channel each, or several each: "
            f"{str(left[0].file)!r} holds one, {str(several[0].file)!r} several"
        )
    return several or left


def _without_listed(found: Sequence[TiffContents]) -> list[TiffContents]:
    """The files, but for those without metadata of their own that another one lists as its set."""
    listed = {Path(name).name for one in found for name in one.ome.files.values()}
    return [one for one in found if one.ome.images or one.file.name not in listed]


def _whole_sets(found: Sequence[TiffContents], options: FileOptions) -> list[TiffContents]:
    """The files; of a set the first with all images of the set, or all if they were renamed."""
    whole = []
    for files in _sets(found):
        if files[0].ome.is_set and not _are_renamed_channels(files, options):
            whole.append(find_images(files[0].file))
        else:
            whole += files
    return whole


def _are_renamed_channels(files: Sequence[TiffContents], options: FileOptions) -> bool:
    """Whether files of one set were renamed, each with one channel of the same image."""
    ome, folder = files[0].ome, files[0].file.parent
    is_one_image = all(one.is_single(options) for one in files) and not ome.repeats_channels
    return ome.is_set and is_one_image and bool(ome.missing_files(folder))


def _sets(found: Sequence[TiffContents]) -> list[list[TiffContents]]:
    """The files of each set; one that belongs to none by itself."""
    sets: dict[object, list[TiffContents]] = {}
    for one in found:
        key = frozenset(one.ome.files) if one.ome.is_set else one.file
        sets.setdefault(key, []).append(one)
    return list(sets.values())


def _is_mask(name: str, images: Sequence[str]) -> bool:
    """Whether a file is called as a mask, or as an image and something after it."""
    continues = any(name.startswith(f"{image}{sign}") for image in images for sign in "_-. ")
    return continues or MASK.search(name) is not None


def images_of_files(found: Sequence[TiffContents], options: FileOptions) -> dict[str, xr.DataArray]:
    """The images in files of several channels; and in sets whose files were renamed."""
    parts = []
    for files in _sets(found):
        if _are_renamed_channels(files, options):
            parts.append((files[0].file, _image_of_renamed(files, options)))
        else:
            parts += [(one.file, images_of(one, options)) for one in files]
    return images_of_all(parts)


def _image_of_renamed(
    files: Sequence[TiffContents], options: FileOptions
) -> dict[str, xr.DataArray]:
    """The image of a set whose files were renamed, called like the first; none if not wanted."""
    if not any(one.chosen(options) for one in files):
        return {}
    if options.channels is None:
        _check_set(files)
    name, folder = stem(files[0].file), files[0].file.parent
    by_label = _labelled(folder, files, options)
    image = read_fov(list(by_label), list(by_label.values()), options)
    what = f"image {name!r} of {str(folder)!r}"
    return {name: with_channels(image, options.labels(list(by_label), len(by_label), what))}

"""Folders of fields of view: one TIFF for each channel in each, as Pixie and MIBI have them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xarray as xr

from ..aliases import Label
from ..errors import ParameterError, spelled, warn
from .channels import Channel, channels_of, images_of_files, read_fov
from .file_options import FileOptions
from .names import agreed, agreed_channels, existing_path, require_new, stem
from .panels import Panel
from .stacks import SUFFIXES
from .tiff_contents import TiffContents, check_images

# Where the channels of a field of view lie if not in its own folder; upper or lower case.
SUBFOLDER = "tifs"
# What folders of masks are called that lie beside those of images.
MASKS = re.compile(r"(.*[^a-z])?(masks?|labels?|segmentations?|seg)", re.IGNORECASE)
# What the folders of an image's cycles are called.
CYCLE = re.compile(r"(\d+[-_ ]?)?(cyc|cycle|round)([-_ ]?\d+)?|C-\d+", re.IGNORECASE)
DIGITS = re.compile(r"(\d+)")


def read_folder(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    panel: str | Path | Panel | None = None,
    axes: str | None = None,
    images: Sequence[str | int] | None = None,
    subfolder: str | None = None,
    names_from: str | None = None,
    crop: bool = False,
) -> dict[str, xr.DataArray]:
    """A cohort of fields of view, each a folder with one TIFF for each channel; lazily.

    The layout of Pixie and of MIBI: ``path/fov1/CD3.tiff``, or ``path/fov1/TIFs/CD3.tiff``; of
    MACSima: ``path/ROI1/Cycle1/..._CD3.ome.tif``. Folders may also hold TIFFs of several channels,
    as ``path/slide1/slide1.ome.tif``.

    Parameters
    ----------
    path
        The folder that holds a folder for each field of view.
    channels
        Labels of the channels to use, in that order; None for all of them. Files of other channels
        are not opened, if these are names of files.
    panel
        A table of markers, see `read_panel`, that knows the channels by their files or by what the
        metadata call them: it tells which are used, and what they are called.
    axes, images
        Axes of the TIFFs, if these say something else, and which of their images to read; see
        `read_tiff`.
    subfolder
        Where in the folder of a field of view the TIFFs lie; a pattern, as ``"*"``, takes several
        folders together. None takes those in that folder itself, or else in its subfolder ``TIFs``,
        or in subfolders that are called like cycles: "Cycle1", "cyc001", "Round 2", "C-001".
    names_from
        What names the channels: "metadata", or "files". None takes the names in OME metadata where
        each channel has its own there, and warns if the files are called otherwise.
    crop
        Whether channels that differ in size are cut to the size that they share, at the upper left.

    Returns
    -------
    dict of str to xarray.DataArray
        By name of the folder, in natural order (fov2 before fov10); of several images in a folder,
        followed by the name of each; if TIFFs of several channels are in a single folder, by their
        names alone. Dims ``c``, ``y``, ``x``, with planes ``c``, ``z``, ``y``,
        ``x``; channels in natural order of their files, whose names without ``.tif``, ``.tiff`` or
        ``.ome.tiff`` are the labels if metadata do not tell them. A channel that several cycles
        have gets the cycle after its label, as "DAPI(Cycle1)". Type of the files, in native byte
        order; of files of several types the one that holds all their values. The attr
        ``source`` tells the folder.

    Raises
    ------
    ChannelError
        If fields of view differ in their channels, and `channels` does not choose among those that
        all have; the message lists each that differs. If two files have the name of one channel.
    ImageError
        If a file is no TIFF, is not like others in its folder (of one channel, or of several), or
        differs in size from others of its field of view; if files of a set are missing.
    ParameterError
        If there is no such folder, or the package tifffile is not installed.

    Warns
    -----
    PxprepWarning
        For folders without TIFFs or called like masks, for RGB pictures, and for masks beside
        images of several channels, which are left out.

    Notes
    -----
    Hidden files and folders, whose names begin with a dot, are left out.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import tifffile
    >>> from pxprep.datasets import tissue
    >>> from pxprep.io import read_folder
    >>> study = Path(tempfile.mkdtemp())
    >>> for name, fov in tissue(size=64).items():
    ...     (study / name).mkdir()
    ...     for channel in fov.c.values:
    ...         tifffile.imwrite(study / name / f"{channel}.tiff", fov.sel(c=channel).values)
    >>> fovs = read_folder(study, channels=["CD3", "CD20"])
    >>> list(fovs), fovs["fov0"].dims, fovs["fov0"].c.values.tolist()
    (['fov0', 'fov1', 'fov2'], ('c', 'y', 'x'), ['CD3', 'CD20'])
    """
    folder = existing_path(path)
    if not folder.is_dir():
        raise ParameterError(f"path must be a folder of fields of view, got {str(folder)!r}")
    options = FileOptions.of(
        channels,
        panel=panel,
        axes=axes,
        images=images,
        subfolder=subfolder,
        names_from=names_from,
        crop=crop,
    )
    return read_fovs(fov_folders(folder, options.subfolder), options)


def read_fovs(
    folders: Mapping[Path, Sequence[Path]], options: FileOptions
) -> dict[str, xr.DataArray]:
    """The images in the TIFFs of each folder, as one cohort."""
    by_fov: dict[str, dict[str, Channel]] = {}
    several: dict[str, list[TiffContents]] = {}
    for folder, tiffs in folders.items():
        found = channels_of(folder, tiffs, options)
        if isinstance(found, list):
            several[folder.name] = found
        else:
            by_fov[folder.name] = _renamed(found, options, folder)
    files = [one for found in several.values() for one in found]
    check_images(options, files)
    if not by_fov and not any(one.ome.is_set and one.is_single(options) for one in files):
        first = str(next(iter(folders)))
        options.check_no_files_of_channels(f"images of several channels as in {first!r}")
    images: dict[str, xr.DataArray] = {}
    if by_fov:
        labels = agreed_channels({fov: list(own) for fov, own in by_fov.items()}, options.channels)
    for folder in folders:
        if folder.name in by_fov:
            own = by_fov[folder.name]
            image = read_fov(labels, [own[str(label)] for label in labels], options)
            found_here = {folder.name: image}
        else:
            several_here = images_of_files(several[folder.name], options)
            found_here = {
                _name(folder, name, len(several_here), len(folders)): image
                for name, image in several_here.items()
            }
        require_new(found_here, images, folder)
        images |= found_here
    return agreed(images, options.channels)


def _name(folder: Path, name: str, n_images: int, n_folders: int) -> str:
    """The name of an image: that of its folder, if it is alone in one of several folders."""
    if n_folders == 1:
        return name
    return folder.name if n_images == 1 else f"{folder.name}_{name}"


def fov_folders(folder: Path, subfolder: str | None = None) -> dict[Path, list[Path]]:
    """The TIFFs of each field of view, by its folder; see `read_folder`."""
    found = {
        fov: tiffs_of_fov(fov, subfolder)
        for fov in naturally(path for path in folder.iterdir() if path.is_dir())
    }
    found = _without_masks(folder, found)
    empty = [fov.name for fov, tiffs in found.items() if not tiffs]
    if len(empty) == len(found):
        where = f"{subfolder!r} in " if subfolder else ""
        raise ParameterError(
            f"path must hold a folder of TIFFs for each field of view; none are in {where}the "
            f"folders of {str(folder)!r}"
        )
    if empty:
        warn(f"no TIFFs are in {empty} of {str(folder)!r}: they are left out")
    return {fov: tiffs for fov, tiffs in found.items() if tiffs}


def _without_masks(folder: Path, found: dict[Path, list[Path]]) -> dict[Path, list[Path]]:
    """The folders that hold no masks; all of them if no other has TIFFs."""
    masks = [fov.name for fov, tiffs in found.items() if tiffs and MASKS.fullmatch(fov.name)]
    kept = {fov: tiffs for fov, tiffs in found.items() if fov.name not in masks}
    if not masks or not any(kept.values()):
        return found
    warn(f"{masks} of {str(folder)!r} seem to hold masks: they are left out")
    return kept


def tiffs_of_fov(folder: Path, subfolder: str | None = None) -> list[Path]:
    """The TIFFs of a field of view: in its folder, or in `TIFs`, or those of its cycles."""
    if subfolder is not None:
        return _tiffs_in_pattern(folder, subfolder)
    below = [path for path in folder.iterdir() if path.name.lower() == SUBFOLDER]
    return (
        tiffs_in(folder)
        or [tiff for path in below for tiff in tiffs_in(path)]
        or [tiff for path in cycles_of(folder) for tiff in tiffs_in(path)]
    )


def _tiffs_in_pattern(folder: Path, pattern: str) -> list[Path]:
    """The TIFFs in the folders that a pattern finds; of masks only if no other folder has any."""
    found = {path.relative_to(folder): tiffs_in(path) for path in naturally(folder.glob(pattern))}
    with_tiffs = {
        path: tiffs
        for path, tiffs in found.items()
        if tiffs and not any(part.startswith(".") for part in path.parts)
    }
    masks = [path for path in with_tiffs if any(map(MASKS.fullmatch, path.parts))]
    if len(masks) == len(with_tiffs):
        masks = []
    if masks:
        warn(
            f"{spelled('subfolder')} {pattern!r} finds {[path.as_posix() for path in masks]}, "
            "which seem to hold masks: they are left out"
        )
    return [tiff for path, tiffs in with_tiffs.items() if path not in masks for tiff in tiffs]


def is_fov(folder: Path) -> bool:
    """Whether the subfolders with TIFFs, but for masks, are `TIFs` of one image, or its cycles."""
    below = naturally(path for path in folder.iterdir() if path.is_dir() and tiffs_of_fov(path))
    names = [path.name.lower() for path in below if not MASKS.fullmatch(path.name)]
    return bool(cycles_of(folder)) or names == [SUBFOLDER]


def cycles_of(folder: Path) -> list[Path]:
    """The folders with TIFFs, if all but those of masks are called like cycles; else none."""
    below = naturally(path for path in folder.iterdir() if tiffs_in(path))
    folders = [path for path in below if not MASKS.fullmatch(path.name)]
    return folders if all(CYCLE.fullmatch(path.name) for path in folders) else []


def tiffs_in(folder: Path) -> list[Path]:
    """The TIFF files of a folder, but for hidden ones; in natural order."""
    if not folder.is_dir():
        return []
    return naturally(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def naturally(paths: Iterable[Path]) -> list[Path]:
    """Paths in natural order, but for hidden ones."""
    shown = [path for path in paths if not path.name.startswith(".")]
    return sorted(shown, key=lambda path: _numbers_and_texts(str(path)))


def _numbers_and_texts(name: str) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in DIGITS.split(name)]


def _renamed(own: dict[str, Channel], options: FileOptions, folder: Path) -> dict[str, Channel]:
    """The channels of a field of view as a table of markers calls them."""
    if options.panel is None:
        return own
    labels, files = list(own), list(own.values())
    stems = [stem(one if isinstance(one, Path) else one.file) for one in files]
    pairs = options.panel.labels(
        [labels, stems], len(own), f"folder {str(folder)!r}", by_order=False
    )
    return {label: files[number] for number, label in pairs}

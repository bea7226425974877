"""Folders of fields of view with one TIFF for each channel, as Pixie and MIBI have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xarray as xr

from .._typing import Label
from ..errors import ChannelError, ImageError, ParameterError, warn
from .names import agreed_channels, existing_path, stem
from .stacks import MISSING, SUFFIXES, joined, stacks_of

# Where the channels of a field of view lie if not in its own folder; in any case.
SUBFOLDER = "tifs"


def read_folder(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    subfolder: str | None = None,
) -> dict[str, xr.DataArray]:
    """A cohort of fields of view, each a folder with one TIFF for each channel; lazily.

    The layout of Pixie and of MIBI: ``path/fov1/CD3.tiff``, or ``path/fov1/TIFs/CD3.tiff``.

    Parameters
    ----------
    path
        The folder that holds a folder for each field of view.
    channels
        Labels of the channels to use, in that order; None for all of them. Files of other channels
        are not opened.
    subfolder
        Where in the folder of a field of view the TIFFs lie. None takes those in that folder
        itself, or else those in its subfolder ``TIFs``.

    Returns
    -------
    dict of str to xarray.DataArray
        By name of the folder, in natural order (fov2 before fov10). Dims ``c``, ``y``, ``x``, of
        stacks ``c``, ``z``, ``y``, ``x``; labels are the names of the files without ``.tif``,
        ``.tiff`` or ``.ome.tiff``, in natural order. Type of the files, in native byte order; of
        files of several types the one that holds all their values. The attr ``source`` tells the
        folder.

    Raises
    ------
    ChannelError
        If fields of view differ in their channels, and `channels` does not choose among those that
        all have; the message lists each that differs. If two files have the name of one channel.
    ImageError
        If a file is no TIFF, holds several channels, or differs in size from others of its field of
        view.
    ParameterError
        If there is no such folder, or the package tifffile is not installed.

    Warns
    -----
    PxprepWarning
        For folders without TIFFs, which are left out.

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
    by_fov = {
        place.name: channel_files(tiffs) for place, tiffs in fov_folders(folder, subfolder).items()
    }
    labels = agreed_channels({fov: list(files) for fov, files in by_fov.items()}, channels)
    return {
        fov: read_fov({label: files[str(label)] for label in labels})
        for fov, files in by_fov.items()
    }


def fov_folders(folder: Path, subfolder: str | None = None) -> dict[Path, list[Path]]:
    """The TIFFs of each field of view, by its folder; see `read_folder`."""
    found = {
        place: tiffs_of_fov(place, subfolder)
        for place in naturally(path for path in folder.iterdir() if path.is_dir())
    }
    empty = [place.name for place, tiffs in found.items() if not tiffs]
    if len(empty) == len(found):
        where = f"{subfolder!r} in " if subfolder else ""
        raise ParameterError(
            f"path must hold a folder of TIFFs for each field of view; none are in {where}the "
            f"folders of {str(folder)!r}"
        )
    if empty:
        warn(f"no TIFFs are in {empty} of {str(folder)!r}: they are left out")
    return {place: tiffs for place, tiffs in found.items() if tiffs}


def tiffs_of_fov(place: Path, subfolder: str | None = None) -> list[Path]:
    """The TIFFs of a field of view."""
    if subfolder is not None:
        return tiffs_in(place / subfolder)
    below = [path for path in place.iterdir() if path.name.lower() == SUBFOLDER]
    return tiffs_in(place) or [tiff for path in below for tiff in tiffs_in(path)]


def tiffs_in(folder: Path) -> list[Path]:
    """The TIFF files of a folder, but for hidden ones; in natural order."""
    if not folder.is_dir():
        return []
    return naturally(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def naturally(paths: Iterable[Path]) -> list[Path]:
    """Paths in one folder in natural order, but for hidden ones."""
    try:
        from tifffile import natural_sorted
    except ImportError as error:
        raise ParameterError(MISSING) from error
    by_name = {path.name: path for path in paths if not path.name.startswith(".")}
    return [by_name[name] for name in natural_sorted(by_name)]


def channel_files(tiffs: Sequence[Path]) -> dict[str, Path]:
    """By the label of the channel that its name tells: the file."""
    files: dict[str, Path] = {}
    for file in tiffs:
        other = files.setdefault(stem(file), file)
        if other != file:
            raise ChannelError(
                f"channel {stem(file)!r} has two files: {str(other)!r} and {str(file)!r}"
            )
    return files


def read_fov(files: Mapping[Label, Path]) -> xr.DataArray:
    """One field of view from the file of each of its channels."""
    stacks = {}
    for file in files.values():
        found = stacks_of(file)
        if len(found) != 1 or found[0].has_channels:
            raise ImageError(f"{str(file)!r} must hold one channel, it holds several images")
        stacks[file] = found[0]
    sizes = {file: (*stack.planes.shape[1:], *stack.size) for file, stack in stacks.items()}
    usual = Counter(sizes.values()).most_common(1)[0][0]
    odd = [f"{str(file)!r} has {size}" for file, size in sizes.items() if size != usual]
    if odd:
        raise ImageError(f"the channels must all have {usual} pixels: {', '.join(odd)}")
    folder = next(iter(stacks)).parent
    return joined(list(stacks.values())).image(list(files), {"source": str(folder)})

"""Images in whatever files there are: recognises what a path is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from .._typing import Label
from ..errors import ImageError, ParameterError
from .folders import channel_files, naturally, read_folder, read_fov, tiffs_of_fov
from .imc import read_imc
from .names import agreed, agreed_channels, existing_path
from .stacks import SUFFIXES, stacks_of
from .tiff import read_tiff

# What a path may hold, as messages call it.
TIFFS, IMC, FOVS = "TIFFs", "files of IMC (.mcd, .txt)", "folders of TIFFs"
# How the text file of an acquisition begins.
IMC_TEXT = b"Start_push\t"


def open_images(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    channel_names: Sequence[str] | None = None,
    subfolder: str | None = None,
) -> dict[str, xr.DataArray]:
    """The images in a file or a folder, whatever their format, as one cohort; lazily.

    Parameters
    ----------
    path
        One of

        - a TIFF (see `read_tiff`), an ``.mcd`` or a ``.txt`` file of IMC (see `read_imc`);
        - a folder of fields of view, each a folder with a TIFF for each channel (see
          `read_folder`);
        - one field of view: a folder with a TIFF for each channel;
        - a folder of TIFFs that hold several channels each;
        - a folder of ``.mcd`` files (``.txt`` files beside them hold the same, and are left out),
          or of ``.txt`` files.
    channels
        Labels of the channels to use, in that order; None for all of them.
    channel_names
        Names of all channels in TIFFs of several channels that do not tell them; see `read_tiff`.
    subfolder
        Where in the folder of a field of view the TIFFs lie; see `read_folder`.

    Returns
    -------
    dict of str to xarray.DataArray
        By name, in natural order, all with the same channels in the same order.

    Raises
    ------
    ParameterError
        If it is not clear what `path` is, or a parameter does not fit it, or a package is missing.
    ImageError, ChannelError
        As the functions named above.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> from pxprep.datasets import tissue
    >>> from pxprep.io import open_images
    >>> file = tempfile.mkdtemp() + "/fov0.tiff"
    >>> fov = tissue(size=64)["fov0"][:2]
    >>> tifffile.imwrite(file, fov.values, photometric="minisblack")
    >>> open_images(file, channel_names=["nuclei", "membranes"])["fov0"].c.values.tolist()
    ['nuclei', 'membranes']
    """
    place = existing_path(path)
    kind, files = (FOVS, []) if subfolder is not None else _recognised(place)
    if kind != TIFFS and channel_names is not None:
        raise ParameterError(
            f"channel_names are for TIFFs that do not tell them; {kind} name their channels"
        )
    if kind == FOVS:
        return read_folder(place, channels, subfolder=subfolder)
    if kind == IMC:
        return _together([read_imc(file, channels) for file in files], files)
    if place.is_dir() and channel_names is None and _hold_one_channel(files):
        by_label = channel_files(files)
        labels = agreed_channels({place.name: list(by_label)}, channels)
        return {place.name: read_fov({label: by_label[str(label)] for label in labels})}
    found = [read_tiff(file, channels, channel_names=channel_names) for file in files]
    return _together(found, files)


def _recognised(place: Path) -> tuple[str, list[Path]]:
    """What a path holds, and the files."""
    listed = [place] if place.is_file() else naturally(place.iterdir())
    files = [path for path in listed if path.is_file()]
    folders = [path for path in listed if path.is_dir()]
    tables = [file for file in files if file.suffix.lower() == ".mcd"] or [
        file for file in files if file.suffix.lower() == ".txt" and _is_imc_text(file)
    ]
    by_kind = {
        TIFFS: [file for file in files if file.suffix.lower() in SUFFIXES],
        IMC: tables,
        FOVS: [folder for folder in folders if tiffs_of_fov(folder)],
    }
    found = [kind for kind, paths in by_kind.items() if paths]
    if len(found) != 1:
        raise ParameterError(
            f"path must hold images of one kind: {', '.join(by_kind)}; {str(place)!r} holds "
            f"{' and '.join(found) or 'none of them'}"
        )
    return found[0], by_kind[found[0]]


def _is_imc_text(file: Path) -> bool:
    with file.open("rb") as text:
        return text.read(len(IMC_TEXT)) == IMC_TEXT


def _hold_one_channel(files: Sequence[Path]) -> bool:
    """Whether the TIFFs of a folder hold one channel each; an error if only some do."""
    single: dict[bool, list[str]] = {True: [], False: []}
    for file in files:
        found = stacks_of(file)
        single[len(found) == 1 and not found[0].has_channels].append(str(file))
    if all(single.values()):
        raise ImageError(
            "the TIFFs in a folder must hold one channel each, or several each: "
            f"{single[True][0]!r} holds one, {single[False][0]!r} several"
        )
    return bool(single[True])


def _together(
    found: Sequence[Mapping[str, xr.DataArray]], files: Sequence[Path]
) -> dict[str, xr.DataArray]:
    """The images of several files as one cohort."""
    images: dict[str, xr.DataArray] = {}
    for file, more in zip(files, found, strict=True):
        twice = sorted(set(images) & set(more))
        if twice:
            raise ImageError(f"{str(file)!r} holds {twice}, as another file does: rename one")
        images |= more
    return agreed(images)

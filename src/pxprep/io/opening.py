"""Images in whatever files there are: recognises what a path is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from ..aliases import Label
from ..errors import ParameterError, listed_names, spelled, warn
from .file_options import FileOptions
from .folders import fov_folders, is_fov, naturally, read_fovs, tiffs_of_fov
from .imc import imc_images, texts_beside
from .imc_text import is_imc_text
from .names import existing_path
from .panels import Panel
from .stacks import SUFFIXES
from .tiff import tiff_images
from .zarrs import is_store, is_zarr, zarr_images

# What a path may hold, as messages call it.
TIFFS, IMC, FOVS, ZARRS = (
    "TIFFs",
    "files of IMC (.mcd, .txt)",
    "folders of TIFFs",
    "OME-Zarr images",
)


def open_images(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    channel_names: Sequence[str] | None = None,
    panel: str | Path | Panel | None = None,
    axes: str | None = None,
    images: Sequence[str | int] | None = None,
    acquisitions: Sequence[int] | None = None,
    subfolder: str | None = None,
    names_from: str | None = None,
    crop: bool = False,
) -> dict[str, xr.DataArray]:
    """The images in a file or a folder, whatever their format, as one cohort; lazily.

    Parameters
    ----------
    path
        One of

        - a TIFF (see `read_tiff`), an ``.mcd`` or a ``.txt`` file of IMC (see `read_imc`), or an
          OME-Zarr image;
        - a folder of fields of view, each a folder with a TIFF for each channel (see
          `read_folder`), with a folder of those for each cycle, or with TIFFs of several channels;
        - one field of view: a folder with a TIFF for each channel, perhaps in a subfolder ``TIFs``
          or in one for each cycle;
        - a folder of TIFFs that hold several channels each, or of OME-Zarr images;
        - a folder of ``.mcd`` files (``.txt`` files beside them hold the same, and are left out),
          or of ``.txt`` files.
    channels
        Labels of the channels to use, in that order; None for all of them. Files of other channels
        are not opened, if files are called like channels.
    channel_names
        Names of all channels in the file, in its order, for files that do not tell them.
    panel
        A table of markers, see `read_panel`: it names channels by the order in the file, or by what
        the file calls them, and says which are used.
    axes
        What the axes of TIFFs are, if those say something else; see `read_tiff`.
    images
        Names or numbers of the images to read of files that hold several; see `read_tiff`.
    acquisitions
        Numbers of the acquisitions of IMC to read; see `read_imc`.
    subfolder, names_from, crop
        For folders with a TIFF for each channel; see `read_folder`.

    Returns
    -------
    dict of str to xarray.DataArray
        By name, in natural order, all with the same channels in the same order. Each image also has
        the name as its own.

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
    options = FileOptions.of(
        channels,
        channel_names=channel_names,
        panel=panel,
        axes=axes,
        images=images,
        acquisitions=acquisitions,
        subfolder=subfolder,
        names_from=names_from,
        crop=crop,
    )
    return open_with(existing_path(path), options)


def open_with(path: Path, options: FileOptions) -> dict[str, xr.DataArray]:
    """The images in a file or a folder, read as the user says."""
    if options.subfolder is not None and not path.is_dir():
        raise ParameterError(
            f"{spelled('subfolder')} must be left out: it is for {FOVS}, not for the file "
            f"{str(path)!r}"
        )
    kind, files = (FOVS, []) if options.subfolder is not None else _recognised(path)
    _check_fits(kind, options)
    if kind == TIFFS and path.is_file():
        options.check_no_files_of_channels(f"the file {str(path)!r}")
    if kind == ZARRS:
        return zarr_images(files, options)
    if kind == IMC:
        return imc_images(files, options)
    if kind == FOVS and (options.subfolder is not None or not is_fov(path)):
        return read_fovs(fov_folders(path, options.subfolder), options)
    if path.is_dir():
        return read_fovs({path: tiffs_of_fov(path)}, options)
    return tiff_images(files, options)


def _check_fits(kind: str, options: FileOptions) -> None:
    """Raise ParameterError if a parameter was given that does not apply to a kind of files."""
    if options.all_are_named and kind in (IMC, FOVS):
        raise ParameterError(
            f"{spelled('channel_names')} are for TIFFs that do not tell them; for {kind} give "
            f"{spelled('panel')}"
        )
    for parameter, kinds in {
        "axes": (TIFFS, FOVS),
        "images": (TIFFS, FOVS),
        "acquisitions": (IMC,),
        "names_from": (TIFFS, FOVS),
        "crop": (TIFFS, FOVS),
    }.items():
        value = getattr(options, parameter)
        if value is not None and value is not False and kind not in kinds:
            raise ParameterError(
                f"{spelled(parameter)} must be left out: it is for {' and '.join(kinds)}, not "
                f"for {kind}, got {value!r}"
            )


def _recognised(path: Path) -> tuple[str, list[Path]]:
    """What a path holds, and the files."""
    if is_zarr(path):
        return ZARRS, [path]
    listed = [path] if path.is_file() else naturally(path.iterdir())
    files = [one for one in listed if one.is_file()]
    folders = [one for one in listed if one.is_dir()]
    by_kind = {
        TIFFS: [file for file in files if file.suffix.lower() in SUFFIXES],
        IMC: _imc_files(files),
        FOVS: [folder for folder in folders if not is_zarr(folder) and tiffs_of_fov(folder)],
        ZARRS: [folder for folder in folders if is_zarr(folder) and not is_store(folder)],
    }
    found = [kind for kind, paths in by_kind.items() if paths]
    if len(found) != 1:
        raise ParameterError(
            f"path must hold images of one kind: {', '.join(by_kind)}; {str(path)!r} holds "
            f"{' and '.join(found) or 'none of them'}"
        )
    return found[0], by_kind[found[0]]


def _imc_files(files: Sequence[Path]) -> list[Path]:
    """The ``.mcd`` files, or else the ``.txt`` files of acquisitions."""
    mcds = [file for file in files if file.suffix.lower() == ".mcd"]
    texts = [file for file in files if file.suffix.lower() == ".txt" and is_imc_text(file)]
    known = {text for mcd in mcds for text in (mcd.with_suffix(".txt"), *texts_beside(mcd))}
    others = [text.name for text in texts if text not in known]
    if mcds and others:
        warn(f"text files that are called like no .mcd file are left out: {listed_names(others)}")
    return mcds or texts

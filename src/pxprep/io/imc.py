"""Imaging mass cytometry: ``.mcd`` files and the ``.txt`` files beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .._typing import Block, Label
from ..errors import ImageError, ParameterError, PxprepError
from .arrays import FilePixels, Region, lazy_image
from .names import agreed, existing_path, image_names

SUFFIXES = (".mcd", ".txt")
# Of the end of a text file: more than its last line.
TAIL_BYTES = 1 << 16


def read_imc(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    acquisitions: Sequence[int] | None = None,
) -> dict[str, xr.DataArray]:
    """The acquisitions of an ``.mcd`` file, or that of a ``.txt`` file, lazily.

    Parameters
    ----------
    path
        The file.
    channels
        Labels of the channels to use, in that order; None for all of them.
    acquisitions
        Numbers (ids) of those to read; None for all. A ``.txt`` file holds one.

    Returns
    -------
    dict of str to xarray.DataArray
        By name: the file's without its suffix; of several, with the description of each behind it,
        or its number where it has none of its own. Dims ``c``, ``y``, ``x``, float32. Labels are
        those that the user of the instrument gave; the metal ("Ir191") for channels without, and
        both, as "DNA(Ir191)", where several have one label. The attrs ``source`` and
        ``um_per_pixel`` tell the file, and micrometres by dim.

    Raises
    ------
    ImageError
        If the file is none of IMC, or acquisitions in it are broken; the message lists them.
    ChannelError
        If acquisitions differ in their channels, and `channels` does not choose among those that
        all have.
    ParameterError
        If `path` is not there, `acquisitions` names others than there are, or the package readimc
        is not installed.

    Notes
    -----
    readimc reads the files. An acquisition is read as a whole, all channels at once.
    """
    file = existing_path(path)
    with _opened(file) as imc:
        found = [_of_text(imc, file)] if _is_text(file) else _of_mcd(imc, file)
    found = _chosen(found, acquisitions, file)
    broken = {pixels.number: pixels.why_broken for pixels in found if pixels.why_broken}
    if broken:
        whole = [pixels.number for pixels in found if not pixels.why_broken]
        raise ImageError(
            f"{str(file)!r} has broken acquisitions: "
            + "; ".join(f"{number}, {why}" for number, why in broken.items())
            + f"; read_imc(..., acquisitions={whole}) reads the others"
        )
    names = image_names(file, [pixels.name for pixels in found], [p.number for p in found])
    images = {
        name: lazy_image(pixels, pixels.shape, pixels.labels, pixels.attrs).chunk({"c": 1})
        for name, pixels in zip(names, found, strict=True)
    }
    return agreed(images, channels)


class Acquisition(FilePixels):
    """What one acquisition of an IMC file measured.

    Parameters
    ----------
    file
        The file.
    number
        Of the acquisition in the file.
    about
        What readimc tells of it.
    size
        Rows and columns.
    why_broken
        Why it cannot be read; empty if it can.
    """

    def __init__(
        self, file: Path, number: int, about: Any, size: tuple[int, int], why_broken: str = ""
    ) -> None:
        super().__init__((about.num_channels, *size), np.float32)
        self.file = file
        self.number = number
        self.why_broken = why_broken
        self.name = getattr(about, "description", None) or ""
        self.labels = _labels(about.channel_labels, about.channel_names)
        sizes = {dim: getattr(about, f"pixel_size_{dim}_um", None) for dim in "yx"}
        self.attrs: dict[str, Any] = {"source": str(file)}
        if all(sizes.values()):
            self.attrs["um_per_pixel"] = sizes

    def read(self, region: Region) -> Block:
        """The pixels of a region; the acquisition is read whole."""
        with _opened(self.file) as imc:
            about = None if _is_text(self.file) else _acquisitions(imc)[self.number]
            pixels: Block = imc.read_acquisition(about)
        if pixels.shape != self.shape:
            raise ImageError(
                f"acquisition {self.number} of {str(self.file)!r} must have the shape "
                f"{self.shape}, as its end says, it has {pixels.shape}"
            )
        return pixels[tuple(slice(*ends) for ends in region)]


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt"


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """An open file of readimc's; whatever fails within is an error that names the file."""
    try:
        from readimc import MCDFile, TXTFile
    except ImportError as error:
        raise ParameterError("IMC needs the package readimc: pip install 'pxprep[io]'") from error
    imc = (TXTFile if _is_text(file) else MCDFile)(file)
    try:
        imc.open()
        yield imc
    except PxprepError:
        raise
    except Exception as error:
        raise ImageError(f"{str(file)!r} cannot be read as IMC: {error!r}") from error
    finally:
        imc.close()  # not left to readimc's context, which leaves it open if that fails to begin


def _acquisitions(imc: Any) -> dict[int, Any]:
    """Those of an open ``.mcd`` file, by their number."""
    return {found.id: found for slide in imc.slides for found in slide.acquisitions}


def _of_mcd(imc: Any, file: Path) -> list[Acquisition]:
    n_bytes = file.stat().st_size
    return [
        Acquisition(
            file,
            number,
            about,
            (about.height_px or 0, about.width_px or 0),
            _why_broken(about, n_bytes),
        )
        for number, about in _acquisitions(imc).items()
    ]


def _why_broken(about: Any, n_bytes: int) -> str:
    """Why readimc would not read an acquisition from a file of so many bytes."""
    try:
        start, end, width = (
            int(about.metadata[key]) for key in ("DataStartOffset", "DataEndOffset", "ValueBytes")
        )
    except (KeyError, ValueError) as error:
        return f"its metadata are not complete: {error!r}"
    if not about.width_px or not about.height_px or start >= end:
        return "it has no pixels"
    if end > n_bytes:
        return "the file ends before its last pixel"
    if (end - start) % ((about.num_channels + 3) * width):
        return "its last pixel is not whole"
    return ""


def _of_text(imc: Any, file: Path) -> Acquisition:
    """That of a ``.txt`` file, whose last line is its last pixel."""
    with file.open("rb") as text:
        text.seek(max(0, file.stat().st_size - TAIL_BYTES))
        last = text.read().split(b"\n")
    *_, x, y, _ = next(line for line in reversed(last) if line.strip()).split(b"\t")[:6]
    return Acquisition(file, 0, imc, (int(float(y)) + 1, int(float(x)) + 1))


def _chosen(
    found: list[Acquisition], numbers: Sequence[int] | None, file: Path
) -> list[Acquisition]:
    if numbers is None:
        if not found:
            raise ImageError(f"{str(file)!r} has no acquisitions")
        return found
    known = [pixels.number for pixels in found]
    is_sequence = isinstance(numbers, Sequence) and not isinstance(numbers, str)
    if not is_sequence or not numbers or not set(numbers) <= set(known):
        raise ParameterError(
            f"acquisitions must be a sequence of some of {known}, the numbers of those in "
            f"{str(file)!r}, got {numbers!r}"
        )
    return [pixels for pixels in found if pixels.number in numbers]


def _labels(given: Sequence[str], metals: Sequence[str]) -> list[str]:
    """The user's labels; the metal where there is none, both where several have one."""
    labels = [label.strip() or metal for label, metal in zip(given, metals, strict=True)]
    return [
        f"{label}({metal})" if labels.count(label) > 1 else label
        for label, metal in zip(labels, metals, strict=True)
    ]

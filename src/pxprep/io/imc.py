"""Imaging mass cytometry: ``.mcd`` files and the ``.txt`` files beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray, Region
from ..errors import ImageError, ParameterError, spelled, warn
from ..images.scales import SIZES
from .arrays import FilePixels, lazy_image, reading, with_channels
from .file_options import FileOptions
from .imc_text import is_imc_text, read_header, read_pixels
from .names import agreed, existing_path, image_names, require_new
from .panels import Panel

if TYPE_CHECKING:
    from readimc import MCDFile
    from readimc.data import Acquisition as McdAcquisition

AS_IMC = " as IMC"
# The number of an acquisition, at the end of the name of its text file.
NUMBER = re.compile(r"_(\d+)$")


def read_imc(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    panel: str | Path | Panel | None = None,
    acquisitions: Sequence[int] | None = None,
) -> dict[str, xr.DataArray]:
    """The acquisitions of an ``.mcd`` file, or that of a ``.txt`` file, lazily.

    Parameters
    ----------
    path
        The file.
    channels
        Labels of the channels to use, in that order; None for all of them.
    panel
        A table of markers, see `read_panel`, that knows the channels by their metals or labels: it
        tells which are used, and what they are called.
    acquisitions
        Numbers (ids) of those to read; None for all that can be read. A ``.txt`` file holds one.

    Returns
    -------
    dict of str to xarray.DataArray
        By name: the file's without its suffix; of several, followed by the description of each,
        or its number where it has none of its own. Dims ``c``, ``y``, ``x``, float32. Labels are
        those that the user of the instrument gave; the metal ("Ir191") for channels without, and
        both, as "DNA(Ir191)", where several have one label. The attrs ``source`` and
        ``um_per_pixel`` tell the file, and micrometres by dim.

    Raises
    ------
    ImageError
        If the file is not an IMC file, or all of its acquisitions are broken, or one of
        `acquisitions` is; the message lists them.
    ChannelError
        If acquisitions differ in their channels, and `channels` does not choose among those that
        all have.
    ParameterError
        If `path` is not there, `acquisitions` names others than there are, or the package readimc
        is not installed.

    Warns
    -----
    PxprepWarning
        For acquisitions that were planned and not acquired, or are broken: they are left out, or
        read from the ``.txt`` file of that acquisition, if it lies beside. For those that were
        interrupted: pixels that are not there are 0. For a ``.txt`` file that ends within a line.

    Notes
    -----
    readimc reads ``.mcd`` files. An acquisition is read as a whole, all channels at once.
    """
    options = FileOptions.of(channels, panel=panel, acquisitions=acquisitions)
    return imc_images([existing_path(path)], options)


def imc_images(files: Sequence[Path], options: FileOptions) -> dict[str, xr.DataArray]:
    """The acquisitions of several files as one cohort."""
    by_file = {}
    failed: dict[Path, ImageError] = {}
    for file in files:
        try:
            by_file[file] = _acquisitions_of(file)
        except ImageError as error:
            if len(files) == 1:
                raise
            failed[file] = error
    if failed:
        listed = "; ".join(f"{error!s:.300}" for error in failed.values())
        if not by_file:
            raise ImageError(listed) from next(iter(failed.values()))
        warn(f"{len(failed)} files are left out: {listed}")
    _check_acquisitions(options.acquisitions, by_file)
    images: dict[str, xr.DataArray] = {}
    for file, found in by_file.items():
        kept = _kept(found, options.acquisitions, file)
        names = image_names(
            file, [acquisition.name for acquisition in kept], [one.number for one in kept]
        )
        require_new(names, images, file)
        for name, acquisition in zip(names, kept, strict=True):
            images[name] = _image(acquisition, options, name)
    if not images:
        raise ImageError(f"{', '.join(str(file) for file in by_file)!r:.300} has no acquisitions")
    return agreed(images, options.channels)


@dataclass(eq=False)
class Acquisition(FilePixels):
    """What one acquisition of an IMC file measured.

    Attributes
    ----------
    file
        The file.
    number
        Number of the acquisition in the file.
    size
        Rows and columns.
    labels, metals
        What the user of the instrument called each channel, or else its metal; and its metal.
    name
        Description of the acquisition; may be empty.
    um_per_pixel
        Size of a pixel in micrometres by dim; empty if it is not known.
    why_broken
        Why it cannot be read; empty if it can.
    n_missing
        How many pixels are missing at the end, and are 0.
    """

    file: Path
    number: int
    size: tuple[int, int]
    labels: Sequence[str]
    metals: Sequence[str]
    name: str = ""
    um_per_pixel: Mapping[str, float] = field(default_factory=dict)
    why_broken: str = ""
    n_missing: int = 0

    def __post_init__(self) -> None:
        super().__init__((len(self.labels), *self.size), np.float32)
        self.labels = _labels(self.labels, self.metals)

    @classmethod
    def of_text(
        cls, file: Path, name: str = "", um_per_pixel: Mapping[str, float] | None = None
    ) -> Acquisition:
        """The acquisition in a ``.txt`` file."""
        header = read_header(file)
        number = NUMBER.search(file.stem)
        return cls(
            file,
            int(number[1]) if number else 0,
            header.size,
            header.labels,
            header.metals,
            name,
            um_per_pixel or {},
            n_missing=header.n_missing,
        )

    def read(self, region: Region) -> NumpyArray:
        """The pixels of a region; the acquisition is read whole."""
        if _is_text(self.file):
            with reading(repr(str(self.file)), AS_IMC):
                pixels = read_pixels(self.file, self.shape, self.n_missing)
        else:
            with _opened(self.file) as mcd:
                pixels = mcd.read_acquisition(_in_mcd(mcd)[self.number])
        if pixels.shape != self.shape:
            raise ImageError(
                f"acquisition {self.number} of {str(self.file)!r} must have the shape "
                f"{self.shape}, as its metadata say, it has {pixels.shape}"
            )
        return pixels[tuple(slice(*ends) for ends in region)]


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt"


@contextmanager
def _opened(file: Path) -> Iterator[MCDFile]:
    """An open ``.mcd`` file of readimc's; whatever fails within is an error that names the file."""
    try:
        from readimc import MCDFile
    except ImportError as error:
        raise ParameterError("IMC needs the package readimc: pip install 'pxprep[io]'") from error
    mcd = MCDFile(file)
    try:
        with reading(repr(str(file)), AS_IMC):
            mcd.open()
            yield mcd
    finally:
        mcd.close()  # not left to readimc's context, which leaves it open if that fails to begin


def _in_mcd(mcd: MCDFile) -> dict[int, object]:
    """The acquisitions of an open ``.mcd`` file, by their number."""
    return {found.id: found for slide in mcd.slides for found in slide.acquisitions}


def _acquisitions_of(file: Path) -> list[Acquisition]:
    """The acquisitions of a file; a broken one is taken from its text file, if there is one."""
    if _is_text(file):
        return [Acquisition.of_text(file)]
    try:
        with _opened(file) as mcd:
            found = [_of_mcd(file, number, about) for number, about in _in_mcd(mcd).items()]
    except ImageError as error:
        texts = [one for text in texts_beside(file) if (one := _of_whole_text(text, file))]
        if not texts:
            raise
        warn(f"{error!s:.300}: its text files are read instead")
        return texts
    found = [_or_text(acquisition, file) for acquisition in found]
    if found and all(acquisition.why_broken for acquisition in found):
        raise ImageError(f"{str(file)!r} has nothing but broken acquisitions: {_broken(found)}")
    return found


def _of_whole_text(text: Path, file: Path) -> Acquisition | None:
    """The acquisition in a text file of an ``.mcd`` file; None, with a warning, if it is broken."""
    try:
        return Acquisition.of_text(text, text.stem[len(file.stem) + 1 :])
    except ImageError as error:
        warn(f"{error!s:.300}: it is left out")
        return None


def _broken(found: Sequence[Acquisition]) -> str:
    """The broken ones of some acquisitions, and why each is; for messages."""
    told = [f"{one.number}, {one.why_broken}" for one in found if one.why_broken]
    return "; ".join(told)[:500]


def _of_mcd(file: Path, number: int, about: McdAcquisition) -> Acquisition:
    sizes = {dim: getattr(about, f"pixel_size_{dim}_um", None) or 0.0 for dim in "yx"}
    height, width = about.height_px or 0, about.width_px or 0
    why_broken, n_missing = _why_broken(about, file.stat().st_size), 0
    if not why_broken:
        start, end, pixel_bytes = _data_of(about)
        n_missing = max(0, height * width - (end - start) // pixel_bytes)
    return Acquisition(
        file,
        number,
        (height, width),
        about.channel_labels,
        about.channel_names,
        name=about.description or "",
        um_per_pixel=sizes if all(sizes.values()) else {},
        why_broken=why_broken,
        n_missing=n_missing,
    )


def _or_text(acquisition: Acquisition, file: Path) -> Acquisition:
    """An acquisition of an ``.mcd`` file, or where it is broken that of its text file."""
    texts = [text for text in texts_beside(file) if text.stem.endswith(f"_{acquisition.number}")]
    if not acquisition.why_broken or len(texts) != 1:
        return acquisition
    try:
        instead = Acquisition.of_text(texts[0], acquisition.name, acquisition.um_per_pixel)
    except ImageError:  # as of one that was planned: a header without pixels
        return acquisition
    warn(
        f"acquisition {acquisition.number} of {str(file)!r}: {acquisition.why_broken}; "
        f"{texts[0].name!r} is read instead"
    )
    return instead


def texts_beside(file: Path) -> list[Path]:
    """The text files of an ``.mcd`` file's acquisitions, which are called like it."""
    texts = {text for text in file.parent.glob("*.txt") if text.stem.startswith(f"{file.stem}_")}
    for other in file.parent.iterdir():
        # Those of "slide_2.mcd" begin like "slide.mcd", too.
        if other.suffix.lower() == ".mcd" and other.stem.startswith(f"{file.stem}_"):
            texts = {text for text in texts if not text.stem.startswith(f"{other.stem}_")}
    return sorted(text for text in texts if is_imc_text(text))


def _data_of(about: McdAcquisition) -> tuple[int, int, int]:
    """Where the pixels of an acquisition begin and end in its file, and the bytes of each."""
    start, end, width = (
        int(about.metadata[key]) for key in ("DataStartOffset", "DataEndOffset", "ValueBytes")
    )
    return start, end, (about.num_channels + 3) * width


def _why_broken(about: McdAcquisition, n_bytes: int) -> str:
    """Why readimc would not read an acquisition from a file of so many bytes."""
    try:
        start, end, pixel_bytes = _data_of(about)
    except (KeyError, ValueError) as error:
        return f"its metadata are not complete: {error!r:.100}"
    if start == end:
        return "it has no pixels: it was planned, not acquired"
    if not about.width_px or not about.height_px or start > end:
        return "it has no pixels"
    if end > n_bytes:
        return "the file ends before its last pixel"
    if (end - start) % pixel_bytes:
        return "its last pixel is not whole"
    return ""


def _check_acquisitions(
    numbers: Sequence[int] | None, by_file: Mapping[Path, Sequence[Acquisition]]
) -> None:
    """Raise ParameterError unless the user named acquisitions that are there."""
    if numbers is None:
        return
    known = sorted({acquisition.number for found in by_file.values() for acquisition in found})
    is_sequence = isinstance(numbers, Sequence) and not isinstance(numbers, str)
    if not is_sequence or not numbers or not all(number in known for number in numbers):
        raise ParameterError(
            f"{spelled('acquisitions')} must be a sequence of some of {known}, the numbers of "
            f"those in {', '.join(repr(str(file)) for file in by_file):.300}, got {numbers!r}"
        )


def _kept(
    found: Sequence[Acquisition], numbers: Sequence[int] | None, file: Path
) -> list[Acquisition]:
    """The acquisitions that are wanted; broken ones are left out, or an error if asked for."""
    chosen = [
        acquisition for acquisition in found if numbers is None or acquisition.number in numbers
    ]
    broken = _broken(chosen)
    if broken and numbers is not None:
        others = [acquisition.number for acquisition in found if not acquisition.why_broken]
        raise ImageError(
            f"{str(file)!r} has broken acquisitions: {broken}; {spelled('acquisitions=')} "
            f"chooses others, of {others}"
        )
    if broken:
        warn(f"acquisitions of {str(file)!r} are left out: {broken}")
    kept = [acquisition for acquisition in chosen if not acquisition.why_broken]
    for one in kept:
        if one.n_missing:
            height, width = one.size
            warn(
                f"acquisition {one.number} of {str(one.file)!r} was interrupted: {one.n_missing} "
                f"of its {height} x {width} pixels are missing, and are 0"
            )
    return kept


def _image(acquisition: Acquisition, options: FileOptions, name: str) -> xr.DataArray:
    attrs: dict[str, object] = {"source": str(acquisition.file)}
    if acquisition.um_per_pixel:
        attrs[SIZES] = acquisition.um_per_pixel
    image = lazy_image(acquisition, acquisition.shape, acquisition.labels, attrs).chunk({"c": 1})
    if options.panel is None:
        return image
    known = [
        acquisition.metals,
        [metal.strip("()") for metal in acquisition.metals],
        acquisition.labels,
    ]
    what = f"acquisition {name!r} of {str(acquisition.file)!r}"
    pairs = options.panel.labels(known, len(acquisition.labels), what, by_order=False)
    return with_channels(image, pairs)


def _labels(given: Sequence[str], metals: Sequence[str]) -> list[str]:
    """The user's labels; the metal where there is none, both where several have one."""
    labels = [label.strip() or metal for label, metal in zip(given, metals, strict=True)]
    return [
        f"{label}({metal})" if labels.count(label) > 1 else label
        for label, metal in zip(labels, metals, strict=True)
    ]

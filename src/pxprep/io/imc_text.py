"""The text files of imaging mass cytometry: a line for each pixel.

Of a file that was cut off, the whole lines are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..aliases import NumpyArray
from ..errors import ImageError, warn

# How the text file of an acquisition begins.
BEGINNING = ["Start_push", "End_push", "Pushes_duration", "X", "Y", "Z"]
CHANNEL = re.compile(r"(?P<label>.*)\((?P<metal>[a-zA-Z]+)(?P<mass>[0-9]+)[^0-9]*\)")
# How much of the end of a file is read to find its last lines.
TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Header:
    """What a text file tells before its pixels are read.

    Attributes
    ----------
    labels, metals
        Labels and metals of the channels, as "CD3" and "In115".
    size
        Rows and columns.
    n_missing
        How many pixels are missing at the end, because the acquisition was interrupted.
    """

    labels: tuple[str, ...]
    metals: tuple[str, ...]
    size: tuple[int, int]
    n_missing: int


def is_imc_text(file: Path) -> bool:
    """Whether a text file is one of an acquisition."""
    beginning = BEGINNING[0].encode()
    with file.open("rb") as text:
        return text.read(len(beginning) + 4).lstrip(b"\xef\xbb\xbf").startswith(beginning)


def read_header(file: Path) -> Header:
    """The channels and the size; of the pixels, the first row and the last pixel are read."""
    with file.open("rb") as text:
        columns = _decoded(text.readline()).strip("\ufeff\r\n").split("\t")
        if columns[: len(BEGINNING)] != BEGINNING:
            raise ImageError(f"{str(file)!r} cannot be read as IMC: it has no columns X, Y and Z")
        matches = []
        for column in columns[len(BEGINNING) :]:
            match = CHANNEL.fullmatch(column.strip())
            if match is None:
                raise ImageError(
                    f"{str(file)!r} cannot be read as IMC: column {column!r:.80} names no metal"
                )
            matches.append(match)
        places = (_place(line, len(columns)) for line in text)
        # The first row goes to the right until another begins.
        width, row = 0, None
        for place in places:
            if place is None or (row is not None and place[0] != row):
                break
            row, width = place[0], max(width, place[1] + 1)
    last = _last_place(file, len(columns), width)
    if row is None or last is None:
        raise ImageError(f"{str(file)!r} cannot be read as IMC: it has no pixels")
    width = max(width, last[1] + 1)
    return Header(
        tuple(match["label"].strip() for match in matches),
        tuple(f"{match['metal']}{match['mass']}" for match in matches),
        (last[0] + 1, width),
        width - last[1] - 1,
    )


def read_pixels(file: Path, shape: tuple[int, ...], n_missing: int) -> NumpyArray:
    """All pixels of an acquisition; those that are not there are 0."""
    out = np.zeros(shape, np.float32)
    n_channels, height, width = shape
    with file.open("rb") as text:
        text.readline()
        lines = _whole(text, n_channels + len(BEGINNING), width)
        table = np.loadtxt(lines, np.float32, delimiter="\t", ndmin=2, encoding="latin-1")
    x, y = table[:, 3].astype(int), table[:, 4].astype(int)
    found = (n_channels, int(y.max()) + 1, int(x.max()) + 1)
    n_pixels, n_found = height * width - n_missing, len(np.unique(y * width + x))
    if found != shape or min(y.min(), x.min()) < 0 or not n_found == len(table) == n_pixels:
        raise ImageError(
            f"{str(file)!r} must have the shape {shape} and {n_pixels} pixels, as its first row "
            f"and its last line say, it has {found} and {n_found} in {len(table)} lines"
        )
    out[:, y, x] = table[:, len(BEGINNING) :].T
    return out


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _whole(lines: Iterator[bytes], n_columns: int, width: int) -> Iterator[str]:
    """The lines of whole pixels."""
    for line in lines:
        place = _place(line, n_columns)
        if place is not None and (line.endswith(b"\n") or place[1] == width - 1):
            yield line.decode("latin-1")


def _place(line: bytes, n_columns: int) -> tuple[int, int] | None:
    """Row and column of a pixel; None if the line is not whole."""
    cells = line.split(b"\t")
    if len(cells) != n_columns:
        return None
    try:
        return int(float(cells[4])), int(float(cells[3]))
    except ValueError:
        return None


def _last_place(file: Path, n_columns: int, width: int) -> tuple[int, int] | None:
    """The place of the last whole pixel: a line without an end may have been cut in a number."""
    with file.open("rb") as text:
        text.seek(max(0, file.stat().st_size - TAIL_BYTES))
        lines = text.read().split(b"\n")
    if lines[-1].strip():
        warn(
            f"{str(file)!r} ends within a line: if it was cut off there, its last number is not "
            "whole, or rows are missing"
        )
    for number, line in enumerate(reversed(lines)):
        place = _place(line, n_columns)
        if place is not None and (number or place[1] == width - 1):
            return place
    return None

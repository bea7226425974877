"""Which pixels are rows of a table, what else a row says, and the rows band by band."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..aliases import DType, NumpyArray
from ..engine import backends
from ..errors import ParameterError
from ..images.image import processing_dtype, shared_pixels
from ..images.image_numbers import FOV
from ..images.image_set import ImageSet
from ..images.parameters import SPATIAL, parse_count, parse_number

LABEL = "label"
# How many random numbers Philox gives for each value of its counter.
PER_COUNTER = 4


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of the table.

    Attributes
    ----------
    values
        Shape (c, row).
    others
        The other columns by name, each of shape (row,); FOVs by position.
    """

    values: NumpyArray
    others: dict[str, NumpyArray]

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def cut(self, start: int, stop: int) -> Rows:
        """The rows from `start` to `stop`."""
        others = {name: column[start:stop] for name, column in self.others.items()}
        return Rows(self.values[:, start:stop], others)


@dataclass(frozen=True)
class Columns:
    """The columns of the table.

    Attributes
    ----------
    channels, fovs
        Names of the channels, and the values of the column ``fov``.
    dtype
        Type of the channels.
    dtypes
        Dtypes of the other columns by name, in their order.
    """

    channels: tuple[str, ...]
    fovs: tuple[str, ...]
    dtype: DType
    dtypes: Mapping[str, DType]

    @classmethod
    def of(cls, cohort: ImageSet, labels: Sequence[xr.DataArray | None]) -> Columns:
        """The columns for a cohort; raises ParameterError if two had the same name."""
        channels, fovs = _as_text(cohort.labels, "channels"), _as_text(cohort.names, "images")
        dims = [FOV, *(dim for dim in SPATIAL if dim in cohort[0].dims)]
        dtypes = dict.fromkeys(dims, np.dtype(np.int32))
        label_types = [array.dtype for array in labels if array is not None]
        if label_types:
            dtypes[LABEL] = np.result_type(*label_types)
            if dtypes[LABEL].kind == "f":
                raise ParameterError(
                    "labels must have types that one integer type can hold, got "
                    f"{sorted(set(map(str, label_types)))}"
                )
        taken = [name for name in channels if name in dtypes]
        if taken:
            raise ParameterError(
                f"channels must not be called like other columns of the table, got {taken}: rename "
                "them with image.assign_coords(c=...)"
            )
        dtype = np.result_type(*(processing_dtype(image) for image in cohort))
        return cls(channels, fovs, dtype, dtypes)

    def joined(self, pieces: Iterable[Rows]) -> Rows:
        """All rows of some pieces, of which there is at least one."""
        parts = list(pieces)
        values = np.concatenate([rows.values for rows in parts], axis=1)
        others = {
            name: np.concatenate([rows.others[name] for rows in parts]) for name in self.dtypes
        }
        return Rows(values, others)


@dataclass(frozen=True)
class PixelSample:
    """Which pixels are taken: each with probability `fraction`, by a random number of its own."""

    fraction: float
    seed: int

    @classmethod
    def parse(cls, fraction: object, seed: object) -> PixelSample:
        """The sample that the user asked for."""
        rule = "a number above 0 and at most 1"
        part = parse_number(fraction, "fraction", rule)
        if not 0 < part <= 1:
            hint = f"; did you mean {part / 100:g}?" if 1 < part <= 100 else ""
            raise ParameterError(f"fraction must be {rule}, got {fraction!r}{hint}")
        return cls(part, parse_count(seed, "seed", "a whole number of at least 0", least=0))

    def of_pixels(self, fov: str, start: int, stop: int) -> NumpyArray:
        """The offsets from `start` of the pixels up to `stop` that are taken."""
        if self.fraction == 1:
            return np.arange(stop - start)
        key = hashlib.blake2b(f"{self.seed} {fov}".encode(), digest_size=16).digest()
        stream = np.random.Philox(key=int.from_bytes(key, "little"))
        before = start % PER_COUNTER
        drawn = stream.advance(start // PER_COUNTER).random_raw(before + stop - start)[before:]
        return np.flatnonzero(drawn < np.uint64(self.fraction * 2**64))


def pieces_of(
    columns: Columns,
    cohort: ImageSet,
    labels: Sequence[xr.DataArray | None],
    sample: PixelSample,
    must_have_label: bool,
) -> Iterator[Rows]:
    """The rows of each band of each image: at least one piece, which may have none."""
    arrays = backends.with_numbers_known([shared_pixels(image) for image in cohort])
    for fov, (array, label) in enumerate(zip(arrays, labels, strict=True)):
        others = [] if label is None else [shared_pixels(label)[0]]
        for top, band in backends.bands(array, *others):
            # Nothing of a band is held here while the next one is computed.
            yield _rows(columns, fov, top, band, sample, must_have_label)
            del band


def _rows(
    columns: Columns,
    fov: int,
    top: int,
    band: Sequence[NumpyArray],
    sample: PixelSample,
    must_have_label: bool,
) -> Rows:
    """The rows of a band, which begins at the row `top` of an image and may come with labels."""
    image, *planes = band
    depth, height, width = image.shape[1:]
    start = top * depth * width
    sampled = sample.of_pixels(columns.fovs[fov], start, start + depth * height * width)
    values = _in_order(image)[:, sampled]
    labels = [_in_order(plane)[sampled] for plane in planes]
    is_row = np.isfinite(values).all(axis=0)
    if must_have_label:
        is_row &= labels[0] != 0
    y, z, x = np.unravel_index(sampled[is_row], (height, depth, width))
    others = {FOV: np.full(len(x), fov), "z": z, "y": y + top, "x": x}
    if labels:
        others[LABEL] = labels[0][is_row]
    others = {name: others[name].astype(dtype) for name, dtype in columns.dtypes.items()}
    return Rows(values[:, is_row].astype(columns.dtype, copy=False), others)


def _in_order(band: NumpyArray) -> NumpyArray:
    """A band, axes (..., z, y, x), with its pixels as in the table: by y, then z, then x."""
    return band.swapaxes(-3, -2).reshape(*band.shape[:-3], -1)


def _as_text(names: Sequence[Hashable], what: str) -> tuple[str, ...]:
    text = tuple(map(str, names))
    twice = sorted(name for name, count in Counter(text).items() if count > 1)
    if twice:
        raise ParameterError(f"{what} must differ as text, too, got {twice} more than once")
    return text

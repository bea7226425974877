"""Spillover matrices: in whatever form they come, in one plain form, and as an array."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray
from ..channels import ByLabel, is_label, plain, require_unique
from ..errors import ParameterError
from ..images.parameters import parse_number, parse_path

RULE = "a fraction from 0 to 1, and 1 where row and column are the same channel"


def parse_spillover(value: object, parameter: str) -> ByLabel:
    """By label of each channel, the fractions of it that are seen in others, where not 0.

    Raises ParameterError, and ChannelError for labels that come twice.
    """
    rows, columns, numbers = _table(value, parameter)
    for names, what in ((rows, "rows"), (columns, "columns")):
        wrong = [name for name in names if not is_label(name)]
        if wrong:
            raise ParameterError(
                f"{parameter}: {what} must have labels of channels, got {wrong[0]!r:.100}"
            )
        require_unique(names, f"{parameter}, {what}")
    spills: dict[Label, dict[Label, float]] = {label: {} for label in [*rows, *columns]}
    for row, of_row in zip(rows, numbers, strict=True):
        for column, item in zip(columns, of_row, strict=True):
            number = _parse_fraction(item, f"{parameter}[{row!r}, {column!r}]", row == column)
            if row != column and number > 0:
                spills[row][column] = number
    parsed = ByLabel({label: ByLabel(of_row) for label, of_row in spills.items()})
    if not parsed:
        raise ParameterError(f"{parameter} must name at least one channel, got none")
    if np.linalg.matrix_rank(as_array(parsed)) < len(parsed):
        raise ParameterError(
            f"{parameter} must be a matrix that can be inverted, got one of {len(parsed)} channels "
            "in which some cannot be told from mixtures of others"
        )
    return parsed


def as_array(spillover: ByLabel) -> NumpyArray:
    """The matrix, with the channels in the order of the labels."""
    places = {label: place for place, label in enumerate(spillover)}
    made = np.eye(len(places))
    for row, fractions in spillover.items():
        for column, fraction in fractions.items():
            made[places[row], places[column]] = fraction
    return made


def _parse_fraction(item: object, name: str, is_own: bool) -> float:
    number = parse_number(item, name, RULE)
    if not 0 <= number <= 1 or (is_own and number != 1):
        raise ParameterError(f"{name} must be {RULE}, got {number:g}")
    return number


def _table(
    value: object, parameter: str
) -> tuple[list[Label], list[Label], Sequence[Sequence[object]]]:
    """Labels of rows and of columns, and rows of numbers."""
    if isinstance(value, str | Path):
        return _read(parse_path(value, parameter, "a CSV file"), parameter)
    if isinstance(value, Mapping) and all(isinstance(row, Mapping) for row in value.values()):
        columns = list(dict.fromkeys(label for row in value.values() for label in row))
        filled = [[row.get(c, float(c == r)) for c in columns] for r, row in value.items()]
        return [plain(label) for label in value], [plain(label) for label in columns], filled
    if isinstance(value, xr.DataArray) and value.ndim == 2 and set(value.dims) <= {*value.coords}:
        value = value.to_pandas()
    if hasattr(value, "columns") and hasattr(value, "index"):
        return value.index.tolist(), value.columns.tolist(), np.asarray(value).tolist()
    raise ParameterError(
        f"{parameter} must be a pandas.DataFrame, an xarray.DataArray with labels along two dims, "
        "the path of a CSV file, or a mapping of labels to mappings of labels to fractions, "
        f"got {type(value).__qualname__}"
    )


def _read(
    path: Path, parameter: str
) -> tuple[list[Label], list[Label], Sequence[Sequence[object]]]:
    """A CSV file: labels of columns in the first line, that of a row in front of its numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        header, *rows = [row for row in csv.reader(lines) if row]
        numbers = [[float(item) for item in row[1:]] for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise ParameterError(
            f"{parameter} must be a CSV file of numbers with labels above and in front, got "
            f"{str(path)!r}: {error}"
        ) from error
    # `write.table` of R writes no name above the column of labels.
    columns = header if rows and len(header) == len(rows[0]) - 1 else header[1:]
    uneven = [row[0] for row in rows if len(row) != len(columns) + 1]
    if uneven or not rows:
        raise ParameterError(
            f"{parameter}: each line of {str(path)!r} must have as many numbers as there are "
            f"columns, {len(columns)}; got others in {uneven!r:.100}"
        )
    return [row[0] for row in rows], list(columns), numbers

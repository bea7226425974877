"""Pipelines and their numbers as tables, in text and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Label
from ..channels import CHANNEL
from ..steps.statistic import COUNTS, OF_IMAGES, are_of_images

Table = tuple[list[str], list[list[str]]]
Steps = Sequence[tuple[str, Any]]
# What each step measured, by its name.
Measured = Mapping[str, xr.Dataset]


def channel_table(measured: Measured, labels: Sequence[Label]) -> Table:
    """Header and rows, one for each channel, of the numbers per channel that steps apply."""
    columns = {
        f"{name}_{variable}": [_numbers(array.isel({CHANNEL: i})) for i in range(len(labels))]
        for name, numbers in measured.items()
        for variable, array in _applied(numbers).items()
        if CHANNEL in array.dims
    }
    rows = [[str(label), *cells] for label, *cells in zip(labels, *columns.values(), strict=True)]
    return ["channel", *columns], rows


def step_table(steps: Steps, measured: Measured) -> Table:
    """Header and rows, one for each step, of parameters and the numbers for all channels."""
    rows = [
        [
            name,
            _step(step),
            ", ".join(" = ".join(item) for item in scalars(measured[name]).items()),
        ]
        for name, step in steps
    ]
    return ["step", "parameters", "measured"], rows


def scalars(numbers: xr.Dataset) -> dict[str, str]:
    """The numbers of one step that hold for all channels."""
    return {
        str(variable): _numbers(array)
        for variable, array in _applied(numbers).items()
        if CHANNEL not in array.dims
    }


def pipeline_text(steps: Steps) -> str:
    """One line for each step."""
    lines = [f"  {name}: {_step(step)}" for name, step in steps]
    return "\n".join([f"Pipeline of {len(steps)} steps", *lines])


def pipeline_html(steps: Steps) -> str:
    """A table with a row for each step."""
    return _html_table(["step", "parameters"], [[name, _step(step)] for name, step in steps])


def fitted_text(
    steps: Steps,
    measured: Measured,
    labels: Sequence[Label],
    fovs: Sequence[Label],
    pool: str | None,
) -> str:
    """What was fitted to what, the steps, and the numbers as a table."""
    header, rows = channel_table(measured, labels)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join(
        [
            _caption(labels, fovs, pool),
            *(f"  {name}: {_step(step)}" for name, step in steps),
            *(
                f"{name}_{variable} = {value}"
                for name, numbers in measured.items()
                for variable, value in scalars(numbers).items()
            ),
            *lines,
        ]
    )


def fitted_html(
    steps: Steps,
    measured: Measured,
    labels: Sequence[Label],
    fovs: Sequence[Label],
    pool: str | None,
) -> str:
    """The steps with the numbers for all channels, and a table with a row for each channel."""
    return (
        f"<p><b>{escape(_caption(labels, fovs, pool))}</b></p>"
        + _html_table(*step_table(steps, measured))
        + _html_table(*channel_table(measured, labels))
    )


def _applied(numbers: xr.Dataset) -> Mapping[Any, xr.DataArray]:
    """The numbers that a step applies, without those that they were made from."""
    details = (*OF_IMAGES, *COUNTS) if are_of_images(numbers) else ()
    return {name: array for name, array in numbers.items() if name not in details}


def _caption(labels: Sequence[Label], fovs: Sequence[Label], pool: str | None) -> str:
    images = "1 image" if len(fovs) == 1 else f"{len(fovs)} images"
    return f"FittedPipeline of {images}, {len(labels)} channels, pool={pool!r}"


def _step(step: Any) -> str:
    parameters = ", ".join(
        f"{field.name}={_parameter(getattr(step, field.name))}"
        for field in fields(step)
        if getattr(step, field.name) is not None
    )
    return f"{type(step).__name__}({parameters})"


def _parameter(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        items = (
            f"{'...' if key is ... else repr(key)}: {_parameter(item)}"
            for key, item in value.items()
        )
        return "{" + ", ".join(items) + "}"
    return getattr(value, "__name__", None) or repr(value)


def _html_table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _numbers(array: xr.DataArray) -> str:
    """A number; or for one of each image, the median of all, the lowest and the highest."""
    if array.ndim == 0:
        return _number(array.values)
    low, middle, high = (
        _number(pick(array.values)) for pick in (np.nanmin, np.nanmedian, np.nanmax)
    )
    return f"{middle} ({low} to {high})"


def _number(value: object) -> str:
    value = np.asarray(value).item()
    return f"{value:.6g}" if isinstance(value, float) else str(value)

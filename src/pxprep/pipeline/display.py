"""Pipelines and their numbers as tables."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields

import numpy as np
import xarray as xr

from ..aliases import Label
from ..channels import CHANNEL
from ..displays import Display, Part, counted
from ..errors import listed
from ..steps.base import Step
from ..steps.image_values import COUNTS, IMAGE_VALUES, has_image_values
from .run import NamedSteps

Table = tuple[list[str], list[list[str]]]
# So many names stand in a sentence or a cell.
MOST_NAMES = 12
NumbersByStep = Mapping[str, xr.Dataset]


def channel_table(measured: NumbersByStep, seen_by: Mapping[str, Sequence[Label]]) -> Table:
    """Header and rows, one for each channel, of the numbers per channel that steps apply.

    `seen_by` has the channels that each step sees; a cell is empty if the channel was dropped.
    """
    columns = {
        f"{name}_{variable}": {
            label: _numbers_text(array.isel({CHANNEL: i})) for i, label in enumerate(seen_by[name])
        }
        for name, numbers in measured.items()
        for variable, array in _applied_numbers(numbers).items()
        if CHANNEL in array.dims
    }
    labels = next(iter(seen_by.values()), ())
    rows = [[str(label), *(cells.get(label, "") for cells in columns.values())] for label in labels]
    return ["channel", *columns], rows


def step_table(steps: NamedSteps, measured: NumbersByStep) -> Table:
    """Header and rows, one for each step, of parameters and the numbers for all channels."""
    rows = [[name, _step(step), _shared_numbers(measured[name])] for name, step in steps]
    return ["step", "parameters", "measured"], rows


def _shared_numbers(numbers: xr.Dataset) -> str:
    """The numbers of one step that hold for all channels."""
    return ", ".join(
        f"{variable} = {_numbers_text(array)}"
        for variable, array in _applied_numbers(numbers).items()
        if CHANNEL not in array.dims
    )


def pipeline_display(steps: NamedSteps) -> Display:
    """The steps with their parameters."""
    rows = [[name, _step(step)] for name, step in steps]
    part = Part("Steps", ["step", "parameters"], rows, count=len(rows))
    return Display("pxprep.Pipeline", f"of {counted(len(rows), 'steps')}, not fitted", [part])


def shortened(names: Sequence[Hashable]) -> str:
    """The first names in a line, and how many more there are."""
    return listed([*map(str, names)], MOST_NAMES)


def _applied_numbers(numbers: xr.Dataset) -> Mapping[object, xr.DataArray]:
    """The numbers that a step applies, without those that they were made from."""
    details = (*IMAGE_VALUES, *COUNTS) if has_image_values(numbers) else ()
    return {name: array for name, array in numbers.items() if name not in details}


def _step(step: Step) -> str:
    parameters = ", ".join(
        f"{field.name}={_parameter(getattr(step, field.name))}"
        for field in fields(step)
        if getattr(step, field.name) is not None or field.default is not None
    )
    return f"{type(step).__name__}({parameters})"


def _parameter(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, Mapping):
        items = (
            f"{'...' if key is ... else repr(key)}: {_parameter(item)}"
            for key, item in value.items()
        )
        return "{" + ", ".join(items) + "}"
    return getattr(value, "__name__", None) or repr(value)


def _numbers_text(array: xr.DataArray) -> str:
    """A number; or for one of each image, the median of all, the lowest and the highest.

    Of texts, those that there are.
    """
    if array.ndim == 0:
        return _number_text(array.values)
    if array.dtype.kind not in "buif":
        texts = list(dict.fromkeys(map(str, array.values.ravel().tolist())))
        return " or ".join(texts) if len(texts) <= MOST_NAMES else f"{len(texts):,} texts"
    values = array.values[~np.isnan(array.values)]
    if not values.size:
        return _number_text(np.nan)
    low, middle, high = (_number_text(pick(values)) for pick in (np.min, np.median, np.max))
    return f"{middle} ({low} to {high})"


def _number_text(value: object) -> str:
    value = np.asarray(value).item()
    return f"{value:.6g}" if isinstance(value, float) else str(value)

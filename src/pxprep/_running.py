"""Runs steps on a cohort, one after the other, and checks what they return.

A step of the user's own may return anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from . import _backends
from ._channels import CHANNEL, channel_labels, reorder_channels
from ._cohorts import FOV, Cohort
from ._images import as_float, checked
from ._progress import Progress
from ._transforms import kept
from ._typing import Array
from .errors import ImageError
from .measures import DETAILS, findings, labeled_numbers
from .steps import Numbers, Step

INPUT = "input"
NamedSteps = Sequence[tuple[str, Step]]


def run(
    steps: NamedSteps,
    cohort: Cohort,
    *,
    bar: Progress | None = None,
    local: bool = False,
    last: bool = True,
) -> Iterator[tuple[str, Numbers, Cohort]]:
    """Each step's name, numbers and output; numbers are computed at once if there is a `bar`.

    `local` computes them in this process. `last` False leaves out what comes after the last
    measurement.
    """
    needed = {step.reference for _, step in steps}
    outputs = {INPUT: cohort}
    current, found = cohort, cohort.found
    for position, (name, step) in enumerate(steps):
        is_last = not any(measures(later) for _, later in steps[position + 1 :])
        source = current if step.reference is None else outputs[step.reference]
        source = source.knowing(found)
        if bar is not None:
            source = source.evaluating(_evaluation(bar, _pass(name, cohort), local))
        numbers = _measured(name, step, source)
        if bar is not None:
            numbers = numbers.compute()
        if set(DETAILS) <= set(numbers):
            found = found | findings(numbers)
        if last or not is_last:
            current = apply_step(name, step, current, numbers)
        if name in needed:
            outputs[name] = current
        yield name, numbers, current


def measures(step: Step) -> bool:
    """Whether a step measures anything, as far as its class says."""
    return type(step).measure is not Step.measure


def apply_step(name: str, step: Step, cohort: Cohort, numbers: Numbers) -> Cohort:
    """The cohort after a step, each image with its own numbers if they have some."""
    if cohort.pool is None:
        return cohort.map(partial(_applied, name, step), cohort.by_image(numbers, name))
    return cohort.map(partial(_applied, name, step, numbers=numbers))


def finished(result: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """`result` as floats, and not the caller's own image where no step made a new one."""
    is_float = result.dtype in (np.dtype(np.float32), np.dtype(np.float64))
    return result if is_float and result is not image else as_float(result)


def _measured(name: str, step: Step, cohort: Cohort) -> Numbers:
    if cohort.is_masked and measures(step) and not step.knows_pools:
        cohort = kept(cohort)
    if cohort.pool is None and measures(step) and not step.knows_pools:
        each = [_as_numbers(step.measure(one), name, one) for one in cohort.singly()]
        stacked = xr.concat(
            each, FOV, data_vars="all", coords="minimal", compat="override", join="override"
        )
        return _as_numbers(dict(stacked.data_vars), name, cohort)
    return _as_numbers(step.measure(cohort), name, cohort)


def _as_numbers(measured: Any, name: str, cohort: Cohort) -> Numbers:
    """What a step measured, with the cohort's labels as its only coordinates."""
    rule = f"measure of step {name!r} must return a mapping of names to scalars or arrays over c"
    if not isinstance(measured, Mapping):
        raise ImageError(f"{rule}, got {measured!r:.200}")
    arrays = {}
    for variable, value in measured.items():
        array = value if isinstance(value, xr.DataArray) else _over_channels(value, rule)
        if CHANNEL in array.coords and CHANNEL in array.dims:
            array = reorder_channels(array, cohort.labels, f"measure of step {name!r}")
        expected = {CHANNEL: len(cohort.labels), FOV: len(cohort)}
        if any(expected.get(str(dim)) != size for dim, size in array.sizes.items()):
            raise ImageError(f"{rule}, got {dict(array.sizes)} for {variable!r}")
        arrays[variable] = xr.DataArray(_backends.taken_in(array.data), dims=array.dims)
    return labeled_numbers(arrays, channel_labels(cohort[0]), cohort.names)


def _over_channels(value: Any, rule: str) -> xr.DataArray:
    if np.ndim(value) > 1:
        raise ImageError(f"{rule}, got {value!r:.200}")
    return xr.DataArray(value, dims=(CHANNEL,) if np.ndim(value) else ())


def _applied(name: str, step: Step, image: xr.DataArray, numbers: Numbers) -> xr.DataArray:
    """The image after a step, which must have the channels and the shape of the one before."""
    result = step.apply(image, numbers)
    if (
        not isinstance(result, xr.DataArray)
        or dict(result.sizes) != dict(image.sizes)
        or channel_labels(result) != channel_labels(image)
    ):
        got = dict(result.sizes) if isinstance(result, xr.DataArray) else type(result).__name__
        raise ImageError(
            f"step {name!r} must return an image with the channels and the shape of the one it "
            f"got, {dict(image.sizes)}, got {got}"
        )
    result = checked(result, f"what step {name!r} returned")
    return result if result.dims == image.dims else result.transpose(*image.dims)


def _pass(name: str, cohort: Cohort) -> str:
    return f"measure {name}" + (f" of {len(cohort)} images" if len(cohort) > 1 else "")


def _evaluation(
    bar: Progress, description: str, local: bool
) -> Callable[[list[Array]], list[Array]]:
    def evaluate(arrays: list[Array]) -> list[Array]:
        if not any(map(_backends.is_lazy, arrays)):
            return arrays
        with bar(description):
            return list(_backends.compute(*arrays, local=local))

    return evaluate

"""Runs steps on a cohort, one after the other, and checks what they return.

A step of the user's own may return anything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..aliases import Array, ImageName, Label
from ..channels import (
    CHANNEL,
    as_coordinate,
    channel_labels,
    labels_or_positions,
    listed_labels,
    reorder_channels,
)
from ..engine import backends, computing
from ..engine.notes import Note, OfStep, say_lossy
from ..engine.progress import Progress
from ..errors import ChannelError, ImageError, ParameterError
from ..images.image import as_float, checked
from ..images.image_numbers import BATCH, FOV, Numbers, joined
from ..images.image_set import ImageSet
from ..steps.base import Step, kept_by, measured, measures
from ..steps.batches import side_by_side
from ..steps.image_values import COUNTS, IMAGE_VALUES, flags_of, has_image_values
from ..steps.keep_where import only_measured_pixels

INPUT = "input"
NOTHING = xr.Dataset()
# What numbers are held in.
NUMBERS = (xr.DataArray, xr.Variable)
NamedSteps = Sequence[tuple[str, Step]]


def run(
    steps: NamedSteps,
    cohort: ImageSet,
    *,
    bar: Progress | None = None,
    in_this_process: bool = False,
) -> Iterator[tuple[str, Any, ImageSet]]:
    """Each step's name, numbers and output.

    With a `bar`, as in `fit`, numbers are labeled datasets, computed now, `in_this_process` or by
    the scheduler that the user chose; and nothing is done after the last measurement. Without it,
    as in `fit_transform`, results that are costly to compute are kept while a statistic of them is
    measured, so that they are not computed once more to be returned.
    """
    needed = references(steps)
    outputs = {INPUT: cohort}
    current, flags = cohort, cohort.already_told
    is_measuring = [measures(step, seen) for _, step, seen in with_labels(steps, cohort.labels)]
    for position, (name, step) in enumerate(steps):
        numbers: Any = NOTHING
        if is_measuring[position]:
            keeps = bar is None and step.reference is None and not current.is_cheap
            if keeps:
                current = current.keeping_results()
            source = current if step.reference is None else outputs[step.reference]
            source = source.with_already_told(flags)
            numbers = (
                _measure(name, step, source)
                if bar is None
                else _measure_now(name, step, source, bar, in_this_process)
            )
            if keeps:
                current = current.with_results()
            if has_image_values(numbers):
                flags = flags | flags_of(numbers)
        if bar is None or any(is_measuring[position + 1 :]):
            reference = None if step.reference is None else outputs[step.reference]
            current = current.with_already_told(flags)
            current = apply_numbers(name, step, current, numbers, reference)
            flags = current.already_told  # without those of channels that the step drops
        if name in needed:
            outputs[name] = current = current.shared()
        yield name, numbers, current


def pass_names(steps: NamedSteps, cohort: ImageSet) -> list[str]:
    """What the passes that measure are called, one for each step that measures."""
    each = with_labels(steps, cohort.labels)
    return [_pass_name(name, cohort) for name, step, seen in each if measures(step, seen)]


def labels_along(steps: NamedSteps, labels: Sequence[Label]) -> list[tuple[Label, ...]]:
    """The channels that each step sees of an image with `labels`, and those that come out."""
    along = [tuple(labels)]
    for _, step in steps:
        along.append(kept_by(step, along[-1]))
    return along


def with_labels(
    steps: NamedSteps, labels: Sequence[Label]
) -> list[tuple[str, Step, tuple[Label, ...]]]:
    """Each step's name, the step, and the channels that it sees of an image with `labels`."""
    along = labels_along(steps, labels)[:-1]
    return [(name, step, seen) for (name, step), seen in zip(steps, along, strict=True)]


def number_name(step: str, number: object) -> str:
    """What a number of a step is called in `FittedPipeline.numbers`."""
    return f"{step}_{number}"


def check_number_names(by_step: Mapping[str, Iterable[object]]) -> None:
    """Raise ParameterError if numbers of two steps would have one name; `by_step` has them all."""
    owners: dict[str, str] = {}
    for step, numbers in by_step.items():
        for name in (number_name(step, number) for number in numbers):
            other = owners.setdefault(name, step)
            if other != step:
                raise ParameterError(
                    f"steps must have names that keep their numbers apart, got {other!r} and "
                    f"{step!r}: {name!r} could be a number of either; give one another name"
                )


def numbers_that_may_be(step: Step) -> set[str]:
    """The numbers that a step may measure, as far as that is known before it does."""
    has_statistic = type(step).statistic is not Step.statistic
    return {*step.operands, *IMAGE_VALUES, *COUNTS} if has_statistic else set()


def numbers_together(
    measured: Mapping[str, xr.Dataset],
    seen_by: Mapping[str, Sequence[Label]],
    labels: Sequence[Label],
) -> xr.Dataset:
    """What `FittedPipeline.numbers` is: all steps' numbers, over all channels that were fitted."""
    is_any_dropped = any(tuple(seen) != tuple(labels) for seen in seen_by.values())

    def over_all(step: str, array: xr.DataArray) -> xr.DataArray:
        if not is_any_dropped or CHANNEL not in array.dims:
            return array
        labeled = array.assign_coords({CHANNEL: as_coordinate(seen_by[step])})
        return labeled.reindex({CHANNEL: as_coordinate(labels)})

    variables: dict[str, xr.DataArray] = {
        number_name(name, variable): over_all(name, array)
        for name, numbers in measured.items()
        for variable, array in numbers.data_vars.items()
    }
    return xr.Dataset(variables).copy(deep=True)


def check_along(steps: NamedSteps, labels: Sequence[Label]) -> None:
    """Raise ChannelError or ParameterError if a step does not fit the channels that it sees."""
    seen = tuple(labels)
    outputs, dropped = {INPUT: seen}, dict[Label, str]()
    for name, step in steps:
        if step.reference is not None and outputs[step.reference] != seen:
            # In the order in which the steps drop them.
            gone = {label: by for label, by in dropped.items() if label in outputs[step.reference]}
            last = [*gone.values()][-1]
            raise ParameterError(
                f"reference of step {name!r} must have the channels that the step sees, got "
                f"{step.reference!r}, after which {_in_words(gone)}: name {last!r} or a later step"
            )
        try:
            step.check(seen)
        except (ChannelError, ParameterError) as error:
            if not _fits(step, labels):
                raise
            raise type(error)(
                f"step {name!r}: {error}; before it {_in_words(dropped)}: put {name!r} before "
                f"that, or leave what is dropped out of its parameters"
            ) from error
        kept = kept_by(step, seen)
        dropped |= {label: name for label in seen if label not in kept}
        seen = outputs[name] = kept


def _fits(step: Step, labels: Sequence[Label]) -> bool:
    try:
        step.check(labels)
    except (ChannelError, ParameterError):
        return False
    return True


def _in_words(dropped: Mapping[Label, str]) -> str:
    """Which steps drop which channels, given the step that drops each."""
    by_step: dict[str, list[Label]] = {}
    for label, step in dropped.items():
        by_step.setdefault(step, []).append(label)
    parts = (f"step {step!r} drops {listed_labels(labels)}" for step, labels in by_step.items())
    return " and ".join(parts)


def references(steps: NamedSteps) -> set[str | None]:
    """The names of the steps on whose output another one measures."""
    return {step.reference for _, step in steps}


def apply_numbers(
    name: str, step: Step, cohort: ImageSet, numbers: xr.Dataset, reference: ImageSet | None
) -> ImageSet:
    """The cohort after a step, each image with its own numbers if they have some.

    `reference` is the cohort on which the numbers were measured, if that is another.
    """
    if step.operation(cohort.labels) is not None:
        with OfStep(name):
            return step.applied(cohort, numbers, reference)
    differ = cohort.pool is None or BATCH in numbers.dims
    of_each = cohort.by_image(numbers, name) if differ else [numbers] * len(cohort)
    results = cohort.map(partial(_apply_own, name, step), cohort.names, of_each)
    return results.keeping_channels(kept_by(step, cohort.labels))


def as_own_floats(result: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """`result` as floats; a copy if it is the image that the caller gave, or a view of that."""
    is_float = result.dtype in (np.dtype(np.float32), np.dtype(np.float64))
    both = (result.data, image.data)
    is_view = all(isinstance(data, np.ndarray) for data in both) and np.may_share_memory(*both)
    return result if is_float and not is_view and result is not image else as_float(result)


def _measure_now(
    name: str, step: Step, cohort: ImageSet, bar: Progress, in_this_process: bool
) -> xr.Dataset:
    """What a step measures, labeled and computed; each pass over the images has a bar."""
    shown = _pass_name(name, cohort)
    cohort = cohort.with_evaluate(partial(_evaluate, bar, shown, in_this_process))
    # Chains are measured here and now; of lazy images `evaluate` computes and shows each pass.
    with bar(shown) if cohort.chains else nullcontext():
        numbers = _as_numbers(_measure(name, step, cohort), name, cohort)
    is_lazy = any(backends.is_lazy(array.data) for array in numbers.values())
    return numbers.compute() if is_lazy else numbers


def _measure(name: str, step: Step, cohort: ImageSet) -> Numbers | xr.Dataset:
    """What a step measures: `Numbers`, or a dataset for methods of a user."""
    if step.statistic(cohort.labels) is None:
        return _measured_by_itself(name, step, cohort)
    numbers = measured(step, cohort, name)
    is_ours = type(step).measure is Step.measure and step.operation(cohort.labels) is not None
    return numbers if is_ours else _as_numbers(numbers, name, cohort)


def _measured_by_itself(name: str, step: Step, cohort: ImageSet) -> xr.Dataset:
    """What a step of the user's own measures, which knows nothing of masks, and of `pool` None."""
    if cohort.is_masked:
        cohort = only_measured_pixels(cohort)
    if cohort.batches:
        parts = cohort.by_batch().items()
        by_batch = {
            batch: variables_of(_measured_by_itself(name, step, part)) for batch, part in parts
        }
        return _as_numbers(side_by_side(by_batch, cohort), name, cohort)
    if cohort.pool is not None:
        return _as_numbers(step.measure(cohort), name, cohort)
    of_each = [_as_numbers(step.measure(alone), name, alone) for alone in cohort.each_alone()]
    return _as_numbers(dict(joined(of_each).data_vars), name, cohort)


def _as_numbers(measured: object, name: str, cohort: ImageSet) -> xr.Dataset:
    """What a step measured, with the cohort's labels as its only coordinates."""
    rule = f"measure of step {name!r} must return a mapping of names to scalars or arrays over c"
    if not isinstance(measured, Mapping):
        raise ImageError(f"{rule}, got {measured!r:.200}")
    sizes = {CHANNEL: len(cohort.labels), FOV: len(cohort), BATCH: len(set(cohort.batches))}
    arrays = {}
    for variable, value in measured.items():
        if variable in (CHANNEL, FOV, BATCH):
            raise ImageError(f"{rule}, and no name may be that of a dim, got {variable!r}")
        array = value if isinstance(value, NUMBERS) else _over_channels(value, rule)
        if isinstance(array, xr.DataArray) and CHANNEL in array.coords and CHANNEL in array.dims:
            array = reorder_channels(array, cohort.labels, f"measure of step {name!r}")
        if any(sizes.get(str(dim)) != size for dim, size in array.sizes.items()):
            raise ImageError(f"{rule}, got {dict(array.sizes)} for {variable!r}")
        arrays[variable] = xr.Variable(array.dims, backends.adopt(array.data))
    return cohort.labeled(arrays)


def variables_of(numbers: xr.Dataset) -> dict[str, xr.Variable]:
    """Numbers without their labels."""
    return {str(name): array.variable for name, array in numbers.data_vars.items()}


def _over_channels(value: npt.ArrayLike, rule: str) -> xr.DataArray:
    if np.ndim(value) > 1:
        raise ImageError(f"{rule}, got {value!r:.200}")
    return xr.DataArray(value, dims=(CHANNEL,) if np.ndim(value) else ())


def _apply_own(
    name: str, step: Step, image: xr.DataArray, image_name: ImageName, numbers: xr.Dataset
) -> xr.DataArray:
    """The image after a step of the user's own, whose channels and shape must stay."""
    with OfStep(name, image_name):
        result = _checked(name, step.apply(image, numbers), image)
        note = Note(result, labels_or_positions(result), image_name, name, say_lossy, parts="cz")
    dims = [str(dim) for dim in image.dims]
    return result.copy(data=backends.note_missing(note, image.data, result.data, dims))


def _checked(name: str, result: object, image: xr.DataArray) -> xr.DataArray:
    """What a step made of an image, in its order of dims."""
    if (
        not isinstance(result, xr.DataArray)
        or dict(result.sizes) != dict(image.sizes)
        or channel_labels(result) != channel_labels(image)
    ):
        got: object = type(result).__name__
        if isinstance(result, xr.DataArray):
            same_sizes = dict(result.sizes) == dict(image.sizes)
            got = "other labels of channels" if same_sizes else dict(result.sizes)
        raise ImageError(
            f"step {name!r} must return an image with the channels and the shape of the one it "
            f"got, {dict(image.sizes)}, got {got}"
        )
    return checked(result, f"what step {name!r} returned").transpose(*image.dims)


def _pass_name(name: str, cohort: ImageSet) -> str:
    return f"measure {name}" + (f" of {len(cohort)} images" if len(cohort) > 1 else "")


def _evaluate(
    bar: Progress, description: str, in_this_process: bool, arrays: list[Array]
) -> list[Array]:
    if not any(map(backends.is_lazy, arrays)):
        return arrays
    with bar(description):
        return list(computing.compute(*arrays, local=in_this_process))

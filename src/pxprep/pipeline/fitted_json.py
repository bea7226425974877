"""Reads fitted pipelines from JSON: what is wrong with one is said at once, not when it is used."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr

from ..aliases import BatchName, ImageName, Label, Parameters
from ..channels import CHANNEL, is_label, unwritable
from ..errors import ParameterError
from ..images.batches import require_batches
from ..images.image_numbers import BATCH, FOV, labeled_numbers
from ..images.parameters import parse_choice, parse_count, parse_pool
from ..steps.base import Step, measures
from ..steps.function import ImageFunction
from ..steps.image_values import has_image_values
from ..steps.json import decode_numbers
from ..store.json import parsed_object
from .base_pipeline import BasePipeline
from .json_form import BATCHES
from .run import with_labels

AnyPipeline = TypeVar("AnyPipeline", bound=BasePipeline)

KEYS = {"pipeline", "channels", "pool", "fovs", "dtype", "numbers"}
# A limit for files that say only how many channels there are: so many labels are made up.
MOST_CHANNELS = 100_000


def parsed(
    text: str, pipeline_class: type[AnyPipeline], functions: Mapping[str, ImageFunction] | None
) -> Parameters:
    """The fields of a `FittedPipeline` whose pipeline is a `pipeline_class`, checked.

    Raises
    ------
    ParameterError, ChannelError
        If the text is no fitted pipeline, or a step or function is not known.
    """
    data = parsed_object(text)
    if set(data) - {BATCHES} != KEYS:
        raise ParameterError(
            f"text must be a fitted pipeline with {sorted(KEYS)}, got {sorted(data)!r:.300}"
        )
    pipeline = pipeline_class.from_dict(data["pipeline"], functions or {})
    labels, n_channels = _channels(data["channels"])
    fovs = _labels(data["fovs"], "fovs")
    pool = parse_pool(data["pool"])
    labels_or_positions = tuple(range(n_channels)) if labels is None else labels
    pipeline.check(labels_or_positions)
    numbers = data["numbers"]
    if not isinstance(numbers, Mapping) or list(numbers) != [name for name, _ in pipeline.steps]:
        raise ParameterError("text must hold numbers for each step of the pipeline, in their order")
    batches = _batches(data[BATCHES], fovs, pool) if BATCHES in data else {}
    measured_batches = dict.fromkeys(batches[fov] for fov in fovs if batches)
    sizes = {FOV: len(fovs), **({BATCH: len(measured_batches)} if batches else {})}
    measured = {}
    for name, step, seen in with_labels(pipeline.steps, labels_or_positions):
        arrays = decode_numbers(numbers[name], name, {CHANNEL: len(seen), **sizes})
        channels = labels if seen == labels_or_positions else seen
        labeled = labeled_numbers(arrays, channels, fovs, measured_batches)
        measured[name] = _checked(step, name, labeled, seen, pool, bool(batches))
    return {
        "pipeline": pipeline,
        "channels": labels,
        "n_channels": n_channels,
        "pool": pool,
        "fovs": fovs,
        "dtype": np.dtype(parse_choice(data["dtype"], "dtype", ("float32", "float64"))),
        "measured": measured,
        "batches": batches,
    }


def _channels(value: object) -> tuple[tuple[Label, ...] | None, int]:
    """The labels of the channels, or None, and how many there are; raises ParameterError."""
    if isinstance(value, list):
        return _labels(value, "channels"), len(value)
    rule = f"a list of labels, or their number, from 1 to {MOST_CHANNELS:,}"
    n_channels = parse_count(value, "channels", rule)
    if n_channels > MOST_CHANNELS:
        raise ParameterError(f"channels must be {rule}, got {value!r:.100}")
    return None, n_channels


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_label, value))


def _batches(
    value: object, fovs: Sequence[ImageName], pool: str | None
) -> dict[ImageName, BatchName]:
    """The batch of each image, of pairs; raises ParameterError."""
    pairs = value if isinstance(value, list) and all(map(_is_pair, value)) else None
    if pool is None or pairs is None or unwritable(batch for _, batch in pairs):
        raise ParameterError(
            f"{BATCHES} must be pairs of an image and its batch, a text or a number, and pool must "
            f"not be null, got {value!r:.300}"
        )
    names = _labels([name for name, _ in pairs], f"the images of {BATCHES}")
    batches = dict(zip(names, (batch for _, batch in pairs), strict=True))
    require_batches(batches, fovs)
    return batches


def _labels(value: object, what: str) -> tuple[Label, ...]:
    """Strings or numbers, each of them once."""
    if (
        not isinstance(value, list)
        or not value
        or not all(map(is_label, value))
        or len(set(value)) < len(value)
        or unwritable(value)
    ):
        raise ParameterError(
            f"{what} must be a list of strings or numbers, each of them once, got {value!r:.300}"
        )
    return tuple(value)


def _checked(
    step: Step,
    name: str,
    numbers: xr.Dataset,
    labels: Sequence[Label],
    pool: str | None,
    has_batches: bool,
) -> xr.Dataset:
    """The numbers, if the step can apply them."""
    try:
        if not measures(step, labels) and len(numbers):
            raise ParameterError(f"it measures nothing, got {sorted(map(str, numbers))}")
        for of_batch in _by_batch(numbers, has_batches):
            step.check_numbers(of_batch, labels, pool)
    except ParameterError as error:
        raise ParameterError(f"numbers of step {name!r}: {error}") from error
    return numbers


def _by_batch(numbers: xr.Dataset, has_batches: bool) -> list[xr.Dataset]:
    """The numbers as each batch has them, with those of each image; raises ParameterError."""
    if has_batches and has_image_values(numbers):
        for name, array in numbers.items():
            if array.dims[:1] not in ((FOV,), (BATCH,)) or {FOV, BATCH} <= set(array.dims):
                raise ParameterError(
                    f"{name} must be over {FOV} or {BATCH} first, got dims {array.dims}"
                )
    if BATCH not in numbers.dims:
        return [numbers]
    return [numbers.isel({BATCH: place}) for place in range(numbers.sizes[BATCH])]

"""Images in batches: each batch is measured as if the others were not there."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ..aliases import BatchName
from ..images.image_numbers import BATCH, FOV, Numbers, rows_of
from ..images.image_set import ImageSet
from .image_values import has_image_values
from .statistic_base import Statistic


def measure_statistic(statistic: Statistic, cohort: ImageSet, step: str) -> Numbers:
    """Measure a statistic, on each batch by itself; warnings name the step and the batch."""
    if not cohort.batches:
        return statistic.measure(cohort, step)
    parts = {
        batch: statistic.measure(part, f"{step} of batch {batch!r}")
        for batch, part in cohort.by_batch().items()
    }
    first = next(iter(parts.values()))
    # Numbers that come from the step's parameters are the same in all batches.
    return side_by_side(parts, cohort) if has_image_values(first) else first


def side_by_side(parts: Mapping[BatchName, Numbers], cohort: ImageSet) -> Numbers:
    """What was measured in each batch of a cohort, together.

    Numbers of each image stay along ``fov``, in the cohort's order; the others get the dimension
    ``batch`` in front.
    """
    positions = np.concatenate(list(rows_of(cohort.batches).values()))
    variables = {}
    for name in next(iter(parts.values())):
        arrays = [part[name] for part in parts.values()]
        if FOV not in arrays[0].dims:
            variables[name] = xr.Variable.concat(arrays, BATCH)
            continue
        joined = xr.Variable.concat(arrays, FOV)
        in_order = (np.diff(positions) > 0).all()
        variables[name] = joined if in_order else joined.isel({FOV: np.argsort(positions)})
    return variables

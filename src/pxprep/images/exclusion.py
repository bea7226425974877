"""Images that are left out when others are measured, as the user names them."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from ..aliases import ImageName
from ..channels import is_choice, plain
from ..errors import ParameterError, listed_names, spelled
from .alignment import require_image_names
from .image_numbers import FOV, rows_of
from .image_set import ImageSet


def without(cohort: ImageSet, exclude: object) -> ImageSet:
    """The images of a cohort that are measured; raises what `parse_exclude` raises."""
    excluded = parse_exclude(exclude, cohort.names, cohort.pool)
    if not excluded:
        return cohort
    kept = cohort.only([row for row, name in enumerate(cohort.names) if name not in excluded])
    lost = [batch for batch in rows_of(cohort.batches) if batch not in kept.batches]
    if lost:
        raise ParameterError(
            f"{spelled('exclude')} must leave at least one image of each batch to measure, got all "
            f"of {listed_names(lost)}"
        )
    return kept


def parse_exclude(
    value: object, names: Sequence[ImageName], pool: str | None
) -> tuple[ImageName, ...]:
    """The names, of `names`, of the images that are not measured, in their order.

    Raises
    ------
    ParameterError
        If `value` names an image that is not there, or all of them, or if `pool` is None.
    """
    asked = _names(value)
    require_image_names(asked, names, "exclude")
    excluded = tuple(name for name in names if name in asked)
    if excluded and pool is None:
        raise ParameterError(
            f"{spelled('exclude')} names images that get the numbers of the others, and with "
            f"{spelled('pool=None')} each has its own: leave them out of the images themselves, or "
            f"give another {spelled('pool')}; got {list(excluded)!r:.200}"
        )
    if len(excluded) == len(names):
        raise ParameterError(
            f"{spelled('exclude')} must leave at least one image to measure, got all: "
            f"{list(excluded)!r:.200}"
        )
    return excluded


def _names(value: object) -> list[object]:
    """One name, several, or those in a table that `FittedPipeline.outliers` returned."""
    if value is None:
        return []
    if hasattr(value, "columns") and hasattr(value, "get") and FOV in value.columns:
        return list(value.get(FOV).tolist())
    if isinstance(value, np.ndarray | xr.DataArray) and value.ndim < 2:
        value = np.asarray(value).tolist()
    if is_choice(plain(value)):
        return [plain(value)]
    if not isinstance(value, Iterable) or not all(map(is_choice, several := [*map(plain, value)])):
        raise ParameterError(
            f"{spelled('exclude')} must be the name of an image, a sequence of names, or what "
            f"FittedPipeline.outliers returns, got {value!r:.200}"
        )
    return several

"""Batches: images of a cohort that are measured together, as the user names them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from ..aliases import BatchName, ImageName, Pool
from ..channels import is_choice, is_label, plain, unwritable
from ..errors import ParameterError, did_you_mean, listed, listed_names, spelled
from .alignment import require_image_names
from .containers import HOLDING
from .image_numbers import FOV
from .image_set import ImageSet, cohort_has_its_own

WHAT = (
    "a mapping of the names of images to their batches, a pandas Series or an xarray.DataArray "
    f"over {FOV!r} of them, or a level of a tree, 0 for the uppermost"
)


def in_batches(cohort: ImageSet, by: object) -> ImageSet:
    """A cohort that is to be measured, in batches if `by` is not None; raises ParameterError."""
    if by is None:
        return cohort
    if cohort.batches:
        raise cohort_has_its_own("by", by)
    batches = parse_batches(by, cohort.names, cohort.pool)
    require_batches(batches, cohort.names)
    return replace(cohort, batches=tuple(batches[name] for name in cohort.names))


def known_batches(
    names: Sequence[ImageName],
    by: object,
    fitted: Mapping[ImageName, BatchName],
    fovs: Sequence[ImageName],
    own: Mapping[ImageName, BatchName],
) -> tuple[BatchName, ...]:
    """The batch of each image in `names`; empty if the fit had no batches. Raises ParameterError.

    `by` comes first, then `own` (of a Cohort), then the batch in `fitted` of the image of the same
    name. `fitted` may hold images that were not measured; `fovs` are those that were.
    """
    if not fitted:
        if by is None:
            return ()
        raise ParameterError(
            f"{spelled('by')} names batches, and the numbers were fitted without any: leave it "
            f"out, or fit with {spelled('by=')}; got {by!r:.200}"
        )
    if _is_batch(by, fitted.values(), names):
        by = dict.fromkeys(names, by)
    asked = parse_batches(by, names, others=list(fitted))
    batches = {**fitted, **own, **asked}
    require_batches(batches, names)
    there = list(dict.fromkeys(fitted[fov] for fov in fovs))
    unknown = [name for name in names if batches[name] not in there]
    if unknown:
        got = listed(
            [f"{batches[n]!r} of {n!r}{did_you_mean([batches[n]], there)}" for n in unknown]
        )
        raise ParameterError(
            f"{spelled('by')} must give each image a batch that was fitted, got {got}; there are "
            f"{listed_names(there)}"
        )
    return tuple(batches[name] for name in names)


def _is_batch(by: object, known: Iterable[BatchName], images: Sequence[ImageName]) -> bool:
    """Whether `by` is the name of one batch.

    A number that no batch is called is a level, if images are called as those of a tree.
    """
    if isinstance(by, str):
        return True
    name = plain(by)
    may_be_level = any("/" in str(image) for image in images)
    return is_choice(name) and (name in known or not may_be_level)


def parse_batches(
    value: object, names: Sequence[ImageName], pool: Pool = "mean", others: Sequence[ImageName] = ()
) -> dict[ImageName, BatchName]:
    """The batches of the images called `names` that are given, by image; nothing for None.

    `others` are images that may be named, too.

    Raises
    ------
    ParameterError
        If `value` is of another kind or names other images, or if each image is measured by itself.
    """
    if value is None:
        return {}
    if pool is None:
        raise ParameterError(
            f"{spelled('by')} says which images are measured together, and with "
            f"{spelled('pool=None')} each is measured by itself: leave it out, or give another "
            f"{spelled('pool')}; got {value!r:.200}"
        )
    batches = _named(value, names)
    require_image_names(batches, names, "by", others)
    return batches


def require_batches(batches: Mapping[ImageName, BatchName], names: Sequence[ImageName]) -> None:
    """Raise ParameterError unless each of the images called `names` has a batch."""
    lacking = [repr(name) for name in names if name not in batches]
    if lacking:
        raise ParameterError(
            f"{spelled('by')} must give each image a batch, got none for {listed(lacking)}: name "
            "it there, or leave the image out"
        )


def _named(value: object, names: Sequence[ImageName]) -> dict[ImageName, BatchName]:
    """The batches that are named, by image."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return _of_level(int(value), names)
    pairs = _pairs(value)
    if pairs is None:
        raise ParameterError(
            f"{spelled('by')} must be {WHAT}; got {type(value).__qualname__} {value!r:.200}"
        )
    batches: dict[ImageName, BatchName] = {}
    for pair in pairs:
        name, batch = map(plain, pair)
        if name in batches:
            raise ParameterError(f"{spelled('by')} must name each image once, got {name!r} again")
        if _is_missing(batch):
            continue
        if not is_label(batch) or unwritable([batch]):
            raise ParameterError(
                f"{spelled('by')} must call batches by texts or finite numbers, got {batch!r:.200} "
                f"for {name!r}"
            )
        batches[name] = batch
    return batches


def _is_missing(batch: object) -> bool:
    """Whether this is what a table has where nothing is written."""
    try:
        return batch is None or bool(batch != batch)
    except TypeError:  # pandas.NA: also what it is unequal to is not known
        return True
    except ValueError:  # an array
        return False


def _pairs(value: object) -> Iterable[tuple[object, object]] | None:
    """Names of images and batches as they are given; None if that is something else."""
    if isinstance(value, HOLDING):
        return None
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, xr.DataArray):
        if value.dims != (FOV,) or FOV not in value.coords:
            return None
        return zip(value.coords[FOV].values.tolist(), value.values.tolist(), strict=True)
    if hasattr(value, "items") and hasattr(value, "index") and getattr(value, "ndim", 0) == 1:
        return list(value.items())
    return None


def _of_level(level: int, names: Sequence[ImageName]) -> dict[ImageName, BatchName]:
    """The batch of each image of a tree: a part of its path, above the image itself."""
    above = {name: str(name).split("/")[:-1] for name in names}
    shallow = [repr(name) for name, parts in above.items() if not 0 <= level < len(parts)]
    if shallow:
        raise ParameterError(
            f"{spelled('by')} must be a level above all images of a tree, 0 for the uppermost, got "
            f"{level} for {listed(shallow)}"
        )
    return {name: parts[level] for name, parts in above.items()}

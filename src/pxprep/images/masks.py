"""Masks: which pixels of an image are measured, or kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import xarray as xr

from ..aliases import ImageName
from ..channels import CHANNEL
from ..engine import backends
from ..engine.sources import Area
from ..errors import ParameterError, did_you_mean, listed_names, spelled, type_name
from .datatree import is_tree
from .hints import require_numpy_or_dask
from .parameters import SPATIAL, parse_bool
from .trees import Leaf, find_masks, named_leaves, read_beside

__all__ = ["Mask"]

NONZERO = "nonzero"


@dataclass(frozen=True, eq=False)
class Mask:
    """Pixels of an image that labels choose: for `where`, wherever that is a parameter.

    A boolean `xarray.DataArray` is a mask as it is, and so is one of integer labels: all pixels
    that are not 0. This says which labels, or takes an array by its name.

    Parameters
    ----------
    source
        An `xarray.DataArray` of bool or integers, NumPy or Dask, with the dims ``y``, ``x`` and
        optionally ``z`` in any order; or its name: of a labels layer in
        `pixel_clustering_preprocess`, of a variable beside the image in a tree.
    labels
        Labels of the pixels that are inside, one or several; ``"nonzero"`` for all but 0.
    inverted
        Whether all other pixels are inside instead; ``~mask`` is the mask with the opposite.

    Raises
    ------
    ParameterError
        If `source` is neither array nor name, or `labels` are no whole numbers.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, 2.0, 4.0]]]), dims=("c", "y", "x"))
    >>> regions = xr.DataArray(np.array([[7, 7, 3]]), dims=("y", "x"))
    >>> pxprep.quantile(image, 100, where=pxprep.Mask(regions, labels=7)).values.tolist()
    [2.0]
    >>> pxprep.quantile(image, 100, where=~pxprep.Mask(regions, labels=7)).values.tolist()
    [4.0]
    """

    source: xr.DataArray | str
    labels: Any = NONZERO
    inverted: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.source, xr.DataArray | str):
            raise ParameterError(
                "source of a mask must be an xarray.DataArray of bool or integers with the dims y "
                f"and x, or the name of one, got {type_name(type(self.source))}"
            )
        object.__setattr__(self, "labels", _parse_labels(self.labels))
        parse_bool(self.inverted, "inverted")

    def __invert__(self) -> "Mask":
        return replace(self, inverted=not self.inverted)

    def of(self, array: xr.DataArray) -> "Mask":
        """The mask with the same labels of another array."""
        return replace(self, source=array)


def as_mask(value: object, parameter: str) -> Mask:
    """What the user gave for one image, as a `Mask`."""
    if isinstance(value, Mask):
        return value
    if isinstance(value, xr.DataArray | str):
        return Mask(value)
    if is_tree(value) and len(planes := find_masks(value)) == 1:
        return Mask(next(iter(planes.values())))
    hint = "; xr.DataArray(mask, dims=('y', 'x'))?" if isinstance(value, np.ndarray) else ""
    raise ParameterError(
        f"{spelled(parameter)} must be a mask (an xarray.DataArray of bool or integer labels with "
        "the dims y and x, a pxprep.Mask, or a name), or one for each image, got "
        f"{type_name(type(value))}{hint}"
    )


def each_mask(
    where: object, names: Sequence[ImageName], parameter: str = "where"
) -> list[Mask | None]:
    """The mask of each image, None where all pixels count: one for all, in order, or by name."""
    if is_tree(where):
        planes = find_masks(where)
        # A multiscale mask is one mask, and so is a tree with one for one image.
        alone = len(planes) == 1 and ("" in planes or len(names) == 1)
        where = next(iter(planes.values())) if alone else planes
    if isinstance(where, Mapping) and not isinstance(where, xr.Dataset):
        missing = [name for name in names if name not in where]
        unknown = [name for name in where if name not in names]
        if missing or unknown:
            raise ParameterError(
                f"{spelled(parameter)} must have a mask (or None) for each image, "
                f"{listed_names(names)}; missing {listed_names(missing)}, unknown "
                f"{listed_names(unknown)}"
            )
        masks = [where[name] for name in names]
    elif isinstance(where, Sequence) and not isinstance(where, str):
        if len(where) != len(names):
            raise ParameterError(
                f"{spelled(parameter)} must have a mask (or None) for each of {len(names)} "
                f"images, got {len(where)}"
            )
        masks = list(where)
    else:
        return [as_mask(where, parameter)] * len(names)
    return [
        None if mask is None else as_mask(mask, f"{parameter}[{name!r}]")
        for name, mask in zip(names, masks, strict=True)
    ]


def areas_of(
    where: object, images: Mapping[ImageName, xr.DataArray], given: object, variable: object = None
) -> tuple[Area | None, ...]:
    """Check masks, and return the area of each image; an empty tuple if `where` is None.

    Parameters
    ----------
    where
        What the user gave: a mask for all images, or one for each, or None.
    images
        By name.
    given, variable
        What the user gave as images, and the name of the image variable in its datasets.

    Raises
    ------
    ParameterError
        If something given is not a mask, or does not fit its image.
    """
    if where is None:
        return ()
    masks = each_mask(where, list(images))
    if any(mask is not None and isinstance(mask.source, str) for mask in masks):
        masks = _read(masks, list(images), given, variable)
    for mask, (name, image) in zip(masks, images.items(), strict=True):
        if mask is not None:
            check_mask(mask, image, "where" if len(images) == 1 else f"where of image {name!r}")
    _check_labels([mask for mask in masks if mask is not None])
    # A mask given for several images is one area, whose sources are made once.
    areas = {id(mask): _area(mask) for mask in masks if mask is not None}
    return tuple(None if mask is None else areas[id(mask)] for mask in masks)


def check_mask(mask: Mask, image: xr.DataArray, called: str) -> None:
    """Raise ParameterError unless a mask, which holds an array, fits an image."""
    array = _array_of(mask)
    require_numpy_or_dask(array, called, "mask", ParameterError)
    dims = [dim for dim in SPATIAL if dim in image.dims]
    if CHANNEL in array.dims:
        raise ParameterError(
            f"{spelled(called)} must hold for all channels, without the dim 'c', got the dims "
            f"{array.dims}: select one, as in mask.isel(c=0), or combine them, as in mask.any('c')"
        )
    if not {"y", "x"} <= set(array.dims) <= set(dims):
        raise ParameterError(
            f"{spelled(called)} must have dims of the image, {dims}, got {array.dims}"
        )
    if array.dtype.kind not in "bui":
        raise ParameterError(
            f"{spelled(called)} must hold bool or integer labels, got dtype {array.dtype}: "
            "compare it, as in mask > 0"
        )
    if array.dtype.kind == "b" and mask.labels != NONZERO:
        raise ParameterError(
            f"{spelled(called)} must hold integers for labels={mask.labels}, got bool"
        )
    expected = {dim: image.sizes[dim] for dim in dims if dim in array.dims}
    if dict(array.sizes) != expected:
        raise ParameterError(
            f"{spelled(called)} must have the sizes of the image, {expected}, got "
            f"{dict(array.sizes)}"
        )
    check_coordinates(array, image, called, "mask")


def check_coordinates(array: xr.DataArray, image: xr.DataArray, called: str, kind: str) -> None:
    """Raise ParameterError if `array`, a `kind` of the image's size, has other coordinates."""
    for dim in array.dims:
        if dim in image.indexes and dim in array.indexes:
            of_image, of_array = image.indexes[dim], array.indexes[dim]
            if not of_image.equals(of_array):
                pairs = list(zip(of_image, of_array, strict=True))
                first, got = next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])
                raise ParameterError(
                    f"{spelled(called)} must have the image's coordinates along {dim!r}, got "
                    f"{got!s} where the image has {first!s} (if the pixels do correspond: "
                    f"{kind}.drop_vars({dim!r}))"
                )


def _read(
    masks: Sequence[Mask | None], names: Sequence[ImageName], given: object, variable: object
) -> list[Mask | None]:
    """The masks, with what lies beside the images in a tree in the place of names."""
    if not is_tree(given) and not isinstance(given, xr.Dataset):
        called = next(mask.source for mask in masks if mask and isinstance(mask.source, str))
        raise ParameterError(
            f"where takes names, as {called!r}, of variables beside the images in a tree or a "
            "Dataset, or of labels layers in pixel_clustering_preprocess, got images in "
            f"{type_name(type(given))}"
        )
    leaves = {name: Leaf("", ("",), name) for name in names}
    if is_tree(given):
        leaves = named_leaves(given, variable)
    read: list[Mask | None] = []
    for mask, name in zip(masks, names, strict=True):
        if mask is None or not isinstance(mask.source, str):
            read.append(mask)
            continue
        array, others = read_beside(given, leaves[name], mask.source)
        if array is None:
            raise ParameterError(
                f"{spelled('where')}: no variable {mask.source!r} beside image {name!r}"
                f"{did_you_mean([mask.source], others)}; there are {listed_names(others)}"
            )
        read.append(mask.of(array))
    return read


def _check_labels(masks: Sequence[Mask]) -> None:
    """Raise ParameterError if a label that is asked for is in no image."""
    for labels in {mask.labels for mask in masks if mask.labels != NONZERO and not mask.inverted}:
        arrays = [_array_of(mask).data for mask in masks if mask.labels == labels]
        if any(map(backends.is_lazy, arrays)):
            continue  # known when it is computed
        found = np.any([np.isin(labels, array) for array in arrays], axis=0)
        missing = [label for label, is_there in zip(labels, found, strict=True) if not is_there]
        if missing:
            there = np.unique(np.concatenate([np.unique(array) for array in arrays])).tolist()
            raise ParameterError(
                f"{spelled('where')}: no pixel has the labels {listed_names(missing)}; there are "
                f"{listed_names(there)}"
            )


def _array_of(mask: Mask) -> xr.DataArray:
    """The array of a mask: `_read` has put it in the place of a name."""
    return cast("xr.DataArray", mask.source)


def _area(mask: Mask) -> Area:
    array = _array_of(mask)
    labels = None if mask.labels == NONZERO else mask.labels
    return Area(array.data, "".join(map(str, array.dims)), labels, bool(mask.inverted))


def _parse_labels(value: object) -> object:
    """``"nonzero"``, or a tuple of whole numbers."""
    if isinstance(value, str) and value == NONZERO:
        return value
    several = value
    if isinstance(value, xr.DataArray | np.ndarray):
        several = np.ravel(value).tolist()
    elif isinstance(value, int | np.integer):
        several = [value]
    if isinstance(several, str) or not isinstance(several, Iterable):
        several = []
    labels = tuple(several)
    if not labels or not all(
        isinstance(label, int | np.integer) and not isinstance(label, bool) for label in labels
    ):
        raise ParameterError(
            f"labels must be {NONZERO!r}, a whole number or a sequence of those, got {value!r:.200}"
        )
    return tuple(map(int, labels))

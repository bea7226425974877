"""Images with larger pixels, which stay where they are."""

from collections.abc import Mapping

import xarray as xr

from ..aliases import ImageName, SizeFactor
from ..errors import ParameterError
from ..images.alignment import require_image_names
from ..images.image import as_float, like
from ..images.image_set import AnyImages, ImageSet
from ..images.parameters import parse_count
from ..images.scales import ScaleFactors, means_of_rectangles, with_coarser_coordinates

__all__ = ["rescale"]

RULE = "a whole number of pixels, at least 1"


def rescale(images: AnyImages, factor: SizeFactor) -> AnyImages:
    """Images with larger pixels: means over squares of pixels, which stay where they are.

    So images of instruments with different pixel sizes can be clustered together. As `coarsen`
    along ``y`` and ``x``, NaN ignored, but it keeps coordinates.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    factor
        How many pixels along ``y`` and ``x`` become one. Pixels at the end that fill no square are
        left out. For several images also a mapping by image name, in which the key ``...`` stands
        for those that are not named; 1 leaves an image as large as it is.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64, lazy if they are; each mean is taken in float64 and
        rounded once. Coordinates along ``y`` and ``x`` that are numbers are their means over the
        same pixels; others are left out. ``attrs["um_per_pixel"]``, and the transformations that
        SpatialData keeps in ``attrs["transform"]``, are those of the larger pixels; one size for
        all dimensions becomes a mapping where the image has ``z``.

    Raises
    ------
    ParameterError
        If a factor is not a positive whole number or larger than its image, or `factor` names an
        image that is not there, or leaves one out.
    ImageError
        If `images` are no images, or differ in dims.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(
    ...     np.array([[[1, 3, 5], [1, 3, 5]]]), dims=("c", "y", "x"), coords={"x": [0.5, 1.5, 2.5]}
    ... )
    >>> made = ops.rescale(image, 2)
    >>> made.values.tolist(), made.x.values.tolist()
    ([[[2.0]]], [1.0])
    """
    cohort = ImageSet.of(images)
    factors = _factors(factor, cohort)
    return cohort.map(_rescaled, factors).as_given()


def _rescaled(image: xr.DataArray, factors: ScaleFactors) -> xr.DataArray:
    if set(factors.values()) == {1}:
        return as_float(image)
    return like(with_coarser_coordinates(image, factors), means_of_rectangles(image, factors))


def _factors(factor: object, cohort: ImageSet) -> list[ScaleFactors]:
    """By dimension, for each image."""
    by_name: dict[ImageName, object] = dict.fromkeys(cohort.names, factor)
    if isinstance(factor, Mapping):
        asked = [name for name in factor if name is not ...]
        require_image_names(asked, cohort.names, "factor")
        left = [name for name in by_name if name not in factor]
        if left and ... not in factor:
            raise ParameterError(
                "factor must have one number for each image, or one for the rest under the key "
                f"... (Ellipsis); missing {left!r:.300}"
            )
        by_name = {name: factor.get(name, factor.get(...)) for name in by_name}
    return [_parsed(*each) for each in zip(by_name.values(), by_name, cohort, strict=True)]


def _parsed(value: object, name: ImageName, image: xr.DataArray) -> ScaleFactors:
    number = parse_count(value, "factor", RULE)
    sizes = {dim: image.sizes[dim] for dim in ("y", "x")}
    if number > min(sizes.values()):
        raise ParameterError(
            f"factor must be {RULE}, and not more than an image has, got {number} for {sizes} of "
            f"image {name!r}"
        )
    return dict.fromkeys(sizes, number)

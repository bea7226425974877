"""Keep the pixels inside a mask."""

from dataclasses import replace

import xarray as xr

from ..engine import backends
from ..engine.operations import KeepInside
from ..engine.sources import Area
from ..errors import ParameterError
from ..images.image import as_float, like, pixels
from ..images.image_set import AnyImages, HoldsImages, ImageSet
from ..images.masks import areas_of

__all__ = ["keep_where"]


def keep_where(images: AnyImages, where: object) -> AnyImages:
    """Keep the pixels inside a mask; those outside become NaN in every channel.

    Steps that follow do not see what is outside: it is not measured, and gives nothing to its
    neighbours in a blur. To leave it out of what is measured only, give `where` to the steps that
    measure.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    where
        The mask: an `xarray.DataArray` of bool, or of labels (all but 0), with the dims ``y``,
        ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image, like `images`, None for
        one that is kept whole.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64, the pixels inside as they were; lazy if they or the mask
        are.

    Raises
    ------
    ParameterError
        If `where` is no mask, or does not fit.
    ImageError
        If `images` are no images, or differ in dims.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
    >>> cells = xr.DataArray(np.array([[0, 17]]), dims=("y", "x"))
    >>> ops.keep_where(image, cells).values.tolist()
    [[[nan, 2.0]], [[nan, 4.0]]]
    """
    if where is None:
        raise ParameterError("where must be a mask, got None")
    if isinstance(images, HoldsImages):
        # Which of its pixels are measured is another matter, and stays as it is.
        cohort = ImageSet.of(images)
        by_name = dict(zip(cohort.names, cohort, strict=True))
        cohort = replace(cohort, areas=areas_of(where, by_name, *(images.came_in or (images,))))
    else:
        cohort = ImageSet.of(images, where=where)
    return only_measured_pixels(cohort).as_given()


def only_measured_pixels(cohort: ImageSet) -> ImageSet:
    """Images of which only those pixels are left that are measured."""

    def inside(image: xr.DataArray, area: Area | None) -> xr.DataArray:
        if area is None:
            return as_float(image)
        return like(image, backends.apply(pixels(image), KeepInside(), area))

    return replace(cohort.map(inside, cohort.areas), areas=())

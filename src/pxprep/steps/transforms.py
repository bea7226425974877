"""Steps that measure nothing: values on another scale, pixels taken out."""

from dataclasses import replace
from typing import Any

import xarray as xr

from ..aliases import Images, PerChannel
from ..channels import per_channel
from ..engine.programs import Arcsinh, CoolHotPixels, KeepInside, Log1p
from ..engine.sources import Area
from ..errors import ParameterError
from ..images.cohort import Cohort
from ..images.image import apply, as_float
from ..images.parameters import parse_positive


def arcsinh(images: Images, cofactor: PerChannel = 5, *, image: Any = None) -> Any:
    """Inverse hyperbolic sine of each value, divided by a cofactor first.

    Linear near zero and logarithmic far from it: the cofactor is where the one becomes the other.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    cofactor
        Above 0, in units of the image. One number; a sequence in channel order; or a mapping by
        channel label, in which the key ``...`` stands for the channels that are not named.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `cofactor` is not above 0.
    ChannelError
        If `cofactor` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Notes
    -----
    Mass cytometry uses cofactor 5 (Bendall et al. 2011), imaging mass cytometry 1 to 5,
    fluorescence around 150.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[0, 5, 500]]]), dims=("c", "y", "x"))
    >>> ops.arcsinh(image).astype(float).values.round(2).tolist()
    [[[0.0, 0.88, 5.3]]]
    """
    cohort = Cohort.of(images, image=image)
    cofactors = per_channel(parse_positive(cofactor, "cofactor"), cohort.labels, "cofactor")
    operation = Arcsinh(tuple(cofactors.tolist()))
    return cohort.apply(operation).given()


def log1p(images: Images, *, image: Any = None) -> Any:
    """Natural logarithm of one plus each value; NaN where that is not above zero.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        Once, with how many values of which channels become NaN. For a lazy image when all of it is
        computed; not by worker processes, which only say that there are some.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[0, 9, 99]]]), dims=("c", "y", "x"))
    >>> ops.log1p(image).astype(float).values.round(2).tolist()
    [[[0.0, 2.3, 4.61]]]
    """
    return Cohort.of(images, image=image).apply(Log1p()).given()


def remove_hot_pixels(images: Images, threshold: PerChannel, *, image: Any = None) -> Any:
    """Set pixels that are far above all their neighbours to the largest of these.

    The neighbours are the up to eight pixels around a pixel in its z-plane, as they came; those
    that are missing do not count.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    threshold
        How much larger than the largest neighbour a pixel may be, 0 or more, in units of the image.
        One number; a sequence in channel order; or a mapping by channel label, in which the key
        ``...`` stands for the channels that are not named.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `threshold` is negative or not finite.
    ChannelError
        If `threshold` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Notes
    -----
    The filter that is usual for imaging mass cytometry, as in steinbock (Windhager et al. 2023),
    where 50 counts is a common threshold.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 2, 90, 3, 4]]]), dims=("c", "y", "x"))
    >>> ops.remove_hot_pixels(image, 50).values.tolist()
    [[[1.0, 2.0, 3.0, 3.0, 4.0]]]
    """
    cohort = Cohort.of(images, image=image)
    parsed = parse_positive(threshold, "threshold", or_zero=True)
    operation = CoolHotPixels(tuple(per_channel(parsed, cohort.labels, "threshold").tolist()))
    return cohort.apply(operation).given()


def keep_where(images: Images, where: Any, *, image: Any = None) -> Any:
    """Keep the pixels inside a mask; those outside become NaN in every channel.

    Steps that follow do not see what is outside: it is not measured, and gives nothing to its
    neighbours in a blur. To leave it out of what is measured only, give `where` to the steps that
    measure.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    where
        The mask: an `xarray.DataArray` of bool, or of labels (all but 0), with the dims ``y``,
        ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image, like `images`, None for
        one that is kept whole.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

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
    return kept(Cohort.of(images, image=image, where=where)).given()


def kept(cohort: Cohort) -> Cohort:
    """Images of which only those pixels are left that are measured."""

    def inside(one: xr.DataArray, area: Area | None) -> xr.DataArray:
        return as_float(one) if area is None else apply(one, KeepInside(), area)

    return replace(cohort.map(inside, cohort.areas), areas=())

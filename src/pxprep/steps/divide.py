"""Divide each channel by a scale that has been measured."""

import numpy as np
import xarray as xr

from ..channels import CHANNEL, channel_labels, reorder_channels
from ..engine.programs import Divide
from ..errors import ParameterError
from ..images.hints import require_numpy_or_dask
from ..images.image_numbers import FOV
from ..images.image_set import AnyImages, ImageSet

__all__ = ["divide"]


def divide(images: AnyImages, scale: xr.DataArray) -> AnyImages:
    """Divide each channel by a scale that has been measured.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    scale
        Dim ``c``; matched by label, or by position if it has no labels. Rounded to the type of the
        result before the division. May be lazy. With a second dim ``fov``, each image's own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or `scale` are.

    Raises
    ------
    ParameterError
        If `scale` has not one value per channel, or, unless it is lazy, one is 0 or not finite.
    ChannelError
        If the labels of `scale` are not those of the image.
    ImageError
        If `images` are no images, or differ in dims.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
    >>> ops.divide(image, xr.DataArray([2.0, 4.0], dims="c")).values.tolist()
    [[[0.5, 1.0]], [[0.75, 1.0]]]
    """
    cohort = ImageSet.of(images)
    expected = {CHANNEL: len(cohort.labels)}
    # The size along FOV does not matter here; `by_image` looks at it.
    if not isinstance(scale, xr.DataArray) or {**scale.sizes, FOV: 0} != {**expected, FOV: 0}:
        raise ParameterError(
            f"scale must be an xarray.DataArray with the sizes {expected}, one value for each "
            f"channel of the image (or that for each image, along {FOV!r}), got {scale!r:.200}"
        )
    require_numpy_or_dask(scale, "scale", "scale", ParameterError)
    if scale.dtype.kind not in "biuf":
        raise ParameterError(f"scale must hold real numbers, got dtype {scale.dtype}")
    if scale.chunks is None and not (np.isfinite(scale) & (scale != 0)).all():
        raise ParameterError(
            f"scale must be finite and not 0 for every channel, got {scale.values.tolist()}"
        )
    if channel_labels(scale) is not None:
        scale = reorder_channels(scale, cohort.labels, "scale")
    scales = [array.data for array in cohort.by_image(scale, "scale")]
    return cohort.apply(Divide(), scales).as_given()

"""What may be asked of images without being a step: quantiles, sums, smaller images.

Public as functions of `pxprep.ops`.
"""

from collections.abc import Mapping

import xarray as xr

from ..aliases import PerChannel, Pool, Zeros
from ..channels import as_coordinate, per_channel
from ..engine import backends
from ..engine.programs import AddChannels
from ..errors import ParameterError
from ..images.image import like, like_plane, pixels
from ..images.image_numbers import BATCH
from ..images.image_set import AnyImages, ImageSet
from ..images.parameters import SPATIAL, ZEROS, parse_choice, parse_count, parse_quantile
from ..images.scales import cut_to_size, means_of_rectangles
from .quantiles import cohort_quantiles


def quantile(
    images: object,
    q: PerChannel = 99,
    *,
    zeros: Zeros = "exclude",
    pool: Pool = "mean",
    where: object = None,
) -> xr.DataArray:
    """Quantile of the finite pixels of each channel, exact for any size and any chunks.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    q
        Percent, 0 to 100; one number, a sequence or a mapping by channel label.
    zeros
        Whether zeros count: ``"exclude"`` or ``"include"``.
    pool
        How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
        ``"pixels"`` of all images, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured; as for `quantile_norm`.

    Returns
    -------
    xarray.DataArray
        Dim ``c``, and ``fov`` for a cohort with ``pool=None``, ``batch`` for one in batches;
        float64; NaN where nothing counts; lazy if `images` or the mask are. Equal to
        ``numpy.quantile(V, q / 100)`` for the counted values V as float64, to the last bit; for a
        cohort with ``pool="mean"``, the mean over the images of that.

    Raises
    ------
    ParameterError, ChannelError, ImageError
        As `quantile_norm`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[0, 1, 2, 4]]]), dims=("c", "y", "x"))
    >>> ops.quantile(image, 50).values.tolist()
    [2.0]
    >>> ops.quantile(image, 50, zeros="include").values.tolist()
    [1.5]
    """
    cohort = ImageSet.of(images, pool, where=where)
    parse_choice(zeros, "zeros", ZEROS)
    percent = per_channel(parse_quantile(q, "q"), cohort.labels, "q")
    if not cohort.batches:
        return cohort_quantiles(cohort, percent, zeros=zeros)
    parts = cohort.by_batch()
    rows = [cohort_quantiles(part, percent, zeros=zeros) for part in parts.values()]
    return xr.concat(rows, BATCH).assign_coords({BATCH: as_coordinate(list(parts))})


def pixel_sum(images: AnyImages) -> AnyImages:
    """Sum over channels of each pixel, NaN where any channel is NaN.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.

    Returns
    -------
    xarray.DataArray or cohort
        The dims of `images` without ``c``, float32 or float64; lazy if they are.

    Raises
    ------
    ImageError
        If `images` are no images, or differ in dims.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
    >>> ops.pixel_sum(image).values.tolist()
    [[4.0, 6.0]]
    """

    def summed(image: xr.DataArray) -> xr.DataArray:
        return like_plane(image, backends.apply(pixels(image), AddChannels()))

    return ImageSet.of(images).map(summed).as_given()


def coarsen(images: AnyImages, factors: Mapping[str, int]) -> AnyImages:
    """Mean over rectangles of pixels, NaN ignored; NaN where one has nothing else.

    Unlike `rescale` it drops the coordinates along the dimensions in `factors`. Pixel sizes and
    transformations in attrs follow, as those of `rescale` do.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    factors
        Size of the rectangles in pixels, by dimension. Pixels at the end that fill no rectangle are
        left out.

    Returns
    -------
    xarray.DataArray or cohort
        Float32 or float64, without coordinates along the coarsened dimensions; lazy if `images`
        are. Each mean is taken in float64 and rounded once.

    Raises
    ------
    ParameterError
        If a factor is not a positive whole number, or larger than the image.
    ImageError
        If `images` are no images, or differ in dims.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 3, np.nan, 4, 5]]]), dims=("c", "y", "x"))
    >>> ops.coarsen(image, {"x": 2}).values.tolist()
    [[[2.0, 4.0]]]
    """
    cohort = ImageSet.of(images)
    if not isinstance(factors, Mapping):
        raise ParameterError(
            f"factors must be a mapping of dims to sizes, as {{'y': 2, 'x': 2}}, got {factors!r}"
        )
    for dim, factor in factors.items():
        parse_count(factor, f"factors[{dim!r}]", "a positive whole number")
        for name, image in zip(cohort.names, cohort, strict=True):
            if dim not in SPATIAL or image.sizes.get(dim, 0) < factor:
                raise ParameterError(
                    f"factors must be for the spatial dims of the image, and not larger than it: "
                    f"{dim!r} cannot be {factor} in {dict(image.sizes)} of image {name!r}"
                )

    def coarsened(image: xr.DataArray) -> xr.DataArray:
        return like(cut_to_size(image, factors), means_of_rectangles(image, factors))

    return cohort.map(coarsened).as_given()

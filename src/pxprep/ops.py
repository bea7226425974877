# Made by `python .ci/generate_methods.py` from the files of `steps/`: do not edit.
"""The steps as functions on labeled images.

Every function takes an image, an `xarray.DataArray` with the dims ``c``, ``y``, ``x`` and
optionally ``z`` in any order, and returns one with the same dims, coordinates, name and attrs. The
input is never modified. Integers, bool, float16 and float32 give float32, float64 stays float64. An
image that holds a NumPy array is processed at once, on all cores; one that holds a Dask array gives
a Dask array and nothing is computed, not even the quantiles, until it is asked for. Both give the
same bits. Infinite pixels count as missing, that is, as NaN.

Or it takes a cohort: a sequence, a mapping of names to images, an `xarray.Dataset` of images, an
`xarray.DataTree` with an image in each leaf, or a `pxprep.Cohort`. The images, which must have the
same channels in any order, are measured together and each is processed; the result is a list, a
dict, a dataset, a tree or a cohort like the one given. A node of a tree that holds ``scale0``,
``scale1``, ... is one image, measured and processed at ``scale0``; its coarser scales are made
again.

``docs/method.md`` says what each step means and where it comes from.
"""

from .aliases import Backgrounds, Factors, PerChannel, Pool, Zeros
from .images.image_set import AnyImages
from .steps import (
    Arcsinh,
    Blur,
    Clip,
    Compensate,
    Log1p,
    Median,
    MinMax,
    PercentileClip,
    PostNorm,
    QuantileNorm,
    RemoveHotPixels,
    RobustZscore,
    SubtractBackground,
    SubtractChannels,
    SumNorm,
    Threshold,
    Zscore,
)
from .steps.base import apply_step
from .steps.divide import divide
from .steps.keep_where import keep_where
from .steps.rescale import rescale
from .steps.sum_mask import sum_mask
from .steps.summaries import coarsen, pixel_sum, quantile

__all__ = [
    "arcsinh",
    "blur",
    "clip",
    "coarsen",
    "compensate",
    "divide",
    "keep_where",
    "log1p",
    "median",
    "minmax",
    "percentile_clip",
    "pixel_sum",
    "post_norm",
    "quantile",
    "quantile_norm",
    "remove_hot_pixels",
    "rescale",
    "robust_zscore",
    "subtract_background",
    "subtract_channels",
    "sum_mask",
    "sum_norm",
    "threshold",
    "zscore",
]


def quantile_norm(
    images: AnyImages,
    q: PerChannel = 99,
    *,
    pool: Pool = "mean",
    where: object = None,
) -> AnyImages:
    """Divide each channel by its quantile.

    The quantile is that of the finite, non-zero pixels, exact whatever the chunks (see
    `pxprep.quantile`); each channel has its own.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    q
        Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
        in which the key ``...`` stands for the channels that are not named.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If `q` is no percentage, or looks like a fraction (0 < q <= 1).
    ChannelError
        If `q` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        Once for channels without any finite non-zero pixel (their scale is 1), for negative and
        for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    The first step of pixel clustering preprocessing in ark-analysis (Pixie) and in
    sparrow/harpy.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[0, 1, 2, 4]], [[0, 30, 10, 20]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["CD3", "CD20"]},
    ... )
    >>> image.pxprep.quantile_norm({"CD3": 100, ...: 50}).values.tolist()
    [[[0.0, 0.25, 0.5, 1.0]], [[0.0, 1.5, 0.5, 1.0]]]
    """
    return apply_step(QuantileNorm(q), images, pool=pool, where=where)


def blur(images: AnyImages, sigma: PerChannel | None = 2) -> AnyImages:
    """Blur each channel, and each z-plane, with a Gaussian.

    Without NaNs the result is that of ``scipy.ndimage.gaussian_filter(plane, sigma,
    mode="reflect", truncate=4.0)``. A NaN pixel stays NaN and gives nothing to its neighbours:
    their weights are renormalised over the valid pixels under the kernel.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    sigma
        Standard deviation in pixels, 0 or more. One number; a sequence in channel order; or a
        mapping by channel label, in which the key ``...`` stands for the channels that are not
        named. 0 leaves a channel as it is, bit for bit, and None all channels.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `sigma` is negative, larger than 10,000 px or not finite.
    ChannelError
        If `sigma` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Notes
    -----
    Pixie and sparrow/harpy blur with sigma 2. Normalised convolution: Knutsson and Westin (1993),
    "Normalized and differential convolution", CVPR.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0.0, 0.0, 8.0, 0.0, np.nan]]]), dims=("c", "y", "x"))
    >>> image.pxprep.blur(0.5).values.round(2).tolist()
    [[[0.0, 0.85, 6.29, 0.95, nan]]]
    """
    return apply_step(Blur(sigma), images)


def sum_norm(images: AnyImages) -> AnyImages:
    """Divide each pixel by its sum over channels.

    Where the sum is not positive, or any channel is NaN, every channel is NaN.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.

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
        Once, with how many pixels become NaN as their sum is negative. For a lazy image when all of
        it is computed; not by worker processes, which only say that there are some.

    Notes
    -----
    Channels are summed one after the other in their order, in the type of the result. Pixie and
    sparrow/harpy do this so that pixels cluster by composition and not by brightness.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, 0.0]], [[3.0, 0.0]]]), dims=("c", "y", "x"))
    >>> image.pxprep.sum_norm().values.tolist()
    [[[0.25, nan]], [[0.75, nan]]]
    """
    return apply_step(SumNorm(), images)


def post_norm(
    images: AnyImages,
    q_post: PerChannel = 99.9,
    *,
    pool: Pool = "mean",
    where: object = None,
) -> AnyImages:
    """Divide each channel by its quantile once more, after the other steps.

    As `pxprep.ops.quantile_norm`, with a default for the end of a pipeline.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    q_post
        Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
        in which the key ``...`` stands for the channels that are not named.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If `q_post` is no percentage, or looks like a fraction (0 < q_post <= 1).
    ChannelError
        If `q_post` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        Once for channels without any finite non-zero pixel (their scale is 1), for negative and
        for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    The last step of pixel clustering preprocessing in ark-analysis (Pixie) and in sparrow/harpy.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, np.nan, 4.0]]]), dims=("c", "y", "x"))
    >>> image.pxprep.post_norm(100).values.tolist()
    [[[0.25, nan, 1.0]]]
    """
    return apply_step(PostNorm(q_post), images, pool=pool, where=where)


def clip(images: AnyImages, max: PerChannel) -> AnyImages:  # noqa: A002
    """Set values above `max` to `max`; NaN stays.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    max
        Largest value to keep. One number; a sequence in channel order; or a mapping by channel
        label, in which the key ``...`` stands for the channels that are not named.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `max` is not a finite number.
    ChannelError
        If `max` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0.5, 1.5, np.nan]]]), dims=("c", "y", "x"))
    >>> image.pxprep.clip(1).values.tolist()
    [[[0.5, 1.0, nan]]]
    """
    return apply_step(Clip(max), images)


def arcsinh(images: AnyImages, cofactor: PerChannel = 5) -> AnyImages:
    """Inverse hyperbolic sine of each value, divided by a cofactor first.

    Linear near zero and logarithmic far from it: the cofactor is where the one becomes the other.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    cofactor
        Above 0, in units of the image. One number; a sequence in channel order; or a mapping by
        channel label, in which the key ``...`` stands for the channels that are not named.

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
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0, 5, 500]]]), dims=("c", "y", "x"))
    >>> image.pxprep.arcsinh().astype(float).values.round(2).tolist()
    [[[0.0, 0.88, 5.3]]]
    """
    return apply_step(Arcsinh(cofactor), images)


def log1p(images: AnyImages) -> AnyImages:
    """Natural logarithm of one plus each value; NaN where that is not above zero.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.

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
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0, 9, 99]]]), dims=("c", "y", "x"))
    >>> image.pxprep.log1p().astype(float).values.round(2).tolist()
    [[[0.0, 2.3, 4.61]]]
    """
    return apply_step(Log1p(), images)


def subtract_background(
    images: AnyImages,
    radius: PerChannel | None = None,
    constant: PerChannel | None = None,
) -> AnyImages:
    """Subtract the background of each channel, and of each z-plane.

    With `radius`, the background is what is wider than a disc of that radius (white top-hat). With
    `constant`, it is that number everywhere. Afterwards no value is below 0, except in channels
    with a radius of 0, which stay as they are.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    radius
        Radius of the disc, a whole number of pixels up to 1000. One number; a sequence in channel
        order; or a mapping by channel label, in which the key ``...`` stands for the channels that
        are not named. Choose it larger than the structures to keep; 0 leaves a channel as it is,
        bit for bit, negative values as well.
    constant
        At least 0, in units of the image; values of up to that become 0. In the same forms as
        `radius`. One of both must be given.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If both or none of `radius` and `constant` are given, or one breaks its rule.
    ChannelError
        If `radius` or `constant` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Notes
    -----
    The white top-hat (Meyer 1979) is the image minus its opening: at each pixel the largest, over
    all discs that hold it and are centred in the image, of the smallest value in the disc. NaN
    pixels and what lies outside the image do not count. Without NaNs it is
    ``scipy.ndimage.white_tophat(plane, footprint=disc)`` to the last bit, with the disc of
    ``skimage.morphology.disk(radius)``. Two radii around a pixel are read.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[5, 5, 9, 5, 6, 6, 6]]]), dims=("c", "y", "x"))
    >>> image.pxprep.subtract_background(radius=1).values.tolist()
    [[[0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]]]
    >>> image.pxprep.subtract_background(constant=5.5).values.tolist()
    [[[0.0, 0.0, 3.5, 0.0, 0.5, 0.5, 0.5]]]
    """
    return apply_step(SubtractBackground(radius, constant), images)


def percentile_clip(
    images: AnyImages,
    low: PerChannel = 1,
    high: PerChannel = 99,
    zeros: Zeros = "exclude",
    *,
    pool: Pool = "mean",
    where: object = None,
) -> AnyImages:
    """Set values below a low quantile of their channel to it, and those above a high one.

    Both quantiles are exact whatever the chunks; finding both takes no more passes than finding one
    (see `pxprep.quantile`).

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    low, high
        Percent, 0 to 100, `low` below `high` in every channel; 0 and 100 are the smallest and the
        largest value. One number; a sequence in channel order; or a mapping by channel label, in
        which the key ``...`` stands for the channels that are not named.
    zeros
        Whether zeros count in the quantiles: ``"exclude"`` or ``"include"``. They are clipped as
        all others: where the low quantile is above 0 they are raised to it, and `minmax` brings
        them back to 0.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If `low` or `high` is no percentage, `low` is not below `high`, `high` looks like a fraction
        (0 < high <= 1), or `zeros` is something else.
    ChannelError
        If `low` or `high` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        Once for channels without a value to measure (nothing is clipped), for those whose quantiles
        are the same, for negative and for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    Also known as winsorising (Dixon 1960). For quantiles of all pixels, as
    ``numpy.clip(channel, *numpy.percentile(channel, [1, 99]))``, include zeros.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.arange(6.0).reshape(1, 1, 6), dims=("c", "y", "x"))
    >>> image.pxprep.percentile_clip(25, 75).values.tolist()
    [[[2.0, 2.0, 2.0, 3.0, 4.0, 4.0]]]
    >>> image.pxprep.percentile_clip(20, 80, zeros="include").values.tolist()
    [[[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]]]
    """
    return apply_step(PercentileClip(low, high, zeros), images, pool=pool, where=where)


def minmax(images: AnyImages, *, pool: Pool = "mean", where: object = None) -> AnyImages:
    """Bring each channel to 0 to 1: subtract its smallest value, divide by its range.

    Of a cohort pooled by ``"mean"``, the mean of the images' minima and that of their maxima become
    0 and 1, so that some values of several images are below 0 or above 1.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        Once for channels without two different values, which become 0, for negative and for
        infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    Zeros count: they are the natural minimum of a marker. One bright pixel is enough to darken all
    others, so that values are usually clipped first, as in
    ``image.pxprep.percentile_clip(1, 99).pxprep.minmax()``.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[2.0, 4.0, np.nan, 10.0]]]), dims=("c", "y", "x"))
    >>> image.pxprep.minmax().values.tolist()
    [[[0.0, 0.25, nan, 1.0]]]
    """
    return apply_step(MinMax(), images, pool=pool, where=where)


def remove_hot_pixels(images: AnyImages, threshold: PerChannel) -> AnyImages:
    """Set pixels that are far above all their neighbours to the largest of these.

    The neighbours are the up to eight pixels around a pixel in its z-plane, as they came; those
    that are missing do not count.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    threshold
        How much larger than the largest neighbour a pixel may be, 0 or more, in units of the image.
        One number; a sequence in channel order; or a mapping by channel label, in which the key
        ``...`` stands for the channels that are not named.

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
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1, 2, 90, 3, 4]]]), dims=("c", "y", "x"))
    >>> image.pxprep.remove_hot_pixels(50).values.tolist()
    [[[1.0, 2.0, 3.0, 3.0, 4.0]]]
    """
    return apply_step(RemoveHotPixels(threshold), images)


def threshold(
    images: AnyImages,
    value: PerChannel | None = None,
    q: PerChannel | None = None,
    below: str = "zero",
    zeros: Zeros = "exclude",
    *,
    pool: Pool = "mean",
    where: object = None,
) -> AnyImages:
    """Set values below a threshold of their channel to 0, or to NaN.

    A value that is as large as the threshold stays, and so do all above it.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    value
        The threshold, in units of the image. One number; a sequence in channel order; or a mapping
        by channel label, in which the key ``...`` stands for the channels that are not named.
    q
        Percent, 0 to 100: the threshold is that quantile of the channel, measured. In the same
        forms as `value`. One of both must be given.
    below
        What values below the threshold become: ``"zero"`` or ``"nan"``.
    zeros
        Whether zeros count in the quantile: ``"exclude"`` or ``"include"``.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If both or none of `value` and `q` are given, one breaks its rule, `q` looks like a fraction
        (0 < q <= 1), or `below` or `zeros` is something else.
    ChannelError
        If `value` or `q` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        With `q`, once for channels without a value to measure (nothing changes), for negative and
        for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    A pixel that is NaN in one channel has no sum over channels, so that `sum_mask` and `sum_norm`
    drop it: before these steps use ``"zero"``.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0, 1, 2, 3, 4]]]), dims=("c", "y", "x"))
    >>> image.pxprep.threshold(3).values.tolist()
    [[[0.0, 0.0, 0.0, 3.0, 4.0]]]
    >>> image.pxprep.threshold(q=50, below="nan").values.tolist()
    [[[nan, nan, nan, 3.0, 4.0]]]
    """
    return apply_step(Threshold(value, q, below, zeros), images, pool=pool, where=where)


def median(images: AnyImages, size: PerChannel = 3) -> AnyImages:
    """Set each pixel to the median of the square around it, in each channel and each z-plane.

    Without NaNs the result is that of ``scipy.ndimage.median_filter(plane, size, mode="reflect")``.
    A NaN pixel stays NaN and does not count for its neighbours.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    size
        Side of the square: 3 or 5 pixels. One number; a sequence in channel order; or a mapping by
        channel label, in which the key ``...`` stands for the channels that are not named. 1 leaves
        a channel as it is, bit for bit.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `size` is not 1, 3 or 5.
    ChannelError
        If `size` names channels that the image does not have, or leaves some out.
    ImageError
        If `images` are no images, or differ in dims.

    Notes
    -----
    Of an even number of pixels that count, the median is the mean of both in the middle, as that of
    ``numpy.nanmedian``. To remove single bright pixels and nothing else, see `remove_hot_pixels`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1, 2, 90, 3, np.nan, 4]]]), dims=("c", "y", "x"))
    >>> image.pxprep.median(3).values.tolist()
    [[[1.0, 2.0, 3.0, 46.5, nan, 4.0]]]
    """
    return apply_step(Median(size), images)


def zscore(images: AnyImages, *, pool: Pool = "mean", where: object = None) -> AnyImages:
    """Subtract the mean of each channel, and divide by its standard deviation.

    Both are those of the finite values, zeros included, made from exact sums of the values and of
    their squares: the same bits whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of
    the images' means is subtracted, and the mean of their standard deviations divides.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        For channels all of whose values are the same (nothing is divided), for those without a
        value, for negative and for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    The standard deviation is the root of the mean squared distance from the mean (``ddof=0``), as
    that of ``numpy.std`` is by default. A few very bright pixels change both numbers:
    `robust_zscore` is not led by them.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0.0, 0, 3, 3, 9]]]), dims=("c", "y", "x"))
    >>> image.pxprep.zscore().values.round(2).tolist()
    [[[-0.91, -0.91, 0.0, 0.0, 1.83]]]
    """
    return apply_step(Zscore(), images, pool=pool, where=where)


def robust_zscore(images: AnyImages, *, pool: Pool = "mean", where: object = None) -> AnyImages:
    """Subtract the median of each channel, and divide by 1.4826 times the median distance from it.

    The median distance (MAD) is ``numpy.median(abs(values - numpy.median(values)))``, and 1.4826
    times it the standard deviation if values are normally distributed. Both medians are exact
    whatever the chunks. Of a cohort pooled by ``"mean"``, the mean of the images' medians is
    subtracted, and the mean of their median distances divides.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    pool
        How a cohort is measured: ``"mean"`` of what each image gives, the ``"pixels"`` of all
        images as if they were one, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        For channels more than half of whose values are the same (nothing is divided), for those
        without a value, for negative and for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    Zeros count. A marker that is 0 in more than half of the pixels has a median distance of 0:
    nothing is divided.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, 2, 3, 4, 50]]]), dims=("c", "y", "x"))
    >>> image.pxprep.robust_zscore().values.round(2).tolist()
    [[[-1.35, -0.67, 0.0, 0.67, 31.7]]]
    """
    return apply_step(RobustZscore(), images, pool=pool, where=where)


def subtract_channels(
    images: AnyImages,
    backgrounds: Backgrounds,
    scale: Factors = 1,
    exposures: object = None,
    drop: bool = False,
) -> AnyImages:
    """Subtract from some channels another one times a factor; negative results become 0.

    The other one holds what is in the channel without its stain: autofluorescence, mostly. Several
    channels may have the same one. All are taken as they came, and channels that are not named stay
    as they are.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    backgrounds
        For each channel that is changed, by label, the label of the channel that is subtracted.
    scale
        The factor, at least 0. One number; or a mapping by label of the channels that are changed,
        in which the key ``...`` stands for those that are not named.
    exposures
        Exposure times above 0 by channel label: a mapping, a `pandas.Series` such as the column
        of a table of markers (``pd.read_csv("markers.csv", index_col="marker_name")["exposure"]``),
        or an `xarray.DataArray` over ``c``. The factor is also multiplied by that of the channel
        and divided by that of its background. Channels that are not needed may be in it.
    drop
        Whether the backgrounds are left out afterwards: they are not in the result, and steps
        after this one neither measure nor sum them. At least one channel must be left.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `backgrounds` is no such mapping or names a channel as its own background, or a number
        breaks its rule.
    ChannelError
        If `backgrounds` names channels that the image does not have, `scale` or `exposures`
        lacks one that is needed, or `drop` leaves no channel.
    ImageError
        If `images` are no images, or differ in dims.

    Notes
    -----
    With `exposures` it is the subtraction of Backsub (mcmicro), where the image has a channel of
    autofluorescence for each filter.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[10, 20, 30]], [[4, 30, 0]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["CD3", "AF488"]},
    ... )
    >>> image.pxprep.subtract_channels({"CD3": "AF488"}, 0.5).sel(c="CD3").values.tolist()
    [[8.0, 5.0, 30.0]]
    >>> image.pxprep.subtract_channels(
    ...     {"CD3": "AF488"}, exposures={"CD3": 200, "AF488": 100}
    ... ).sel(c="CD3").values.tolist()
    [[2.0, 0.0, 30.0]]
    >>> image.pxprep.subtract_channels({"CD3": "AF488"}, drop=True).c.values.tolist()
    ['CD3']
    """
    return apply_step(SubtractChannels(backgrounds, scale, exposures, drop), images)


def compensate(images: AnyImages, matrix: object, method: str = "nnls") -> AnyImages:
    """Undo the spillover of channels into each other, which was measured on single stains.

    In each pixel a channel shows its own signal and fractions of others'. The signals before the
    spillover are estimated by least squares without negative values, or by solving the linear
    equations. Channels that are not in `matrix` stay as they are, with a warning; where a channel
    that is in it is NaN, all that are in it become NaN.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    matrix
        Fractions from 0 to 1: a row for each channel that spills, a column for each that it is seen
        in, both with labels, 1 where they are the same. A `pandas.DataFrame`, an `xarray.DataArray`
        with labels along two dims, the path of a CSV file as CATALYST's matrices are written by
        ``write.csv``, or a mapping of labels to mappings such as ``{"CD3": {"CD8": 0.02}}``. A
        channel that is only a row gets nothing from others; one that is only a column does not
        spill.
    method
        ``"nnls"``, non-negative least squares; or ``"linear"``, which may give negative values.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are.

    Raises
    ------
    ParameterError
        If `matrix` is no such matrix or cannot be inverted, or `method` is not known.
    ChannelError
        If `matrix` names a channel twice, or one that the image does not have.
    ImageError
        If `images` are no images, or differ in dims.

    Warns
    -----
    PxprepWarning
        Once, of the channels that are not in `matrix`.

    Notes
    -----
    The compensation of CATALYST (Chevrier et al. 2018), where nnls is the default, too. Where the
    linear solution has no negative value, both are the same.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[100, 0]], [[35, 10]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["Gd155", "Gd156"]},
    ... )
    >>> image.pxprep.compensate({"Gd155": {"Gd156": 0.25}}).values.tolist()
    [[[100.0, 0.0]], [[10.0, 10.0]]]
    """
    return apply_step(Compensate(matrix, method), images)

"""Steps as functions on labeled images: those that divide, blur, mask and cap values."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Images, PerChannel
from ..channels import CHANNEL, channel_labels, per_channel, reorder_channels
from ..engine.notes import say_lost
from ..engine.programs import Blur, ClipAbove, Divide, DivideBySums, KeepAbove
from ..errors import ImageError, ParameterError
from ..images.cohort import FOV, Cohort
from ..images.datatree import is_tree
from ..images.image import as_float
from ..images.parameters import (
    ZEROS,
    parse_choice,
    parse_limit,
    parse_quantile,
    parse_sigma,
    parse_sum_quantile,
    parse_threshold,
)
from .statistics import channel_scales, sum_threshold

__all__ = ["blur", "clip", "divide", "post_norm", "quantile_norm", "sum_mask", "sum_norm"]


def quantile_norm(
    images: Images,
    q: PerChannel = 99,
    *,
    pool: str | None = "mean",
    image: Any = None,
    where: Any = None,
) -> Any:
    """Divide each channel by its quantile.

    The quantile is that of the finite, non-zero pixels, exact whatever the chunks (see
    `quantile`); each channel has its own.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    q
        Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
        in which the key ``...`` stands for the channels that are not named.
    pool
        How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
        ``"pixels"`` of all images, or None: each image by itself.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are divided; see `keep_where`. None measures all.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If `q` is no percentage, or looks like a fraction (0 < q <= 1), or `where` does not fit.
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
    >>> from pxprep import ops
    >>> image = xr.DataArray(
    ...     np.array([[[0, 1, 2, 4]], [[0, 30, 10, 20]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["CD3", "CD20"]},
    ... )
    >>> ops.quantile_norm(image, {"CD3": 100, ...: 50}).values.tolist()
    [[[0.0, 0.25, 0.5, 1.0]], [[0.0, 1.5, 0.5, 1.0]]]
    """
    cohort = Cohort.of(images, pool, image, where=where)
    return _norm(cohort, q, "q", "quantile_norm")


def post_norm(
    images: Images,
    q_post: PerChannel = 99.9,
    *,
    pool: str | None = "mean",
    image: Any = None,
    where: Any = None,
) -> Any:
    """Divide each channel by its quantile once more, after the other steps.

    As `quantile_norm`, with a default for the end of the chain.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    q_post
        Percent, 0 to 100; as `q` of `quantile_norm`.
    pool
        How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
        ``"pixels"`` of all images, or None: each image by itself.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.
    where
        Mask of the pixels that are measured; as for `quantile_norm`.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError, ChannelError, ImageError
        As `quantile_norm`.

    Warns
    -----
    PxprepWarning
        As `quantile_norm`.

    Notes
    -----
    The last step of pixel clustering preprocessing in ark-analysis (Pixie) and in sparrow/harpy.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1.0, np.nan, 4.0]]]), dims=("c", "y", "x"))
    >>> ops.post_norm(image, 100).values.tolist()
    [[[0.25, nan, 1.0]]]
    """
    cohort = Cohort.of(images, pool, image, where=where)
    return _norm(cohort, q_post, "q_post", "post_norm")


def blur(images: Images, sigma: PerChannel | None = 2, *, image: Any = None) -> Any:
    """Blur each channel, and each z-plane, with a Gaussian.

    Without NaNs the result is that of ``scipy.ndimage.gaussian_filter(plane, sigma,
    mode="reflect", truncate=4.0)``. A NaN pixel stays NaN and gives nothing to its neighbours:
    their weights are renormalised over the valid pixels under the kernel.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    sigma
        Standard deviation in pixels, 0 or more. One number; a sequence in channel order; or a
        mapping by channel label, in which the key ``...`` stands for the channels that are not
        named. 0 leaves a channel as it is, bit for bit; None leaves out the step.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

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
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[0.0, 0.0, 8.0, 0.0, np.nan]]]), dims=("c", "y", "x"))
    >>> ops.blur(image, 0.5).values.round(2).tolist()
    [[[0.0, 0.85, 6.29, 0.95, nan]]]
    """
    cohort = Cohort.of(images, image=image)
    if sigma is None:
        return cohort.map(as_float).given()
    sigmas = per_channel(parse_sigma(sigma), cohort.labels, "sigma")
    operation = Blur(tuple(sigmas.tolist()))
    return cohort.apply(operation).given()


def sum_mask(
    images: Images,
    q_sum: float = 5,
    reference: Images | None = None,
    threshold: float | xr.DataArray | None = None,
    zeros: str = "exclude",
    *,
    pool: str | None = "mean",
    image: Any = None,
    where: Any = None,
) -> Any:
    """Drop the pixels whose sum over channels is low: NaN in every channel.

    A pixel is kept where its sum is greater than the threshold, the quantile `q_sum` of the sums of
    `reference`. Where any channel is NaN there is no sum, and the pixel is dropped.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    q_sum
        Percent, 0 to 100.
    reference
        Images with the same channels on which the threshold is measured; default `images`.
        Pixie and sparrow/harpy mask the blurred image by a threshold of the un-blurred one. A sum
        that exceeds that by no more than rounding (2**-18 of it, 2**-47 for float64) is not kept.
    threshold
        The threshold, if it is known; then nothing is measured. Along ``fov``, each image's own.
    zeros
        ``"exclude"`` (sparrow/harpy) or ``"include"`` (Pixie) sums of exactly zero in the quantile.
    pool
        How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
        ``"pixels"`` of all images, or None: each image by itself.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.
    where
        Mask of the pixels whose sums are measured; as for `quantile_norm`. Pixels outside are kept
        or dropped by their sums as those inside are.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If `q_sum` is no percentage, `threshold` not finite, `zeros` something else, or `where` does
        not fit.
    ChannelError
        If `reference` has other channels than `image`.
    ImageError
        If `images` or `reference` are no images, differ in dims, or do not belong together.

    Warns
    -----
    PxprepWarning
        If 0 < `q_sum` <= 1, which is probably a fraction; if there is no sum to measure (the
        threshold is then 0) or sums are negative; and if far more than `q_sum` percent of the
        pixels that have a sum in `reference` are dropped, as where counts are sparse.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(
    ...     np.array([[[1.0, 0.0, 3.0]], [[1.0, 0.0, 2.0]]]), dims=("c", "y", "x")
    ... )
    >>> ops.sum_mask(image, 50).values.tolist()
    [[[nan, nan, 3.0]], [[nan, nan, 2.0]]]
    """
    cohort = Cohort.of(images, pool, image, where=where)
    parse_choice(zeros, "zeros", ZEROS)
    percent = parse_sum_quantile(q_sum)
    measured = None
    if threshold is None:
        measured = None if reference is None else _reference(reference, cohort, image)
        numbers = sum_threshold(measured or cohort, percent, zeros=zeros, step="sum_mask")
        threshold = numbers["threshold"]
    limits = [parse_threshold(one) for one in cohort.by_image(threshold, "threshold")]
    operation = KeepAbove(measured is not None, partial(say_lost, percent, zeros))
    return cohort.apply(operation, limits, measured).given()


def sum_norm(images: Images, *, image: Any = None) -> Any:
    """Divide each pixel by its sum over channels.

    Where the sum is not positive, or any channel is NaN, every channel is NaN.

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
        Once, with how many pixels become NaN as their sum is negative. For a lazy image when all of
        it is computed; not by worker processes, which only say that there are some.

    Notes
    -----
    Channels are summed one after the other in their order, in the type of the result. Pixie and
    sparrow/harpy normalise so, that pixels cluster by composition rather than brightness.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 0]], [[3, 0]]]), dims=("c", "y", "x"))
    >>> ops.sum_norm(image).values.tolist()
    [[[0.25, nan]], [[0.75, nan]]]
    """
    return Cohort.of(images, image=image).apply(DivideBySums()).given()


def clip(images: Images, max: PerChannel, *, image: Any = None) -> Any:  # noqa: A002
    """Set values above `max` to `max`; NaN stays.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    max
        Largest value to keep. One number; a sequence in channel order; or a mapping by channel
        label, in which the key ``...`` stands for the channels that are not named.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

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
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[0.5, 1.5, np.nan]]]), dims=("c", "y", "x"))
    >>> ops.clip(image, 1).values.tolist()
    [[[0.5, 1.0, nan]]]
    """
    cohort = Cohort.of(images, image=image)
    limits = per_channel(parse_limit(max, "max"), cohort.labels, "max")
    operation = ClipAbove(tuple(limits.tolist()))
    return cohort.apply(operation).given()


def divide(images: Images, scale: xr.DataArray, *, image: Any = None) -> Any:
    """Divide each channel by a scale that has been measured.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    scale
        Dim ``c``; matched by label, or by position if it has no labels. Rounded to the type of the
        result before the division. May be lazy. With a second dim ``fov``, each image's own.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or `scale` are.

    Raises
    ------
    ParameterError
        If `scale` has not one value per channel, or one of them is 0 or not finite.
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
    cohort = Cohort.of(images, image=image)
    if isinstance(scale, xr.DataArray) and scale.chunks is None:
        usable = np.isfinite(scale) & (scale != 0)
        if not usable.all():
            raise ParameterError(
                f"scale must be finite and not 0 for every channel, got {scale.values.tolist()}"
            )
    return _divided(cohort, scale)


def _divided(cohort: Cohort, scale: Any) -> Any:
    expected = {CHANNEL: len(cohort.labels)}
    if not isinstance(scale, xr.DataArray) or {**scale.sizes, FOV: 0} != {**expected, FOV: 0}:
        raise ParameterError(
            f"scale must be an xarray.DataArray with the sizes {expected}, one value for each "
            f"channel of the image (or that for each image, along {FOV!r}), got {scale!r:.200}"
        )
    if channel_labels(scale) is not None:
        scale = reorder_channels(scale, cohort.labels, "scale")
    scales = [one.data for one in cohort.by_image(scale, "scale")]
    return cohort.apply(Divide(), scales).given()


def _norm(cohort: Cohort, q: Any, parameter: str, step: str) -> Any:
    numbers = channel_scales(cohort, parse_quantile(q, parameter), parameter=parameter, step=step)
    return _divided(cohort, numbers["scale"])


def _reference(reference: Any, cohort: Cohort, image: Any) -> Cohort:
    """The images on which the threshold for those of `cohort` is measured."""
    variable = image if is_tree(reference) else None
    measured = Cohort.of(reference, cohort.pool, variable, labels=cohort.labels, what="reference")
    if not cohort.is_one and set(cohort.names) == set(measured.names):
        by_name = dict(zip(measured.names, measured, strict=True))
        measured = replace(measured, images=tuple(by_name[name] for name in cohort.names))
    elif cohort.is_one != measured.is_one or not cohort.is_one:
        raise ImageError(
            f"reference must hold an image for each of images, {list(cohort.names)}, got "
            f"{list(measured.names)}"
        )
    sizes = [[one.isel({CHANNEL: 0}).sizes for one in images] for images in (cohort, measured)]
    if cohort.is_masked and sizes[0] != sizes[1]:
        raise ImageError("reference must have the sizes of the images where a mask is given")
    return replace(measured, names=cohort.names, areas=cohort.areas)

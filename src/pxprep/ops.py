"""The steps as functions on labeled images.

Every function takes an image, an `xarray.DataArray` with the dims ``c``, ``y``, ``x`` and
optionally ``z`` in any order, and returns one with the same dims, coordinates, name and attrs. The
input is never modified. Integers, bool, float16 and float32 give float32, float64 stays float64. An
image that holds a NumPy array is processed at once, on all cores; one that holds a Dask array gives
a Dask array and nothing is computed, not even the quantiles, until it is asked for. Both give the
same bits. Infinite pixels count as missing, that is, as NaN.

``docs/method.md`` says what each step means and where it comes from.
"""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from . import _backends, _blocks
from ._channels import CHANNEL, channel_labels, label_keys, per_channel, reorder_channels
from ._images import as_float, checked, like, like_plane, pixels, processing_dtype
from ._typing import PerChannel
from ._validate import (
    SPATIAL,
    ZEROS,
    parse_choice,
    parse_count,
    parse_limit,
    parse_quantile,
    parse_sigma,
    parse_sum_quantile,
    parse_threshold,
)
from .errors import ParameterError
from .measures import Cohort, channel_scales, sum_threshold
from .quantiles import exact_quantiles

__all__ = [
    "blur",
    "clip",
    "coarsen",
    "divide",
    "pixel_sum",
    "post_norm",
    "quantile",
    "quantile_norm",
    "sum_mask",
    "sum_norm",
]


def quantile_norm(image: xr.DataArray, q: PerChannel = 99) -> xr.DataArray:
    """Divide each channel by its quantile.

    The quantile is that of the finite, non-zero pixels, exact whatever the chunks (see
    `quantile`); each channel has its own.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    q
        Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
        in which the key ``...`` stands for the channels that are not named.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` is.

    Raises
    ------
    ParameterError
        If `q` is no percentage, or looks like a fraction (0 < q <= 1).
    ChannelError
        If `q` names channels that the image does not have, or leaves some out.
    ImageError
        If `image` is not an image.

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
    return _norm(image, q, "q", "quantile_norm")


def post_norm(image: xr.DataArray, q_post: PerChannel = 99.9) -> xr.DataArray:
    """Divide each channel by its quantile once more, after the other steps.

    As `quantile_norm`, with a default for the end of the chain.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    q_post
        Percent, 0 to 100; as `q` of `quantile_norm`.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` is.

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
    return _norm(image, q_post, "q_post", "post_norm")


def blur(image: xr.DataArray, sigma: PerChannel | None = 2) -> xr.DataArray:
    """Blur each channel, and each z-plane, with a Gaussian.

    Without NaNs the result is that of ``scipy.ndimage.gaussian_filter(plane, sigma,
    mode="reflect", truncate=4.0)``. A NaN pixel stays NaN and gives nothing to its neighbours:
    their weights are renormalised over the valid pixels under the kernel.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    sigma
        Standard deviation in pixels, 0 or more. One number; a sequence in channel order; or a
        mapping by channel label, in which the key ``...`` stands for the channels that are not
        named. 0 leaves a channel as it is, bit for bit; None leaves out the step.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` is.

    Raises
    ------
    ParameterError
        If `sigma` is negative, larger than 10,000 px or not finite.
    ChannelError
        If `sigma` names channels that the image does not have, or leaves some out.
    ImageError
        If `image` is not an image.

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
    image = checked(image)
    if sigma is None:
        return as_float(image)
    sigmas = per_channel(parse_sigma(sigma), label_keys(image), "sigma")
    return like(image, _backends.blur(pixels(image), sigmas, dtype=processing_dtype(image)))


def sum_mask(
    image: xr.DataArray,
    q_sum: float = 5,
    reference: xr.DataArray | None = None,
    threshold: float | xr.DataArray | None = None,
    zeros: str = "exclude",
) -> xr.DataArray:
    """Drop the pixels whose sum over channels is low: NaN in every channel.

    A pixel is kept where its sum is greater than the threshold, the quantile `q_sum` of the sums of
    `reference`. Where any channel is NaN there is no sum, and the pixel is dropped.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    q_sum
        Percent, 0 to 100.
    reference
        Image with the same channels on which the threshold is measured; default `image` itself.
        Pixie and sparrow/harpy mask the blurred image by a threshold of the un-blurred one.
    threshold
        The threshold, if it is known; then nothing is measured.
    zeros
        ``"exclude"`` (sparrow/harpy) or ``"include"`` (Pixie) sums of exactly zero in the quantile.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` is.

    Raises
    ------
    ParameterError
        If `q_sum` is no percentage, `threshold` not finite, or `zeros` something else.
    ChannelError
        If `reference` has other channels than `image`.
    ImageError
        If `image` or `reference` is not an image.

    Warns
    -----
    PxprepWarning
        If 0 < `q_sum` <= 1, which is probably a fraction; and if there is no sum to measure (the
        threshold is then 0) or sums are negative.

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
    image = checked(image)
    parse_choice(zeros, "zeros", ZEROS)
    percent = parse_sum_quantile(q_sum)
    if threshold is None:
        measured = image
        if reference is not None:
            reference = checked(reference, "reference")
            measured = reorder_channels(reference, label_keys(image), "reference")
        numbers = sum_threshold(Cohort.of(measured), percent, zeros=zeros, step="sum_mask")
        threshold = numbers["threshold"]
    limit = parse_threshold(threshold)
    dtype = processing_dtype(image)
    array = pixels(image)
    sums = _backends.sum_channels(array, dtype=dtype)
    masked = _backends.map_blocks(
        _blocks.keep_above, array, (sums, "zyx"), (limit, ""), dtype=dtype
    )
    return like(image, masked)


def sum_norm(image: xr.DataArray) -> xr.DataArray:
    """Divide each pixel by its sum over channels.

    Where the sum is not positive, or any channel is NaN, every channel is NaN.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` is.

    Raises
    ------
    ImageError
        If `image` is not an image.

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
    image = checked(image)
    dtype = processing_dtype(image)
    array = pixels(image)
    sums = _backends.sum_channels(array, dtype=dtype)
    normed = _backends.map_blocks(_blocks.divide_by_sums, array, (sums, "zyx"), dtype=dtype)
    return like(image, normed)


def clip(image: xr.DataArray, max: PerChannel) -> xr.DataArray:  # noqa: A002
    """Set values above `max` to `max`; NaN stays.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    max
        Largest value to keep. One number; a sequence in channel order; or a mapping by channel
        label, in which the key ``...`` stands for the channels that are not named.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` is.

    Raises
    ------
    ParameterError
        If `max` is not a finite number.
    ChannelError
        If `max` names channels that the image does not have, or leaves some out.
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[0.5, 1.5, np.nan]]]), dims=("c", "y", "x"))
    >>> ops.clip(image, 1).values.tolist()
    [[[0.5, 1.0, nan]]]
    """
    image = checked(image)
    limits = per_channel(parse_limit(max, "max"), label_keys(image), "max")
    clipped = _backends.map_blocks(
        _blocks.clip_above, pixels(image), (limits, "c"), dtype=processing_dtype(image)
    )
    return like(image, clipped)


def quantile(image: xr.DataArray, q: PerChannel = 99, *, zeros: str = "exclude") -> xr.DataArray:
    """Quantile of the finite pixels of each channel, exact for any size and any chunks.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    q
        Percent, 0 to 100; one number, a sequence or a mapping by channel label.
    zeros
        Whether zeros count: ``"exclude"`` or ``"include"``.

    Returns
    -------
    xarray.DataArray
        Dim ``c``, float64; NaN for a channel where nothing counts; lazy if `image` is. Equal to
        ``numpy.quantile(V, q / 100)`` for the counted values V as float64, to the last bit.

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
    image = checked(image)
    parse_choice(zeros, "zeros", ZEROS)
    percent = per_channel(parse_quantile(q, "q"), label_keys(image), "q")
    values = exact_quantiles([pixels(image)], percent, zeros=zeros == "include").value
    coords = {CHANNEL: image.coords[CHANNEL]} if channel_labels(image) is not None else None
    return xr.DataArray(values, dims=(CHANNEL,), coords=coords, name="quantile")


def pixel_sum(image: xr.DataArray) -> xr.DataArray:
    """Sum over channels of each pixel, NaN where any channel is NaN.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.

    Returns
    -------
    xarray.DataArray
        The dims of `image` without ``c``, float32 or float64; lazy if `image` is.

    Raises
    ------
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
    >>> ops.pixel_sum(image).values.tolist()
    [[4.0, 6.0]]
    """
    image = checked(image)
    sums = _backends.sum_channels(pixels(image), dtype=processing_dtype(image))
    return like_plane(image, sums)


def coarsen(image: xr.DataArray, factors: Mapping[str, int]) -> xr.DataArray:
    """Mean over blocks of pixels, NaN ignored; NaN where a block has nothing else.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    factors
        Block size in pixels by dimension. Pixels at the end that fill no block are left out.

    Returns
    -------
    xarray.DataArray
        Float32 or float64, without coordinates along the coarsened dimensions; lazy if `image` is.
        Each mean is taken in float64 and rounded once.

    Raises
    ------
    ParameterError
        If a factor is not a positive whole number, or larger than the image.
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 3, np.nan, 4, 5]]]), dims=("c", "y", "x"))
    >>> ops.coarsen(image, {"x": 2}).values.tolist()
    [[[2.0, 4.0]]]
    """
    image = checked(image)
    if not isinstance(factors, Mapping):
        raise ParameterError(
            f"factors must be a mapping of dimension to block size, as {{'y': 2, 'x': 2}}, got "
            f"{factors!r}"
        )
    for dim, factor in factors.items():
        parse_count(factor, f"factors[{dim!r}]", "a positive whole number")
        if dim not in SPATIAL or image.sizes.get(dim, 0) < factor:
            raise ParameterError(
                f"factors must fit the image's spatial dims: {dim!r} cannot be divided by "
                f"{factor} in {dict(image.sizes)}"
            )
    z, y, x = (factors.get(dim, 1) for dim in SPATIAL)
    array = _backends.coarsen(pixels(image), (z, y, x), dtype=processing_dtype(image))
    along = [name for name, coord in image.coords.items() if set(coord.dims) & set(factors)]
    kept = {dim: slice(image.sizes[dim] // factor) for dim, factor in factors.items()}
    return like(image.drop_vars(along).isel(kept), array)


def divide(image: xr.DataArray, scale: xr.DataArray) -> xr.DataArray:
    """Divide each channel by a scale that has been measured.

    Parameters
    ----------
    image
        Dims ``c``, ``y``, ``x``, optionally ``z``, in any order; any real dtype.
    scale
        Dim ``c``; matched by label, or by position if it has no labels. Rounded to the type of the
        result before the division. May be lazy.

    Returns
    -------
    xarray.DataArray
        Like `image`, float32 or float64; lazy if `image` or `scale` is.

    Raises
    ------
    ParameterError
        If `scale` has not one value per channel.
    ChannelError
        If the labels of `scale` are not those of the image.
    ImageError
        If `image` is not an image.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[1, 2]], [[3, 4]]]), dims=("c", "y", "x"))
    >>> ops.divide(image, xr.DataArray([2.0, 4.0], dims="c")).values.tolist()
    [[[0.5, 1.0]], [[0.75, 1.0]]]
    """
    image = checked(image)
    expected = {CHANNEL: image.sizes[CHANNEL]}
    if not isinstance(scale, xr.DataArray) or dict(scale.sizes) != expected:
        raise ParameterError(
            f"scale must be an xarray.DataArray with the sizes {expected}, one value for each "
            f"channel of the image, got {scale!r:.200}"
        )
    if channel_labels(scale) is not None:
        scale = reorder_channels(scale, label_keys(image), "scale")
    divided = _backends.map_blocks(
        _blocks.divide, pixels(image), (scale.data, CHANNEL), dtype=processing_dtype(image)
    )
    return like(image, divided)


def _norm(image: xr.DataArray, q: Any, parameter: str, step: str) -> xr.DataArray:
    image = checked(image)
    cohort = Cohort.of(image)
    numbers = channel_scales(cohort, parse_quantile(q, parameter), parameter=parameter, step=step)
    return divide(image, numbers["scale"])

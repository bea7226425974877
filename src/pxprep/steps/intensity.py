"""Steps on intensities: background subtracted, values clipped to quantiles or brought to 0 to 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..aliases import Block, Images, Label, PerChannel
from ..channels import per_channel
from ..engine.programs import ClipBetween, Operation, Rescale, SubtractConstant, SubtractOpening
from ..errors import ParameterError
from ..images.cohort import Cohort
from ..images.parameters import (
    ZEROS,
    parse_background,
    parse_choice,
    parse_low_quantile,
    parse_quantile,
)
from .statistics import channel_limits, channel_ranges


def subtract_background(
    images: Images,
    radius: PerChannel | None = None,
    constant: PerChannel | None = None,
    *,
    image: Any = None,
) -> Any:
    """Subtract the background of each channel, and of each z-plane: no value is below 0 after.

    With `radius`, the background is what is wider than a disc of that radius (white top-hat). With
    `constant`, it is that number everywhere.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    radius
        Of the disc, a whole number of pixels up to 1000. One number; a sequence in channel order;
        or a mapping by channel label, in which the key ``...`` stands for the channels that are
        not named. Larger than what is looked for; 0 leaves a channel as it is, bit for bit.
    constant
        At least 0, in units of the image; values of up to that become 0. Given as `radius`. One of
        both must be given.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are. NaN stays NaN.

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
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[5, 5, 9, 5, 6, 6, 6]]]), dims=("c", "y", "x"))
    >>> ops.subtract_background(image, radius=1).values.tolist()
    [[[0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]]]
    >>> ops.subtract_background(image, constant=5.5).values.tolist()
    [[[0.0, 0.0, 3.5, 0.0, 0.5, 0.5, 0.5]]]
    """
    radius, constant = parse_background(radius, constant)
    cohort = Cohort.of(images, image=image)
    return cohort.apply(background_operation(radius, constant, cohort.labels)).given()


def background_operation(radius: Any, constant: Any, labels: Sequence[Label]) -> Operation:
    """What subtracts the background, given one of a radius and a constant."""
    if constant is None:
        return SubtractOpening(tuple(map(int, per_channel(radius, labels, "radius"))))
    return SubtractConstant(tuple(per_channel(constant, labels, "constant").tolist()))


def percentile_clip(
    images: Images,
    low: PerChannel = 1,
    high: PerChannel = 99,
    *,
    zeros: str = "exclude",
    pool: str | None = "mean",
    image: Any = None,
    where: Any = None,
) -> Any:
    """Set values below a low quantile of their channel to it, and those above a high one.

    Both quantiles are exact whatever the chunks, and found in the passes that one takes (see
    `quantile`).

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    low, high
        Percent, 0 to 100, `low` below `high` in every channel; 0 and 100 are the smallest and the
        largest value. One number; a sequence in channel order; or a mapping by channel label, in
        which the key ``...`` stands for the channels that are not named.
    zeros
        Whether zeros count in the quantiles: ``"exclude"`` or ``"include"``. They are clipped as
        all others: a `low` above 0 raises them to it, and `minmax` brings them back to 0.
    pool
        How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
        ``"pixels"`` of all images, or None: each image by itself.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are clipped. None measures all.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are. NaN stays NaN.

    Raises
    ------
    ParameterError
        If `low` or `high` is no percentage, `low` is not below `high`, `high` looks like a fraction
        (0 < high <= 1), `zeros` is something else, or `where` does not fit.
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
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.arange(6.0).reshape(1, 1, 6), dims=("c", "y", "x"))
    >>> ops.percentile_clip(image, 25, 75).values.tolist()
    [[[2.0, 2.0, 2.0, 3.0, 4.0, 4.0]]]
    >>> ops.percentile_clip(image, 20, 80, zeros="include").values.tolist()
    [[[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]]]
    """
    low, high = parse_low_quantile(low, "low"), parse_quantile(high, "high")
    parse_choice(zeros, "zeros", ZEROS)
    cohort = Cohort.of(images, pool, image, where=where)
    percents = percents_of(low, high, cohort.labels)
    numbers = channel_limits(cohort, percents, zeros=zeros, step="percentile_clip")
    return cohort.apply_measured(ClipBetween(), numbers, "low", "high").given()


def minmax(
    images: Images, *, pool: str | None = "mean", image: Any = None, where: Any = None
) -> Any:
    """Bring each channel to 0 to 1: subtract its smallest value, divide by its range.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping or a tree of images.
    pool
        How a cohort is measured: ``"mean"`` of the images' minima, and of their maxima; those of
        the ``"pixels"`` of all images; or None: each image by itself. With ``"mean"`` some values
        of several images are below 0 or above 1.
    image
        Name of the variable that is the image, if `images` is a tree whose datasets have several.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are rescaled. None measures all.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they are. NaN stays NaN.

    Raises
    ------
    ParameterError
        If `where` does not fit.
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
    >>> from pxprep import ops
    >>> image = xr.DataArray(np.array([[[2.0, 4.0, np.nan, 10.0]]]), dims=("c", "y", "x"))
    >>> ops.minmax(image).values.tolist()
    [[[0.0, 0.25, nan, 1.0]]]
    """
    cohort = Cohort.of(images, pool, image, where=where)
    numbers = channel_ranges(cohort, step="minmax")
    return cohort.apply_measured(Rescale(), numbers, "min", "max").given()


def percents_of(low: Any, high: Any, labels: tuple[Label, ...]) -> Block:
    """Both percentages of each channel, shape (2, c), from what their parsers returned."""
    lows, highs = per_channel(low, labels, "low"), per_channel(high, labels, "high")
    wrong = [
        f"channel {label!r} has low={own_low:g} and high={own_high:g}"
        for label, own_low, own_high in zip(labels, lows, highs, strict=True)
        if own_low >= own_high
    ]
    if wrong:
        raise ParameterError(f"low must be below high in every channel: {', '.join(wrong)}")
    return np.stack([lows, highs])

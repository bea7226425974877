"""Each step a second time, in plain NumPy and SciPy, written from docs/method.md alone.

Images are arrays with the axes (c, y, x) or (c, z, y, x). Functions have the names and parameters
of those in `pxprep.ops`, so that a test can call both. All must agree to the last bit,
but for `blur` and, with "nnls", `compensate`.
"""

import math
from fractions import Fraction

import numpy as np
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter, grey_dilation, grey_erosion, median_filter
from scipy.optimize import nnls

# Steps that tests go through, and what they call each with.
STEPS = {
    "quantile_norm": {"q": 97},
    "post_norm": {"q_post": 99.9},
    "blur": {"sigma": 1.5},
    "sum_mask": {"q_sum": 20},
    "sum_norm": {},
    "clip": {"max": 30.7},
    "arcsinh": {"cofactor": 3.3},
    "log1p": {},
    "remove_hot_pixels": {"threshold": 12.5},
    "subtract_background": {"radius": 2},
    "percentile_clip": {"low": 4, "high": 90, "zeros": "include"},
    "minmax": {},
    "threshold": {"q": 60},
    "zscore": {},
    "robust_zscore": {},
    "median": {"size": 3},
    "pixel_sum": {},
    "quantile": {"q": 35},
}


def float_type(dtype):
    dtype = np.dtype(dtype)
    return np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32


def to_float(image):
    image = image.astype(float_type(image.dtype))
    image[np.isinf(image)] = np.nan
    return image


def quantile_of(values, q, zeros="exclude"):
    values = to_float(values)
    counts = np.isfinite(values)
    if zeros == "exclude":
        counts &= values != 0
    values = values[counts].astype(np.float64)
    return np.quantile(values, q / 100) if values.size else np.nan


def quantile(image, q=99, zeros="exclude"):
    by_channel = np.broadcast_to(q, len(image))
    return np.array([quantile_of(*pair, zeros) for pair in zip(image, by_channel, strict=True)])


def quantile_norm(image, q=99):
    scale = quantile(image, q)
    scale[np.isnan(scale) | (scale == 0)] = 1
    image = to_float(image)
    return np.stack(
        [channel / image.dtype.type(s) for channel, s in zip(image, scale, strict=True)]
    )


def post_norm(image, q_post=99.9):
    return quantile_norm(image, q_post)


def blur(image, sigma=2):
    if sigma is None:
        return image
    by_channel = np.broadcast_to(sigma, len(image))
    return np.stack([_blur_channel(*pair) for pair in zip(image, by_channel, strict=True)])


def _blur_channel(channel, sigma):
    if sigma == 0:
        return channel.astype(float_type(channel.dtype))
    planes = to_float(channel).reshape(-1, *channel.shape[-2:])
    blurred = np.stack([_blur_plane(plane.astype(np.float64), sigma) for plane in planes])
    return blurred.reshape(channel.shape).astype(planes.dtype)


def _blur_plane(plane, sigma):
    valid = ~np.isnan(plane)
    value, weight = (
        gaussian_filter(array, sigma, mode="reflect", truncate=4.0)
        for array in (np.where(valid, plane, 0.0), valid.astype(np.float64))
    )
    return np.divide(value, weight, out=np.full_like(plane, np.nan), where=valid)


def pixel_sum(image):
    first, *others = to_float(image)
    for channel in others:
        first = first + channel
    return first


def sum_mask(image, q_sum=5, reference=None, threshold=None, zeros="exclude"):
    measured_elsewhere = threshold is None and reference is not None
    if threshold is None:
        threshold = quantile_of(pixel_sum(image if reference is None else reference), q_sum, zeros)
        threshold = 0 if np.isnan(threshold) else threshold
    masked = to_float(image)
    sums = pixel_sum(image).astype(np.float64)
    kept = sums > threshold
    if measured_elsewhere:
        tie = 2.0**-18 if masked.dtype == np.float32 else 2.0**-47
        whole = (sums == np.floor(sums)) & (threshold == np.floor(threshold))
        kept &= whole | (sums > threshold + abs(threshold) * tie)
    masked[:, ~kept] = np.nan
    return masked


def sum_norm(image):
    sums = pixel_sum(image)
    normed = to_float(image)
    normed[:, ~(sums > 0)] = np.nan
    return normed / np.where(sums > 0, sums, 1)


def arcsinh(image, cofactor=5):
    image = to_float(image)
    by_channel = np.broadcast_to(cofactor, len(image)).astype(image.dtype)
    return np.stack(
        [np.arcsinh(channel / by) for channel, by in zip(image, by_channel, strict=True)]
    )


def log1p(image):
    image = to_float(image)
    image[image <= -1] = np.nan
    return np.log1p(image)


def remove_hot_pixels(image, threshold):
    image = to_float(image)
    result = image.copy()
    by_channel = np.broadcast_to(threshold, len(image)).astype(image.dtype)
    for place in np.ndindex(image.shape):
        *plane, y, x = place
        square = image[(*plane, slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2))].copy()
        square[min(y, 1), min(x, 1)] = np.nan
        if np.isfinite(square).any() and image[place] - np.nanmax(square) > by_channel[place[0]]:
            result[place] = np.nanmax(square)
    return result


def median(image, size=3):
    result = image.astype(float_type(image.dtype))
    for channel, own in enumerate(np.broadcast_to(size, len(image))):
        for plane in np.ndindex(image.shape[1:-2]) if own > 1 else ():
            result[channel, *plane] = _median_plane(to_float(image[channel, *plane]), int(own))
    return result


def _median_plane(plane, size):
    """Of SciPy where a square is whole; else of what is there."""
    whole = median_filter(np.where(np.isnan(plane), 0, plane), size, mode="reflect")
    padded = np.pad(plane, size // 2, mode="symmetric")
    squares = sliding_window_view(padded, (size, size)).reshape(*plane.shape, -1)
    count = np.sum(~np.isnan(squares), axis=-1, keepdims=True)
    ordered = np.sort(squares, axis=-1)  # NaN last
    places = np.maximum(np.concatenate([count - 1, count], axis=-1), 0) // 2
    low, high = np.moveaxis(np.take_along_axis(ordered, places, axis=-1), -1, 0)
    others = np.where(low == high, low, low / 2 + high / 2)
    return np.where(np.isnan(plane), plane, np.where(count[..., 0] == size**2, whole, others))


def subtract_background(image, radius=None, constant=None):
    given = image
    image = to_float(image)
    if constant is not None:
        by_channel = np.broadcast_to(constant, len(image)).astype(image.dtype)
        pairs = zip(image, by_channel, strict=True)
        return np.stack([np.maximum(channel - by, image.dtype.type(0)) for channel, by in pairs])
    result = given.astype(image.dtype)
    for channel, own in enumerate(np.broadcast_to(radius, len(image))):
        for plane in np.ndindex(image.shape[1:-2]) if own else ():
            result[channel, *plane] = _top_hat(image[channel, *plane], int(own))
    return result


def subtract_channels(image, backgrounds, scale=1, exposures=None, drop=False):
    """Channels are called by their positions; `...` stands for those that `scale` does not name."""
    result, image = image.astype(float_type(image.dtype)), to_float(image)
    for channel, other in backgrounds.items():
        factor = scale.get(channel, scale.get(...)) if isinstance(scale, dict) else scale
        if exposures is not None:
            factor = factor * (exposures[channel] / exposures[other])
        rest = image[channel] - image[other] * image.dtype.type(factor)
        result[channel] = np.maximum(rest, image.dtype.type(0))
    return np.delete(result, sorted(set(backgrounds.values())), axis=0) if drop else result


def compensate(image, matrix, method="nnls"):
    """`matrix` as an array over all channels."""
    image = to_float(image)
    seen = image.reshape(len(image), -1).astype(np.float64)
    if method == "linear":
        inverse, solved = np.linalg.inv(matrix), np.zeros(seen.shape)
        for other, values in enumerate(seen):
            solved += inverse[other, :, np.newaxis] * values
    else:
        solved = np.full(seen.shape, np.nan)
        for pixel in np.flatnonzero(np.isfinite(seen).all(axis=0)):
            solved[:, pixel], _ = nnls(np.transpose(matrix), seen[:, pixel])
    solved[:, np.isnan(seen).any(axis=0)] = np.nan
    return solved.reshape(image.shape).astype(image.dtype)


def disc(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return y**2 + x**2 <= radius**2


def _top_hat(plane, radius):
    """What is missing or outside the image counts for nothing."""
    lowest = grey_erosion(
        np.where(np.isnan(plane), np.inf, plane),
        footprint=disc(radius),
        mode="constant",
        cval=np.inf,
    )
    opened = grey_dilation(lowest, footprint=disc(radius), mode="constant", cval=-np.inf)
    return plane - opened


def percentile_clip(image, low=1, high=99, zeros="exclude", reference=None):
    measured = image if reference is None else reference
    lows, highs = quantile(measured, low, zeros), quantile(measured, high, zeros)
    image = to_float(image)
    lows = np.where(np.isnan(lows), -np.inf, lows).astype(image.dtype)
    highs = np.where(np.isnan(highs), np.inf, highs).astype(image.dtype)
    return np.stack([np.clip(*parts) for parts in zip(image, lows, highs, strict=True)])


def minmax(image, reference=None):
    image = to_float(image)
    measured = image if reference is None else reference
    lows, highs = quantile(measured, 0, "include"), quantile(measured, 100, "include")
    lows, highs = np.where(np.isnan(lows), [[0], [1]], [lows, highs])
    spans = (highs - lows).astype(image.dtype)
    spans[spans == 0] = 1
    ends = zip(image, lows.astype(image.dtype), spans, strict=True)
    return np.stack([(channel - low) / span for channel, low, span in ends])


def distances(image, centers):
    """How far each value is from a number of its channel, rounded to the image's type."""
    image = to_float(image)
    pairs = zip(image, np.asarray(centers).astype(image.dtype), strict=True)
    return np.stack([np.abs(channel - center) for channel, center in pairs])


def robust_zscore(image):
    centers = quantile(image, 50, "include")
    centers[np.isnan(centers)] = 0
    far = quantile(distances(image, centers), 50, "include")
    return standardized(image, centers, 1.482602218505602 * far)


def moments(image):
    """Mean and standard deviation of each channel, from fractions; each rounded once."""
    rows = [channel[np.isfinite(channel)].tolist() for channel in to_float(image)]
    return np.array([moments_of(row) for row in rows]).T


def moments_of(values):
    if not values:
        return np.nan, np.nan
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum(value * value for value in exact) / len(exact) - mean * mean
    # So many digits that where they end does not matter.
    digits = 1 << 2400
    return float(mean), float(Fraction(math.isqrt(int(variance * digits**2)), digits))


def zscore(image):
    centers, spreads = moments(image)
    return standardized(image, np.where(np.isnan(centers), 0, centers), spreads)


def exact_mean(values):
    """Rounded once."""
    return float(sum(map(Fraction, values)) / len(values))


def standardized(image, centers, spreads):
    image = to_float(image)
    spreads = np.where(np.isnan(spreads) | (spreads.astype(image.dtype) == 0), 1, spreads)
    ends = zip(image, centers.astype(image.dtype), spreads.astype(image.dtype), strict=True)
    return np.stack([(channel - center) / spread for channel, center, spread in ends])


def threshold(image, value=None, q=None, below="zero", zeros="exclude", reference=None):
    if value is None:
        value = quantile(image if reference is None else reference, q, zeros)
        value[np.isnan(value)] = -np.inf
    image = to_float(image)
    limits = np.broadcast_to(value, len(image)).astype(image.dtype)
    instead = image.dtype.type(0 if below == "zero" else np.nan)
    pairs = zip(image, limits, strict=True)
    return np.stack([np.where(channel < limit, instead, channel) for channel, limit in pairs])


def clip(image, max):  # noqa: A002
    image = to_float(image)
    limits = np.broadcast_to(max, len(image)).astype(image.dtype)
    for channel, limit in zip(image, limits, strict=True):
        channel[channel > limit] = limit
    return image


def coarsen(image, factors):
    dims = "czyx" if image.ndim == 4 else "cyx"
    blocks = xr.DataArray(to_float(image).astype(np.float64), dims=list(dims))
    return blocks.coarsen(factors, boundary="trim").mean().values.astype(float_type(image.dtype))


def preprocess(
    image,
    q=99,
    q_sum=5,
    q_post=99.9,
    sigma=2,
    norm_sum=True,
    cap_max=None,
    zeros="exclude",
    blur=blur,
):
    """The reference order; another `blur` lets all the rest be compared to the last bit."""
    unblurred = to_float(image) if q is None else quantile_norm(image, q)
    result = unblurred if sigma is None else blur(unblurred, sigma)
    if q_sum is not None:
        result = sum_mask(result, q_sum, reference=unblurred, zeros=zeros)
    if norm_sum:
        result = sum_norm(result)
    if q_post is not None:
        result = post_norm(result, q_post)
    return result if cap_max is None else clip(result, cap_max)


def plain(image):
    """The values of a DataArray with the axes in the order c, z, y, x."""
    return image.transpose(*(dim for dim in "czyx" if dim in image.dims)).values


def assert_agrees(result, expected, *, exact=True):
    """Equal to the last bit; or (a blur) up to the rounding of the float type."""
    values = plain(result)
    assert values.dtype == expected.dtype
    if exact:
        np.testing.assert_array_equal(values, expected)
        return
    rounding = 2e-6 if values.dtype == np.float32 else 1e-12
    largest = np.nanmax(np.abs(expected), initial=0)
    np.testing.assert_allclose(values, expected, rtol=0, atol=rounding * largest)


def assert_same_bits(result, expected):
    """The same DataArray: labels, coordinates, name, attrs, dtype, and every bit of the values."""
    result, expected = result.compute(), expected.compute()
    xr.testing.assert_identical(result, expected)
    assert result.dtype == expected.dtype
    assert result.values.tobytes() == expected.values.tobytes()

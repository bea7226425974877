"""The steps as functions on labeled images.

Every function takes an image, an `xarray.DataArray` with the dims ``c``, ``y``, ``x`` and
optionally ``z`` in any order, and returns one with the same dims, coordinates, name and attrs. The
input is never modified. Integers, bool, float16 and float32 give float32, float64 stays float64. An
image that holds a NumPy array is processed at once, on all cores; one that holds a Dask array gives
a Dask array and nothing is computed, not even the quantiles, until it is asked for. Both give the
same bits. Infinite pixels count as missing, that is, as NaN.

Or it takes a cohort: a sequence, a mapping of names to images, or an `xarray.DataTree` with an
image in each leaf. The images, which must have the same channels in any order, are measured
together and each is processed; the result is a list, a dict or a tree like the one given. A node
of a tree that holds ``scale0``, ``scale1``, ... is one image, measured and processed at ``scale0``;
its coarser scales are made again.

``docs/method.md`` says what each step means and where it comes from.
"""

from .steps.functions import blur, clip, divide, post_norm, quantile_norm, sum_mask, sum_norm
from .steps.intensity import minmax, percentile_clip, subtract_background
from .steps.summaries import coarsen, pixel_sum, quantile
from .steps.transforms import arcsinh, keep_where, log1p, remove_hot_pixels

__all__ = [
    "arcsinh",
    "blur",
    "clip",
    "coarsen",
    "divide",
    "keep_where",
    "log1p",
    "minmax",
    "percentile_clip",
    "pixel_sum",
    "post_norm",
    "quantile",
    "quantile_norm",
    "remove_hot_pixels",
    "subtract_background",
    "sum_mask",
    "sum_norm",
]

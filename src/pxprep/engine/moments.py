"""Mean and standard deviation of any number of pixels, however they are cut into blocks."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..aliases import Array, DType
from . import backends
from .blocks import float_dtype
from .measuring import as_chain_and_mask
from .passes import Pass, run
from .sinks import AddUp
from .sources import Area
from .sums import MOMENTS, Moments, moments_of


def exact_moments(
    images: Sequence[Array],
    *,
    together: bool = False,
    evaluate: Callable[[list[Array]], list[Array]] | None = None,
    areas: Sequence[Area | None] = (),
) -> Moments:
    """Mean and standard deviation of the finite pixels of each channel, zeros included.

    Both are computed from exact sums, and rounded once. Each image is read once.

    Parameters
    ----------
    images
        Arrays with axes (c, z, y, x), NumPy or Dask, or chains of operations on them, with the same
        number of channels.
    together
        Whether the results have one more row, after those of the images: of all their pixels.
    evaluate, areas
        As for `exact_quantiles`.
    """
    areas = areas or [None] * len(images)
    float_type = np.result_type(*(float_dtype(image.dtype) for image in images))
    if any(map(backends.is_lazy, (*images, *areas))):
        pairs = zip(images, areas, strict=True)
        rows = [backends.chain_of(image).sums(float_type, area) for image, area in pairs]
        rows = rows if evaluate is None else evaluate(rows)
    else:
        parts = [as_chain_and_mask(*pair) for pair in zip(images, areas, strict=True)]
        passes = [Pass(chain, (AddUp(float_type),), where) for chain, where in parts]
        rows = [*run(passes).values()]
    if together:
        rows = [*rows, sum(rows[1:], rows[0])]
    return _moments(rows, float_type)


def _moments(rows: Sequence[Array], float_type: DType) -> Moments:
    settle = partial(moments_of, float_type=float_type)
    moments = [backends.per_channel(settle, (row, "cs"), dtype=MOMENTS) for row in rows]
    return Moments(*(np.stack([one[name] for one in moments]) for name in Moments._fields))

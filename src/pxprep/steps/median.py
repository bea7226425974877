"""Median of the square around each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label, NumpyArray
from ..engine.kernels.median import COLUMNS, median_network, mend_medians, take_medians
from ..engine.programs import Operation, Strip
from ..engine.windows import Window
from .base import Step
from .parameters import Side

__all__ = ["Median"]


@dataclass(frozen=True)
class Median(Step):
    """Set each pixel to the median of the square around it, in each channel and each z-plane.

    Without NaNs the result is that of ``scipy.ndimage.median_filter(plane, size, mode="reflect")``.
    A NaN pixel stays NaN and does not count for its neighbours.

    Parameters
    ----------
    size
        Side of the square: 3 or 5 pixels. One number; a sequence in channel order; or a mapping by
        channel label, in which the key ``...`` stands for the channels that are not named. 1 leaves
        a channel as it is, bit for bit.

    Raises
    ------
    ParameterError
        If `size` is not 1, 3 or 5.
    ChannelError
        If `size` names channels that the image does not have, or leaves some out.

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

    kind = "median"
    size: Side = 3

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The median, with the square of each channel."""
        return TakeMedians(tuple(map(int, self.each("size", labels))))


@dataclass(frozen=True)
class TakeMedians(Operation):
    """Each pixel becomes the median of the square around it; a side of 1 leaves a channel be."""

    sizes: tuple[int, ...]
    is_pointwise = is_cheap = False

    @property
    def depth(self) -> int:
        """Half of the widest square."""
        return max(self.sizes) // 2

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Become the medians around the pixels that are wanted."""
        block, want, program = strip.block(), strip.want, strip.program
        made = strip.new_block()
        for channel, size in enumerate(self.sizes):
            have = want.grown(size // 2, program.height, program.width)
            for plane, out in zip(block[channel], made[channel], strict=True):
                values = plane[have.within(strip.window)]
                if size == 1:
                    out[...] = values
                else:
                    _filter(_surrounded(values, have, want, size // 2), size, out)
        strip.become(made, want)


def _surrounded(values: NumpyArray, have: Window, want: Window, depth: int) -> NumpyArray:
    """The pixels of `have`, mirrored where the image ends, `depth` of them around `want`."""
    sides = (
        (depth - (want.top - have.top), depth - (have.bottom - want.bottom)),
        (depth - (want.left - have.left), depth - (have.right - want.right)),
    )
    padded = np.pad(values, sides, mode="symmetric")
    padded[np.isinf(padded)] = np.nan
    padded += 0  # so that zeros have one sign
    return padded


def _filter(padded: NumpyArray, size: int, out: NumpyArray) -> None:
    """Write to `out` the median around each pixel, given those with half a square around them."""
    take_medians(padded, size, median_network(size), np.empty((size**2, COLUMNS), out.dtype), out)
    if np.isnan(padded).any():
        mend_medians(padded, size, np.empty(size**2, out.dtype), out)

"""Set pixels far above all their neighbours to the largest of these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label
from ..engine import neighbours
from ..engine.programs import Operation, Strip
from .base import Step
from .parameters import AtLeastZero

__all__ = ["RemoveHotPixels"]


@dataclass(frozen=True)
class RemoveHotPixels(Step):
    """Set pixels that are far above all their neighbours to the largest of these.

    The neighbours are the up to eight pixels around a pixel in its z-plane, as they came; those
    that are missing do not count.

    Parameters
    ----------
    threshold
        How much larger than the largest neighbour a pixel may be, 0 or more, in units of the image.
        One number; a sequence in channel order; or a mapping by channel label, in which the key
        ``...`` stands for the channels that are not named.

    Raises
    ------
    ParameterError
        If `threshold` is negative or not finite.
    ChannelError
        If `threshold` names channels that the image does not have, or leaves some out.

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

    kind = "remove_hot_pixels"
    threshold: AtLeastZero

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The filter, with the threshold of each channel."""
        return CoolHotPixels(self.each("threshold", labels))


@dataclass(frozen=True)
class CoolHotPixels(Operation):
    """Values above all their neighbours by more than a threshold become the largest of these."""

    thresholds: tuple[float, ...]
    is_pointwise = is_cheap = False

    @property
    def depth(self) -> int:
        """The neighbours."""
        return 1

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Become the pixels that are wanted, without hot ones."""
        block, inner = strip.block(), strip.want.within(strip.window)
        cooled = neighbours.cool_hot_pixels(block, inner, np.array(self.thresholds))
        strip.become(cooled, strip.want)

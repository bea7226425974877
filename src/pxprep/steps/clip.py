"""Set values above a limit to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label
from ..engine import blocks
from ..engine.programs import Operation, Strip
from .base import Step
from .parameters import Cap

__all__ = ["Clip"]


@dataclass(frozen=True)
class Clip(Step):
    """Set values above `max` to `max`; NaN stays.

    Parameters
    ----------
    max
        Largest value to keep. One number; a sequence in channel order; or a mapping by channel
        label, in which the key ``...`` stands for the channels that are not named.

    Raises
    ------
    ParameterError
        If `max` is not a finite number.
    ChannelError
        If `max` names channels that the image does not have, or leaves some out.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0.5, 1.5, np.nan]]]), dims=("c", "y", "x"))
    >>> image.pxprep.clip(1).values.tolist()
    [[[0.5, 1.0, nan]]]
    """

    kind = "clip"
    max: Cap

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Clipping of each channel."""
        return ClipAbove(self.each("max", labels))


@dataclass(frozen=True)
class ClipAbove(Operation):
    """Values above the limit of their channel become that limit."""

    limits: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Clip."""
        highs = np.array(self.limits)
        blocks.clip_between(strip.block(), np.stack([np.full_like(highs, -np.inf), highs]))

"""Set values below a threshold to 0, or to NaN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..aliases import Label
from ..engine import blocks
from ..engine.programs import Operation, Strip
from .base import Step
from .parameters import CountZeros, Number, Percent, ZeroOrNan, require_one_of
from .statistics import Thresholds

__all__ = ["Threshold"]


@dataclass(frozen=True)
class Threshold(Step):
    """Set values below a threshold of their channel to 0, or to NaN.

    A value that is as large as the threshold stays, and so do all above it.

    Parameters
    ----------
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

    Raises
    ------
    ParameterError
        If both or none of `value` and `q` are given, one breaks its rule, `q` looks like a fraction
        (0 < q <= 1), or `below` or `zeros` is something else.
    ChannelError
        If `value` or `q` names channels that the image does not have, or leaves some out.

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

    kind = "threshold"
    operands = ("value",)
    value: Number | None = None
    q: Percent | None = None
    below: ZeroOrNan = "zero"
    zeros: CountZeros = "exclude"

    def __post_init__(self) -> None:
        require_one_of(value=self.value, q=self.q)
        super().__post_init__()

    def statistic(self, labels: Sequence[Label]) -> Thresholds | None:
        """The quantile of each channel, if it is asked for."""
        if self.q is None:
            return None
        return Thresholds(np.array([self.each("q", labels)]), self.zeros == "include")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The replacement of what is below the threshold."""
        known = None if self.value is None else self.each("value", labels)
        return PutBelow(0.0 if self.below == "zero" else np.nan, known)


@dataclass(frozen=True)
class PutBelow(Operation):
    """Values below the threshold of their channel, measured or known, become another number."""

    instead: float
    known: tuple[float, ...] | None

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Replace them."""
        thresholds = numbers if self.known is None else np.array(self.known)
        blocks.put_below(strip.block(), thresholds, self.instead)

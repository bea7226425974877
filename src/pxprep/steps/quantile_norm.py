"""Divide each channel by its quantile."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label
from ..engine.programs import Divide, Operation
from .base import Step
from .parameters import Percent
from .statistics import Scales

__all__ = ["QuantileNorm"]


@dataclass(frozen=True)
class QuantileNorm(Step):
    """Divide each channel by its quantile.

    The quantile is that of the finite, non-zero pixels, exact whatever the chunks (see
    `pxprep.quantile`); each channel has its own.

    Parameters
    ----------
    q
        Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
        in which the key ``...`` stands for the channels that are not named.

    Raises
    ------
    ParameterError
        If `q` is no percentage, or looks like a fraction (0 < q <= 1).
    ChannelError
        If `q` names channels that the image does not have, or leaves some out.

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
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[0, 1, 2, 4]], [[0, 30, 10, 20]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["CD3", "CD20"]},
    ... )
    >>> image.pxprep.quantile_norm({"CD3": 100, ...: 50}).values.tolist()
    [[[0.0, 0.25, 0.5, 1.0]], [[0.0, 1.5, 0.5, 1.0]]]
    """

    kind = "quantile_norm"
    operands = ("scale",)
    q: Percent = 99

    def statistic(self, labels: Sequence[Label]) -> Scales:
        """The scale of each channel."""
        return Scales(np.array([self.each("q", labels)]))

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Division by the scale."""
        return Divide()

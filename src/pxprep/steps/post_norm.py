"""Divide each channel by its quantile once more."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label
from ..engine.programs import Divide, Operation
from .base import Step
from .parameters import Percent
from .statistics import Scales

__all__ = ["PostNorm"]


@dataclass(frozen=True)
class PostNorm(Step):
    """Divide each channel by its quantile once more, after the other steps.

    As `pxprep.ops.quantile_norm`, with a default for the end of a pipeline.

    Parameters
    ----------
    q_post
        Percent, 0 to 100. One number; a sequence in channel order; or a mapping by channel label,
        in which the key ``...`` stands for the channels that are not named.

    Raises
    ------
    ParameterError
        If `q_post` is no percentage, or looks like a fraction (0 < q_post <= 1).
    ChannelError
        If `q_post` names channels that the image does not have, or leaves some out.

    Warns
    -----
    PxprepWarning
        Once for channels without any finite non-zero pixel (their scale is 1), for negative and
        for infinite pixels. For a lazy image when it is computed.

    Notes
    -----
    The last step of pixel clustering preprocessing in ark-analysis (Pixie) and in sparrow/harpy.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, np.nan, 4.0]]]), dims=("c", "y", "x"))
    >>> image.pxprep.post_norm(100).values.tolist()
    [[[0.25, nan, 1.0]]]
    """

    kind = "post_norm"
    operands = ("scale",)
    q_post: Percent = 99.9

    def statistic(self, labels: Sequence[Label]) -> Scales:
        """The scale of each channel."""
        return Scales(np.array([self.each("q_post", labels)]))

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Division by the scale."""
        return Divide()

"""Inverse hyperbolic sine of each value."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label
from ..engine import blocks
from ..engine.programs import Operation, Strip
from .base import Step
from .parameters import Positive

__all__ = ["Arcsinh"]


@dataclass(frozen=True)
class Arcsinh(Step):
    """Inverse hyperbolic sine of each value, divided by a cofactor first.

    Linear near zero and logarithmic far from it: the cofactor is where the one becomes the other.

    Parameters
    ----------
    cofactor
        Above 0, in units of the image. One number; a sequence in channel order; or a mapping by
        channel label, in which the key ``...`` stands for the channels that are not named.

    Raises
    ------
    ParameterError
        If `cofactor` is not above 0.
    ChannelError
        If `cofactor` names channels that the image does not have, or leaves some out.

    Notes
    -----
    Mass cytometry uses cofactor 5 (Bendall et al. 2011), imaging mass cytometry 1 to 5,
    fluorescence around 150.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0, 5, 500]]]), dims=("c", "y", "x"))
    >>> image.pxprep.arcsinh().astype(float).values.round(2).tolist()
    [[[0.0, 0.88, 5.3]]]
    """

    kind = "arcsinh"
    cofactor: Positive = 5

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The transformation, with the cofactor of each channel."""
        return TakeArcsinh(self.each("cofactor", labels))


@dataclass(frozen=True)
class TakeArcsinh(Operation):
    """Inverse hyperbolic sine of each value, divided by the cofactor of its channel."""

    cofactors: tuple[float, ...]
    is_cheap = False

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Divide, and transform."""
        strip.divide(np.array(self.cofactors))
        blocks.arcsinh(strip.block())

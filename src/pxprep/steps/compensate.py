"""Undo the spillover of channels into each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np

from ..aliases import Label
from ..channels import listed_labels, require_known
from ..engine.programs import Operation, Strip
from ..engine.unmixing import unmix
from ..images.parameters import parse_choice
from .base import Step
from .parameters import Parser
from .spillover import as_array, parse_spillover

__all__ = ["Compensate"]

Spillover = Annotated[Any, Parser(parse_spillover, per_channel=False)]
Method = Annotated[
    str, Parser(partial(parse_choice, choices=("nnls", "linear")), per_channel=False)
]


@dataclass(frozen=True)
class Compensate(Step):
    """Undo the spillover of channels into each other, which was measured on single stains.

    In each pixel a channel shows its own signal and fractions of others'. The signals before the
    spillover are estimated by least squares without negative values, or by solving the linear
    equations. Channels that are not in `matrix` stay as they are, with a warning; where a channel
    that is in it is NaN, all that are in it become NaN.

    Parameters
    ----------
    matrix
        Fractions from 0 to 1: a row for each channel that spills, a column for each that it is seen
        in, both with labels, 1 where they are the same. A `pandas.DataFrame`, an `xarray.DataArray`
        with labels along two dims, the path of a CSV file as CATALYST's matrices are written by
        ``write.csv``, or a mapping of labels to mappings such as ``{"CD3": {"CD8": 0.02}}``. A
        channel that is only a row gets nothing from others; one that is only a column does not
        spill.
    method
        ``"nnls"``, non-negative least squares; or ``"linear"``, which may give negative values.

    Raises
    ------
    ParameterError
        If `matrix` is no such matrix or cannot be inverted, or `method` is not known.
    ChannelError
        If `matrix` names a channel twice, or one that the image does not have.

    Warns
    -----
    PxprepWarning
        Once, of the channels that are not in `matrix`.

    Notes
    -----
    The compensation of CATALYST (Chevrier et al. 2018), where nnls is the default, too. Where the
    linear solution has no negative value, both are the same.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[100, 0]], [[35, 10]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["Gd155", "Gd156"]},
    ... )
    >>> image.pxprep.compensate({"Gd155": {"Gd156": 0.25}}).values.tolist()
    [[[100.0, 0.0]], [[10.0, 10.0]]]
    """

    kind = "compensate"
    matrix: Spillover
    method: Method = "nnls"

    def check(self, labels: Sequence[Label]) -> None:
        """Raise ChannelError if the image lacks a channel of the matrix."""
        require_known(list(self.matrix), labels, "matrix")

    def remarks(self, labels: Sequence[Label]) -> list[str]:
        """Which channels stay as they are, because the matrix does not have them."""
        left = [label for label in labels if label not in self.matrix]
        if len(left) == 1:
            return [f"channel {left[0]!r} is not in the matrix: it stays as it is"]
        rest = "are not in the matrix: they stay as they are"
        return [f"channels {listed_labels(left)} {rest}"] if left else []

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The solution, with the channels of the matrix in the order of the image."""
        known = list(self.matrix)
        positions = tuple(position for position, label in enumerate(labels) if label in self.matrix)
        order = [known.index(labels[position]) for position in positions]
        mixing = as_array(self.matrix)[np.ix_(order, order)]
        return Unmix(positions, tuple(map(tuple, mixing.tolist())), self.method == "linear")


@dataclass(frozen=True)
class Unmix(Operation):
    """Channels at some positions become what they were before they were mixed."""

    positions: tuple[int, ...]
    mixing: tuple[tuple[float, ...], ...]
    is_linear: bool
    is_pointwise = is_cheap = False

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Unmix."""
        unmix(strip.block(), self.positions, np.array(self.mixing), is_linear=self.is_linear)

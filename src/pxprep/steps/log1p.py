"""Natural logarithm of one plus each value."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..aliases import Label
from ..engine import blocks
from ..engine.notes import MakeNote, Note, say_missing
from ..engine.programs import Operation, Strip
from .base import Step

__all__ = ["Log1p"]


@dataclass(frozen=True)
class Log1p(Step):
    """Natural logarithm of one plus each value; NaN where that is not above zero.

    Warns
    -----
    PxprepWarning
        Once, with how many values of which channels become NaN. For a lazy image when all of it is
        computed; not by worker processes, which only say that there are some.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0, 9, 99]]]), dims=("c", "y", "x"))
    >>> image.pxprep.log1p().astype(float).values.round(2).tolist()
    [[[0.0, 2.3, 4.61]]]
    """

    kind = "log1p"

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The transformation."""
        return TakeLog1p()


@dataclass(frozen=True)
class TakeLog1p(Operation):
    """Natural logarithm of one plus each value; `note` counts those of which there is none."""

    note: Note | None = field(default=None, compare=False, repr=False)

    is_cheap = False

    def noticing(self, make_note: MakeNote, reference: object) -> Operation:
        """The operation that notices values without a logarithm."""
        say = partial(say_missing, "became NaN, as they were -1 or below")
        return replace(self, note=make_note("log1p", say, "values of -1 or below became NaN"))

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Transform."""
        block = strip.block()
        strip.notice(self.note, lambda at: blocks.count_low(block[:, :, *at.within(strip.window)]))
        blocks.log1p(block)

"""Divide each pixel by its sum over channels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..aliases import Label
from ..engine import blocks
from ..engine.notes import MakeNote, Note, say_missing
from ..engine.programs import Operation, Strip
from .base import Step

__all__ = ["SumNorm"]


@dataclass(frozen=True)
class SumNorm(Step):
    """Divide each pixel by its sum over channels.

    Where the sum is not positive, or any channel is NaN, every channel is NaN.

    Warns
    -----
    PxprepWarning
        Once, with how many pixels become NaN as their sum is negative. For a lazy image when all of
        it is computed; not by worker processes, which only say that there are some.

    Notes
    -----
    Channels are summed one after the other in their order, in the type of the result. Pixie and
    sparrow/harpy do this so that pixels cluster by composition and not by brightness.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[1.0, 0.0]], [[3.0, 0.0]]]), dims=("c", "y", "x"))
    >>> image.pxprep.sum_norm().values.tolist()
    [[[0.25, nan]], [[0.75, nan]]]
    """

    kind = "sum_norm"

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Division by the sums."""
        return DivideBySums()


@dataclass(frozen=True)
class DivideBySums(Operation):
    """Pixels are divided by their sum over channels; NaN where that is not positive.

    `note` counts negative sums.
    """

    note: Note | None = field(default=None, compare=False, repr=False)

    is_pointwise = False

    def noticing(self, make_note: MakeNote, reference: object) -> Operation:
        """The operation that counts negative sums; sums of zero are pixels without signal."""
        say = partial(say_missing, "became NaN, as their sum over channels is negative")
        said_by_workers = "pixels whose sum over channels is negative became NaN"
        return replace(self, note=make_note("sum_norm", say, said_by_workers))

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Divide."""
        sums = strip.sums()
        strip.notice(self.note, lambda own: [(sums[:, *own.within(strip.window)] < 0).sum()])
        block = strip.undropped
        blocks.divide_by_sums(block, sums)
        strip.become(block, strip.window)

"""Subtract a background channel from each of some channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..aliases import Label
from ..channels import listed_labels, require_known, require_same
from ..engine import blocks
from ..engine.programs import Operation, Strip
from ..errors import ChannelError
from .base import Step
from .parameters import OtherChannels, Scale, YesOrNo, parse_exposures

__all__ = ["SubtractChannels"]


@dataclass(frozen=True)
class SubtractChannels(Step):
    """Subtract from some channels another one times a factor; negative results become 0.

    The other one holds what is in the channel without its stain: autofluorescence, mostly. Several
    channels may have the same one. All are taken as they came, and channels that are not named stay
    as they are.

    Parameters
    ----------
    backgrounds
        For each channel that is changed, by label, the label of the channel that is subtracted.
    scale
        The factor, at least 0. One number; or a mapping by label of the channels that are changed,
        in which the key ``...`` stands for those that are not named.
    exposures
        Exposure times above 0 by channel label: a mapping, a `pandas.Series` such as the column
        of a table of markers (``pd.read_csv("markers.csv", index_col="marker_name")["exposure"]``),
        or an `xarray.DataArray` over ``c``. The factor is also multiplied by that of the channel
        and divided by that of its background. Channels that are not needed may be in it.
    drop
        Whether the backgrounds are left out afterwards: they are not in the result, and steps
        after this one neither measure nor sum them. At least one channel must be left.

    Raises
    ------
    ParameterError
        If `backgrounds` is no such mapping or names a channel as its own background, or a number
        breaks its rule.
    ChannelError
        If `backgrounds` names channels that the image does not have, `scale` or `exposures`
        lacks one that is needed, or `drop` leaves no channel.

    Notes
    -----
    With `exposures` it is the subtraction of Backsub (mcmicro), where the image has a channel of
    autofluorescence for each filter.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[10, 20, 30]], [[4, 30, 0]]]),
    ...     dims=("c", "y", "x"),
    ...     coords={"c": ["CD3", "AF488"]},
    ... )
    >>> image.pxprep.subtract_channels({"CD3": "AF488"}, 0.5).sel(c="CD3").values.tolist()
    [[8.0, 5.0, 30.0]]
    >>> image.pxprep.subtract_channels(
    ...     {"CD3": "AF488"}, exposures={"CD3": 200, "AF488": 100}
    ... ).sel(c="CD3").values.tolist()
    [[2.0, 0.0, 30.0]]
    >>> image.pxprep.subtract_channels({"CD3": "AF488"}, drop=True).c.values.tolist()
    ['CD3']
    """

    kind = "subtract_channels"
    backgrounds: OtherChannels
    scale: Scale = 1
    exposures: Any = None
    drop: YesOrNo = False

    def __post_init__(self) -> None:
        super().__post_init__()
        changed = tuple(self.backgrounds)
        if not isinstance(self.scale, float):
            named = [label for label in self.scale if label is not ...]
            others = changed if ... in self.scale else ()
            require_same(tuple(dict.fromkeys([*named, *others])), changed, "scale")
        needed = tuple(dict.fromkeys([*changed, *self.backgrounds.values()]))
        object.__setattr__(self, "exposures", parse_exposures(self.exposures, needed))
        if self.exposures is not None:
            require_same(tuple(self.exposures), needed, "exposures")

    def check(self, labels: Sequence[Label]) -> None:
        """Raise ChannelError if the image lacks a channel."""
        named = [*self.backgrounds, *self.backgrounds.values()]
        require_known(list(dict.fromkeys(named)), labels, "backgrounds")
        if not self.kept_channels(labels):
            raise ChannelError(
                f"drop=True must leave a channel, but all that the image has are backgrounds, "
                f"{listed_labels(labels)}: name fewer of them, or leave drop out"
            )

    def kept_channels(self, labels: Sequence[Label]) -> Sequence[Label]:
        """All, or all that are no backgrounds."""
        if not self.drop:
            return labels
        gone = set(self.backgrounds.values())
        return [label for label in labels if label not in gone]

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The subtraction, by the positions of the channels."""
        positions = {label: position for position, label in enumerate(labels)}
        return SubtractOthers(
            tuple(
                (positions[label], positions[other], self._factor(label, other))
                for label, other in self.backgrounds.items()
            )
        )

    def _factor(self, label: Label, other: Label) -> float:
        if isinstance(self.scale, float):
            scale = self.scale
        else:
            scale = self.scale[label if label in self.scale else ...]
        if self.exposures is None:
            return scale
        ratio: float = self.exposures[label] / self.exposures[other]
        return scale * ratio


@dataclass(frozen=True)
class SubtractOthers(Operation):
    """Triples of a channel, another one that is subtracted from it, and a factor of that."""

    triples: tuple[tuple[int, int, float], ...]

    is_pointwise = False

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Subtract."""
        blocks.subtract_channels(strip.block(), self.triples)

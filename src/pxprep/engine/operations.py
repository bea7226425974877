"""Operations that belong to no step: some pixels, or some channels, stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from . import blocks
from .programs import Operation, Strip


@dataclass(frozen=True)
class KeepInside(Operation):
    """Pixels outside a mask become NaN in every channel; `numbers` are the `Pixels` of the mask."""

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Drop those pixels."""
        blocks.keep_inside(strip.block(), numbers.read(strip.window))


@dataclass(frozen=True)
class PickChannels(Operation):
    """Only some channels stay: those at these positions, in the order that they have."""

    positions: tuple[int, ...]

    def channels_per_chunk(self, before: Sequence[int]) -> Sequence[int]:
        """How many channels stay in each chunk; a chunk of which none stays is left out."""
        ends = accumulate(before, initial=0)
        counts = [
            sum(first <= position < last for position in self.positions)
            for first, last in pairwise(ends)
        ]
        return tuple(count for count in counts if count)

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Go on with those channels."""
        strip.become(strip.values()[list(self.positions)], strip.window)

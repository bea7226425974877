"""What `zscore` and `robust_zscore` do to a strip of pixels."""

from dataclasses import dataclass
from typing import Any

from ..engine import blocks
from ..engine.programs import Operation, Strip


@dataclass(frozen=True)
class Standardize(Operation):
    """The first of two measured numbers is subtracted, and the rest divided by the second."""

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Subtract and divide."""
        blocks.standardize(strip.block(), numbers)

"""Type aliases."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

# A NumPy or Dask array; only `backends` may ask which.
Array = Any
Block = np.ndarray[Any, np.dtype[Any]]
DType = np.dtype[Any]
# A value of a float type.
Real = np.floating[Any]

Label = Hashable
# One value for all channels, one per channel in order, or by label (`...` for the rest).
PerChannel = float | Sequence[float] | Mapping[Any, float]
# One number, or one for each of some channels, by label (`...` for the rest).
Factors = float | Mapping[Any, float]
# The label of another channel, by label.
Backgrounds = Mapping[Label, Label]
# One image, several in order, several by name, or a tree of either package.
Images = Any
# How a cohort is measured, and whether zeros count.
Pool = Literal["mean", "pixels"] | None
Zeros = Literal["exclude", "include"]

"""Type aliases."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

# A NumPy or Dask array; modules outside `engine/` ask its `backends.py` which of the two.
Array = Any
NumpyArray = np.ndarray[Any, np.dtype[Any]]
# A NumPy array in `engine/`: pixels of a block, or what is found in them.
Block = NumpyArray
DType = np.dtype[Any]
# A part of an array: start and stop along each axis.
Region = Sequence[tuple[int, int]]
# A JSON object.
Json = dict[str, Any]
# Parameters by name, for a call with all of them.
Parameters = dict[str, Any]
# A value of a float type.
Real = np.float32 | np.float64

# The name of a channel.
Label = Hashable
# The name of an image.
ImageName = Hashable
# The name of a batch of images.
BatchName = Hashable
# One number, or one for each of some channels, by label (`...` for the rest).
Factors = float | Mapping[Any, float]
# One value for all channels, one per channel in order, or by label (`...` for the rest).
PerChannel = Factors | Sequence[float]
# How many pixels become one, for all images, or by name (`...` for the rest).
SizeFactor = int | Mapping[Any, int]
# By label of each channel that is changed, the label of the channel that is subtracted from it.
Backgrounds = Mapping[Label, Label]
# One image, several in order, several by name, a dataset of them, or a tree (of xarray, or of
# xarray-datatree).
Images = Any
# Pixels as a pandas.DataFrame, an anndata.AnnData, or the path of a Parquet file.
PixelTable = Any
# How a cohort is measured, and whether zeros count.
Pool = Literal["mean", "pixels"] | None
Zeros = Literal["exclude", "include"]

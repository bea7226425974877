"""Runs operations over pixels of NumPy and Dask arrays, block by block, with the same bits."""

from .quantiles import exact_quantiles
from .selection import Quantiles

__all__ = ["Quantiles", "exact_quantiles"]

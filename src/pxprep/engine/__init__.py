"""Runs operations over the pixels of NumPy and Dask arrays, block by block."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .quantiles import exact_quantiles
    from .selection import Quantiles

__all__ = ["Quantiles", "exact_quantiles"]


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: they need all of the engine."""
    if name == "exact_quantiles":
        from .quantiles import exact_quantiles

        return exact_quantiles
    if name == "Quantiles":
        from .selection import Quantiles

        return Quantiles
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

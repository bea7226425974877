"""The steps of a pipeline, as values and as functions."""

from .base import (
    Arcsinh,
    Blur,
    Clip,
    Function,
    Log1p,
    PostNorm,
    QuantileNorm,
    RemoveHotPixels,
    Step,
    SumMask,
    SumNorm,
)
from .intensity_steps import MinMax, PercentileClip, SubtractBackground

__all__ = [
    "Arcsinh",
    "Blur",
    "Clip",
    "Function",
    "Log1p",
    "MinMax",
    "PercentileClip",
    "PostNorm",
    "QuantileNorm",
    "RemoveHotPixels",
    "Step",
    "SubtractBackground",
    "SumMask",
    "SumNorm",
]

"""Exact, label-aware preparation of multiplexed tissue images for pixel clustering.

Importing this package registers ``image.pxprep`` on `xarray.DataArray`. SpatialData and
Matplotlib are imported only when a function that needs them is called.
"""

import importlib
from importlib.metadata import version
from typing import Any

from . import accessors as accessors
from . import ops
from .errors import (
    ChannelError,
    ImageError,
    LayerError,
    ParameterError,
    PxprepError,
    PxprepWarning,
    StoreError,
)
from .masks import Mask
from .ops import quantile
from .pipeline import FittedPipeline, Pipeline
from .provenance import Provenance, provenance
from .spatialdata import pixel_clustering_preprocess, repair
from .steps import (
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

__version__ = version("pxprep")

__all__ = [
    "Arcsinh",
    "Blur",
    "ChannelError",
    "Clip",
    "FittedPipeline",
    "Function",
    "ImageError",
    "LayerError",
    "Log1p",
    "Mask",
    "ParameterError",
    "Pipeline",
    "PostNorm",
    "Provenance",
    "PxprepError",
    "PxprepWarning",
    "QuantileNorm",
    "RemoveHotPixels",
    "Step",
    "StoreError",
    "SumMask",
    "SumNorm",
    "ops",
    "pixel_clustering_preprocess",
    "provenance",
    "quantile",
    "repair",
]


def __getattr__(name: str) -> Any:
    """`pxprep.datasets` and `pxprep.plot` are imported when they are used."""
    if name in ("datasets", "plot"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Exact, label-aware preparation of multiplexed tissue images for pixel clustering.

Importing this package registers ``image.pxprep`` on `xarray.DataArray`. SpatialData,
Matplotlib and Jinja2 are imported only when a function that needs them is called.
"""

import importlib
from importlib.metadata import version
from typing import Any

from . import accessors as accessors
from . import ops, plot
from ._intensity_steps import MinMax, PercentileClip, SubtractBackground
from ._progress import Passes
from ._report import report
from .errors import (
    ChannelError,
    ImageError,
    LayerError,
    ParameterError,
    PxprepError,
    PxprepWarning,
    StoreError,
)
from .layer_reports import report_layers
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
from .tables import pixel_table

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
    "MinMax",
    "ParameterError",
    "Passes",
    "PercentileClip",
    "Pipeline",
    "PostNorm",
    "Provenance",
    "PxprepError",
    "PxprepWarning",
    "QuantileNorm",
    "RemoveHotPixels",
    "Step",
    "StoreError",
    "SubtractBackground",
    "SumMask",
    "SumNorm",
    "ops",
    "pixel_clustering_preprocess",
    "pixel_table",
    "plot",
    "provenance",
    "quantile",
    "repair",
    "report",
    "report_layers",
]


def __getattr__(name: str) -> Any:
    """`pxprep.datasets` and `pxprep.io` are imported when they are used."""
    if name in ("datasets", "io"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

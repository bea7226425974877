"""Exact, label-aware preparation of multiplexed tissue images for pixel clustering.

Importing this package registers ``image.pxprep`` on `xarray.DataArray`. SpatialData,
Matplotlib and Jinja2 are imported only when a function that needs them is called.
"""

import importlib
from importlib.metadata import version
from typing import Any

from . import accessors as accessors
from . import errors, layers, ops, plot, reporting, steps
from .cohorts import Cohort
from .errors import PxprepError, PxprepWarning
from .images import Mask
from .layers import pixel_clustering_preprocess, provenance, repair
from .ops import quantile
from .pipeline import FittedPipeline, Pipeline
from .reporting import report
from .tables import pixel_table

__version__ = version("pxprep")

__all__ = [
    "Cohort",
    "FittedPipeline",
    "Mask",
    "Pipeline",
    "PxprepError",
    "PxprepWarning",
    "__version__",
    "datasets",
    "errors",
    "io",
    "layers",
    "ops",
    "pixel_clustering_preprocess",
    "pixel_table",
    "plot",
    "provenance",
    "quantile",
    "repair",
    "report",
    "reporting",
    "steps",
]


def __getattr__(name: str) -> Any:
    """`pxprep.datasets` and `pxprep.io` are imported when they are used."""
    if name in ("datasets", "io"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""Exact, label-aware preparation of multiplexed tissue images for pixel clustering.

Importing this package registers ``image.pxprep`` on `xarray.DataArray`. All else is imported when
it is first used, SpatialData, Matplotlib and Jinja2 only by the functions that need them.
"""

import sys
from typing import TYPE_CHECKING

from . import errors
from .errors import PxprepError, PxprepWarning

if TYPE_CHECKING:
    from . import datasets, io, layers, ops, plot, reporting, steps
    from .cohorts import Cohort
    from .images.masks import Mask
    from .layers import pixel_clustering_preprocess, provenance, repair
    from .ops import quantile
    from .pipeline import FittedPipeline, Pipeline
    from .reporting import report
    from .tables import pixel_table

    __version__: str

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


# The module of each public name that is not a module itself.
_MODULES = {
    "Cohort": "cohorts",
    "FittedPipeline": "pipeline",
    "Mask": "images.masks",
    "Pipeline": "pipeline",
    "pixel_clustering_preprocess": "layers",
    "pixel_table": "tables",
    "provenance": "layers",
    "quantile": "ops",
    "repair": "layers",
    "report": "reporting",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what is used for the first time."""
        from importlib import import_module, metadata

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "__version__":
            value = metadata.version(__name__)
        elif name in _MODULES:
            value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        else:
            value = import_module(f".{name}", __name__)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__


# The command needs no `.pxprep`, and not even xarray for its help and its completion.
if not getattr(sys.modules.get("pxprep_command"), "is_running", False):
    from . import accessors as accessors

"""SpatialData layers in, layers out: processed, written, reported; and what made them."""

from ..pipeline.provenance import Provenance
from .layer_provenance import provenance
from .preprocess import pixel_clustering_preprocess, repair
from .reading import read_images
from .reports import report_layers

__all__ = [
    "Provenance",
    "pixel_clustering_preprocess",
    "provenance",
    "read_images",
    "repair",
    "report_layers",
]

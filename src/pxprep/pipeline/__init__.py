"""Steps in an order: built, fitted to a cohort, applied to images, kept as JSON."""

from .pipeline import FittedPipeline, Pipeline

__all__ = ["FittedPipeline", "Pipeline"]

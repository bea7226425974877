"""The QC report of a run as one HTML file; and what each pass of the run took."""

from ..engine.progress import Passes
from .page import report

__all__ = ["Passes", "report"]

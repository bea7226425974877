"""The QC report: one HTML file of a run."""

from ._check import check_file, check_title
from ._fovs import Fov
from ._report import report, write

__all__ = ["Fov", "check_file", "check_title", "report", "write"]

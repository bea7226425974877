"""Figures: Matplotlib Axes in and out.

Also as methods of an image: ``image.pxprep.plot.channels()``.
"""

from ._accessor import ImagePlots
from ._channels import channels
from ._cohort import cohort
from ._compare import compare
from ._histogram import histogram
from ._mask import mask
from ._thumbnails import DROPPED

__all__ = ["DROPPED", "ImagePlots", "channels", "cohort", "compare", "histogram", "mask"]

"""Figures: Matplotlib Axes in and out.

Also as methods of an image: ``image.pxprep.plot.channels()``.
"""

from .accessor import ImagePlots
from .channel_grid import channels
from .cohort_quantiles import cohort
from .comparison import compare
from .dropped_pixels import mask
from .histograms import histogram
from .mixing import composite
from .thumbnails import DROPPED

__all__ = [
    "DROPPED",
    "ImagePlots",
    "channels",
    "cohort",
    "compare",
    "composite",
    "histogram",
    "mask",
]

"""The steps of a pipeline, a file for each; as functions they are in `pxprep.ops`."""

from .arcsinh import Arcsinh
from .base import Step
from .blur import Blur
from .clip import Clip
from .compensate import Compensate
from .function import Function
from .log1p import Log1p
from .median import Median
from .minmax import MinMax
from .percentile_clip import PercentileClip
from .post_norm import PostNorm
from .quantile_norm import QuantileNorm
from .remove_hot_pixels import RemoveHotPixels
from .robust_zscore import RobustZscore
from .subtract_background import SubtractBackground
from .subtract_channels import SubtractChannels
from .sum_mask import SumMask
from .sum_norm import SumNorm
from .threshold import Threshold
from .zscore import Zscore

__all__ = [
    "Arcsinh",
    "Blur",
    "Clip",
    "Compensate",
    "Function",
    "Log1p",
    "Median",
    "MinMax",
    "PercentileClip",
    "PostNorm",
    "QuantileNorm",
    "RemoveHotPixels",
    "RobustZscore",
    "Step",
    "SubtractBackground",
    "SubtractChannels",
    "SumMask",
    "SumNorm",
    "Threshold",
    "Zscore",
]

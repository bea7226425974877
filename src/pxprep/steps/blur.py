"""Blur each channel with a Gaussian."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..aliases import Label
from ..engine import neighbours
from ..engine.kernels.blur import blur_radius
from ..engine.programs import Operation, Strip
from .base import Step
from .parameters import Sigma

__all__ = ["Blur"]


@dataclass(frozen=True)
class Blur(Step):
    """Blur each channel, and each z-plane, with a Gaussian.

    Without NaNs the result is that of ``scipy.ndimage.gaussian_filter(plane, sigma,
    mode="reflect", truncate=4.0)``. A NaN pixel stays NaN and gives nothing to its neighbours:
    their weights are renormalised over the valid pixels under the kernel.

    Parameters
    ----------
    sigma
        Standard deviation in pixels, 0 or more. One number; a sequence in channel order; or a
        mapping by channel label, in which the key ``...`` stands for the channels that are not
        named. 0 leaves a channel as it is, bit for bit, and None all channels.

    Raises
    ------
    ParameterError
        If `sigma` is negative, larger than 10,000 px or not finite.
    ChannelError
        If `sigma` names channels that the image does not have, or leaves some out.

    Notes
    -----
    Pixie and sparrow/harpy blur with sigma 2. Normalised convolution: Knutsson and Westin (1993),
    "Normalized and differential convolution", CVPR.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[0.0, 0.0, 8.0, 0.0, np.nan]]]), dims=("c", "y", "x"))
    >>> image.pxprep.blur(0.5).values.round(2).tolist()
    [[[0.0, 0.85, 6.29, 0.95, nan]]]
    """

    kind = "blur"
    sigma: Sigma | None = 2

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The blur of each channel."""
        return BlurEach((0.0,) * len(labels) if self.sigma is None else self.each("sigma", labels))


@dataclass(frozen=True)
class BlurEach(Operation):
    """Each channel is blurred, with its own sigma in pixels."""

    sigmas: tuple[float, ...]
    is_pointwise = is_cheap = False

    @cached_property
    def depth(self) -> int:
        """The radius of the widest kernel."""
        return blur_radius(max(self.sigmas))

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Become the blurred pixels of the window that is wanted."""
        pixels, scale = strip.undivided()
        program = strip.program
        blurred = neighbours.blur(
            pixels,
            strip.want,
            np.array(self.sigmas),
            scale,
            dtype=program.dtype,
            height=program.height,
            width=program.width,
            out=strip.new_block(),
        )
        strip.become(blurred, strip.want)

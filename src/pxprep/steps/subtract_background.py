"""Subtract the background of each channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..aliases import Label
from ..engine import blocks, neighbours
from ..engine.programs import Operation, Strip
from .base import Step
from .parameters import AtLeastZero, Radius, require_one_of

__all__ = ["SubtractBackground"]


@dataclass(frozen=True)
class SubtractBackground(Step):
    """Subtract the background of each channel, and of each z-plane.

    With `radius`, the background is what is wider than a disc of that radius (white top-hat). With
    `constant`, it is that number everywhere. Afterwards no value is below 0, except in channels
    with a radius of 0, which stay as they are.

    Parameters
    ----------
    radius
        Radius of the disc, a whole number of pixels up to 1000. One number; a sequence in channel
        order; or a mapping by channel label, in which the key ``...`` stands for the channels that
        are not named. Choose it larger than the structures to keep; 0 leaves a channel as it is,
        bit for bit, negative values as well.
    constant
        At least 0, in units of the image; values of up to that become 0. In the same forms as
        `radius`. One of both must be given.

    Raises
    ------
    ParameterError
        If both or none of `radius` and `constant` are given, or one breaks its rule.
    ChannelError
        If `radius` or `constant` names channels that the image does not have, or leaves some out.

    Notes
    -----
    The white top-hat (Meyer 1979) is the image minus its opening: at each pixel the largest, over
    all discs that hold it and are centred in the image, of the smallest value in the disc. NaN
    pixels and what lies outside the image do not count. Without NaNs it is
    ``scipy.ndimage.white_tophat(plane, footprint=disc)`` to the last bit, with the disc of
    ``skimage.morphology.disk(radius)``. Two radii around a pixel are read.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(np.array([[[5, 5, 9, 5, 6, 6, 6]]]), dims=("c", "y", "x"))
    >>> image.pxprep.subtract_background(radius=1).values.tolist()
    [[[0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]]]
    >>> image.pxprep.subtract_background(constant=5.5).values.tolist()
    [[[0.0, 0.0, 3.5, 0.0, 0.5, 0.5, 0.5]]]
    """

    kind = "subtract_background"
    radius: Radius | None = None
    constant: AtLeastZero | None = None

    def __post_init__(self) -> None:
        require_one_of(radius=self.radius, constant=self.constant)
        super().__post_init__()

    def operation(self, labels: Sequence[Label]) -> Operation:
        """The subtraction, with the radius or the constant of each channel."""
        if self.constant is None:
            return SubtractOpening(tuple(map(int, self.each("radius", labels))))
        return SubtractConstant(self.each("constant", labels))


@dataclass(frozen=True)
class SubtractConstant(Operation):
    """The constant of its channel is subtracted from each value, down to 0."""

    constants: tuple[float, ...]

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Subtract."""
        blocks.subtract_constant(strip.block(), np.array(self.constants))


@dataclass(frozen=True)
class SubtractOpening(Operation):
    """White top-hat of each channel, by a disc with its own radius in pixels; 0 leaves it be."""

    radii: tuple[int, ...]
    is_pointwise = is_cheap = False

    @property
    def depth(self) -> int:
        """Two radii: an erosion, and a dilation of that."""
        return 2 * max(self.radii)

    def __call__(self, strip: Strip, numbers: object) -> None:
        """Become the pixels that are wanted, without their background."""
        pixels, scale = strip.undivided()
        program = strip.program
        flattened = neighbours.subtract_opening(
            pixels,
            strip.want,
            self.radii,
            scale,
            height=program.height,
            width=program.width,
            out=strip.new_block(),
        )
        strip.become(flattened, strip.want)

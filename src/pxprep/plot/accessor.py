"""`image.pxprep.plot`: methods that forward to the function of their name."""

from collections.abc import Mapping, Sequence

import xarray as xr

from ..aliases import Images, Label, NumpyArray
from ..pipeline.pipeline import FittedPipeline
from .channel_grid import channels as plot_channels
from .comparison import compare
from .dropped_pixels import mask
from .histograms import histogram
from .mixing import composite
from .shown import AxesArray


class ImagePlots:
    """Figures of one image, as ``image.pxprep.plot``.

    Each method takes and returns Matplotlib Axes, and reads of a lazy image only what it shows.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> image = tissue(size=64)["fov0"]
    >>> axes = image.pxprep.plot.channels(["DAPI", "CD3"], contrast="shared")
    >>> axes = image.pxprep.plot.compare(image.pxprep.preprocess())
    """

    def __init__(self, image: Images) -> None:
        self._image = image

    def channels(
        self,
        channels: Sequence[Label] | None = None,
        *,
        contrast: str = "channel",
        axes: NumpyArray | None = None,
        max_pixels: int = 512,
    ) -> AxesArray:
        """Show the channels as a grid of thumbnails; see `pxprep.plot.channels`."""
        return plot_channels(
            self._image, channels, contrast=contrast, axes=axes, max_pixels=max_pixels
        )

    def histogram(
        self,
        after: xr.DataArray | None = None,
        fitted: FittedPipeline | None = None,
        channels: Sequence[Label] | None = None,
        *,
        fov: object = None,
        bins: int = 50,
        axes: NumpyArray | None = None,
        max_pixels: int = 512,
    ) -> AxesArray:
        """Show how many pixels have which value; see `pxprep.plot.histogram`."""
        return histogram(
            self._image,
            after,
            fitted,
            channels,
            fov=fov,
            bins=bins,
            axes=axes,
            max_pixels=max_pixels,
        )

    def mask(self, *, axes: object = None, max_pixels: int = 512) -> AxesArray:
        """Show which pixels were dropped; see `pxprep.plot.mask`."""
        return mask(self._image, axes=axes, max_pixels=max_pixels)

    def compare(
        self,
        after: xr.DataArray,
        channels: Sequence[Label] | None = None,
        *,
        axes: NumpyArray | None = None,
        max_pixels: int = 512,
    ) -> AxesArray:
        """Show the channels before and after; see `pxprep.plot.compare`."""
        return compare(self._image, after, channels, axes=axes, max_pixels=max_pixels)

    def composite(
        self,
        channels: Sequence[Label] | Mapping[Label, str] | None = None,
        *,
        axes: object = None,
        max_pixels: int = 512,
    ) -> AxesArray:
        """Show up to seven channels in one picture; see `pxprep.plot.composite`."""
        return composite(self._image, channels, axes=axes, max_pixels=max_pixels)

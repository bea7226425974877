"""`image.pxprep`: every method forwards to the function of the same name."""

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from . import ops
from ._channels import select_channels
from ._images import checked
from ._typing import Label, PerChannel
from .pipeline import FittedPipeline, Pipeline

__all__ = ["DataArrayAccessor"]


@xr.register_dataarray_accessor("pxprep")
class DataArrayAccessor:
    """Preprocessing steps on a labeled multichannel image, as ``image.pxprep``.

    Each method returns a new image, so that calls chain.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> image = tissue(size=64)["fov0"]
    >>> after = (
    ...     image.pxprep.quantile_norm(99)
    ...     .pxprep.blur({"DAPI": 0, ...: 2})
    ...     .pxprep.sum_mask(5)
    ...     .pxprep.sum_norm()
    ...     .pxprep.post_norm(99.9)
    ... )
    >>> after.dims, str(after.dtype)
    (('c', 'y', 'x'), 'float32')
    """

    def __init__(self, image: xr.DataArray) -> None:
        self._image = image

    def quantile_norm(self, q: PerChannel = 99) -> xr.DataArray:
        """Divide each channel by its quantile; see `pxprep.ops.quantile_norm`."""
        return ops.quantile_norm(self._image, q)

    def blur(self, sigma: PerChannel | None = 2) -> xr.DataArray:
        """Blur each channel with a Gaussian; see `pxprep.ops.blur`."""
        return ops.blur(self._image, sigma)

    def sum_mask(
        self,
        q_sum: float = 5,
        reference: xr.DataArray | None = None,
        threshold: float | xr.DataArray | None = None,
        zeros: str = "exclude",
    ) -> xr.DataArray:
        """Drop pixels whose sum over channels is low; see `pxprep.ops.sum_mask`."""
        return ops.sum_mask(self._image, q_sum, reference, threshold, zeros)

    def sum_norm(self) -> xr.DataArray:
        """Divide each pixel by its sum over channels; see `pxprep.ops.sum_norm`."""
        return ops.sum_norm(self._image)

    def post_norm(self, q_post: PerChannel = 99.9) -> xr.DataArray:
        """Divide each channel by its quantile once more; see `pxprep.ops.post_norm`."""
        return ops.post_norm(self._image, q_post)

    def clip(self, max: PerChannel) -> xr.DataArray:  # noqa: A002
        """Set values above a limit to it; see `pxprep.ops.clip`."""
        return ops.clip(self._image, max)

    def divide(self, scale: xr.DataArray) -> xr.DataArray:
        """Divide each channel by a measured scale; see `pxprep.ops.divide`."""
        return ops.divide(self._image, scale)

    def coarsen(self, factors: Mapping[str, int]) -> xr.DataArray:
        """Mean over blocks of pixels, NaN ignored; see `pxprep.ops.coarsen`."""
        return ops.coarsen(self._image, factors)

    def quantile(self, q: PerChannel = 99, *, zeros: str = "exclude") -> xr.DataArray:
        """Exact quantile of each channel; see `pxprep.ops.quantile`."""
        return ops.quantile(self._image, q, zeros=zeros)

    def pixel_sum(self) -> xr.DataArray:
        """Sum over channels of each pixel; see `pxprep.ops.pixel_sum`."""
        return ops.pixel_sum(self._image)

    def preprocess(
        self,
        q: PerChannel | None = 99,
        q_sum: float | None = 5,
        q_post: PerChannel | None = 99.9,
        sigma: PerChannel | None = 2,
        norm_sum: bool = True,
        channels: Sequence[Label] | None = None,
        *,
        cap_max: PerChannel | None = None,
    ) -> xr.DataArray:
        """All steps in the reference order; see `pxprep.Pipeline.sparrow`.

        Parameters
        ----------
        q, q_sum, q_post, sigma, norm_sum, cap_max
            As for `pxprep.Pipeline.sparrow`.
        channels
            Labels of the channels to use, in that order; None for all of them.

        Returns
        -------
        xarray.DataArray
            The chosen channels, float32 or float64; lazy if the image is.
        """
        image = select_channels(checked(self._image), channels)
        return Pipeline.sparrow(q, q_sum, q_post, sigma, norm_sum, cap_max).fit_transform(image)

    def fit(self, pipeline: Pipeline, *, progress: Any = False) -> FittedPipeline:
        """Measure this image; see `pxprep.Pipeline.fit`."""
        return pipeline.fit(self._image, progress=progress)

    def transform(self, fitted: FittedPipeline) -> xr.DataArray:
        """Apply fitted numbers to this image; see `pxprep.FittedPipeline.transform`."""
        return fitted.transform(self._image)

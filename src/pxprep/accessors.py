"""`.pxprep` on images and trees of images: methods that forward to the function of their name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from . import ops, tables
from .aliases import Images, Label, PerChannel
from .images import datatree
from .images.cohort import Cohort
from .pipeline.pipeline import FittedPipeline, Pipeline
from .plot import ImagePlots

__all__ = ["Accessor"]


@datatree.register("pxprep")
@xr.register_dataset_accessor("pxprep")
@xr.register_dataarray_accessor("pxprep")
class Accessor:
    """Preprocessing steps on a labeled multichannel image, or on a tree of them, as ``.pxprep``.

    On an `xarray.DataArray` each method returns a new image, on an `xarray.DataTree` a new tree, on
    an `xarray.Dataset` a new dataset, so that calls chain. A tree whose node holds ``scale0``,
    ``scale1``, ... is a multiscale image; any other tree is a cohort, which is measured together
    (see `pool`), and so are the images in a dataset.

    Examples
    --------
    >>> from pxprep.datasets import tissue
    >>> fovs = tissue(size=64)
    >>> after = (
    ...     fovs["fov0"].pxprep.quantile_norm(99)
    ...     .pxprep.blur({"DAPI": 0, ...: 2})
    ...     .pxprep.sum_mask(5)
    ...     .pxprep.sum_norm()
    ...     .pxprep.post_norm(99.9)
    ... )
    >>> after.dims, str(after.dtype)
    (('c', 'y', 'x'), 'float32')

    A cohort as a tree:

    >>> import xarray as xr
    >>> tree = xr.DataTree.from_dict(
    ...     {f"slide1/{name}": fov.to_dataset(name="image") for name, fov in fovs.items()}
    ... )
    >>> after = tree.pxprep.preprocess(q=99, sigma=2, pool="pixels")
    >>> list(after["slide1"])
    ['fov0', 'fov1', 'fov2']
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    @property
    def plot(self) -> ImagePlots:
        """Figures of the image; see `pxprep.plot`."""
        return ImagePlots(self._images)

    def quantile_norm(
        self,
        q: PerChannel = 99,
        *,
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
    ) -> Any:
        """Divide each channel by its quantile; see `pxprep.ops.quantile_norm`."""
        return ops.quantile_norm(self._images, q, pool=pool, image=image, where=where)

    def blur(self, sigma: PerChannel | None = 2, *, image: Any = None) -> Any:
        """Blur each channel with a Gaussian; see `pxprep.ops.blur`."""
        return ops.blur(self._images, sigma, image=image)

    def sum_mask(
        self,
        q_sum: float = 5,
        reference: Images | None = None,
        threshold: float | xr.DataArray | None = None,
        zeros: str = "exclude",
        *,
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
    ) -> Any:
        """Drop pixels whose sum over channels is low; see `pxprep.ops.sum_mask`."""
        return ops.sum_mask(
            self._images, q_sum, reference, threshold, zeros, pool=pool, image=image, where=where
        )

    def sum_norm(self, *, image: Any = None) -> Any:
        """Divide each pixel by its sum over channels; see `pxprep.ops.sum_norm`."""
        return ops.sum_norm(self._images, image=image)

    def post_norm(
        self,
        q_post: PerChannel = 99.9,
        *,
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
    ) -> Any:
        """Divide each channel by its quantile once more; see `pxprep.ops.post_norm`."""
        return ops.post_norm(self._images, q_post, pool=pool, image=image, where=where)

    def clip(self, max: PerChannel, *, image: Any = None) -> Any:  # noqa: A002
        """Set values above a limit to it; see `pxprep.ops.clip`."""
        return ops.clip(self._images, max, image=image)

    def arcsinh(self, cofactor: PerChannel = 5, *, image: Any = None) -> Any:
        """Inverse hyperbolic sine of each value; see `pxprep.ops.arcsinh`."""
        return ops.arcsinh(self._images, cofactor, image=image)

    def log1p(self, *, image: Any = None) -> Any:
        """Natural logarithm of one plus each value; see `pxprep.ops.log1p`."""
        return ops.log1p(self._images, image=image)

    def remove_hot_pixels(self, threshold: PerChannel, *, image: Any = None) -> Any:
        """Set pixels far above all neighbours to these; see `pxprep.ops.remove_hot_pixels`."""
        return ops.remove_hot_pixels(self._images, threshold, image=image)

    def keep_where(self, where: Any, *, image: Any = None) -> Any:
        """Set pixels outside a mask to NaN in every channel; see `pxprep.ops.keep_where`."""
        return ops.keep_where(self._images, where, image=image)

    def subtract_background(
        self,
        radius: PerChannel | None = None,
        constant: PerChannel | None = None,
        *,
        image: Any = None,
    ) -> Any:
        """Subtract each channel's background; see `pxprep.ops.subtract_background`."""
        return ops.subtract_background(self._images, radius, constant, image=image)

    def percentile_clip(
        self,
        low: PerChannel = 1,
        high: PerChannel = 99,
        *,
        zeros: str = "exclude",
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
    ) -> Any:
        """Clip each channel to two of its quantiles; see `pxprep.ops.percentile_clip`."""
        return ops.percentile_clip(
            self._images, low, high, zeros=zeros, pool=pool, image=image, where=where
        )

    def minmax(self, *, pool: str | None = "mean", image: Any = None, where: Any = None) -> Any:
        """Bring each channel to 0 to 1; see `pxprep.ops.minmax`."""
        return ops.minmax(self._images, pool=pool, image=image, where=where)

    def divide(self, scale: xr.DataArray, *, image: Any = None) -> Any:
        """Divide each channel by a measured scale; see `pxprep.ops.divide`."""
        return ops.divide(self._images, scale, image=image)

    def coarsen(self, factors: Mapping[str, int], *, image: Any = None) -> Any:
        """Mean over blocks of pixels, NaN ignored; see `pxprep.ops.coarsen`."""
        return ops.coarsen(self._images, factors, image=image)

    def quantile(
        self,
        q: PerChannel = 99,
        *,
        zeros: str = "exclude",
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
    ) -> xr.DataArray:
        """Exact quantile of each channel; see `pxprep.ops.quantile`."""
        return ops.quantile(self._images, q, zeros=zeros, pool=pool, image=image, where=where)

    def pixel_sum(self, *, image: Any = None) -> Any:
        """Sum over channels of each pixel; see `pxprep.ops.pixel_sum`."""
        return ops.pixel_sum(self._images, image=image)

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
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
    ) -> Any:
        """All steps in the reference order; see `pxprep.Pipeline.sparrow`.

        Parameters
        ----------
        q, q_sum, q_post, sigma, norm_sum, cap_max
            As for `pxprep.Pipeline.sparrow`.
        channels
            Labels of the channels to use, in that order; where channels have none, their positions,
            which become the labels. None for all of them.
        pool
            How a tree of several images is measured; as for `pxprep.Pipeline.fit`.
        image
            Name of the variable that is the image, in a tree whose datasets have several.
        where
            Mask of the pixels that are measured; as for `pxprep.Pipeline.fit`.

        Returns
        -------
        xarray.DataArray or tree
            The chosen channels, float32 or float64; lazy if the images are.
        """
        pipeline = Pipeline.sparrow(q, q_sum, q_post, sigma, norm_sum, cap_max)
        cohort = Cohort.of(self._images, image=image, where=where).choosing(channels)
        return pipeline.fit_transform(cohort, pool=pool)

    def fit(
        self,
        pipeline: Pipeline,
        *,
        pool: str | None = "mean",
        image: Any = None,
        where: Any = None,
        memory: int | str | None = None,
        progress: Any = False,
    ) -> FittedPipeline:
        """Measure the image or the tree; see `pxprep.Pipeline.fit`."""
        return pipeline.fit(
            self._images, pool=pool, image=image, where=where, memory=memory, progress=progress
        )

    def transform(self, fitted: FittedPipeline, *, fov: Any = None, image: Any = None) -> Any:
        """Apply fitted numbers to the image or the tree; see `pxprep.FittedPipeline.transform`."""
        return fitted.transform(self._images, fov=fov, image=image)

    def pixel_table(
        self,
        *,
        fraction: float = 1.0,
        seed: int = 0,
        labels: Any = None,
        drop_background: bool = False,
        channels: Sequence[Label] | None = None,
        to: str = "pandas",
        file: str | Path | None = None,
        overwrite: bool = False,
        image: Any = None,
    ) -> Any:
        """Pixels as a table for clustering; see `pxprep.pixel_table`."""
        return tables.pixel_table(
            self._images,
            fraction=fraction,
            seed=seed,
            labels=labels,
            drop_background=drop_background,
            channels=channels,
            to=to,
            file=file,
            overwrite=overwrite,
            image=image,
        )

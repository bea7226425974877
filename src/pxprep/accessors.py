"""`.pxprep` on images and trees of images: the steps as methods, and what else can be done.

Methods import what they need when they are called, so that importing the package alone stays fast.
"""

from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, cast

import xarray as xr

from .aliases import Images, Label, PerChannel, PixelTable, Pool
from .displays import Display, Displayable, Part, counted, in_a_line
from .errors import ParameterError, PxprepError
from .images.datatree import TREES
from .methods import Made, StepMethods

if TYPE_CHECKING:
    from .pipeline.pipeline import FittedPipeline, Pipeline
    from .plot import ImagePlots

__all__ = ["Accessor", "ImageMethods"]


class ImageMethods(StepMethods[Made]):
    """The steps, and what else images and cohorts can do."""

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
        pool: Pool = "mean",
        variable: object = None,
        where: object = None,
    ) -> Made:
        """All steps in the reference order; see `pxprep.Pipeline.sparrow`.

        Parameters
        ----------
        q, q_post
            Percent: each channel is divided by its quantile at the beginning, and at the end. One
            number; a sequence in channel order; or a mapping by channel label, in which the key
            ``...`` stands for the channels that are not named. None leaves out the step.
        q_sum
            Percent: pixels whose sum over channels is not above this quantile of the sums before
            the blur become NaN in every channel. None leaves out the step.
        sigma
            Standard deviation of the Gaussian blur in pixels; as `q`. None leaves out the step.
        norm_sum
            Whether pixels are divided by their sum over channels.
        channels
            Labels of the channels to use, in that order; where channels have none, their positions,
            which become the labels. None for all of them.
        cap_max
            Values above this become this in a last step; as `q`. None leaves out the step.
        pool
            How a tree of several images is measured: ``"mean"`` of the images' quantiles, one
            quantile over the ``"pixels"`` of all images, or None: each image by itself. Not for a
            `pxprep.Cohort`.
        variable
            Name of the variable that is the image, in a tree whose datasets have several.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all
            but 0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for
            each image. Steps are applied to all pixels. None measures all.

        Returns
        -------
        xarray.DataArray, tree or cohort
            The chosen channels, float32 or float64; lazy if the images are.

        Raises
        ------
        ImageError, ChannelError, ParameterError
            As `pxprep.Pipeline.fit_transform`.
        """
        from .images.image_set import ImageSet
        from .pipeline.pipeline import Pipeline

        pipeline = Pipeline.sparrow(q, q_sum, q_post, sigma, norm_sum, cap_max)
        cohort = ImageSet.of(self._images, pool, variable, where=where).with_channels(channels)
        # Else `fit_transform` would take its default pool.
        return cast("Made", pipeline.fit_transform(cohort, pool=cohort.pool))

    def fit(
        self,
        pipeline: "Pipeline",
        *,
        pool: Pool = "mean",
        variable: object = None,
        where: object = None,
        by: object = None,
        exclude: object = None,
        memory: int | str | None = None,
        progress: object = False,
    ) -> "FittedPipeline":
        """Measure the image, the tree or the cohort; as `pxprep.Pipeline.fit`.

        Parameters
        ----------
        pipeline
            The steps.
        pool
            ``"mean"``: mean over the images of what each gives; images in which a channel has no
            signal do not count for it. ``"pixels"``: the pixels of all images as if they were one.
            None: each image by itself.
        variable
            Name of the variable that is the image, in a tree whose datasets have several.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all
            but 0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for
            each image. None measures all.
        by
            Batches of images that are measured together, as if the others were not there: a mapping
            of the names of images to their batches, a pandas Series or an `xarray.DataArray` over
            ``fov``, or a level of a tree, 0 for the uppermost. None is one batch.
        exclude
            Images that are not measured: the name of one, a sequence of names, or what
            `FittedPipeline.outliers` returned. The numbers of the others are applied to them.
        memory
            How much of what was read is kept for the next pass, in bytes or as "2 GiB": an image
            that fits is read once. None is a quarter of the memory that is available.
        progress
            True shows a bar for each pass; a function that takes a description and returns a
            context manager shows your own.

        Returns
        -------
        FittedPipeline
            The pipeline with its numbers.

        Raises
        ------
        ImageError, ChannelError, ParameterError
            If channels differ, a step's parameters do not fit them, a mask does not fit, `by`
            leaves an image without a batch, `exclude` leaves a batch without images, or one of both
            names an image that is not there.
        """
        _require("fit", pipeline, "Pipeline", "transform")
        return pipeline.fit(
            self._images,
            pool=pool,
            variable=variable,
            where=where,
            by=by,
            exclude=exclude,
            memory=memory,
            progress=progress,
        )

    def transform(
        self,
        fitted: "FittedPipeline",
        *,
        fov: object = None,
        by: object = None,
        variable: object = None,
    ) -> Made:
        """Apply a fitted pipeline; as `pxprep.FittedPipeline.transform`.

        Parameters
        ----------
        fitted
            What `fit` returned, of these images or of others.
        fov
            For a fit with ``pool=None`` and one image: which of the fitted images it is, by name.
            None takes the image's own name.
        by
            For a fit in batches: the batch of each image whose own is not known from the fit, in
            any form that `fit` takes; or the name of one batch, of all images.
        variable
            Name of the variable that is the image, in a tree whose datasets have several.

        Returns
        -------
        xarray.DataArray, tree or cohort
            Float32 or float64, lazy if the images are.

        Raises
        ------
        ImageError, ChannelError
            If channels are missing or unknown; or, after a fit with ``pool=None``, if an image was
            not fitted.
        ParameterError
            If the batch of an image is not known, or was not part of the fit.
        """
        _require("transform", fitted, "FittedPipeline", "fit")
        return fitted.transform(self._images, fov=fov, by=by, variable=variable)

    def pixel_table(
        self,
        *,
        fraction: float = 1.0,
        seed: int = 0,
        labels: object = None,
        drop_background: bool = False,
        channels: Sequence[Label] | None = None,
        to: str = "pandas",
        file: str | Path | None = None,
        overwrite: bool = False,
        variable: object = None,
    ) -> PixelTable:
        """Pixels as a table for clustering; as `pxprep.pixel_table`.

        Parameters
        ----------
        fraction
            Which part of the rows to take, above 0, at most 1. Each pixel is taken or not by
            itself, with this probability, so the number of rows is near ``fraction`` times that of
            all, off by about its square root.
        seed
            Seed of the sample, 0 or more. Whether a pixel is taken depends on the seed, the name of
            its FOV, and its place in an image of that size: not on the other FOVs, nor on channels
            or chunks. With one seed, the sample of a smaller fraction is part of that of a larger
            one.
        labels
            Integers or bool for each pixel, for a column of their own: an `xarray.DataArray` with
            the spatial dims of the image and its size, NumPy or Dask; for several images a mapping
            by name or a sequence.
        drop_background
            Whether pixels with the label 0 are left out.
        channels
            Labels of the channels to use, in that order; where channels have none, their positions,
            which become the labels. None for all of them.
        to
            ``"pandas"``, ``"anndata"`` or ``"parquet"``.
        file
            Where a parquet file goes. It appears when it is complete.
        overwrite
            Whether `file` may be replaced.
        variable
            Name of the variable that is the image, in a tree whose datasets have several.

        Returns
        -------
        pandas.DataFrame, anndata.AnnData or pathlib.Path
            The columns of the table are the channels, as text, float32 or float64 as the image is
            processed; ``fov``, a category, the name of the image or layer as text (its position in
            a sequence, 0 for an image without name); ``z`` (of images that have it), ``y`` and
            ``x``, int32, the pixel's position from 0; and ``label``, of the labels' own type. The
            rows are ordered by FOV as given, then by ``y``, ``z``, ``x``.

            AnnData has the channels in ``X``, the rest in ``obs``, and the positions x, y (and z)
            in ``obsm["spatial"]``. For parquet it is the file's path, whose row groups hold 131,072
            rows.

        Raises
        ------
        ParameterError
            If a parameter breaks its rule, `labels` do not fit the images, a channel is called like
            another column, the file exists or has no folder, or a package is missing.
        ImageError, ChannelError, LayerError
            If there is no image, or a channel or a layer that was asked for is missing.
        StoreError
            If the file cannot be written: then there is none, or still the old one. Or if what is
            read has disappeared.
        """
        from . import tables

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
            variable=variable,
        )


class Accessor(Displayable, ImageMethods[Images]):
    """Preprocessing steps on a labeled multichannel image, or on a tree of them, as ``.pxprep``.

    On an `xarray.DataArray` each method returns a new image, on an `xarray.DataTree` a new tree, on
    an `xarray.Dataset` a new dataset, so that calls chain. A tree whose node holds ``scale0``,
    ``scale1``, ... is a multiscale image; any other tree is a cohort, which is measured together
    (see `pool`), and so are the images in a dataset. For a tree whose datasets have several images
    of each field of view there is `pxprep.Cohort`.

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
    def plot(self) -> "ImagePlots":
        """Figures of the image: see `pxprep.plot`."""
        from .plot import ImagePlots

        return ImagePlots(self._images)

    def _display(self) -> Display:
        from .images.image_set import ImageSet
        from .images.listing import image_parts

        try:
            images = ImageSet.of(self._images)
        except PxprepError as error:
            # A repr must not raise: the error is shown instead.
            return Display("pxprep methods", "of no image", [Part("Problem", line=str(error))])
        summary = f"of {counted(len(images), 'images')}"
        return Display("pxprep methods", summary, [*image_parts(images), _methods_part()])


def _require(method: str, value: object, kind: str, other_method: str) -> None:
    """Raise ParameterError unless `value`, which `method` got, is a pipeline of this kind.

    `other_method` takes pipelines of the other kind, fitted or not.
    """
    from .pipeline.pipeline import FittedPipeline, Pipeline
    from .steps.base import Step

    kinds = {"Pipeline": Pipeline, "FittedPipeline": FittedPipeline}
    if isinstance(value, kinds[kind]):
        return
    got = f"{value!r:.200}"
    if isinstance(value, Pipeline | FittedPipeline):
        got = f"a {type(value).__qualname__}: {other_method} takes it"
    elif kind == "Pipeline" and isinstance(value, Step):
        got += "; put steps into one, as pxprep.Pipeline([step])"
    raise ParameterError(f"{method} takes a {kind}, got {got}")


NAME = "pxprep"


class _Attribute:
    """The attribute `.pxprep` of a class of images.

    An accessor that xarray registers is kept in the image that it holds. Such a circle is freed
    only when Python collects its garbage: a chain would hold the pixels of each of its steps.
    """

    def __get__(self, images: Images | None, owner: type) -> Accessor | type[Accessor]:
        return Accessor if images is None else Accessor(images)


for _class in (xr.DataArray, xr.Dataset, *TREES):
    setattr(_class, NAME, _Attribute())


def _methods_part() -> Part:
    """The methods of the accessor, and what each does in a line."""
    first_lines = {
        name: str(getdoc(member)).partition("\n")[0]
        for holder in (StepMethods, ImageMethods, Accessor)
        for name, member in vars(holder).items()
        if not name.startswith("_")
    }
    rows = [[f".{name}", line] for name, line in first_lines.items()]
    names = in_a_line(list(first_lines))
    return Part("Methods", rows=rows, line=names, count=len(rows), is_open=False)

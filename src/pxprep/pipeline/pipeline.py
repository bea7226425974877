"""Pipelines: measure a cohort once, apply the numbers to any image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..aliases import Images, Pool
from ..engine.notes import ToldOnce
from ..engine.progress import parse_progress
from ..errors import ImageError, ParameterError
from ..images.batches import in_batches, known_batches
from ..images.exclusion import without
from ..images.image_numbers import FOV, parse_fov
from ..images.image_set import AnyImages, ImageSet
from ..images.parameters import parse_memory
from ..steps.function import ImageFunction
from ..steps.image_values import EVERYTHING
from . import fitted_json, saved
from .base_fitted import BaseFittedPipeline
from .base_pipeline import BasePipeline
from .fitting import measured_fields
from .review import require_fitted, require_updatable, updated
from .run import INPUT, apply_numbers, as_own_floats, references, run

__all__ = ["FittedPipeline", "Pipeline"]


class Pipeline(BasePipeline):
    """Steps in any order, to be fitted to one image or a cohort.

    Parameters
    ----------
    steps
        Each a `Step`, a function image -> image, or a pair (name, step). Without a name a step is
        called by its kind (a function by its own name), the second of that kind ``kind_2``.

    Raises
    ------
    ParameterError
        If a name occurs twice, a step's `reference` is not the name of an earlier step, or numbers
        of two steps would have one name, as of two `percentile_clip` called ``x`` and
        ``x_quantile``.

    Examples
    --------
    Built from a list, or fluently; both are the same pipeline.

    >>> from pxprep import Pipeline
    >>> from pxprep.steps import QuantileNorm, Blur
    >>> Pipeline([QuantileNorm(99), Blur(2)]) == Pipeline().quantile_norm(99).blur(2)
    True

    Measure once, apply anywhere:

    >>> from pxprep.datasets import tissue
    >>> fovs = tissue(size=64)
    >>> fitted = Pipeline.sparrow().fit(fovs)
    >>> after = fitted.transform(fovs["fov1"])
    """

    def fit(
        self,
        images: Images,
        *,
        pool: Pool = "mean",
        variable: object = None,
        where: object = None,
        by: object = None,
        exclude: object = None,
        memory: int | str | None = None,
        progress: object = False,
    ) -> "FittedPipeline":
        """Measure one image or a cohort.

        A lazy image is computed block by block in a pass for each statistic, and not held in memory
        beyond `memory`. Images of a cohort are measured block by block, too, whether they are lazy
        or in memory.

        Parameters
        ----------
        images
            An image; a sequence, a mapping of names to images, a dataset of images, or a tree with
            an image in each leaf; with the same channels, in any order if they are labeled.
        pool
            ``"mean"``: mean over the images of what each gives; images in which a channel has no
            signal do not count for it. ``"pixels"``: the pixels of all images as if they were one.
            None: each image by itself.
        variable
            Name of the variable that is the image, if `images` is a dataset with several, or a
            tree of such datasets.
        where
            Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all
            but 0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for
            each image, like `images`. Steps are applied to all pixels. None measures all.
        by
            Batches of images that are measured together, as if the others were not there, so that
            each gets numbers of its own: a mapping of the names of images to their batches, a
            pandas Series or an `xarray.DataArray` over ``fov``, or a level of a tree, 0 for the
            uppermost. None is one batch.
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

        Raises
        ------
        ImageError, ChannelError, ParameterError
            If something given is not an image, channels differ, a step's parameters do not fit the
            channels, a mask does not fit its image, `by` leaves an image without a batch, `exclude`
            leaves a batch without images, or one of both names an image that is not there.

        Warns
        -----
        PxprepWarning
            Once for each thing found: channels without signal, negative or infinite pixels, pixels
            that a step makes NaN, a `sum_mask` that drops far more than its percentage, and
            channels that `compensate` leaves as they are.
        """
        bar = parse_progress(progress)
        budget = parse_memory(memory)
        cohort = in_batches(ImageSet.of(images, pool, variable, where=where), by)
        fields = measured_fields(self, without(cohort, exclude), bar, budget)
        self.warn_of_remarks(cohort.labels)
        # Images that are left out have a batch, too, whose numbers they get.
        return FittedPipeline(**{**fields, "batches": cohort.batch_of_each()})

    def transform(self, images: object, **options: object) -> NoReturn:
        """Only a fitted pipeline can: `fit` first, or `fit_transform` in one go.

        Raises
        ------
        ParameterError
            Always; it says how to fit.
        """
        raise ParameterError(
            "this Pipeline has no numbers yet: fit it first, pipeline.fit(images).transform("
            "images), or do both at once, pipeline.fit_transform(images)"
        )

    def fit_transform(
        self,
        images: AnyImages,
        *,
        pool: Pool = "mean",
        variable: object = None,
        where: object = None,
        by: object = None,
    ) -> AnyImages:
        """Measure one image or a cohort and apply the steps to it.

        Parameters
        ----------
        images, pool, variable, where, by
            As for `fit`.

        Returns
        -------
        xarray.DataArray or cohort
            Like `images`, float32 or float64; what is lazy stays so, and its numbers are measured
            when it is computed.

        Raises
        ------
        ImageError, ChannelError, ParameterError
            As `fit`.
        """
        cohort = in_batches(ImageSet.of(images, pool, variable, where=where), by)
        self.check(cohort.labels)
        self.warn_of_remarks(cohort.labels)
        current = cohort.chained() if self.is_fused and not cohort.is_lazy else cohort
        with ToldOnce():
            for _, _, processed in run(self.steps, current):
                current = processed
            return current.as_images().map(as_own_floats, cohort).as_given()


@dataclass(frozen=True, eq=False, repr=False)
class FittedPipeline(BaseFittedPipeline):
    """A pipeline with its numbers: what `Pipeline.fit` returns.

    Attributes
    ----------
    pipeline
        The steps.
    channels
        Labels of the channels in the order in which they were fitted; None if they have none. Those
        that come out of the steps are `remaining`.
    n_channels
        How many were fitted.
    pool
        How the cohort was pooled.
    fovs
        Names of the images that were measured.
    measured
        What each step measured, by the step's name; `numbers` has it in one dataset.
    dtype
        Float type in which the cohort was processed.
    is_masked
        Whether only some pixels were measured; None if that is not known, as JSON does not keep it.
    batches
        The batch of each image, by name, also of those that were left out; empty without `by`.
    """

    pipeline: Pipeline

    def transform(
        self,
        images: AnyImages,
        *,
        fov: object = None,
        by: object = None,
        variable: object = None,
    ) -> AnyImages:
        """Apply the steps with the fitted numbers to an image or to several.

        Parameters
        ----------
        images
            An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order; or a sequence, a
            mapping, a dataset or a tree of images. With exactly the channels that were fitted;
            select others away first, with ``image.sel(c=...)``.
        fov
            For ``pool=None`` and one image: which of the fitted images it is, by name. None takes
            the image's own name.
        by
            For a fit in batches: the batch of each image whose own is not known from the fit or
            from its `pxprep.Cohort`, in any form that `Pipeline.fit` takes; or the name of one
            batch, of all images.
        variable
            Name of the variable that is the image, if `images` is a dataset with several, or a
            tree of such datasets.

        Returns
        -------
        xarray.DataArray or cohort
            Like `images`, float32 or float64, lazy if they are. If the channels have labels they
            come in the fitted order, so that the result is the same whatever order they had; in a
            tree they stay in the order that they have there.

        Raises
        ------
        ImageError
            If `images` are no images, or differ in dims; for ``pool=None`` also if one of them was
            not fitted.
        ParameterError
            If the batch of an image is not known, or was not part of the fit.
        ChannelError
            If channels are missing or unknown; the message lists both.
        """
        cohort = self.checked(images, fov=fov, by=by, variable=variable)
        is_chained = self.pipeline.is_fused and not cohort.is_lazy
        current = replace(cohort.chained() if is_chained else cohort, pool=self.pool)
        outputs, needed = {INPUT: current}, references(self.pipeline.steps)
        with ToldOnce():
            for name, step in self.pipeline.steps:
                reference = None
                # With a mask, any number of pixels that were not measured may be dropped: the
                # warning about lost pixels would be wrong.
                if step.reference is not None and self.is_masked is False:
                    reference = outputs[step.reference]
                current = apply_numbers(name, step, current, self.measured[name], reference)
                if name in needed:
                    outputs[name] = current
            return current.as_images().map(as_own_floats, cohort).as_given()

    def checked(
        self,
        images: object,
        *,
        fov: object = None,
        by: object = None,
        variable: object = None,
        where: object = None,
    ) -> ImageSet:
        """`images` with their channels in the fitted order; raises what `transform` would raise."""
        cohort = self._in_order(images, by, variable, where)
        fov = None if fov is None else parse_fov(fov)
        if self.pool is None and len(cohort) == 1 and (cohort.is_one or fov is not None):
            name = self.fovs[0] if len(self.fovs) == 1 and fov is None else fov
            cohort = replace(cohort, names=cohort.names if name is None else (name,))
        elif fov is not None:
            raise ParameterError(
                f"fov is for one image and a fit with pool=None, got {fov!r} for "
                f"{len(cohort)} of them and pool={self.pool!r}"
            )
        if any(FOV in numbers.dims for numbers in self.measured.values()) and self.pool is None:
            require_fitted(cohort, self.fovs, is_fov=cohort.is_one or fov is not None)
        return cohort

    def _in_order(self, images: object, by: object, variable: object, where: object) -> ImageSet:
        """`images` with their channels in the fitted order, whether they were fitted or not."""
        cohort = ImageSet.of(images, variable=variable, labels=self.labels, where=where)
        self.pipeline.check(self.labels)
        by_name = cohort.batch_of_each()
        batches = known_batches(cohort.names, by, self.batches, self.fovs, by_name)
        return replace(cohort, batches=batches)

    def update(
        self,
        images: Images,
        *,
        by: object = None,
        variable: object = None,
        where: object = None,
        memory: int | str | None = None,
        progress: object = False,
    ) -> "FittedPipeline":
        """The pipeline fitted to the old images and more; the old ones are not needed again.

        The numbers are those of `Pipeline.fit` to all images, to the last bit. That is possible
        where the quantiles of the images seen before are still those that a new fit would find:
        with ``pool="mean"`` if no step measures what an earlier step has divided or dropped by its
        numbers (``Pipeline().quantile_norm()`` can be updated, ``.quantile_norm().post_norm()``
        cannot); with ``pool=None`` always.

        Parameters
        ----------
        images
            More images, as for `Pipeline.fit`, with the channels that were fitted and other names.
        by
            For a fit in batches, the batches of the new images; as for `transform`.
        variable, where, memory, progress
            As for `Pipeline.fit`; masks are those of the new images.

        Raises
        ------
        ParameterError
            If the numbers cannot be updated exactly: fit all images together again. If the batch of
            an image is not known, or was not part of the fit.
        ChannelError, ImageError
            If the images are not like those that were fitted, or have their names.

        Examples
        --------
        >>> from pxprep import Pipeline
        >>> from pxprep.datasets import tissue
        >>> fovs = tissue(n_fovs=3, size=64)
        >>> later = {"fov2": fovs.pop("fov2")}
        >>> updated = Pipeline().quantile_norm(99).fit(fovs).update(later)
        >>> updated == Pipeline().quantile_norm(99).fit({**fovs, **later})
        True
        """
        require_updatable(self.pipeline.steps, self.measured, self.labels, self.pool)
        bar, budget = parse_progress(progress), parse_memory(memory)
        cohort = replace(self._in_order(images, by, variable, where), pool=self.pool)
        twice = [name for name in cohort.names if name in self.fovs]
        if twice:
            raise ImageError(
                f"images must have names that were not fitted, got {twice} again: give them other "
                "names, in a mapping"
            )
        fovs = (*self.fovs, *cohort.names)
        # Warnings are for all images together.
        new_images = cohort.with_already_told(EVERYTHING)
        new = FittedPipeline(**measured_fields(self.pipeline, new_images, bar, budget))
        dtype = np.result_type(self.dtype, new.dtype)
        batches = {**self.batches, **new.batches}
        measured = updated(
            self.pipeline.steps, self.measured, new.measured, cohort, fovs, batches, dtype
        )
        masked = new.is_masked or self.is_masked  # None if that is not known
        return replace(
            self, fovs=fovs, measured=measured, dtype=dtype, is_masked=masked, batches=batches
        )

    @classmethod
    def from_json(
        cls, text: str | Path, functions: Mapping[str, ImageFunction] | None = None
    ) -> "FittedPipeline":
        """The fitted pipeline that `to_json` described.

        Parameters
        ----------
        text
            What `to_json` returned, or the path of a file that holds it; as for `Pipeline`.
        functions
            The functions that steps call, by the step's name: JSON does not keep code.

        Raises
        ------
        ParameterError, ChannelError
            If the text is no fitted pipeline, or the file cannot be read; its numbers are not those
            of its steps, channels and images; or a step or function is not known.
        """
        return saved.read(text, lambda json: cls(**fitted_json.parsed(json, Pipeline, functions)))

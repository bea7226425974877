"""Drop pixels whose sum over channels is low."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ..aliases import Label, NumpyArray, Pool, Zeros
from ..engine import blocks
from ..engine.notes import MakeNote, Note, Say, sampled_rows, say_lost, say_nothing
from ..engine.programs import Operation, Strip, SumsAgain
from ..engine.windows import Window
from ..errors import ImageError, ParameterError
from ..images.image_numbers import Numbers
from ..images.image_set import AnyImages, ImageSet, cohort_has_its_own
from ..images.parameters import parse_threshold
from .base import Step, measured
from .number_rules import FINITE, check_numbers
from .parameters import CountZeros, OneNumber, SumPercent
from .statistic_base import Statistic
from .statistics import SumThreshold

__all__ = ["SumMask"]


@dataclass(frozen=True)
class SumMask(Step):
    """Drop the pixels whose sum over channels is low: NaN in every channel.

    A pixel is kept where its sum is greater than the threshold, the quantile `q_sum` of the sums of
    `reference`. Where any channel is NaN there is no sum, and the pixel is dropped.

    Parameters
    ----------
    q_sum
        Percent, 0 to 100.
    reference
        Name of the earlier step whose output the threshold is measured on, ``"input"`` for the
        image as it came; None for the output of the step before. Pixie and sparrow/harpy drop
        pixels of the blurred image by a threshold of the un-blurred one. A pixel whose sum exceeds
        the threshold by no more than rounding (2**-18 of the threshold, 2**-47 for float64) is
        dropped, too.
    threshold
        The threshold, if it is known; then nothing is measured.
    zeros
        ``"exclude"`` (sparrow/harpy) or ``"include"`` (Pixie) sums of exactly zero in the quantile.

    Raises
    ------
    ParameterError
        If `q_sum` is no percentage, `threshold` not finite, or `zeros` something else.

    Warns
    -----
    PxprepWarning
        If 0 < `q_sum` <= 1, which is probably a fraction; if there is no sum to measure (the
        threshold is then 0) or sums are negative; and if far more than `q_sum` percent of the
        pixels that have a sum in `reference` are dropped, as where counts are sparse.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[1.0, 0.0, 3.0]], [[1.0, 0.0, 2.0]]]), dims=("c", "y", "x")
    ... )
    >>> image.pxprep.sum_mask(50).values.tolist()
    [[[nan, nan, 3.0]], [[nan, nan, 2.0]]]
    """

    kind = "sum_mask"
    operands = ("threshold",)
    q_sum: SumPercent = 5
    reference: str | None = None
    threshold: OneNumber | None = None
    zeros: CountZeros = "exclude"

    def statistic(self, labels: Sequence[Label]) -> Statistic:
        """The threshold."""
        if self.threshold is not None:
            return GivenThreshold(self.threshold)
        return SumThreshold(np.array([[self.q_sum]]), self.zeros == "include")

    def operation(self, labels: Sequence[Label]) -> Operation:
        """Dropping of the pixels whose sum is not greater than the threshold."""
        of_others = self.threshold is None and self.reference is not None
        return KeepAbove(of_others, partial(say_lost, self.q_sum, self.zeros))


@dataclass(frozen=True)
class GivenThreshold(Statistic):
    """A threshold that is known: nothing is measured."""

    threshold: float

    def measure(self, cohort: ImageSet, step: str) -> Numbers:
        """The threshold."""
        return {"threshold": xr.Variable((), self.threshold)}

    def check(self, numbers: xr.Dataset, pool: str | None) -> None:
        """Raise ParameterError unless this is a threshold alone."""
        check_numbers(numbers, {"threshold": FINITE}, ())


@dataclass(frozen=True)
class KeepAbove(Operation):
    """Drop the pixels whose sum is not above a threshold.

    Attributes
    ----------
    of_others
        Whether the threshold was measured on the sums of a reference, and not on these.
    say
        Makes the warning about dropped pixels that exceed the threshold in the reference.
    reference
        Makes the sums of the reference again; None if nothing can.
    note
        Takes what `blocks.count_lost` finds in some rows.
    """

    of_others: bool = False
    say: Say = field(default=say_nothing, compare=False, repr=False)
    reference: SumsAgain | None = field(default=None, compare=False, repr=False)
    note: Note | None = field(default=None, compare=False, repr=False)

    is_pointwise = False

    def noticing(self, make_note: MakeNote, reference: SumsAgain | None) -> Operation:
        """The same operation, which notes how many of the dropped pixels are lost.

        Those are pixels that exceed the threshold in the reference.
        """
        if reference is None or not self.of_others:
            return self
        return replace(self, reference=reference, note=make_note("sum_mask", self.say))

    def __call__(self, strip: Strip, numbers: Any) -> None:
        """Drop those pixels."""
        sums = strip.sums()
        blocks.drop_low_sums(sums, numbers, of_others=self.of_others)
        sums_in_rows = None if self.reference is None else self.reference(strip)
        if sums_in_rows is not None:
            height = strip.program.height

            def count(wanted: Window) -> NumpyArray:
                rows = sampled_rows(height, wanted.top, wanted.bottom)
                if not rows:
                    return np.zeros(3, np.int64)
                _, columns = wanted.within(strip.window)
                lines = slice(
                    rows[0] - strip.window.top, rows[-1] + 1 - strip.window.top, rows.step
                )
                of_reference = sums_in_rows(rows, wanted)[0]
                return blocks.count_lost(of_reference, sums[:, lines, columns], numbers)

            strip.notice(self.note, count)
        strip.drop(sums)


def sum_mask(
    images: AnyImages,
    q_sum: float = 5,
    reference: object = None,
    threshold: float | xr.DataArray | None = None,
    zeros: Zeros = "exclude",
    *,
    pool: Pool = "mean",
    where: object = None,
) -> AnyImages:
    """Drop the pixels whose sum over channels is low: NaN in every channel.

    A pixel is kept where its sum is greater than the threshold, the quantile `q_sum` of the sums of
    `reference`. Where any channel is NaN there is no sum, and the pixel is dropped.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; or a
        sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    q_sum
        Percent, 0 to 100.
    reference
        Images with the same channels on which the threshold is measured; None for `images`.
        Pixie and sparrow/harpy drop pixels of the blurred image by a threshold of the un-blurred
        one. A pixel whose sum exceeds the threshold by no more than rounding (2**-18 of the
        threshold, 2**-47 for float64) is dropped, too. A `pxprep.Cohort` with a mask is measured
        inside that.
    threshold
        The threshold, if it is known; then nothing is measured. A DataArray may be lazy; along
        ``fov``, each image's own.
    zeros
        ``"exclude"`` (sparrow/harpy) or ``"include"`` (Pixie) sums of exactly zero in the quantile.
    pool
        How a cohort is measured: ``"mean"`` of the images' quantiles, one quantile over the
        ``"pixels"`` of all images, or None: each image by itself. Not for a `pxprep.Cohort`.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. All pixels are changed; see `keep_where`. None measures all. A
        `pxprep.Cohort` has its own.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, float32 or float64; lazy if they or the mask are.

    Raises
    ------
    ParameterError
        If `q_sum` is no percentage, `threshold` not finite, `zeros` something else, or `where` does
        not fit.
    ChannelError
        If `reference` has other channels than `images`.
    ImageError
        If `images` or `reference` are no images, differ in dims, or do not belong together.

    Warns
    -----
    PxprepWarning
        If 0 < `q_sum` <= 1, which is probably a fraction; if there is no sum to measure (the
        threshold is then 0) or sums are negative; and if far more than `q_sum` percent of the
        pixels that have a sum in `reference` are dropped, as where counts are sparse.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import pxprep
    >>> image = xr.DataArray(
    ...     np.array([[[1.0, 0.0, 3.0]], [[1.0, 0.0, 2.0]]]), dims=("c", "y", "x")
    ... )
    >>> image.pxprep.sum_mask(50).values.tolist()
    [[[nan, nan, 3.0]], [[nan, nan, 2.0]]]
    """
    cohort = ImageSet.of(images, pool, where=where)
    step = SumMask(q_sum, zeros=zeros)
    others = None
    if threshold is None and reference is not None:
        others = _reference(reference, cohort, where)
    operation = KeepAbove(others is not None, partial(say_lost, step.q_sum, zeros))
    if threshold is None:
        numbers = measured(step, cohort if others is None else others)
        return cohort.apply_measured(operation, numbers, "threshold", reference=others).as_given()
    thresholds: Sequence[object] = [threshold] * len(cohort)
    if isinstance(threshold, xr.DataArray):
        thresholds = cohort.by_image(threshold, "threshold")
    return cohort.apply(operation, list(map(parse_threshold, thresholds))).as_given()


def _reference(reference: object, cohort: ImageSet, where: object) -> ImageSet:
    """The images on which the threshold for those of `cohort` is measured, inside their own mask.

    Where they have none, that of `cohort` counts, which is `where` if that was given.
    """
    others = ImageSet.of(reference, cohort.pool, labels=cohort.labels, what="reference")
    if others.is_masked and where is not None:
        raise cohort_has_its_own("where", where)
    if cohort.is_one and not others.is_one:
        raise ImageError(
            f"reference must be one image, as images is, got a cohort of {list(others.names)}"
        )
    if not cohort.is_one:
        if set(cohort.names) != set(others.names):
            raise ImageError(
                f"reference must hold one image for each image, called {list(cohort.names)}, got "
                f"{list(others.names)}"
            )
        others = others.only([others.names.index(name) for name in cohort.names])
    if others.batches and others.batches != cohort.batches:
        raise ParameterError(
            f"reference must have the batches of the images, or none, got {others.batch_of_each()}"
        )
    if not others.is_masked:
        if cohort.is_masked and others.spatial_sizes != cohort.spatial_sizes:
            raise ImageError("reference must have the sizes of the images where a mask is given")
        others = replace(others, areas=cohort.areas)
    return replace(others, names=cohort.names, batches=cohort.batches)

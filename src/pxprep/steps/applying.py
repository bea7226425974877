"""What the functions of `ops` do: a step is measured on images, and applied to them."""

from ..errors import warn
from ..images.cohort import AnyImages, ImageSet
from .base import Step

__all__ = ["apply_step"]


def apply_step(
    step: Step, images: AnyImages, *, pool: str | None = "mean", where: object = None
) -> AnyImages:
    """Images after a step that is measured on them.

    Parameters
    ----------
    step
        The step.
    images
        An image; or a sequence, a mapping, a tree or a `pxprep.Cohort` of images.
    pool, where
        As for `pxprep.Pipeline.fit`.

    Returns
    -------
    xarray.DataArray or cohort
        Like `images`, lazy if they or the mask are.
    """
    cohort = ImageSet.of(images, pool, where=where)
    step.check(cohort.labels)
    for remark in step.remarks(cohort.labels):
        warn(f"{step.kind}: {remark}")
    made: AnyImages = step.applied(cohort, step.measure(cohort)).given()
    return made

"""Cohorts: images that are measured together, as a value of their own."""

from collections.abc import Iterator, Mapping
from typing import Self

import xarray as xr

from .accessors import ImageMethods
from .aliases import BatchName, ImageName, Images, Label, Pool
from .displays import Display, Displayable, counted
from .errors import ImageError
from .images.batches import in_batches
from .images.containers import HOLDING
from .images.image_set import HoldsImages, ImageSet
from .images.listing import image_parts

__all__ = ["Cohort"]


class Cohort(Displayable, ImageMethods["Cohort"], HoldsImages, Mapping[ImageName, xr.DataArray]):
    """Images that are measured together, with their masks: a mapping of names to images.

    Its methods are those of ``image.pxprep``; what they make is a cohort again, which knows its
    masks and how it is pooled, so that steps chain.

    Parameters
    ----------
    images
        A sequence, a mapping of names to images, a dataset of images, or a tree with an image in
        each leaf; with the same channels, in any order if they are labeled. Or one image.
    variable
        Name of the variable that is the image, if `images` is a dataset with several, or a tree of
        such datasets.
    where
        Mask of the pixels that are measured: an `xarray.DataArray` of bool, or of labels (all but
        0), with the dims ``y``, ``x`` and optionally ``z``; a `pxprep.Mask`; or one for each image,
        like `images`. None measures all.
    pool
        ``"mean"`` of what each image gives, the ``"pixels"`` of all images as if they were one, or
        None: each image by itself.
    by
        Batches of images that are measured together, as if the others were not there: a mapping of
        the names of images to their batches, a pandas Series or an `xarray.DataArray` over ``fov``,
        or a level of a tree, 0 for the uppermost. None is one batch.

    Raises
    ------
    ImageError, ChannelError
        If something given is not an image, or differs from the others in channels or dims.
    ParameterError
        If `pool` is something else, a mask does not fit, or `by` leaves an image without a batch
        or names others.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> cohort = pxprep.Cohort(tissue(size=64), pool="pixels")
    >>> cohort
    <pxprep.Cohort of 3 images, pool='pixels'>
    Channels (10): DAPI, CD45, CD3, CD8, CD20, CD68, panCK, SMA, Ki67, CD31
    Images (3):
        image  size          dtype   held
        fov0   y: 64, x: 64  uint16  in memory
        fov1   y: 64, x: 64  uint16  in memory
        fov2   y: 64, x: 64  uint16  in memory
    >>> after = cohort.quantile_norm(99).blur(2).as_given()
    >>> sorted(after)
    ['fov0', 'fov1', 'fov2']

    Each staining batch is measured by itself:

    >>> stained = {"fov0": "May", "fov1": "May", "fov2": "June"}
    >>> cohort = pxprep.Cohort(tissue(size=64), by=stained)
    >>> cohort.quantile(99).sizes["batch"]
    2
    """

    def __init__(
        self,
        images: Images,
        *,
        variable: object = None,
        where: object = None,
        pool: Pool = "mean",
        by: object = None,
    ) -> None:
        self.image_set = in_batches(ImageSet.of(images, pool, variable, where=where), by)
        if isinstance(images, HOLDING):
            self.came_in = (images, variable)
        elif isinstance(images, HoldsImages):
            self.came_in = images.came_in

    @property
    def _images(self) -> "Cohort":  # what the methods of `ImageMethods` work on
        return self

    @property
    def channels(self) -> tuple[Label, ...]:
        """Labels of the channels, or their positions where they have none."""
        return self.image_set.labels

    @property
    def batches(self) -> dict[ImageName, BatchName]:
        """The batch of each image, by name; empty if all are measured together."""
        return self.image_set.batch_of_each()

    @property
    def pool(self) -> str | None:
        """How the cohort is measured."""
        return self.image_set.pool

    def as_given(self) -> Images:
        """The images in the form in which they came: a list, dict, dataset, tree, or one image."""
        return self.image_set.as_given()

    def holding(self, image_set: ImageSet) -> Self:
        """The same cohort with other images; raises ImageError if its masks do not fit these."""
        # Masks hold for all channels: their number does not matter.
        if image_set.is_masked and image_set.spatial_sizes != self.image_set.spatial_sizes:
            raise ImageError(
                "a Cohort with a mask keeps its size: make a new one of the images that are smaller"
            )
        made = object.__new__(type(self))
        made.image_set, made.came_in = image_set, self.came_in
        return made

    def __getitem__(self, name: ImageName) -> xr.DataArray:
        if name not in self.image_set.names:
            raise KeyError(name)
        return self.image_set[self.image_set.names.index(name)]

    def __iter__(self) -> Iterator[ImageName]:
        return iter(self.image_set.names)

    def __len__(self) -> int:
        return len(self.image_set)

    def _display(self) -> Display:
        masked = ", masked" if self.image_set.is_masked else ""
        images = counted(len(self), "images")
        if self.batches:
            n_batches = len(set(self.batches.values()))
            images += f" in {n_batches:,} batch{'es' if n_batches > 1 else ''}"
        summary = f"of {images}, pool={self.pool!r}{masked}"
        return Display("pxprep.Cohort", summary, [*image_parts(self.image_set)])

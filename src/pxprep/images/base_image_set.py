"""What an image set holds: images with names, masks and batches; and some of them as another."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, overload

import numpy as np
import xarray as xr

from ..aliases import Array, BatchName, ImageName, Label, Pool
from ..channels import CHANNEL, channel_labels, labels_or_positions
from ..engine.passes import Chained
from ..engine.sources import Area
from .containers import Rebuild, the_one
from .image_numbers import Numbers, NumbersOrOne, labeled_numbers, numbers_of_each, rows_of


@dataclass(frozen=True, eq=False)
class BaseImageSet(Sequence[xr.DataArray]):
    """Base class of `ImageSet`: a sequence of images whose channels have one order.

    Parameters
    ----------
    images
        Checked images with the same channels in the same order.
    names
        One for each image.
    rebuild
        Gives images back in the form in which they came: an image, a list, a dict or a tree.
    channels
        The channels that were chosen of the images as they came, in that order; None for all.
    is_one
        Whether it came as one image, and not as a list, a mapping or a tree with one.
    pool
        ``"mean"`` averages the quantiles of the images, ``"pixels"`` takes one quantile over all
        their pixels, None measures each image by itself.
    already_told
        Flags, shape (fov, c), of which earlier steps have warned the user.
    evaluate
        A function that computes what a pass over lazy images finds, of all images together: a few
        numbers for each.
    areas
        Which pixels of each image are measured, None for all of them; empty where that is so of all
        images.
    chains
        For each image the operations that have not been run yet; empty where Dask graphs have them.
    batches
        The batch of each image: those of one batch are measured together; empty for one cohort.
    """

    images: tuple[xr.DataArray, ...]
    names: tuple[ImageName, ...]
    rebuild: Rebuild
    is_one: bool
    pool: Pool = "mean"
    channels: tuple[Label, ...] | None = None
    already_told: Array = field(default=0)
    evaluate: Callable[[list[Array]], list[Array]] | None = None
    areas: tuple[Area | None, ...] = ()
    chains: tuple[Chained, ...] = ()
    batches: tuple[BatchName, ...] = ()

    @overload
    def __getitem__(self, index: int) -> xr.DataArray: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[xr.DataArray]: ...

    def __getitem__(self, index: int | slice) -> xr.DataArray | Sequence[xr.DataArray]:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The channels' labels, or their positions where they have none; empty for sums of them."""
        if CHANNEL not in self.images[0].dims:
            return ()
        return labels_or_positions(self.images[0])

    @property
    def spatial_sizes(self) -> list[dict[Hashable, int]]:
        """For each image its sizes by dim, without that of the channels."""
        return [
            {dim: size for dim, size in image.sizes.items() if dim != CHANNEL} for image in self
        ]

    @property
    def is_masked(self) -> bool:
        """Whether some pixels are not measured."""
        return any(area is not None for area in self.areas)

    def _with(self, **changes: Any) -> Self:
        """The same images with something else changed."""
        made = copy(self)  # with its labels, which `replace` would have looked up again
        vars(made).update(changes)
        return made

    def only(self, kept: Sequence[int]) -> Self:
        """Some of the images, a list by position, with all that is known of them."""

        def some(values: Sequence[object]) -> tuple[object, ...]:
            return tuple(values[index] for index in kept) if values else ()

        told = self.already_told
        return self._with(
            images=some(self.images),
            names=some(self.names),
            areas=some(self.areas),
            chains=some(self.chains),
            batches=some(self.batches),
            already_told=told[list(kept)] if np.ndim(told) else told,
            rebuild=lambda made, channels: list(made),
            is_one=False,
        )

    def by_batch(self) -> dict[BatchName, Self]:
        """The images of each batch, in the order of their first ones, as a cohort of its own."""
        rows = rows_of(self.batches)
        return {batch: self.only(kept)._with(batches=()) for batch, kept in rows.items()}

    def batch_of_each(self) -> dict[ImageName, BatchName]:
        """By name of each image its batch; empty for one cohort."""
        return dict(zip(self.names, self.batches, strict=True)) if self.batches else {}

    def each_alone(self) -> list[Self]:
        """Each image as a cohort of its own, all pixels of which are measured."""
        return [
            type(self)((image,), (name,), the_one, is_one=True, evaluate=self.evaluate)
            for image, name in zip(self.images, self.names, strict=True)
        ]

    def map(self, function: Callable[..., xr.DataArray], *arguments: Iterable[object]) -> Self:
        """The cohort of `function(image, ...)`; each of `arguments` has an item for each image."""
        images = (function(*each) for each in zip(self.images, *arguments, strict=True))
        return replace(self, images=tuple(images))

    def by_image(self, numbers: NumbersOrOne, parameter: str) -> list[NumbersOrOne]:
        """The numbers of each image: its own, or those of its batch, or else all."""
        return numbers_of_each(numbers, self.names, self.batches, parameter)

    def labeled(self, numbers: Numbers) -> xr.Dataset:
        """The numbers with the labels of the channels, if any, the images and the batches."""
        channels = channel_labels(self.images[0])
        return labeled_numbers(numbers, channels, self.names, rows_of(self.batches))

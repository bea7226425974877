"""Images that are measured together: checked, however the user holds them; what is done to them."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from ..aliases import Array, Images, Label, Pool
from ..channels import channel_labels, plain, reorder_channels, select_channels
from ..engine import backends
from ..engine.cache import default_memory
from ..engine.notes import Note, ToldOnce
from ..engine.operations import PickChannels
from ..engine.passes import ArrayChain, begin_at_result, results
from ..engine.programs import Operation, SumsAgain
from ..errors import ImageError, ParameterError
from .alignment import aligned, check_names
from .base_image_set import BaseImageSet
from .containers import is_in_datasets, take_out
from .image import checked, like, pixels, placeholder
from .image_numbers import Numbers
from .masks import areas_of
from .parameters import parse_pool

if TYPE_CHECKING:
    # What comes in as one of these comes out as one.
    AnyImages = TypeVar(
        "AnyImages",
        xr.DataArray,
        xr.Dataset,
        xr.DataTree,
        "HoldsImages",
        Sequence[xr.DataArray],
        Mapping[Any, xr.DataArray],
    )
else:
    AnyImages = object


class HoldsImages:
    """Something that holds a set of images, and says how it is measured: a `pxprep.Cohort`."""

    image_set: "ImageSet"
    # The tree or Dataset of the images, in which masks may lie beside them, and the name of the
    # variable that is the image; None if they came in something else.
    came_in: tuple[object, object] | None = None

    def holding(self, image_set: "ImageSet") -> "HoldsImages":
        """The same with other images."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ImageSet(BaseImageSet):
    """Images that are measured together: a sequence whose channels have one order.

    `BaseImageSet` says what it holds.
    """

    @classmethod
    def of(
        cls,
        images: object,
        pool: object = "mean",
        variable: object = None,
        labels: Sequence[Label] | None = None,
        what: str = "image",
        where: object = None,
    ) -> "ImageSet":
        """Check images, however the user holds them; bring channels in line.

        Parameters
        ----------
        images, pool
            What the user gave.
        variable
            Name of the variable that is the image, in a dataset or in those of a tree.
        labels
            Channels that the images must have, and their order; None for those that most have, in
            the order of the first image that has them.
        what
            What an image is called in messages.
        where
            Which pixels are measured, as the user gave it; None for all.

        Raises
        ------
        ImageError, ChannelError
            If something given is not an image, or differs from the others; the message lists all.
        ParameterError
            If `where` is no mask, or does not fit; if `variable` is no name, or for images that are
            not in datasets.
        """
        pool = parse_pool(pool)
        if isinstance(images, HoldsImages):
            return _held(images, pool, variable, labels, where)
        if isinstance(images, ImageSet):
            by_name = dict(zip(images.names, images, strict=True))
            areas = images.areas if where is None else areas_of(where, by_name, images)
            return replace(images, pool=pool, areas=areas)
        if isinstance(images, Iterator):
            images = list(images)  # they are looked at more than once
        is_name = isinstance(variable, Hashable)
        if variable is not None and not (is_name and is_in_datasets(images)):
            raise ParameterError(
                "variable names the image in a Dataset or in a tree's datasets, got "
                f"{variable!r} for {type(images).__qualname__}"
            )
        named, rebuild, is_one = take_out(images, variable, what)
        if not named:
            raise ImageError(f"{what}s must hold at least one image, got none")
        names = tuple(map(plain, named))
        check_names(names, what)
        called = [what] if is_one else [f"{what} {name!r}" for name in names]
        each = [checked(*pair) for pair in zip(named.values(), called, strict=True)]
        in_line = tuple(aligned(each, called, labels))
        areas = areas_of(where, dict(zip(names, in_line, strict=True)), images, variable)
        return cls(in_line, names, rebuild, is_one, pool, areas=areas)

    def apply(
        self,
        operation: Operation,
        numbers: Sequence[object] | None = None,
        reference: "ImageSet | None" = None,
    ) -> "ImageSet":
        """The cohort after an operation, which takes each image's own numbers, if any.

        These were measured on `reference` if that is given.
        """
        numbers = numbers or [None] * len(self)
        reference_sums = [None] * len(self) if reference is None else reference._sums_for(self)
        with ToldOnce():
            each = zip(self.images, self.names, reference_sums, strict=True)
            operations = [
                operation.noticing(partial(Note, image, self.labels, name), sums)
                for image, name, sums in each
            ]
            if not self.chains:
                arrays = map(backends.apply, map(pixels, self), operations, numbers)
                return self.map(like, arrays)
            waiting = zip(self.chains, operations, numbers, strict=True)
            chains = tuple(chain.then(own, number) for chain, own, number in waiting)
            return self._with(chains=chains)

    def _sums_for(self, cohort: "ImageSet") -> list[SumsAgain | None]:
        """For each image of `cohort`, what makes the sums again that gave its threshold.

        None where they cannot be made, or not in little time.
        """
        areas = self.areas or [None] * len(self)
        if self.is_lazy or cohort.is_lazy:
            return list(map(backends.sums_again, map(pixels, self), map(pixels, cohort), areas))
        begun, others = (some.chains or some.chained().chains for some in (self, cohort))
        each = zip(begun, others, areas, strict=True)
        return [chain.sums_again(other, area) for chain, other, area in each]

    def apply_measured(
        self,
        operation: Operation,
        measured: Numbers | xr.Dataset,
        *names: str,
        reference: "ImageSet | None" = None,
    ) -> "ImageSet":
        """The cohort after an operation that takes these of the numbers of a step, one or two.

        `reference` as for `apply`.
        """
        arrays: list[Any] = [measured[name] for name in names]
        if isinstance(arrays[0], xr.DataArray) and channel_labels(arrays[0]) is not None:
            arrays = [reorder_channels(array, self.labels, names[0]) for array in arrays]
        of_images = zip(*(self.by_image(array, names[0]) for array in arrays), strict=True)
        each = [[number.data for number in numbers] for numbers in of_images]
        handed = [np.stack(numbers) if len(names) > 1 else numbers[0] for numbers in each]
        return self.apply(operation, handed, reference)

    def keeping_channels(self, kept: Sequence[Label]) -> "ImageSet":
        """The cohort of these of its channels, in the order that they have; others are dropped."""
        if len(kept) == len(self.labels):
            return self
        positions, told = [self.labels.index(label) for label in kept], self.already_told
        pick = PickChannels(tuple(positions))
        images = [placeholder(image, kept) for image in self]
        chains = tuple(chain.then(pick) for chain in self.chains)
        if not chains:
            arrays = (backends.apply(pixels(image), pick) for image in self)
            images = list(map(like, images, arrays))
        return replace(
            self,
            images=tuple(images),
            chains=chains,
            channels=None if self.channels is None else tuple(kept),
            already_told=told[:, positions] if np.shape(told)[1:] == (len(self.labels),) else told,
        )

    def with_channels(self, channels: Sequence[Label] | None) -> "ImageSet":
        """The cohort of these channels, in that order; None leaves it as it is."""
        if channels is None:
            return self
        chosen = self.map(lambda image: select_channels(image, channels))
        return replace(chosen, channels=chosen.labels)

    def with_already_told(self, flags: Array) -> "ImageSet":
        """The same cohort, with flags of which the user has been warned."""
        return self._with(already_told=flags)

    def with_evaluate(self, evaluate: Callable[[list[Array]], list[Array]]) -> "ImageSet":
        """The same cohort, with a function that computes the lazy results of each pass."""
        return self._with(evaluate=evaluate)

    def shared(self) -> "ImageSet":
        """The same cohort, whose arrays must not be changed in place: others need them."""
        return self._with(chains=tuple(chain.shared() for chain in self.chains))

    def chained(self) -> "ImageSet":
        """The same cohort, of images in memory, with chains: operations wait until they are needed.

        The images themselves stay as they were, for their labels.
        """
        chains = [ArrayChain(pixels(image)) for image in self]
        return self._with(chains=tuple(chains))

    def chained_if_readable(self) -> "ImageSet | None":
        """As `chained`, for lazy images that threads of this process can read without Dask.

        None if they cannot read an image, if a mask is lazy, or if the pixels of images of several
        types are pooled.
        """
        if any(map(backends.is_lazy, self.areas)):
            return None
        if self.pool == "pixels" and len({image.dtype for image in self}) > 1:
            return None  # the images have to be brought to one type first
        chains = [backends.read_here(pixels(image)) for image in self]
        known = tuple(chain for chain in chains if chain is not None)
        return replace(self, chains=known) if len(known) == len(self) else None

    def keeping_results(self) -> "ImageSet":
        """The same cohort, of whose chains the first pass keeps what comes out."""
        return self._with(chains=tuple(chain.keeping_result() for chain in self.chains))

    def with_results(self) -> "ImageSet":
        """The same cohort with the results of its operations: as a pass kept them, or made here."""
        return self._with(chains=tuple(map(begin_at_result, self.chains)))

    @property
    def is_cheap(self) -> bool:
        """Whether the operations that wait take less time than to keep their results."""
        return all(chain.is_cheap for chain in self.chains)

    @property
    def arrays(self) -> list[object]:
        """What is measured: for each image an array with axes (c, z, y, x), or a chain."""
        return list(self.chains) or [pixels(image) for image in self]

    def as_lazy(self) -> "ImageSet":
        """The same cohort with lazy images, of which a pass holds a few blocks at a time."""
        return self.map(lambda image: like(image, backends.as_lazy(pixels(image))))

    def as_images(self) -> "ImageSet":
        """The same cohort with the chains' results as images."""
        if not self.chains:
            return self
        return replace(self.map(like, results(self.chains)), chains=())

    @property
    def is_lazy(self) -> bool:
        """Whether an image or a mask is a Dask array; False for chains, which read those."""
        if self.chains:
            return False
        arrays = (*(image.data for image in self.images), *self.areas)
        return any(map(backends.is_lazy, arrays))

    def sharing_reads(
        self, memory: int | None, depth: int, *, results: bool = False
    ) -> AbstractContextManager[None]:
        """A context in which passes over lazy images keep what they read for each other.

        `memory` is for how many bytes, None a share of what is available. `depth` is how far the
        steps read around a pixel. `results` tells that images are also transformed in this context,
        so that blurred blocks are worth keeping.
        """
        images = [pixels(image) for image in self.images]
        if not any(map(backends.is_lazy, images)):
            return nullcontext()
        n_bytes = default_memory() if memory is None else memory
        return backends.keeping(images, n_bytes, depth, results=results)

    def as_given(self) -> Images:
        """The images in the form in which they came."""
        return self.rebuild(self.images, self.channels)


def cohort_has_its_own(parameter: str, value: object) -> ParameterError:
    """The error for a parameter that a Cohort has of its own, given with one."""
    return ParameterError(
        f"a Cohort has its own {parameter}: set it where it is made, pxprep.Cohort(..., "
        f"{parameter}=...), and leave it out here; got {value!r:.200}"
    )


def _held(
    holder: HoldsImages, pool: Pool, variable: object, labels: Sequence[Label] | None, where: object
) -> ImageSet:
    """The images of a cohort, which has its own variable, mask and pool."""
    own = holder.image_set
    for name, value, is_told in (
        ("variable", variable, variable is not None),
        ("where", where, where is not None),
        ("pool", pool, pool not in ("mean", own.pool)),  # "mean" is what is taken if none is given
    ):
        if is_told:
            raise cohort_has_its_own(name, value)

    def rebuild(made: Sequence[xr.DataArray], channels: Sequence[Label] | None) -> object:
        chosen = None if channels is None else tuple(channels)
        return holder.holding(replace(own, images=tuple(made), channels=chosen))

    called = [f"image {name!r}" for name in own.names]
    if not own.labels:
        checked(own.images[0], called[0])  # raises: sums over channels are no images
    images = own.images if labels is None else tuple(aligned(own.images, called, labels))
    return replace(own, images=images, rebuild=rebuild)

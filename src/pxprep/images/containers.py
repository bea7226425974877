"""How a user holds images: one, a list, a mapping, a dataset or a tree; taken out, and put back."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import xarray as xr

from ..aliases import ImageName, Images, Label
from ..errors import ImageError
from .dataset_variables import images_of, with_images
from .datatree import TREES, is_tree
from .hints import what_came
from .image import IMAGE_IN_WORDS
from .trees import check_pyramid, named_leaves, read_leaf, with_leaves

# Puts images, and the channels that were chosen of them (None for all), into the user's own form.
Rebuild = Callable[[Sequence[xr.DataArray], Sequence[Label] | None], Images]
# What holds images as variables.
HOLDING = (xr.Dataset, *TREES)


def take_out(
    images: object, variable: object, what: str
) -> tuple[dict[ImageName, object], Rebuild, bool]:
    """The images by name, what gives them back in their form, and whether they came as one."""
    if isinstance(images, xr.DataArray):
        return {0 if images.name is None else images.name: images}, the_one, True
    if isinstance(images, xr.Dataset):
        return _of_dataset(images, variable, what)
    if is_tree(images):
        return _of_tree(images, variable)
    if isinstance(images, Mapping):
        return _of_mapping(images, variable)
    if (
        isinstance(images, Iterable)
        and not isinstance(images, str)
        and not hasattr(images, "dtype")
    ):
        listed, rebuild, _ = _of_mapping(dict(enumerate(images)), variable)
        return listed, lambda made, channels: list(rebuild(made, channels).values()), False
    raise ImageError(
        f"{what} must be {IMAGE_IN_WORDS}, or several: a sequence, a mapping of names to images, a "
        f"Dataset or a tree, {what_came(images)}"
    )


def is_in_datasets(images: object) -> bool:
    """Whether images are variables of datasets, so that they have names there."""
    if isinstance(images, HOLDING):
        return True
    values = images.values() if isinstance(images, Mapping) else images
    return isinstance(values, Iterable) and any(isinstance(one, HOLDING) for one in values)


def _of_mapping(
    images: Mapping[object, object], variable: object
) -> tuple[dict[ImageName, object], Rebuild, bool]:
    opened = {name: _of_one(image, name, variable) for name, image in images.items()}

    def rebuild(made: Sequence[xr.DataArray], channels: Sequence[Label] | None) -> object:
        return {
            name: rebuild_one([image], channels)
            for (name, (_, rebuild_one)), image in zip(opened.items(), made, strict=True)
        }

    return {name: image for name, (image, _) in opened.items()}, rebuild, False


def _of_one(image: object, name: ImageName, variable: object) -> tuple[object, Rebuild]:
    """One entry of a list or a mapping: an image, or a multiscale image."""
    if not isinstance(image, HOLDING):
        return image, the_one
    named, rebuild, is_one = take_out(image, variable, f"image {name!r}")
    if not is_one:
        raise ImageError(
            f"image {name!r} must be one image, got {len(named)} in a {type(image).__name__}: give "
            "it alone, or variable="
        )
    return next(iter(named.values())), rebuild


def _of_tree(
    tree: "xr.DataTree", variable: object
) -> tuple[dict[ImageName, object], Rebuild, bool]:
    named = named_leaves(tree, variable)
    leaves = list(named.values())
    for leaf in leaves:
        check_pyramid(tree, leaf)
    images: dict[ImageName, object] = {name: read_leaf(tree, leaf) for name, leaf in named.items()}

    def rebuild(made: Sequence[xr.DataArray], channels: Sequence[Label] | None) -> object:
        return with_leaves(tree, dict(zip(leaves, made, strict=True)), channels)

    return images, rebuild, leaves[0].path == "" and len(leaves) == 1


def _of_dataset(
    dataset: xr.Dataset, variable: object, what: str
) -> tuple[dict[ImageName, object], Rebuild, bool]:
    images: dict[ImageName, object] = {**images_of(dataset, variable, what)}

    def rebuild(made: Sequence[xr.DataArray], channels: Sequence[Label] | None) -> xr.Dataset:
        return with_images(dataset, dict(zip(images, made, strict=True)), channels)

    return images, rebuild, len(images) == 1


def the_one(made: Sequence[xr.DataArray], channels: Sequence[Label] | None = None) -> xr.DataArray:
    """What a single image is put back into: nothing, it is returned as it is."""
    return made[0]

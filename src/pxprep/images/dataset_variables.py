"""Images that are variables of a dataset: which they are, and others put in their place."""

from collections.abc import Mapping, Sequence

import xarray as xr

from ..aliases import ImageName, Label
from ..channels import CHANNEL, labels_or_positions, reorder_channels, select_known_channels
from ..errors import ImageError
from .hints import line_for_dataset


def image_variables(node: "xr.Dataset | xr.DataTree") -> list[ImageName]:
    """The names of the variables of a dataset, or of a tree's node, that have the image's dims."""
    held = node.data_vars.items()
    return [name for name, array in held if {CHANNEL, "y", "x"} <= set(array.dims)]


def images_of(dataset: xr.Dataset, variable: object, what: str) -> dict[ImageName, xr.DataArray]:
    """The images of a dataset by name: the one of a name, or all that have the image's dims.

    Raises
    ------
    ImageError
        If there is none; `what` is the name of the dataset in messages.
    """
    names = image_variables(dataset) if variable is None else [variable]
    images = {name: dataset[name] for name in names if name in dataset.data_vars}
    if not images:
        wanted = "with the dims c, y, x" if variable is None else f"called {variable!r}"
        held = {str(name): array.dims for name, array in dataset.data_vars.items()}
        raise ImageError(
            f"{what} must hold at least one image, a variable {wanted}; its variables are {held}"
            + (line_for_dataset(dataset) if variable is None else "")
        )
    return images


def with_images(
    dataset: xr.Dataset, images: Mapping[ImageName, xr.DataArray], channels: Sequence[Label] | None
) -> xr.Dataset:
    """A dataset like `dataset` with other images in the place of its own.

    `channels` are those that were chosen, and their order: everything that has channels is reduced
    to them. For None they keep the order that they have, without those that `images` lack.
    """
    name, image = next(iter(images.items()))
    kept = staying(channels, dataset[name], image, labels_or_positions(dataset))
    chosen = dataset if kept is None else select_known_channels(dataset, kept)
    order = labels_or_positions(chosen) if CHANNEL in chosen.dims else ()
    ordered = {
        name: reorder_channels(image, order, repr(name)) if CHANNEL in image.dims else image
        for name, image in images.items()
    }
    return with_variables(chosen, ordered, "the dataset")


def staying(
    chosen: Sequence[Label] | None,
    before: xr.DataArray,
    after: xr.DataArray,
    known: Sequence[Label],
) -> Sequence[Label] | None:
    """Which of the channels `known` of what lies beside an image stay, and in which order.

    Those that were `chosen`; if that is None, all but those that the image had before and lacks
    after. None if all stay as they are.
    """
    if chosen is not None:
        return chosen if set(chosen) <= set(known) else None
    if CHANNEL not in after.dims or after.sizes[CHANNEL] == before.sizes[CHANNEL]:
        return None
    dropped = set(labels_or_positions(before)) - set(labels_or_positions(after))
    return [label for label in known if label not in dropped]


def with_variables(
    dataset: xr.Dataset, images: Mapping[ImageName, xr.DataArray], what: str
) -> xr.Dataset:
    """`dataset` with images in the place of those called so.

    Coordinates that do not fit any more are gone, or are those of the images.
    """
    others = dataset.drop_vars(list(images))
    resized = {
        dim
        for image in images.values()
        for dim, size in image.sizes.items()
        if others.sizes.get(dim, size) != size
    }
    unfit = [other for other, array in others.data_vars.items() if resized & set(array.dims)]
    if unfit:
        raise ImageError(
            f"{what} also holds {unfit}, which would no longer fit the image along "
            f"{sorted(map(str, resized))}"
        )
    others = others.drop_vars(
        [other for other, array in others.coords.items() if resized & set(array.dims)]
    )
    # The images' other coordinates are not put in: in a tree a node above may have them.
    moved = {
        name: coord.variable
        for image in images.values()
        for name, coord in image.coords.items()
        if resized & set(coord.dims)
    }
    made = others.assign({name: image.variable for name, image in images.items()})
    return made.assign_coords(moved)

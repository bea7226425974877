"""Images of a cohort checked against each other: names, dims, and channels in one order."""

from collections import Counter
from collections.abc import Iterable, Sequence

import xarray as xr

from ..aliases import ImageName, Label
from ..channels import is_label, labels_or_positions, reorder_channels, unwritable, usual_channels
from ..errors import (
    ChannelError,
    ImageError,
    ParameterError,
    did_you_mean,
    listed,
    listed_names,
    spelled,
)


def check_names(names: Sequence[ImageName], what: str) -> None:
    """Raise ImageError unless these names of images can be written to files.

    Messages call an image `what`.
    """
    bad = [name for name in names if not is_label(name)] or unwritable(names)
    if bad:
        raise ImageError(
            f"{what}s must have names that can be written, texts or finite numbers, got "
            f"{bad!r:.300}; give others, in a mapping or with image.rename"
        )


def require_image_names(
    asked: Iterable[object],
    names: Sequence[ImageName],
    parameter: str,
    others: Sequence[ImageName] = (),
) -> None:
    """Raise ParameterError unless these are names of a cohort's images, or of some others."""
    unknown = [name for name in dict.fromkeys(asked) if name not in names and name not in others]
    if unknown:
        got = listed([f"{name!r}{did_you_mean([name], names)}" for name in unknown])
        raise ParameterError(
            f"{spelled(parameter)} must name images of the cohort, got {got}; they are "
            f"{listed_names(names)}"
        )


def aligned(
    images: Sequence[xr.DataArray], called: Sequence[str], order: Sequence[Label] | None
) -> list[xr.DataArray]:
    """The images with one order of channels; raises an error that says which image differs how.

    `called` is what messages call each image. `order` None is that of the first image which has the
    channels that most have.
    """
    if len(images) == 1 and order is None:
        return list(images)
    dims = Counter(frozenset(image.dims) for image in images).most_common(1)[0][0]
    odd = [
        f"{name} has {image.dims}"
        for name, image in zip(called, images, strict=True)
        if frozenset(image.dims) != dims
    ]
    if odd:
        raise ImageError(
            f"images must all have the dims {sorted(map(str, dims))}: {listed(odd, separator='; ')}"
        )
    if order is None:
        order = usual_channels(map(labels_or_positions, images))
    in_order, problems = [], []
    for name, image in zip(called, images, strict=True):
        try:
            in_order.append(reorder_channels(image, order, name))
        except ChannelError as error:
            problems.append(str(error))
    if problems:
        raise ChannelError(listed(problems, separator="; "))
    return in_order

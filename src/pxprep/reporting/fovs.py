"""The images of a report: which there are, and what is read of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import xarray as xr

from ..aliases import ImageName, Label, NumpyArray
from ..channels import CHANNEL, select_channels
from ..engine import computing
from ..errors import ChannelError, ImageError
from ..images.image_set import ImageSet
from ..pipeline.pipeline import FittedPipeline
from ..plot.comparison import require_same_size
from ..plot.dropped_pixels import count_dropped
from ..plot.thumbnails import thinned, thinning_text

# Where an image, and a channel of an image, is shown: by its name, and None or the channel.
Anchors = Mapping[tuple[ImageName, Label | None], str]
# Pixels along y and x that are read for pictures and histograms.
MOST_PIXELS = 512


@dataclass(frozen=True, eq=False)
class Fov:
    """An image before and after.

    Attributes
    ----------
    name
        The image's name among the fitted images.
    title
        The image's name in the report.
    before
        The image with the fitted channels in their order, without those that steps drop; None if it
        is no longer there.
    after
        The processed image, with the same channels.
    """

    name: ImageName
    title: str
    before: xr.DataArray | None
    after: xr.DataArray


@dataclass(frozen=True, eq=False)
class PicturedPixels:
    """The pixels of an image that are pictured, axes (c, y, x).

    Attributes
    ----------
    before, after
        `before` is None where the image is no longer there.
    thinning
        Which pixels these are; nothing if all.
    """

    before: NumpyArray | None
    after: NumpyArray
    thinning: str


@dataclass(frozen=True, eq=False)
class DropCount:
    """How many pixels of an image were dropped.

    Attributes
    ----------
    fov
        The image.
    n_dropped, n_pixels
        How many pixels have no value in any channel, of how many; exact.
    """

    fov: Fov
    n_dropped: int
    n_pixels: int


def paired(before: object, after: object, fitted: FittedPipeline, variable: object) -> list[Fov]:
    """The images of a report, checked; raises ImageError or ChannelError that names one."""
    labels = fitted.remaining
    results = ImageSet.of(after, variable=variable, labels=labels, what="after image")
    if before is None:
        named = zip(_names(results, fitted), results, strict=True)
        return [Fov(name, _title(name), None, result) for name, result in named]
    inputs = ImageSet.of(before, variable=variable, what="before image")
    names = _names(inputs, fitted)
    is_one = results.is_one
    if inputs.is_one != is_one or (not is_one and {*inputs.names} != {*results.names}):
        raise ImageError(
            "before and after must be the same images, got "
            f"{[*inputs.names]} and {[*results.names]}"
        )
    by_name = dict(zip(names if is_one else results.names, results, strict=True))
    fovs = []
    for name, image in zip(names, inputs, strict=True):
        try:
            image = select_channels(image, labels)
        except ChannelError as error:
            raise ChannelError(f"before image {name!r}: {error}") from error
        require_same_size(image, by_name[name], f"image {name!r}: ")
        fovs.append(Fov(name, _title(name), image, by_name[name]))
    return fovs


def _names(cohort: ImageSet, fitted: FittedPipeline) -> tuple[ImageName, ...]:
    """The names of images; a single image is the one that was fitted if that was one, too."""
    if cohort.is_one and len(fitted.fovs) == 1:
        return fitted.fovs
    return cohort.names


def _title(name: ImageName) -> str:
    return f"image {name}" if isinstance(name, int) else str(name)


def look(fov: Fov) -> tuple[DropCount, PicturedPixels]:
    """Read an image, in one pass: how much was dropped, and the pixels that are pictured."""
    images = [image for image in (fov.after, fov.before) if image is not None]
    n_dropped, *shown = computing.compute(
        count_dropped(fov.after), *(thinned(image, MOST_PIXELS) for image in images)
    )
    after, before = (*shown, None)[:2]
    n_pixels = fov.after.size // fov.after.sizes[CHANNEL]
    return (
        DropCount(fov, int(n_dropped), n_pixels),
        PicturedPixels(before, after, thinning_text(fov.after, MOST_PIXELS)),
    )

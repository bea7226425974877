"""TIFFs of several channels: OME-TIFF, and others whose channels the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from .._channels import require_unique
from .._typing import Label
from ..errors import ChannelError, ImageError, ParameterError
from .names import agreed, existing_path, image_names
from .stacks import Stack, opened

if TYPE_CHECKING:
    from tifffile import TiffFile

# Micrometres in a unit of length, as OME writes it.
MICRONS = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}


def read_tiff(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    channel_names: Sequence[str] | None = None,
) -> dict[str, xr.DataArray]:
    """The images of an OME-TIFF, or of any other TIFF whose pages are channels; lazily.

    Parameters
    ----------
    path
        A TIFF file. Of pyramids the finest level is read.
    channels
        Labels of the channels to use, in that order; None for all of them.
    channel_names
        Names of all channels in the file, in its order. None takes those of the OME metadata; other
        TIFFs have none.

    Returns
    -------
    dict of str to xarray.DataArray
        By name: the file's without its suffix; where the file holds several images, with the name
        of each in the metadata behind it, or its number from 0. Dims ``c``, ``y``, ``x``, of a
        stack ``c``, ``z``, ``y``, ``x``; type as in the file, in native byte order. The attrs
        ``source`` and ``um_per_pixel`` tell the file, and micrometres by dim where the metadata do.

    Raises
    ------
    ImageError
        If the file is no TIFF or not complete, holds RGB pixels or several points in time, or is
        compressed in a way that tifffile and, if installed, imagecodecs do not decode.
    ChannelError
        If channels have no names, or not each its own; if images in the file differ in their
        channels and `channels` does not choose among those that all have.
    ParameterError
        If `path` is not there, or the package tifffile or ome-types is not installed.

    Notes
    -----
    tifffile finds and decodes the pixels, ome-types reads the metadata. Only the tiles or strips
    that a chunk needs are read. The file is opened for each chunk and closed after it.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> from pxprep.datasets import tissue
    >>> from pxprep.io import read_tiff
    >>> fov = tissue(size=64)["fov0"].astype("uint16")
    >>> file = tempfile.mkdtemp() + "/fov0.ome.tiff"
    >>> names = {"axes": "CYX", "Channel": {"Name": fov.c.values.tolist()}}
    >>> tifffile.imwrite(file, fov.values, photometric="minisblack", metadata=names)
    >>> image = read_tiff(file, channels=["CD3", "CD20"])["fov0"]
    >>> image.dims, image.dtype.name, image.equals(fov.sel(c=["CD3", "CD20"]))
    (('c', 'y', 'x'), 'uint16', True)
    """
    file = existing_path(path)
    given = _parse_names(channel_names)
    with opened(file) as tiff:
        stacks = [Stack.of(series, file) for series in tiff.series]
        abouts = _abouts(tiff, file, len(stacks))
    names = image_names(file, [stack.name for stack in stacks], range(len(stacks)))
    images = {}
    for name, stack, about in zip(names, stacks, abouts, strict=True):
        what = f"image {name!r} of {str(file)!r}"
        labels = _labels(given, about.labels, len(stack.planes), what)
        attrs = {"source": str(file), "um_per_pixel": about.um_per_pixel}
        images[name] = stack.image(labels, {key: value for key, value in attrs.items() if value})
    return agreed(images, channels)


@dataclass(frozen=True)
class About:
    """What the metadata tell of an image: labels, None for channels without; and pixel sizes."""

    labels: Sequence[str | None] = ()
    um_per_pixel: Mapping[str, float] | None = None


def _abouts(tiff: TiffFile, file: Path, n_images: int) -> list[About]:
    if not tiff.is_ome or tiff.ome_metadata is None:
        return [About()] * n_images
    try:
        from ome_types import from_xml
    except ImportError as error:
        raise ParameterError(
            "OME-TIFFs need the package ome-types: pip install 'pxprep[io]'"
        ) from error
    try:
        images = from_xml(tiff.ome_metadata, validate=False).images
    except Exception as error:
        raise ImageError(f"the OME metadata of {str(file)!r} cannot be read: {error}") from error
    if len(images) != n_images:
        raise ImageError(
            f"the OME metadata of {str(file)!r} tell of {len(images)} images, but it has "
            f"{n_images} that can be read"
        )
    return [_about(image.pixels) for image in images]


def _about(pixels: Any) -> About:
    """From the element ``Pixels`` of the OME metadata."""
    sizes = {}
    for dim in "zyx":
        size = getattr(pixels, f"physical_size_{dim}")
        unit = getattr(pixels, f"physical_size_{dim}_unit").value
        if size and unit in MICRONS:
            sizes[dim] = size * MICRONS[unit]
    return About([channel.name for channel in pixels.channels], sizes)


def _parse_names(value: Any) -> list[str] | None:
    if value is None:
        return None
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_sequence or not all(isinstance(name, str) and name for name in value):
        raise ParameterError(f"channel_names must be a sequence of names, got {value!r}")
    require_unique(list(value), "channel_names")
    return list(value)


def _labels(
    given: Sequence[str] | None, own: Sequence[str | None], n_channels: int, what: str
) -> list[str]:
    """The labels of an image's channels: those that were given, or else its own."""
    if given is not None:
        if len(given) != n_channels:
            raise ChannelError(
                f"channel_names must name the {n_channels} channels of {what}, got {len(given)}"
            )
        return list(given)
    named = [name for name in own if name]
    if len(named) != n_channels:
        raise ChannelError(
            f"{what}: {len(named)} of {n_channels} channels have a name; give channel_names, "
            "all of them in the file's order"
        )
    twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
    if twice:
        raise ChannelError(
            f"{what}: {', '.join(map(repr, twice))} names more than one channel; give "
            "channel_names, all of them in the file's order"
        )
    return named

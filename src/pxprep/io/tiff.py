"""TIFFs of several channels: OME-TIFF, and others whose channels the file or the user names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xarray as xr

from ..aliases import Label
from ..errors import ChannelError, ImageError, spelled
from ..images.scales import SIZES
from .arrays import lazy_image, with_channels
from .file_options import FileOptions
from .names import agreed, existing_path, require_new
from .panels import Panel
from .tiff_contents import TiffContents, check_images, find_images


def read_tiff(
    path: str | Path,
    channels: Sequence[Label] | None = None,
    *,
    channel_names: Sequence[str] | None = None,
    panel: str | Path | Panel | None = None,
    axes: str | None = None,
    images: Sequence[str | int] | None = None,
) -> dict[str, xr.DataArray]:
    """The images of an OME-TIFF, or of any other TIFF whose pages are channels; lazily.

    Parameters
    ----------
    path
        A TIFF file. Of pyramids the finest level is read.
    channels
        Labels of the channels to use, in that order; None for all of them.
    channel_names
        Names of all channels in the file, in its order. None takes those that the file tells: in
        OME metadata, in the pages of a MIBItiff or a qptiff, in labels of ImageJ, in the names of
        pages.
    panel
        A table of markers that tells them, see `read_panel`.
    axes
        What the axes of the file are, in its order: "C" for channels (of several axes, too), "Z",
        "Y" and "X". None takes what the file says; an axis of time, depth or samples of a pixel is
        taken for channels if there are as many names.
    images
        Names or numbers of the images to read: "slide" as in the file, or "s1_slide" with the name
        of the file before it; "2" is the name of an image, or else a number. None for all, but for
        RGB pictures, thumbnails, labels and overviews beside others.

    Returns
    -------
    dict of str to xarray.DataArray
        By name: the file's without its suffix; where the file holds several images, followed
        by the name of each in the metadata, or its number from 0. Dims ``c``, ``y``, ``x``, with
        planes ``c``, ``z``, ``y``, ``x``; type as in the file, in native byte order. The attrs
        ``source`` and ``um_per_pixel`` tell the file, and micrometres by dim where the metadata do.

    Raises
    ------
    ImageError
        If the file is no TIFF or not complete, or another file of its set is missing; if it is not
        clear which of its axes are channels; if it holds nothing but RGB pixels, or is compressed
        in a way that tifffile and, if installed, imagecodecs do not decode.
    ChannelError
        If channels have no names, or not each its own; if images in the file differ in their
        channels and `channels` does not choose among those that all have.
    ParameterError
        If `path` is not there, or a parameter is not what it should be, or the package tifffile is
        not installed.

    Warns
    -----
    PxprepWarning
        If pictures are left out, pages that OME metadata do not tell of, or channels that `panel`
        does not keep.

    Notes
    -----
    tifffile finds and decodes the pixels. Only the tiles or strips that a chunk needs are read. The
    file is opened for each chunk and closed after it. Metadata that are not valid to the letter, or
    tell of other images than the file holds, are no error if the channels are named.

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
    options = FileOptions.of(
        channels, channel_names=channel_names, panel=panel, axes=axes, images=images
    )
    return tiff_images([existing_path(path)], options)


def tiff_images(files: Sequence[Path], options: FileOptions) -> dict[str, xr.DataArray]:
    """The images of several files as one cohort."""
    found = [find_images(file) for file in files]
    check_images(options, found)
    images = images_of_all((one.file, images_of(one, options)) for one in found)
    try:
        return agreed(images, options.channels)
    except ChannelError as error:
        _tell_images(error, found)
        raise


def _tell_images(error: Exception, found: Sequence[TiffContents]) -> None:
    """Say with an error which images there are to choose from, if a file holds several."""
    several = [name for one in found if len(one.stacks) > 1 for name in one.names]
    if several:
        error.add_note(
            f"{spelled('images=')} chooses some of those in a file: {', '.join(several):.300}"
        )


def images_of_all(
    parts: Iterable[tuple[Path, Mapping[str, xr.DataArray]]],
) -> dict[str, xr.DataArray]:
    """The images of several files, each given with its images, in one dict."""
    images: dict[str, xr.DataArray] = {}
    for file, more in parts:
        require_new(more, images, file)
        images |= more
    return images


def images_of(found: TiffContents, options: FileOptions) -> dict[str, xr.DataArray]:
    """The images of a file, with the labels of their channels."""
    images = {}
    for name, stack in found.chosen(options).items():
        try:
            pixels = stack.pixels(options.axes, options.channel_counts)
            labels = options.labels(
                stack.channel_names(pixels),
                pixels.shape[0],
                f"image {name!r} of {str(found.file)!r}",
                f" (its OME metadata: {found.why_unread})" if found.why_unread else "",
            )
        except (ChannelError, ImageError) as error:
            _tell_images(error, [found])
            raise
        attrs = {"source": str(found.file), SIZES: dict(stack.about.um_per_pixel)}
        image = lazy_image(
            pixels,
            stack.chunk_sizes(pixels),
            range(pixels.shape[0]),
            {key: value for key, value in attrs.items() if value},
        )
        images[name] = with_channels(image, labels)
    return images

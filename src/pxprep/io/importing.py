"""Images in files become layers of a SpatialData store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from ..aliases import Json, Label, Parameters
from ..channels import parse_channels
from ..engine.progress import Progress, parse_progress
from ..errors import LayerError, ParameterError, StoreError, warn
from ..images.image import checked
from ..images.parameters import parse_bool, parse_chunks, parse_path, parse_wait
from ..images.scales import MICRONS, SIZES, known_sizes
from ..layers import destination
from ..layers.backing import Snapshot, SourceState
from ..layers.layouts import Layout
from ..layers.new_layers import as_element
from ..layers.records import Run
from ..layers.spatial_data import check_installed, make_path_absolute
from ..layers.writing import Writer
from ..pipeline.provenance import IMPORT
from ..store.contents import check_store
from ..store.files import WRITE_ERRORS
from ..store.json import to_json_types
from .arrays import DIMS
from .names import agreed
from .opening import open_images
from .panels import Panel

if TYPE_CHECKING:
    from spatialdata import SpatialData

NOT_FITTED = "it was imported, not computed"


def import_images(
    source: str | Path | Mapping[str, xr.DataArray],
    store: str | Path,
    *,
    channels: Sequence[Label] | None = None,
    channel_names: Sequence[str] | None = None,
    panel: str | Path | Panel | None = None,
    axes: str | None = None,
    images: Sequence[str | int] | None = None,
    acquisitions: Sequence[int] | None = None,
    subfolder: str | None = None,
    names_from: str | None = None,
    crop: bool = False,
    chunks: object = 1024,
    scale_factors: Sequence[object] | None = None,
    overwrite: bool = False,
    progress: object = False,
    wait: bool | float = True,
) -> SpatialData:
    """Write images as layers of a SpatialData store, new or existing, chunk by chunk.

    All layers appear in the store together, when all are written and verified; whatever happens
    before, the store is as it was.

    Parameters
    ----------
    source
        A file or a folder, see `open_images`; or images by name, as it returns them.
    store
        Folder of the store. One that does not exist is made.
    channels
        Labels of the channels to use, in that order; None for all of them.
    channel_names, panel, axes, images, acquisitions, subfolder, names_from, crop
        What files do not tell themselves, see `open_images`; only with a file or a folder.
    chunks
        Chunks of the layers in pixels: one number for y and x, one for each dimension, or a mapping
        by dimension; -1 is the whole dimension. Along c and z they are 1, if nothing else is said.
    scale_factors
        Factors of coarser scales, each relative to the one before, as ``[2, 2]``; every scale is
        the mean of the finest pixels. None is a single scale.
    overwrite
        Whether layers of the same names are replaced.
    progress
        True shows a bar while layers are written, several at a time.
    wait
        Whether to wait while another process is publishing layers in the store, or for how many
        seconds.

    Returns
    -------
    spatialdata.SpatialData
        The store, with a layer for each image, of the image's name and type. Characters that
        SpatialData does not allow in names become ``_``. Layers of images whose pixel sizes are
        known (attrs ``um_per_pixel``) have a second coordinate system, "microns".

    Raises
    ------
    ParameterError, ImageError, ChannelError
        As `open_images`, before anything is written; ImageError also if a file that was there
        cannot be read to its end.
    LayerError
        If a layer exists and `overwrite` is False, or two images would get one name.
    StoreError
        If `store` is something else, or cannot be written to.

    Notes
    -----
    Where a layer came from is kept: ``pxprep.provenance(sdata, layer).source``. Memory: a few
    blocks of about 1024 by 1024 pixels for each worker; for TIFFs that are compressed in strips, of
    whole rows; for IMC, an acquisition.

    Examples
    --------
    >>> import tempfile
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> from pxprep.io import import_images
    >>> sdata = import_images(tissue(size=64), tempfile.mkdtemp() + "/study.zarr")
    >>> list(sdata.images), sdata["fov0"].dims, sdata["fov0"].c.values.tolist()[:2]
    (['fov0', 'fov1', 'fov2'], ('c', 'y', 'x'), ['DAPI', 'CD45'])
    """
    sdata, _ = import_as_layers(
        source,
        store,
        channels,
        {
            "channel_names": parse_channels(channel_names, "channel_names"),
            "panel": panel,
            "axes": axes,
            "images": images,
            "acquisitions": acquisitions,
            "subfolder": subfolder,
            "names_from": names_from,
            "crop": None if crop is False else crop,
        },
        chunks=chunks,
        scale_factors=scale_factors,
        overwrite=overwrite,
        progress=progress,
        wait=wait,
    )
    return sdata


def import_as_layers(
    source: str | Path | Mapping[str, xr.DataArray],
    store: str | Path,
    channels: Sequence[Label] | None,
    about_files: Mapping[str, object],
    *,
    chunks: object,
    scale_factors: Sequence[object] | None,
    overwrite: object,
    progress: object,
    wait: object,
) -> tuple[SpatialData, list[str]]:
    """The store after `import_images`, and the names of its new layers.

    `about_files` are the parameters of `open_images` by name, None for those that are not given.
    """
    folder = parse_path(store, "store", "a SpatialData store").resolve()
    may_replace, seconds = parse_bool(overwrite, "overwrite"), parse_wait(wait)
    bar, wanted = parse_progress(progress), parse_channels(channels)
    given = {name: value for name, value in about_files.items() if value is not None}
    by_name = _by_layer(_images(source, wanted, given))
    layouts = {layer: _layout(image, chunks, scale_factors) for layer, image in by_name.items()}
    check_installed()
    with _opened(folder, list(by_name), seconds) as sdata:
        panel = about_files["panel"]
        kept = {"channels": wanted, **about_files, "panel": None if panel is None else str(panel)}
        kept |= {"chunks": chunks, "scale_factors": scale_factors}
        parameters = {IMPORT: to_json_types(kept)}
        _write(sdata, by_name, layouts, parameters, may_replace, seconds, bar)
    return sdata, list(by_name)


def _write(
    sdata: SpatialData,
    images: Mapping[str, xr.DataArray],
    layouts: Mapping[str, Layout],
    parameters: Json,
    may_replace: bool,
    wait: float | None,
    bar: Progress,
) -> None:
    """Write images as layers, all of them or none."""
    # The colon makes sure that no source is taken for the name of a layer.
    pairs = {
        layer: f"{image.attrs.get('source', 'memory')}: {layer}" for layer, image in images.items()
    }
    store = make_path_absolute(sdata)
    destination.prepare_store(store, pairs, wait)
    destination.check_free(sdata, store, pairs, pairs if may_replace else (), "layer")
    sources = {layer: SourceState.of(image, f"image {layer!r}") for layer, image in images.items()}
    destination.check_records(sdata, store)
    destination.check_dependents(sdata, store, pairs)
    snapshot = Snapshot.of(store, sources)
    elements = {
        layer: as_element(image, _transformations(image), layouts[layer])
        for layer, image in images.items()
    }
    fingerprints = {pairs[layer]: source.fingerprint for layer, source in sources.items()}
    run = Run(parameters, pairs, fingerprints, NOT_FITTED)
    Writer(sdata, store, run, snapshot, wait, bar).write(elements)


def _images(
    source: str | Path | Mapping[str, xr.DataArray],
    channels: Sequence[Label] | None,
    given: Parameters,
) -> dict[str, xr.DataArray]:
    """The images that the user gave or named, checked and with the same channels."""
    if not isinstance(source, Mapping):
        return open_images(source, channels, **given)
    if given:
        raise ParameterError(f"{' and '.join(given)} are for files, got images as source")
    if not source or not all(isinstance(name, str) for name in source):
        raise ParameterError(f"source must hold images by name, got names {list(source)}")
    images = {name: checked(image, f"image {name!r}") for name, image in source.items()}
    return agreed(images, channels)


def _by_layer(images: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """The images by the names of their layers, lazily and with dims in the usual order.

    Characters that SpatialData does not allow in names become ``_``.
    """
    names: dict[str, str] = {}
    layers = {}
    for name, image in images.items():
        layer = "".join(sign if sign.isalnum() or sign in "_-." else "_" for sign in name)
        other = names.setdefault(layer.casefold(), name)
        if other != name:
            raise LayerError(f"images {other!r} and {name!r} would both be layer {layer!r}")
        image = image.transpose(*[dim for dim in DIMS if dim in image.dims])
        layers[layer] = image if image.chunks is not None else image.chunk()
    return layers


def _layout(image: xr.DataArray, chunks: object, scale_factors: object) -> Layout:
    dims = [str(dim) for dim in image.dims]
    single: dict[str, int] = {dim: 1 for dim in ("c", "z") if dim in dims}
    return Layout.of(image, image, {**single, **parse_chunks(chunks, dims)}, scale_factors)


@contextmanager
def _opened(folder: Path, layers: Sequence[str], wait: float | None) -> Iterator[SpatialData]:
    """The store in a folder, that may take these layers; a new one is gone if there is an error."""
    from spatialdata import SpatialData, read_zarr

    if folder.exists():
        check_store(folder)
        destination.repair_store(folder, wait)
        try:
            # Of what is damaged SpatialData warns; new layers can be written beside it.
            sdata = read_zarr(folder, on_bad_files="warn")
        except Exception as error:
            raise StoreError(f"the store {str(folder)!r} cannot be read: {error!r}") from error
        destination.check_names(sdata, layers, "layer")
        yield sdata
        return
    sdata = SpatialData()
    destination.check_names(sdata, layers, "layer")
    try:
        sdata.write(folder)
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            raise
        raise StoreError(f"the store {str(folder)!r} cannot be written: {error}") from error
    made = set(folder.rglob("*"))
    try:
        yield sdata
    except BaseException:
        # Another process may have found the store meanwhile, and be writing to it.
        if set(folder.rglob("*")) == made:
            shutil.rmtree(folder)
        raise


def _transformations(image: xr.DataArray) -> dict[str, object]:
    """The transformations to pixels, and to micrometres where these are known."""
    from spatialdata.transformations import Identity, Scale

    sizes = known_sizes(image)
    if not {"y", "x"} <= set(sizes):
        return {"global": Identity()}
    if image.sizes.get("z", 1) > 1 and "z" not in sizes:
        example = {"z": 2.0, **sizes}
        warn(
            f"image {image.name!r}: how far planes are apart is not known, in {MICRONS!r} it is 1; "
            f"give it in image.attrs[{SIZES!r}], as {example}"
        )
    axes = tuple(str(dim) for dim in image.dims if dim in sizes)
    return {"global": Identity(), MICRONS: Scale([sizes[dim] for dim in axes], axes)}

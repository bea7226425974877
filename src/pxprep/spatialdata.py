"""SpatialData layers in, layers out.

A layer is an image element of a `spatialdata.SpatialData` object, single- or multiscale. Reading is
lazy; writing goes through a staged copy (`_store`), so that a store holds the layers it had or the
new ones, never a part of one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from . import _backends, _store, ops
from ._channels import channel_labels, label_keys, select_channels
from ._cohorts import Cohort
from ._images import checked, processing_dtype
from ._layouts import Layout, scales_of, with_data
from ._progress import Progress, parse_progress
from ._scales import cumulative
from ._typing import Label, PerChannel
from ._validate import (
    parse_bool,
    parse_count,
    parse_float_dtype,
    parse_memory,
)
from .errors import ChannelError, LayerError, ParameterError, PxprepError, StoreError
from .pipeline import FittedPipeline, Pipeline

if TYPE_CHECKING:
    from spatialdata import SpatialData

__all__ = ["pixel_clustering_preprocess", "read_images"]

CODECS = ("lz4", "zstd")
# The defaults that `pipeline` takes the place of.
_DEFAULTS = {"q": 99, "q_sum": 5, "q_post": 99.9, "sigma": 2, "norm_sum": True, "cap_max": None}


def pixel_clustering_preprocess(
    sdata: SpatialData,
    img_layer: str | Sequence[str],
    output_layer: str | Sequence[str],
    channels: Sequence[Label] | None = None,
    q: PerChannel | None = 99,
    q_sum: float | None = 5,
    q_post: PerChannel | None = 99.9,
    sigma: PerChannel | None = 2,
    norm_sum: bool = True,
    chunks: Any = None,
    scale_factors: Sequence[Any] | None = None,
    overwrite: bool = False,
    *,
    cap_max: PerChannel | None = None,
    dtype: Any = None,
    pipeline: Pipeline | FittedPipeline | None = None,
    pool: str | None = "mean",
    memory: int | str | None = None,
    compressor: Mapping[str, int] | None = None,
    progress: Any = False,
) -> SpatialData:
    """Prepare image layers for pixel clustering: read, measure, apply, write.

    The layers are one cohort: measured together, each processed with the same numbers. Everything
    that can be checked is checked before anything is computed.

    Parameters
    ----------
    sdata
        In memory or backed by a zarr store.
    img_layer
        Name of the image layer, or of several; dims ``c``, ``y``, ``x``, optionally ``z``, single-
        or multiscale (processed at the finest scale).
    output_layer
        Name of the layer to make, one for each in `img_layer`.
    channels
        Labels of the channels to use, in that order; None for all of them.
    q
        Percent: each channel is divided by this quantile first. One number, a sequence in channel
        order, or a mapping by channel label, in which the key ``...`` stands for the channels that
        are not named. None leaves out the step.
    q_sum
        Percent: pixels whose sum over channels is not above this quantile of the sums before the
        blur become NaN in every channel. None leaves out the step.
    q_post
        Percent: each channel is divided by this quantile at the end; as `q`.
    sigma
        Standard deviation of the Gaussian blur in pixels; as `q`. None leaves out the step.
    norm_sum
        Whether pixels are divided by their sum over channels.
    chunks
        Chunks of the new layers in pixels: one number for y and x, one for each dimension, or a
        mapping by dimension; -1 is the whole dimension. None keeps those of the input.
    scale_factors
        Factors of the coarser scales, each relative to the one before: whole numbers (for all
        spatial dimensions) or mappings by dimension. None keeps those of the input; an empty
        sequence makes a single-scale layer.
    overwrite
        Whether an image layer called `output_layer` may be replaced, which may be the input
        itself. Arrays that were read from the replaced layer before are no longer valid.
    cap_max
        Values above this become this in a last step; as `q`. None leaves out the step.
    dtype
        float32 or float64: the type of the computation and of the new layers. None: float32,
        float64 for float64 layers.
    pipeline
        Steps of your own in place of the parameters `q`, `q_sum`, `q_post`, `sigma`, `norm_sum`
        and `cap_max`; a `FittedPipeline` is applied as it is, and nothing is measured.
    pool
        ``"mean"`` of each layer's quantiles, quantiles over the ``"pixels"`` of all layers, or
        None: each layer by itself.
    memory
        How much of what was read is kept for the next pass, in bytes or as "2 GiB": layers that
        fit are read once. None is a quarter of the memory that is available; 0 keeps nothing but a
        sample and the edges of chunks, for images larger than memory.
    compressor
        Codec and level of the new layers' chunks, as ``{"lz4": 1}`` or ``{"zstd": 3}``, levels 0 to
        9; needs spatialdata 0.8. None is what SpatialData chooses.
    progress
        True shows a bar for each pass over the data.

    Returns
    -------
    spatialdata.SpatialData
        `sdata` itself with the new layers: float32 or float64, with the transformations and
        channel labels of the input. If `sdata` is backed, they are written to its store and read
        back lazily; else they are lazy with their numbers measured.

    Raises
    ------
    LayerError
        If an input layer is missing or no image, or an output layer has no valid name or exists.
    ParameterError, ChannelError, ImageError
        If a parameter breaks its rule, or does not fit the channels.
    StoreError
        If the store cannot be written to; it is then as it was.

    Warns
    -----
    PxprepWarning
        For channels without signal, negative or infinite pixels.

    Notes
    -----
    Takes the place of ``harpy.im.pixel_clustering_preprocess`` (formerly ``sparrow.im``), with the
    same parameters in the same order. Memory: a few chunks for each worker.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import Image2DModel
    >>> sdata = SpatialData(
    ...     images={name: Image2DModel.parse(fov, c_coords=fov.c.values)
    ...             for name, fov in tissue(size=64).items()}
    ... )
    >>> sdata = pxprep.pixel_clustering_preprocess(
    ...     sdata, ["fov0", "fov1"], ["clean0", "clean1"], channels=["CD3", "CD20"], q=99
    ... )
    >>> sdata["clean1"].dims, sdata["clean1"].c.values.tolist()
    (('c', 'y', 'x'), ['CD3', 'CD20'])
    """
    _check_sdata(sdata)
    given = {
        "q": q,
        "q_sum": q_sum,
        "q_post": q_post,
        "sigma": sigma,
        "norm_sum": norm_sum,
        "cap_max": cap_max,
    }
    steps = _chosen_pipeline(pipeline, given)
    bar = parse_progress(progress)
    budget = parse_memory(memory)
    codec = _parse_compressor(compressor)
    inputs, outputs = _paired_names(img_layer, output_layer)
    _check_outputs(sdata, outputs, parse_bool(overwrite, "overwrite"))
    _check_dependents(sdata, outputs)
    images = read_images(sdata, inputs, channels, dtype=dtype)
    layouts = [
        Layout.of(sdata.images[name], images[name], chunks, scale_factors) for name in inputs
    ]
    cohort = _checked_cohort(steps, images, pool)

    recipe = steps.pipeline if isinstance(steps, FittedPipeline) else steps
    with cohort.keeping(budget, recipe.depth(cohort.labels)):
        fitted = (
            steps
            if isinstance(steps, FittedPipeline)
            else steps.fit(images, pool=pool, progress=bar)
        )
        processed = fitted.transform(images)
        elements = {
            output: _as_element(processed[name], sdata.images[name], layout)
            for name, output, layout in zip(inputs, outputs, layouts, strict=True)
        }
        _put(sdata, elements, bar, codec)
    return sdata


def read_images(
    sdata: SpatialData,
    layers: str | Sequence[str],
    channels: Sequence[Label] | None = None,
    *,
    dtype: Any = None,
) -> dict[str, xr.DataArray]:
    """Image layers as a cohort for `pxprep.Pipeline.fit`: the finest scale of each, lazily.

    Parameters
    ----------
    sdata
        In memory or backed by a zarr store.
    layers
        Name of an image layer, or of several.
    channels
        Labels of the channels to use, in that order; None for all of them.
    dtype
        float32 or float64 to convert to; None leaves the layers' types.

    Returns
    -------
    dict of str to xarray.DataArray
        By name of the layer.

    Raises
    ------
    LayerError
        If a layer is missing or no image.
    ChannelError
        If a layer lacks one of `channels`.
    """
    _check_sdata(sdata)
    float_type = parse_float_dtype(dtype)
    images = {}
    for name in _names(layers, "img_layer"):
        image = checked(_finest(_layer(sdata, name)), f"layer {name!r}")
        try:
            image = select_channels(image, channels)
        except ChannelError as error:
            raise ChannelError(f"layer {name!r}: {error}") from error
        if float_type is not None and float_type != processing_dtype(image):
            image = image.astype(float_type)
        images[name] = image
    return images


def _check_sdata(sdata: Any) -> None:
    try:
        from spatialdata import SpatialData
    except ImportError as error:
        raise PxprepError(
            "SpatialData is not installed: pip install 'pxprep[spatialdata]'"
        ) from error
    if not isinstance(sdata, SpatialData):
        raise ParameterError(f"sdata must be a spatialdata.SpatialData, got {type(sdata)!r}")


def _parse_compressor(value: Any) -> dict[str, Any]:
    """What `SpatialData.write_element` takes for a codec and its level; nothing for None."""
    if value is None:
        return {}
    rule = "compressor must be one codec and its level, as {'lz4': 1} or {'zstd': 3}"
    if not isinstance(value, Mapping) or len(value) != 1 or set(value) - set(CODECS):
        raise ParameterError(f"{rule}, got {value!r}")
    ((name, level),) = value.items()
    parsed = parse_count(level, f"compressor[{name!r}]", "a whole number from 0 to 9", least=0)
    if parsed > 9:
        raise ParameterError(f"{rule}, of a level from 0 to 9, got {value!r}")
    from spatialdata import SpatialData

    if "raster_compressor" not in signature(SpatialData.write_element).parameters:
        raise ParameterError(
            "compressor needs spatialdata 0.8 or newer: the installed one chooses for itself"
        )
    return {"raster_compressor": {name: parsed}}


def _chosen_pipeline(pipeline: Any, given: Mapping[str, Any]) -> Pipeline | FittedPipeline:
    if pipeline is None:
        return Pipeline.sparrow(**given)
    if not isinstance(pipeline, Pipeline | FittedPipeline):
        raise ParameterError(f"pipeline must be a Pipeline or FittedPipeline, got {pipeline!r}")
    both = [name for name, value in given.items() if not _is_default(name, value)]
    if both:
        raise ParameterError(
            f"pipeline takes the place of {', '.join(both)}: give either, not both"
        )
    return pipeline


def _is_default(name: str, value: Any) -> bool:
    default = _DEFAULTS[name]
    return type(value) is type(default) and value == default


def _names(layers: Any, parameter: str) -> list[str]:
    if not isinstance(layers, Iterable):
        names = []
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise ParameterError(
            f"{parameter} must be the name of a layer or a sequence of names, got {layers!r}"
        )
    return [str(name) for name in names]


def _paired_names(img_layer: Any, output_layer: Any) -> tuple[list[str], list[str]]:
    inputs, outputs = _names(img_layer, "img_layer"), _names(output_layer, "output_layer")
    if len(inputs) != len(outputs):
        raise ParameterError(
            f"output_layer must name one layer for each of img_layer: got {len(outputs)} for "
            f"{len(inputs)}"
        )
    for names, parameter in ((inputs, "img_layer"), (outputs, "output_layer")):
        folded = [name.casefold() for name in names]
        twice = [name for name in names if folded.count(name.casefold()) > 1]
        if twice:
            raise ParameterError(
                f"{parameter} must name each layer once (in any case), got {twice}"
            )
    return inputs, outputs


def _check_outputs(sdata: SpatialData, outputs: Sequence[str], overwrite: bool) -> None:
    store = _store_path(sdata)
    if store is not None:
        _store.check_writable(store)
    elements = {name: kind for kind, name, _ in sdata.gen_elements()}
    for name in outputs:
        _check_name(name)
        same_folded = [other for other in elements if other.casefold() == name.casefold()]
        if same_folded and same_folded != [name]:
            raise LayerError(
                f"output_layer {name!r} differs only in case from the element {same_folded[0]!r}"
            )
        kind = elements.get(name)
        if kind not in (None, "images"):
            raise LayerError(
                f"output_layer {name!r} is the name of an element in {kind}; it must be new or the "
                "name of an image layer"
            )
        on_disk = store is not None and (store / "images" / name).exists()
        if (kind is not None or on_disk) and not overwrite:
            raise LayerError(f"output_layer {name!r} exists already; overwrite=True replaces it")


def _check_dependents(sdata: SpatialData, outputs: Sequence[str]) -> None:
    """Raise LayerError if another element of `sdata` is computed from a layer to be replaced.

    It would silently read the new layer once that is in its place.
    """
    from spatialdata import get_dask_backing_files

    store = _store_path(sdata)
    if store is None:
        return
    for name in outputs:
        place = (store / "images" / name).resolve()
        users = [
            other
            for kind, other, element in sdata.gen_elements()
            if kind in ("images", "labels") and other not in outputs
            for file in get_dask_backing_files(element)
            if Path(file).resolve().is_relative_to(place)
        ]
        if users:
            raise LayerError(
                f"output_layer {name!r} cannot be replaced: {sorted(set(users))} of sdata are "
                "computed from it; write them to the store or remove them first"
            )


def _check_name(name: str) -> None:
    # SpatialData writes names with a leading dot but never lists them, and "zarr.json" is the
    # metadata file of the folder that the layers lie in.
    valid = all(character.isalnum() or character in "_-." for character in name)
    if not name or not valid or name.startswith((".", "__")) or name == "zarr.json":
        raise LayerError(
            "output_layer must consist of letters, digits, '_', '-' and '.', and not begin with "
            f"'.' or '__', got {name!r}"
        )


def _layer(sdata: SpatialData, name: str) -> Any:
    if name in sdata.images:
        return sdata.images[name]
    kinds = {other: kind for kind, other, _ in sdata.gen_elements()}
    if name in kinds:
        raise LayerError(f"img_layer {name!r} must be an image, but it is one of the {kinds[name]}")
    near = difflib.get_close_matches(name, list(sdata.images), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise LayerError(f"img_layer {name!r} does not exist{hint}; images are {sorted(sdata.images)}")


def _finest(element: Any) -> xr.DataArray:
    return scales_of(element)[0]


def _checked_cohort(
    steps: Pipeline | FittedPipeline, images: Mapping[str, xr.DataArray], pool: str | None
) -> Cohort:
    """The images as a cohort; raises what fitting and transforming them would raise."""
    if isinstance(steps, FittedPipeline):
        return steps.check(images)
    cohort = Cohort.of(images, pool)
    steps.check(cohort.labels)
    return cohort


def _as_element(image: xr.DataArray, source: Any, layout: Layout) -> Any:
    """`image` as an element for SpatialData, with the transformations of `source`."""
    from spatialdata.models import Image2DModel, Image3DModel
    from spatialdata.transformations import get_transformation

    model = Image3DModel if "z" in image.dims else Image2DModel
    image = image.chunk(layout.chunks[0])
    element = model.parse(
        image.data,
        dims=image.dims,
        c_coords=None if channel_labels(image) is None else list(label_keys(image)),
        transformations=dict(get_transformation(source, get_all=True)),
        scale_factors=[dict(factors) for factors in layout.factors] or None,
    )
    # SpatialData takes means of means and chooses chunks; here every scale is the mean of the
    # finest pixels, in chunks like those of the input.
    coarser = [ops.coarsen(image, factors) for factors in cumulative(layout.factors)]
    scales = [
        scale.chunk(chunks).data
        for scale, chunks in zip([image, *coarser], layout.chunks, strict=True)
    ]
    element = with_data(element, scales)
    own = {key: value for key, value in image.attrs.items() if key != "transform"}
    for scale in scales_of(element):
        scale.attrs.update(own)
    return element


def _put(
    sdata: SpatialData, elements: Mapping[str, Any], bar: Progress, codec: Mapping[str, Any]
) -> None:
    """Add the elements to `sdata`, through its store if it has one."""
    store = _store_path(sdata)
    if store is not None:
        _write(sdata, store, elements, bar, codec)
        elements = {name: _on_disk(element, store, name) for name, element in elements.items()}
    for name, element in elements.items():
        if name in sdata.images:
            del sdata.images[name]  # else SpatialData warns that the name is taken
        sdata.images[name] = element


def _write(
    sdata: SpatialData,
    store: Path,
    elements: Mapping[str, Any],
    bar: Progress,
    codec: Mapping[str, Any],
) -> None:
    from spatialdata import SpatialData
    from spatialdata._io.format import SpatialDataContainerFormatV01
    from zarr import open_group

    root = open_group(store, mode="r+")
    formats = SpatialDataContainerFormatV01() if root.metadata.zarr_format == 2 else None
    root.require_group("images")
    with _store.staging(store) as folder:
        stage = folder / "stage.zarr"
        staged = SpatialData()
        staged.write(stage, sdata_formats=formats)
        for name, element in elements.items():
            staged.images[name] = element
            with bar(f"write {name}"), _backends.threads_at_rest():
                staged.write_element(name, sdata_formats=formats, **codec)
        _check_staged(stage, elements)
        # Beside the staging folder, whose removal must not take the old layers with it.
        retired = folder.with_name(f"{folder.name}-retired")
        moves = [(stage / "images" / name, store / "images" / name) for name in elements]
        _store.publish(moves, retired, partial(_consolidate, sdata))


def _consolidate(sdata: SpatialData) -> None:
    if sdata.has_consolidated_metadata():
        sdata.write_consolidated_metadata()


def _check_staged(stage: Path, elements: Mapping[str, Any]) -> None:
    """Raise StoreError unless the elements can be read back as they were to be written."""
    for name, element in elements.items():
        written = scales_of(_on_disk(element, stage, name))
        for expected, found in zip(scales_of(element), written, strict=True):
            if (expected.shape, expected.dtype) != (found.shape, found.dtype):
                raise StoreError(
                    f"layer {name!r} was not written as it should be: expected "
                    f"{expected.dtype}{expected.shape}, found {found.dtype}{found.shape}; "
                    "the store is as it was"
                )


def _on_disk(element: Any, store: Path, name: str) -> Any:
    """`element` with the arrays that were written for it, lazily; reads no other layer."""
    from zarr import open_group

    folder = store / "images" / name
    attrs: Any = open_group(folder, mode="r", use_consolidated=False).attrs
    # OME-Zarr metadata: under "ome" in zarr format 3, at the top in format 2.
    (multiscale,) = attrs.get("ome", attrs)["multiscales"]
    paths = [folder / dataset["path"] for dataset in multiscale["datasets"]]
    return with_data(element, [_backends.from_zarr(path) for path in paths])


def _store_path(sdata: SpatialData) -> Path | None:
    path = sdata.path
    if path is not None and not isinstance(path, Path):
        raise StoreError(f"the store must be a folder on a local file system, got {path!r}")
    return path

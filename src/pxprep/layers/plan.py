"""What a call of the wrapper would read, measure and write: told, and not done."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from math import prod
from typing import TYPE_CHECKING

import xarray as xr

from ..aliases import Label
from ..channels import select_channels
from ..engine import backends
from ..engine.cache import default_memory
from ..engine.threads import n_cores
from ..images.exclusion import without
from ..images.image import like, pixels, processing_dtype
from ..pipeline.pipeline import Pipeline
from ..pipeline.run import labels_along, pass_names
from .layouts import scales_of
from .preprocess import pixel_clustering_preprocess
from .request import Request, unfitted
from .spatial_data import check_sdata
from .work import Work

if TYPE_CHECKING:
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Plan:
    """What would be read, measured and written.

    Attributes
    ----------
    work
        What is to be done, checked as before it is done.
    reads
        The images by name of the layer, with the channels that are used.
    writes
        By name of the new layer, its scales, finest first; they have no pixels.
    passes
        Names of the passes that measure.
    cache_bytes
        How many bytes of what was read may be kept for the next pass.
    block_bytes
        Bytes of the largest block of pixels: all channels of a chunk.
    n_threads
        How many blocks are worked on at once.
    free_disk
        Bytes that are free where the store lies; None in memory.
    """

    work: Work
    cache_bytes: int
    n_threads: int
    free_disk: int | None
    reads: Mapping[str, xr.DataArray] = field(default_factory=dict)
    writes: Mapping[str, list[xr.DataArray]] = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    block_bytes: int = 0


def plan_layers(sdata: SpatialData, *layers: object, **parameters: object) -> Plan:
    """What `pixel_clustering_preprocess` would do with these parameters.

    No pixel is computed and nothing is written; what is refused there before any work is refused
    here, with the same words.
    """
    call = signature(pixel_clustering_preprocess).bind(sdata, *layers, **parameters)
    call.apply_defaults()
    check_sdata(sdata)
    request = Request.parsed(call.arguments)
    work = Work.of(sdata, request, repairs=False)
    plan = partial(
        Plan,
        work=work,
        cache_bytes=default_memory() if request.memory is None else request.memory,
        n_threads=n_cores(),
        free_disk=None if work.store is None else shutil.disk_usage(work.store).free,
    )
    if not work.pairs:
        return plan()
    cohort, layouts = work.read()
    pipeline = work.pipeline
    remaining = labels_along(unfitted(pipeline).steps, cohort.labels)[-1]
    measured: list[str] = []
    if isinstance(pipeline, Pipeline):
        measured = pass_names(pipeline.steps, without(cohort, request.exclude))
        pipeline.warn_of_remarks(cohort.labels)
    images = {str(name): image for name, image in zip(cohort.names, cohort, strict=True)}
    processed = {name: _processed(image, remaining) for name, image in images.items()}
    return plan(
        reads=images,
        writes={
            name: scales_of(element) for name, element in work.elements(processed, layouts).items()
        },
        passes=tuple(measured),
        block_bytes=max(map(_bytes_of_block, images.values())),
    )


def step_names(plan: Plan) -> list[str]:
    """What the steps are called, in order."""
    return [name for name, _ in unfitted(plan.work.pipeline).steps]


def _processed(image: xr.DataArray, remaining: Sequence[Label]) -> xr.DataArray:
    """What the steps make of an image, without its pixels; in its processing dtype."""
    image = image if len(remaining) == image.sizes["c"] else select_channels(image, remaining)
    made = pixels(image).astype(processing_dtype(image))
    return like(image, backends.without_pixels(made))


def _bytes_of_block(image: xr.DataArray) -> int:
    """Bytes of the largest chunk's pixels in all channels, in the processing dtype."""
    sizes = {dim: max(chunks) for dim, chunks in image.chunksizes.items()} | {"c": image.sizes["c"]}
    return prod(sizes.values()) * processing_dtype(image).itemsize

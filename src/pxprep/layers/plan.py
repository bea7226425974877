"""What a call of the wrapper would read, measure and write; nothing of it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from math import prod
from typing import TYPE_CHECKING

import xarray as xr

from ..aliases import Label
from ..channels import select_channels
from ..engine import backends
from ..engine.cache import default_memory
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
    """

    work: Work
    reads: Mapping[str, xr.DataArray]
    writes: Mapping[str, list[xr.DataArray]]
    passes: Sequence[str]

    @property
    def steps(self) -> list[str]:
        """What the steps are called, in order."""
        return [name for name, _ in unfitted(self.work.pipeline).steps]

    @property
    def cache_bytes(self) -> int:
        """How many bytes of what was read may be kept for the next pass."""
        memory = self.work.request.memory
        return default_memory() if memory is None else memory

    @property
    def block_bytes(self) -> int:
        """Bytes of the largest block of pixels: all channels of a chunk."""
        return max(map(_bytes_of_block, self.reads.values()), default=0)


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
    if not work.pairs:
        return Plan(work, {}, {}, ())
    cohort, layouts = work.read()
    pipeline, passes = work.pipeline, list[str]()
    if isinstance(pipeline, Pipeline):
        passes = pass_names(pipeline.steps, without(cohort, request.exclude))
        pipeline.warn_of_remarks(cohort.labels)
    remaining = labels_along(unfitted(pipeline).steps, cohort.labels)[-1]
    images = dict(zip(work.pairs.values(), cohort, strict=True))
    processed = {name: _without_pixels(image, remaining) for name, image in images.items()}
    elements = work.elements(processed, layouts)
    return Plan(work, images, {name: scales_of(elements[name]) for name in elements}, passes)


def _without_pixels(image: xr.DataArray, remaining: Sequence[Label]) -> xr.DataArray:
    """What the steps make of an image, without its pixels; in its processing dtype."""
    image = image if len(remaining) == image.sizes["c"] else select_channels(image, remaining)
    array = pixels(image).astype(processing_dtype(image))
    return like(image, backends.without_pixels(array))


def _bytes_of_block(image: xr.DataArray) -> int:
    """Bytes of the largest chunk's pixels in all channels, in the processing dtype."""
    sizes = {dim: max(chunks) for dim, chunks in image.variable.chunksizes.items()}
    sizes["c"] = image.sizes["c"]
    return prod(sizes.values()) * processing_dtype(image).itemsize

"""The work of a call of the wrapper: which layers are still to be made, of what, and where to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from ..aliases import BatchName, Pool
from ..images.image_set import ImageSet
from ..pipeline.base_pipeline import functions_of
from ..pipeline.pipeline import FittedPipeline, Pipeline
from .destination import Destination, check_outputs
from .layouts import Layout, layouts_of
from .masks import LayerMasks, read_masks, sources_of
from .new_layers import as_element
from .reading import read_layers
from .records import Run
from .request import Request, pipeline_of
from .spatial_data import element_of, transformations_of

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from .backing import SourceState


@dataclass(frozen=True)
class Work:
    """What is to be done for a request, checked against what is there.

    Attributes
    ----------
    sdata
        The layers.
    request
        What was asked for.
    destination
        Where the new layers go.
    pipeline
        That of the request, with the numbers of an interrupted run that is resumed.
    masks
        The masks by name of the layer; empty if all pixels are measured.
    sources
        What layers and masks are read from.
    parameters
        What is kept with the new layers.
    run
        The run that is resumed; None for a new one.
    """

    sdata: SpatialData
    request: Request
    destination: Destination
    pipeline: Pipeline | FittedPipeline
    masks: LayerMasks
    sources: Mapping[str, SourceState]
    parameters: dict[str, object]
    run: Run | None

    @classmethod
    def of(cls, sdata: SpatialData, request: Request, *, changes: bool = True) -> Work:
        """The work for a request; raises LayerError if something is missing or in the way.

        Without `changes` the store is not repaired.
        """
        pairs, pipeline = request.pairs, request.pipeline
        check_outputs(sdata, pairs)
        destination = Destination.of(sdata, pairs, request.wait, changes)
        layers = {name: element_of(sdata, name, "images", "img_layer") for name in pairs.values()}
        masks = read_masks(sdata, request.masks)
        sources = sources_of(layers, masks)
        parameters, run = request.parameters(), None
        if request.resume:
            given = pipeline if isinstance(pipeline, FittedPipeline) else None
            destination, run = destination.resuming(sources, dict(parameters), given)
        if run is not None:
            functions = functions_of(pipeline_of(pipeline))
            pipeline = FittedPipeline.from_json(json.dumps(run.fitted), functions)
        destination.check_new(request.overwrite)
        destination = destination.checked(sources, parameters)
        return cls(sdata, request, destination, pipeline, masks, sources, parameters, run)

    @property
    def pairs(self) -> dict[str, str]:
        """By name of each layer that is still to be made, the name of the layer it is made from."""
        return {name: self.request.pairs[name] for name in self.destination.todo}

    def run_with(self, fitted: FittedPipeline) -> Run:
        """What is kept of the run, with its numbers."""
        fingerprints = {name: source.fingerprint for name, source in self.sources.items()}
        return self.run or Run.of(self.parameters, fingerprints, fitted)


@dataclass(frozen=True)
class Prepared:
    """The layers of a work, read lazily and checked as one cohort: nothing is computed yet.

    Attributes
    ----------
    sdata
        The layers.
    images
        The images of the layers by name, with their channels in one order.
    layouts
        By name of the image, the scales and chunks of the layer that is made of it.
    masks
        The masks by name; None if all pixels are measured.
    batches
        The batches by name; None if all are measured together.
    cohort
        The images and masks together.
    """

    sdata: SpatialData
    images: Mapping[str, xr.DataArray]
    layouts: Mapping[str, Layout]
    masks: LayerMasks | None
    batches: Mapping[str, BatchName] | None
    cohort: ImageSet

    @classmethod
    def of(cls, work: Work) -> Prepared:
        """The layers of a work; raises what fitting and transforming them would raise."""
        sdata, request = work.sdata, work.request
        images = read_layers(sdata, list(work.pairs.values()), request.channels, request.dtype)
        layouts = layouts_of(sdata.images, images, request.chunks, request.scale_factors)
        masks = {name: work.masks[name] for name in images} if work.masks else None
        batches = {name: request.batches[name] for name in images} if request.batches else None
        cohort = _checked_cohort(work.pipeline, images, request.pool, masks, batches)
        # The aligned arrays: `sharing_reads` keeps what is read of these very objects.
        images = dict(zip(images, cohort, strict=True))
        return cls(sdata, images, layouts, masks, batches, cohort)

    def element(self, name: str, image: xr.DataArray) -> object:
        """What is written of `image`, which was made of the layer `name`."""
        transformations = transformations_of(self.sdata.images[name])
        return as_element(image, transformations, self.layouts[name])


def _checked_cohort(
    pipeline: Pipeline | FittedPipeline,
    images: Mapping[str, xr.DataArray],
    pool: Pool,
    where: LayerMasks | None,
    by: Mapping[str, BatchName] | None,
) -> ImageSet:
    """The images as a cohort; raises what fitting and transforming them would raise."""
    if isinstance(pipeline, FittedPipeline):
        return pipeline.checked(images, by=by, where=where)
    cohort = ImageSet.of(images, pool, where=where)
    pipeline.check(cohort.labels)
    return cohort

"""The work of a call of the wrapper: which layers are still to be made, of what, and where to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from ..images.batches import in_batches
from ..images.image_set import ImageSet
from ..pipeline.base_pipeline import functions_of
from ..pipeline.pipeline import FittedPipeline, Pipeline
from . import destination
from .backing import Snapshot, SourceState
from .layouts import Layout, layouts_of
from .masks import LayerMasks, read_masks, sources_of
from .new_layers import as_element
from .reading import read_layers
from .records import Run, fitted_in_json
from .request import Request, unfitted
from .resuming import Finished, find_finished
from .spatial_data import element_of, store_path, transformations_of

if TYPE_CHECKING:
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Work:
    """What is to be done for a request, checked against what is there.

    Attributes
    ----------
    sdata
        The layers.
    store
        The folder of their store; None in memory.
    request
        What was asked for.
    pairs
        By name of each layer that is still to be made, the name of the layer it is made from.
    finished
        What an interrupted call has made, if that is resumed.
    masks
        The masks by name of the layer; empty if all pixels are measured.
    sources
        What layers and masks are read from.
    snapshot
        What the new layers rely on, as it is now.
    """

    sdata: SpatialData
    store: Path | None
    request: Request
    pairs: Mapping[str, str]
    finished: Finished
    masks: LayerMasks
    sources: Mapping[str, SourceState]
    snapshot: Snapshot

    @classmethod
    def of(cls, sdata: SpatialData, request: Request, *, repairs: bool = True) -> Work:
        """The work for a request; raises LayerError if something is missing or in the way.

        Without `repairs` the store is not changed.
        """
        destination.check_names(sdata, request.pairs)
        store = store_path(sdata)
        if store is not None:
            destination.prepare_store(store, request.pairs, request.wait, repairs=repairs)
        layers = request.pairs.values()
        elements = {name: element_of(sdata, name, "images", "img_layer") for name in layers}
        masks = read_masks(sdata, request.masks)
        sources = sources_of(elements, masks)
        finished = find_finished(store, request, sources) if request.resume else Finished()
        whole = set(finished.whole)
        pairs = {new: name for new, name in request.pairs.items() if new not in whole}
        destination.check_free(
            sdata, store, pairs, pairs if request.overwrite else finished.damaged
        )
        destination.check_records(sdata, store)
        if not request.resume:
            destination.check_not_applied(store, pairs, request.parameters)
        destination.check_dependents(sdata, store, pairs)
        snapshot = Snapshot.of(store, {new: sources[name] for new, name in pairs.items()})
        return cls(sdata, store, request, pairs, finished, masks, sources, snapshot)

    @cached_property
    def pipeline(self) -> Pipeline | FittedPipeline:
        """That of the request, with the numbers of an interrupted call that is resumed."""
        pipeline = self.request.pipeline
        if self.finished.run is None:
            return pipeline
        fitted = json.dumps(self.finished.run.fitted)
        return FittedPipeline.from_json(fitted, functions_of(unfitted(pipeline)))

    def read(self) -> tuple[ImageSet, dict[str, Layout]]:
        """The layers, lazily, as one cohort, and the layouts of the new ones; nothing is computed.

        Raises what measuring and transforming the cohort would raise.
        """
        request, pipeline = self.request, self.pipeline
        layers = list(self.pairs.values())
        images = read_layers(self.sdata, layers, request.channels, request.dtype)
        layouts = layouts_of(self.sdata.images, images, request.chunks, request.scale_factors)
        masks = {name: self.masks[name] for name in layers} if self.masks else None
        batches = {name: request.batches[name] for name in layers} if request.batches else None
        if isinstance(pipeline, FittedPipeline):
            return pipeline.checked(images, by=batches, where=masks), layouts
        cohort = in_batches(ImageSet.of(images, request.pool, where=masks), batches)
        pipeline.check(cohort.labels)
        return cohort, layouts

    def elements(
        self, images: Mapping[str, xr.DataArray], layouts: Mapping[str, Layout]
    ) -> dict[str, object]:
        """What is written of images, which were made of the layers: by name of the new layer."""
        return {
            new: as_element(
                images[name], transformations_of(self.sdata.images[name]), layouts[name]
            )
            for new, name in self.pairs.items()
        }

    def run_with(self, fitted: FittedPipeline) -> Run:
        """What is kept of this call, with its numbers; the same as before if it is resumed."""
        if self.finished.run is not None:
            return self.finished.run
        fingerprints = {name: source.fingerprint for name, source in self.sources.items()}
        return Run(self.request.parameters, self.pairs, fingerprints, fitted_in_json(fitted))

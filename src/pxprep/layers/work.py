"""The work of a call of the wrapper: which layers are still to be made, of what, and where to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..pipeline.pipeline import FittedPipeline, Pipeline
from ..pipeline.recipes import functions_of
from .destination import Destination
from .layers import element_of
from .masks import LayerMasks, read_masks, with_masks
from .records import Run
from .request import Request, recipe_of

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
    target
        Where the new layers go.
    steps
        Those of the request, with the numbers of an interrupted run that is resumed.
    masks
        By name of the layer; empty if all pixels are measured.
    sources
        What layers and masks are read from.
    parameters
        What is kept with the new layers.
    run
        The run that is resumed; None for a new one.
    """

    sdata: SpatialData
    request: Request
    target: Destination
    steps: Pipeline | FittedPipeline
    masks: LayerMasks
    sources: Mapping[str, SourceState]
    parameters: dict[str, Any]
    run: Run | None

    @classmethod
    def found(cls, sdata: SpatialData, request: Request) -> Work:
        """The work for a request; raises LayerError if something is missing or in the way."""
        pairs, steps = request.pairs, request.steps
        target = Destination.of(sdata, pairs, request.wait)
        layers = {name: element_of(sdata, name, "images", "img_layer") for name in pairs.values()}
        masks = read_masks(sdata, request.masks)
        sources = with_masks(layers, masks)
        parameters, run = request.parameters(), None
        if request.resume:
            given = steps if isinstance(steps, FittedPipeline) else None
            target, run = target.resuming(sources, dict(parameters), given)
        if run is not None:
            functions = functions_of(recipe_of(steps))
            steps = FittedPipeline.from_json(json.dumps(run.fitted), functions)
        target.check_new(request.overwrite)
        target = target.check(sources, parameters)
        return cls(sdata, request, target, steps, masks, sources, parameters, run)

    @property
    def pairs(self) -> dict[str, str]:
        """By name of each layer that is still to be made, that of the layer it is made from."""
        return {name: self.request.pairs[name] for name in self.target.todo}

    def run_with(self, fitted: FittedPipeline) -> Run:
        """What is kept of the run, with its numbers."""
        identities = {name: source.identity for name, source in self.sources.items()}
        return self.run or Run.of(self.parameters, identities, fitted)

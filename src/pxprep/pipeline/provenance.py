"""What made an image: the record that is kept with it, and its fitted pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..aliases import Json
from ..displays import Display, Displayable, Part, value_text
from ..errors import ParameterError
from ..steps.base import without_none
from ..steps.function import ImageFunction
from .pipeline import FittedPipeline

# Keys in `parameters`: imported layers have the first, processed ones the second.
IMPORT, PIPELINE = "import", "pipeline"


@dataclass(frozen=True, repr=False)
class Provenance(Displayable):
    """What made a layer.

    Attributes
    ----------
    layer
        The layer's name.
    source
        The layer that it was made from, by name; of an imported layer, the file and the image.
    time
        When it was finished.
    parameters
        What the call asked for: the pipeline's steps, channels, chunks, and the names of all the
        layers of the cohort.
    versions
        Versions of the packages that had a part in it.
    run
        Id of the call, the same for all its layers.
    """

    layer: str
    source: str
    time: datetime
    parameters: Json
    versions: Mapping[str, str]
    run: str
    # The fitted pipeline as JSON has it; a text with the reason if it could not be kept.
    _fitted: object = field(repr=False)

    @property
    def is_import(self) -> bool:
        """Whether the layer was imported, by `pxprep.io.import_images`."""
        return IMPORT in self.parameters

    def fitted(self, functions: Mapping[str, ImageFunction] | None = None) -> FittedPipeline:
        """The pipeline with its numbers, to look at or to apply to other images.

        Parameters
        ----------
        functions
            The functions that steps call, by the step's name: their code is not kept.

        Raises
        ------
        ParameterError
            If a function is not given, or the pipeline has a parameter that JSON could not keep.
        """
        if not isinstance(self._fitted, Mapping):
            raise ParameterError(
                f"the pipeline that made layer {self.layer!r} could not be kept: {self._fitted}"
            )
        return FittedPipeline.from_json(json.dumps(self._fitted), functions)

    def _display(self) -> Display:
        time = f"{self.time:%Y-%m-%d %H:%M:%S %Z}"
        rows = [["source", self.source], ["time", time], ["run", self.run]]
        parts = [Part("Made from", rows=rows)]
        if not self.is_import:
            steps = self.parameters.get(PIPELINE, {}).get("steps", ())
            parts.append(Part("Steps", rows=[*map(_step_row, steps)], count=len(steps)))
        asked = [
            [key, value_text(value)]
            for key, value in self.parameters.items()
            if key != PIPELINE and value is not None
        ]
        parts.append(Part("Parameters", rows=asked))
        parts.append(Part("Versions", rows=[*map(list, self.versions.items())], is_open=False))
        return Display("pxprep.Provenance", f"of layer {self.layer!r}", parts)


def _step_row(step: Mapping[str, object]) -> list[str]:
    """What a step is called, and its parameters."""
    configuration = step.get("configuration")
    if isinstance(configuration, Mapping):
        configuration = without_none(str(step["name"]), configuration)
    return [str(step["as"]), value_text(configuration)]

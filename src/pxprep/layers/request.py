"""What a call of the wrapper asks for: parsed, kept with what is made, compared to resume it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path

from ..aliases import BatchName, DType, ImageName, Json, Label, Parameters, Pool
from ..channels import parse_channels
from ..engine.progress import Passes
from ..errors import ParameterError, spelled
from ..images.batches import known_batches, parse_batches, require_batches
from ..images.exclusion import parse_exclude
from ..images.parameters import (
    parse_bool,
    parse_count,
    parse_float_dtype,
    parse_memory,
    parse_pool,
    parse_wait,
)
from ..pipeline.base_pipeline import BasePipeline
from ..pipeline.pipeline import FittedPipeline, Pipeline
from ..reporting.checks import check_file
from ..store.json import to_json_types
from .masks import LayerMasks, describe, parse_masks
from .reading import parse_names

CODECS = ("lz4", "zstd")
# The parameters that `pipeline` takes the place of, with their defaults.
OF_STEPS = {name: each.default for name, each in signature(Pipeline.sparrow).parameters.items()}


@dataclass(frozen=True)
class Request:
    """What a call asks for; what depends on the layers is checked when they are read.

    Attributes
    ----------
    pairs
        By name of each new layer, the name of the layer it is made from.
    pipeline
        What is done to the layers.
    masks
        The masks by layer, or their names; empty if there are none.
    exclude
        The layers that are not measured, by name.
    batches
        The batches by name of the layer; empty if all are measured together.
    passes
        Shows the progress, and keeps what each pass took.
    channels, dtype, pool, keep_outside, memory, compressor, overwrite, resume, wait, report
        As the wrapper has them, parsed.
    chunks, scale_factors
        As they were given.
    """

    pairs: Mapping[str, str]
    pipeline: Pipeline | FittedPipeline
    masks: LayerMasks
    exclude: tuple[ImageName, ...]
    batches: Mapping[ImageName, BatchName]
    passes: Passes
    channels: Sequence[Label] | None
    dtype: DType | None
    pool: Pool
    keep_outside: bool
    memory: int | None
    compressor: Mapping[str, int] | None
    overwrite: bool
    resume: bool
    wait: float | None
    report: Path | None
    chunks: object
    scale_factors: Sequence[object] | None

    @classmethod
    def parsed(cls, values: Parameters) -> Request:
        """The request of a call with these parameters; raises if one breaks its rule."""
        pipeline = _choose_pipeline(values["pipeline"], {name: values[name] for name in OF_STEPS})
        pairs = _pair_names(values["img_layer"], values["output_layer"])
        layers, pool = list(pairs.values()), parse_pool(values["pool"])
        masks = parse_masks(values["where"], layers)
        keep_outside = parse_bool(values["keep_outside"], "keep_outside")
        if not keep_outside and not masks:
            raise ParameterError("keep_outside=False needs a mask, where, got None")
        exclude = parse_exclude(values["exclude"], layers, pool)
        if isinstance(pipeline, FittedPipeline):
            _check_measures_nothing(pipeline, pool, exclude, bool(masks) and keep_outside)
            pool = pipeline.pool
        return cls(
            pairs=pairs,
            pipeline=pipeline,
            masks=masks,
            exclude=exclude,
            batches=_parse_by(values["by"], layers, pool, pipeline),
            passes=Passes(values["progress"]),
            channels=parse_channels(values["channels"]),
            dtype=parse_float_dtype(values["dtype"]),
            pool=pool,
            keep_outside=keep_outside,
            memory=parse_memory(values["memory"]),
            compressor=_parse_compressor(values["compressor"]),
            overwrite=parse_bool(values["overwrite"], "overwrite"),
            resume=parse_bool(values["resume"], "resume"),
            wait=parse_wait(values["wait"]),
            report=None if values["report"] is None else check_file(values["report"], "report"),
            chunks=values["chunks"],
            scale_factors=values["scale_factors"],
        )

    @cached_property
    def parameters(self) -> Json:
        """What is kept with the new layers, and what a call must have in common to resume them."""
        names = ["channels", "dtype", "pool", "chunks", "scale_factors", "compressor"]
        values = {name: getattr(self, name) for name in names} | {"layers": self.pairs}
        if self.masks:
            values |= {"where": describe(self.masks), "keep_outside": self.keep_outside}
        if self.exclude:
            values["exclude"] = list(self.exclude)
        if self.batches:
            values["by"] = self.batches
        pipeline = _in_json(unfitted(self.pipeline), required=self.resume)
        return {"pipeline": pipeline} | {key: to_json_types(values[key]) for key in values}


def unfitted(pipeline: Pipeline | FittedPipeline) -> Pipeline:
    """The pipeline without its numbers."""
    return pipeline.pipeline if isinstance(pipeline, FittedPipeline) else pipeline


def _choose_pipeline(pipeline: object, of_steps: Parameters) -> Pipeline | FittedPipeline:
    """The pipeline that was given, or the reference order with these parameters of its steps."""
    if pipeline is None:
        return Pipeline.sparrow(**of_steps)
    if not isinstance(pipeline, Pipeline | FittedPipeline):
        raise ParameterError(f"pipeline must be a Pipeline or FittedPipeline, got {pipeline!r}")
    both = [
        name
        for name, default in OF_STEPS.items()
        if type(of_steps[name]) is not type(default) or of_steps[name] != default
    ]
    if both:
        raise ParameterError(
            f"pipeline takes the place of {', '.join(both)}: give either, not both"
        )
    return pipeline


def _check_measures_nothing(
    pipeline: FittedPipeline, pool: Pool, exclude: Sequence[ImageName], masks_measured: bool
) -> None:
    """Raise ParameterError if a call that applies known numbers says how to measure."""
    nothing = "and a FittedPipeline measures nothing: leave it out"
    if pool not in (pipeline.pool, "mean"):  # which is what is taken if none is given
        raise ParameterError(
            f"{spelled('pool')} says how layers are measured, {nothing}; got {pool!r}, it was "
            f"fitted with {pipeline.pool!r}"
        )
    if exclude:
        raise ParameterError(f"{spelled('exclude')} says what is not measured, {nothing}")
    if masks_measured:
        raise ParameterError(
            f"{spelled('where')} says what is measured, {nothing}, or give "
            f"{spelled('keep_outside=False')}"
        )


def _parse_compressor(value: object) -> dict[str, int] | None:
    """A codec and its level; None passes."""
    if value is None:
        return None
    rule = (
        f"{spelled('compressor')} must be one codec and its level, as {{'lz4': 1}} or {{'zstd': 3}}"
    )
    if not isinstance(value, Mapping) or len(value) != 1 or set(value) - set(CODECS):
        raise ParameterError(f"{rule}, got {value!r}")
    ((name, level),) = value.items()
    parsed = parse_count(level, f"compressor[{name!r}]", "a whole number from 0 to 9", least=0)
    if parsed > 9:
        raise ParameterError(f"{rule}, of a level from 0 to 9, got {value!r}")
    from spatialdata import SpatialData

    if "raster_compressor" not in signature(SpatialData.write).parameters:
        raise ParameterError(
            f"{spelled('compressor')} needs spatialdata 0.8 or newer: the installed one "
            "chooses for itself"
        )
    return {name: parsed}


def _parse_by(
    by: object, layers: Sequence[str], pool: Pool, pipeline: Pipeline | FittedPipeline
) -> dict[ImageName, BatchName]:
    """The batch of each layer, by name; raises where one has none."""
    if isinstance(pipeline, FittedPipeline):
        known = known_batches(layers, by, pipeline.batches, pipeline.fovs, {})
        return dict(zip(layers, known, strict=True)) if known else {}
    batches = parse_batches(by, layers, pool)
    if by is not None:
        require_batches(batches, layers)
    return batches


def _pair_names(img_layer: object, output_layer: object) -> dict[str, str]:
    """By name of each new layer, the name of the layer it is made from."""
    inputs, outputs = parse_names(img_layer, "img_layer"), parse_names(output_layer, "output_layer")
    if len(inputs) != len(outputs):
        raise ParameterError(
            f"{spelled('output_layer')} must name one layer for each of {spelled('img_layer')}: "
            f"got {len(outputs)} for {len(inputs)}"
        )
    return dict(zip(outputs, inputs, strict=True))


def _in_json(pipeline: BasePipeline, required: bool) -> object:
    """The pipeline in JSON; its text if JSON cannot keep it, unless that is `required`."""
    try:
        return pipeline.to_dict()
    except ParameterError as error:
        if required:
            raise ParameterError(
                f"{spelled('resume')} must tell runs apart by their steps: {error}"
            ) from error
        return repr(pipeline)

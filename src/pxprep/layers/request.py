"""What a call of the wrapper asks for: parsed, kept with what is made, compared to resume it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

from ..aliases import BatchName, DType, ImageName, Label, Parameters, Pool
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
from .masks import LayerMasks, asked_masks, described, parse_keep_outside
from .reading import parse_names

CODECS = ("lz4", "zstd")


@dataclass(frozen=True)
class Request:
    """What a call asks for; what depends on the layers is checked when they are read.

    Attributes
    ----------
    pairs
        By name of each new layer, the name of the layer it is made from.
    pipeline
        What is done to the layers.
    channels
        Labels of the channels to use; None for all of them.
    pool, chunks, scale_factors
        As they were given.
    given_compressor, compressor
        As it was given, and the codec.
    masks
        The masks that were given, by layer; empty if there are none.
    dtype, keep_outside, memory, overwrite, resume, wait, report
        As the wrapper has them, parsed.
    passes
        Shows the progress that was asked for, and keeps what each pass took.
    exclude
        The layers that are not measured, by name.
    batches
        The batches by name of the layer; empty if all are measured together.
    """

    pairs: Mapping[str, str]
    pipeline: Pipeline | FittedPipeline
    channels: Sequence[Label] | None
    dtype: DType | None
    pool: Pool
    chunks: object
    scale_factors: Sequence[object] | None
    given_compressor: Mapping[str, int] | None
    compressor: Mapping[str, object]
    masks: LayerMasks
    keep_outside: bool
    exclude: tuple[ImageName, ...]
    batches: Mapping[ImageName, BatchName]
    memory: int | None
    overwrite: bool
    resume: bool
    wait: float | None
    report: Path | None
    passes: Passes

    @classmethod
    def parsed(cls, asked: Parameters) -> Request:
        """The request that the parameters of the wrapper make; raises if one breaks its rule."""
        of_steps = {name: asked[name] for name in signature(Pipeline.sparrow).parameters}
        chosen = chosen_pipeline(asked["pipeline"], of_steps)
        passes, report = Passes(asked["progress"]), asked["report"]
        file = None if report is None else check_file(report, "report")
        pairs = _paired_names(asked["img_layer"], asked["output_layer"])
        layers, pool = list(pairs.values()), parse_pool(asked["pool"])
        return cls(
            pairs=pairs,
            pipeline=chosen,
            channels=parse_channels(asked["channels"]),
            dtype=parse_float_dtype(asked["dtype"]),
            pool=_pooled(pool, chosen),
            chunks=asked["chunks"],
            scale_factors=asked["scale_factors"],
            given_compressor=asked["compressor"],
            compressor=parse_compressor(asked["compressor"]),
            masks=asked_masks(asked["where"], layers),
            keep_outside=parse_keep_outside(asked["keep_outside"], asked["where"], chosen),
            exclude=_excluded(asked["exclude"], layers, pool, chosen),
            batches=_batches(asked["by"], layers, pool, chosen),
            memory=parse_memory(asked["memory"]),
            overwrite=parse_bool(asked["overwrite"], "overwrite"),
            resume=parse_bool(asked["resume"], "resume"),
            wait=parse_wait(asked["wait"]),
            report=file,
            passes=passes,
        )

    def parameters(self) -> dict[str, object]:
        """What is kept with the new layers, and what a call must have in common to resume them."""
        asked = {
            "channels": self.channels,
            "dtype": self.dtype,
            "pool": self.pool,
            "chunks": self.chunks,
            "scale_factors": self.scale_factors,
            "compressor": self.given_compressor,
            "layers": self.pairs,
        }
        if self.masks:
            asked |= {"where": described(self.masks), "keep_outside": self.keep_outside}
        if self.exclude:
            asked["exclude"] = list(self.exclude)
        if self.batches:
            asked["by"] = self.batches
        return {
            "pipeline": _kept(pipeline_of(self.pipeline), must=self.resume),
            **{name: to_json_types(value) for name, value in asked.items()},
        }


def pipeline_of(pipeline: Pipeline | FittedPipeline) -> Pipeline:
    """The pipeline without its numbers."""
    return pipeline.pipeline if isinstance(pipeline, FittedPipeline) else pipeline


def chosen_pipeline(pipeline: object, given: Parameters) -> Pipeline | FittedPipeline:
    """The pipeline that was given, or the reference order with the parameters that were given."""
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


def parse_compressor(value: object) -> dict[str, object]:
    """What `SpatialData.write` takes for a codec and its level; nothing for None."""
    if value is None:
        return {}
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
    return {"raster_compressor": {name: parsed}}


def _pooled(asked: Pool, pipeline: Pipeline | FittedPipeline) -> Pool:
    """How the layers are measured; raises if a fitted pipeline says otherwise."""
    if not isinstance(pipeline, FittedPipeline):
        return asked
    if asked not in (pipeline.pool, "mean"):  # which is what is taken if none is given
        raise ParameterError(
            f"{spelled('pool')} says how layers are measured, and a FittedPipeline measures "
            f"nothing: leave it out; got {asked!r}, it was fitted with {pipeline.pool!r}"
        )
    return pipeline.pool


def _excluded(
    exclude: object, layers: Sequence[str], pool: Pool, pipeline: Pipeline | FittedPipeline
) -> tuple[ImageName, ...]:
    """The layers that are not measured; raises if that has no effect."""
    excluded = parse_exclude(exclude, layers, pool)
    if excluded and isinstance(pipeline, FittedPipeline):
        raise ParameterError(
            f"{spelled('exclude')} says what is not measured, and a FittedPipeline measures "
            "nothing: leave it out"
        )
    return excluded


def _batches(
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


def _is_default(name: str, value: object) -> bool:
    default = signature(Pipeline.sparrow).parameters[name].default
    return type(value) is type(default) and value == default


def _paired_names(img_layer: object, output_layer: object) -> dict[str, str]:
    """By name of each new layer, the name of the layer it is made from."""
    inputs, outputs = parse_names(img_layer, "img_layer"), parse_names(output_layer, "output_layer")
    if len(inputs) != len(outputs):
        raise ParameterError(
            f"{spelled('output_layer')} must name one layer for each of {spelled('img_layer')}: "
            f"got {len(outputs)} for {len(inputs)}"
        )
    return dict(zip(outputs, inputs, strict=True))


def _kept(pipeline: BasePipeline, must: bool) -> object:
    """The pipeline in JSON; its text if JSON cannot keep it, unless it `must`."""
    try:
        return pipeline.to_dict()
    except ParameterError as error:
        if must:
            raise ParameterError(
                f"{spelled('resume')} must tell runs apart by their steps: {error}"
            ) from error
        return repr(pipeline)

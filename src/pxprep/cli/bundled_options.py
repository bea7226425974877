"""Options that several commands have together, and what they ask for as parameters."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from . import options as o
from . import values
from .stores import RASTERS, names_for

if TYPE_CHECKING:
    from ..aliases import BatchName, Label, Parameters
    from ..images.masks import Mask
    from ..io import Panel
    from ..pipeline.pipeline import FittedPipeline, Pipeline

# Parameters of steps that channels may differ in; a table of markers may have them.
PER_CHANNEL = ("q", "sigma", "q_post", "cap_max")
_EACH = "VALUE for all channels, NAME=VALUE for one, '*=VALUE' for the rest"


@dataclass(frozen=True)
class StepOptions:
    """Parameters of the steps in a named order."""

    q: Annotated[
        list[str] | None,
        o.step_option(
            "--q",
            metavar="VALUE",
            help=f"Percent: each channel is divided by this quantile first. {_EACH}; none leaves "
            "out the step. Default: 99.",
        ),
    ] = None
    q_sum: Annotated[
        str | None,
        o.step_option(
            "--q-sum",
            metavar="VALUE",
            help="Percent: pixels whose sum is not above this quantile of the sums are dropped; "
            "none leaves out the step. Default: 5.",
        ),
    ] = None
    q_post: Annotated[
        list[str] | None,
        o.step_option(
            "--q-post",
            metavar="VALUE",
            help="Percent: each channel is divided by this quantile at the end; as --q. Default: "
            "99.9.",
        ),
    ] = None
    sigma: Annotated[
        list[str] | None,
        o.step_option(
            "--sigma", metavar="VALUE", help="Pixels: width of the blur; as --q. Default: 2."
        ),
    ] = None
    no_norm_sum: Annotated[
        bool,
        o.step_option("--no-norm-sum", help="Do not divide pixels by their sum over channels."),
    ] = False
    cap_max: Annotated[
        list[str] | None,
        o.step_option(
            "--cap-max", metavar="VALUE", help="Values above this become this at the end; as --q."
        ),
    ] = None

    def given(self) -> "Parameters":
        """Those that were typed, as parameters of `Pipeline.sparrow`, channels by text."""
        given = {
            name: values.per_channel(texts, "--" + name.replace("_", "-"))
            for name in PER_CHANNEL
            if (texts := getattr(self, name))
        }
        if self.q_sum is not None:
            given["q_sum"] = values.number_or_none(self.q_sum, "--q-sum")
        if self.no_norm_sum:
            given["norm_sum"] = False
        return given


@dataclass(frozen=True)
class PipelineOptions(StepOptions):
    """The steps, by their parameters or from a file, and their channels."""

    channel: o.Channels = None
    panel: Annotated[
        Path | None,
        o.step_option(
            "--panel",
            metavar="FILE",
            help="Table of markers with columns sigma, q, q_post or cap_max; the channels that it "
            "keeps are used. Options that are typed replace what it says.",
        ),
    ] = None
    pipeline: Annotated[
        Path | None,
        o.step_option(
            "--pipeline",
            metavar="FILE",
            help="YAML or JSON of a pipeline, in place of these options; `pxprep pipeline` makes "
            "one.",
        ),
    ] = None

    def steps(self, fitted: Path | None = None) -> "AskedSteps":
        """The steps that they ask for, or a file of fitted ones; files are read."""
        from ..io import read_panel
        from ..pipeline.pipeline import FittedPipeline, Pipeline

        given = self.given()
        panel = None if self.panel is None else read_panel(self.panel)
        channels = self.channel or None
        if panel is not None and channels is None:
            channels = [panel.names[row] for row in panel.kept]
        by_option = {"--pipeline": self.pipeline, "--fitted": fitted}
        files = [option for option, file in by_option.items() if file]
        if len(files) > 1 or (files and given):
            values.wrong(files[0], "takes the place of the other steps: give either, not both")
        columns = [name for name in PER_CHANNEL if panel is not None and getattr(panel, name)]
        if files and columns:
            values.wrong(
                files[0],
                f"takes the place of the other steps, and the table of --panel has numbers for "
                f"them: leave out its columns {', '.join(columns)}",
            )
        if fitted is not None:
            return AskedSteps.of_fitted(FittedPipeline.from_json(fitted), channels)
        pipeline = None if self.pipeline is None else Pipeline.from_file(self.pipeline)
        return AskedSteps(given, pipeline, channels, panel)


@dataclass(frozen=True)
class AskedSteps:
    """The steps: by parameters that were given, or a pipeline from a file, and the channels.

    Attributes
    ----------
    given
        Parameters of `Pipeline.sparrow`, channels by the text that was typed.
    pipeline
        What was in the file.
    channels
        The channels that were typed, or else those that a panel keeps or a fitted pipeline has;
        None for all.
    panel
        The table of markers: its numbers hold for steps whose option was not typed.
    """

    given: "Parameters"
    pipeline: "Pipeline | FittedPipeline | None"
    channels: "Sequence[Label] | None"
    panel: "Panel | None" = None

    @classmethod
    def of_fitted(cls, fitted: "FittedPipeline", channels: list[str] | None = None) -> "AskedSteps":
        """A fitted pipeline, for the channels that it was fitted to or for others."""
        labels = None if fitted.channels is None else list(fitted.channels)
        return cls({}, fitted, channels or labels)

    @property
    def batches(self) -> "set[BatchName] | None":
        """The batches of a fitted pipeline; None if nothing is fitted yet."""
        batches = getattr(self.pipeline, "batches", None)
        return None if batches is None else set(batches.values())

    def parameters(self, labels: "Sequence[Label]") -> "Parameters":
        """Parameters of `pixel_clustering_preprocess` for images with these labels."""
        steps = {name: values.with_labels(value, labels) for name, value in self.given.items()}
        if self.pipeline is not None:
            steps["pipeline"] = values.steps_with_labels(self.pipeline, labels)
        elif self.panel is not None:
            steps = {**_numbers(self.panel, labels, self.channels), **steps}
        return {"channels": values.with_labels(self.channels, labels), **steps}


def _numbers(
    panel: "Panel", labels: "Sequence[Label]", channels: Sequence[object] | None
) -> dict[str, object]:
    """What a panel says of the steps: by channel, and the usual value for the rest."""
    from ..pipeline.pipeline import Pipeline

    usual = inspect.signature(Pipeline.sparrow).parameters
    numbers = {}
    for name in PER_CHANNEL:
        by_channel = {
            key: value for key, value in getattr(panel, name).items() if key in (channels or ())
        }
        if by_channel:
            # Some have no usual value: then the table has to tell of every channel.
            rest = {} if usual[name].default is None else {...: usual[name].default}
            numbers[name] = values.with_labels({**by_channel, **rest}, labels)
    return numbers


@dataclass(frozen=True)
class MaskOptions:
    """Which pixels are measured: those with labels, or all others."""

    where: Annotated[
        list[str] | None,
        o.mask_option(
            "--where",
            metavar="NAME",
            autocompletion=o.complete_labels,
            help="Labels layer: only pixels that have a label are measured. One for all layers; "
            "repeated, one for each --layer in order; or once with {layer} in it.",
        ),
    ] = None
    where_labels: Annotated[
        list[int] | None,
        o.mask_option(
            "--where-labels",
            metavar="NUMBER",
            help="Label whose pixels are measured; repeat for several. All but 0, if not given.",
        ),
    ] = None
    where_not: Annotated[
        bool,
        o.mask_option(
            "--where-not",
            help="Measure all other pixels instead, for instance those outside artefacts.",
        ),
    ] = False

    def __post_init__(self) -> None:
        given = {"--where-labels": self.where_labels, "--where-not": self.where_not}
        for option, is_given in given.items():
            if is_given and not self.where:
                values.wrong(option, "says which labels of --where: give both")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of elements of a store that are read."""
        return RASTERS if self.where else ("images",)

    def masks(self, layers: Sequence[str]) -> "Mask | list[Mask] | None":
        """The parameter `where` for these image layers."""
        if not self.where:
            return None
        from ..images.masks import NONZERO, Mask

        labels, names = self.where_labels or NONZERO, names_for(layers, self.where)
        masks = [Mask(name, labels, self.where_not) for name in names]
        return masks[0] if len(masks) == 1 else masks


@dataclass(frozen=True)
class WaitOptions:
    """What happens while another process is writing to the store."""

    wait: Annotated[
        float | None,
        o.writing_option(
            "--wait",
            metavar="SECONDS",
            help="How long to wait for other writers. Default: no limit.",
        ),
    ] = None
    no_wait: Annotated[
        bool, o.writing_option("--no-wait", help="Fail if another process is writing.")
    ] = False

    def __post_init__(self) -> None:
        if self.wait is not None and self.no_wait:
            values.wrong("--wait", "give --wait or --no-wait, not both")

    @property
    def seconds(self) -> bool | float:
        """How long to wait for other writers: True without limit, False not at all."""
        return not self.no_wait if self.wait is None else self.wait


@dataclass(frozen=True)
class LayerOptions:
    """How new layers are written."""

    chunks: Annotated[
        list[str] | None,
        o.writing_option(
            "--chunks",
            metavar="PIXELS",
            help="Chunks of the new layers: a number for y and x, or DIM=NUMBER, repeated; -1 is "
            "the whole dimension. Default: as the input.",
        ),
    ] = None
    scale_factors: Annotated[
        list[str] | None,
        o.writing_option(
            "--scale-factors",
            metavar="FACTOR",
            help="Factor of each coarser scale to the one before, repeated: 2, or y=2,x=2; none "
            "makes one scale. Default: as the input.",
        ),
    ] = None
    compressor: Annotated[
        str | None,
        o.writing_option(
            "--compressor", metavar="CODEC:LEVEL", help="lz4 or zstd and a level, as lz4:1."
        ),
    ] = None
    overwrite: Annotated[
        bool,
        o.writing_option("--overwrite", help="Replace layers that have the names of --output."),
    ] = False
    resume: Annotated[
        bool,
        o.writing_option(
            "--resume", help="Publish layers in groups, and go on with an interrupted run."
        ),
    ] = False

    def parameters(self) -> "Parameters":
        """Parameters of `pixel_clustering_preprocess`."""
        return {
            "chunks": values.chunk_sizes(self.chunks) if self.chunks else None,
            "scale_factors": values.scale_factors(self.scale_factors)
            if self.scale_factors
            else None,
            "compressor": None if self.compressor is None else values.compressor(self.compressor),
            "overwrite": self.overwrite,
            "resume": self.resume,
        }

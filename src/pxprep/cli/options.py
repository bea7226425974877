"""Options that several commands have."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .values import NONE

if TYPE_CHECKING:
    from ..aliases import Pool as PoolName


class Pool(StrEnum):
    """How a cohort's quantiles become one."""

    mean = "mean"
    pixels = "pixels"
    none = NONE

    @property
    def value_or_none(self) -> "PoolName":
        """What the library calls it."""
        names: dict[Pool, PoolName] = {Pool.mean: "mean", Pool.pixels: "pixels", Pool.none: None}
        return names[self]


class FloatType(StrEnum):
    """The type of the computation."""

    float32 = "float32"
    float64 = "float64"


def complete_layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The image layers of the stores that were typed already; reads names of folders only."""
    return _elements("images", ctx, incomplete)


def complete_labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """The labels layers of the stores that were typed already."""
    return _elements("labels", ctx, incomplete)


def _elements(kind: str, ctx: typer.Context, incomplete: str) -> list[str]:
    # Arguments before an option that has no value yet are not parsed.
    typed = [ctx.params.get("store"), *(ctx.params.get("stores") or ()), *ctx.args]
    folders = [Path(store) / kind for store in typed if store]
    names = {path.name for folder in folders for path in folder.glob("*/")}
    return sorted(name for name in names if name.startswith(incomplete))


def _steps(*names: str, **how: Any) -> object:
    return typer.Option(*names, rich_help_panel="Steps", show_default=False, **how)


def _mask(*names: str, **how: Any) -> object:
    return typer.Option(*names, rich_help_panel="Mask", show_default=False, **how)


def _writing(*names: str, **how: Any) -> object:
    return typer.Option(*names, rich_help_panel="Writing", show_default=False, **how)


_EACH = "VALUE for all channels, NAME=VALUE for one, '*=VALUE' for the rest"

Store = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a SpatialData store.")]
Stores = Annotated[
    list[Path], typer.Argument(metavar="STORE...", help="Folders of SpatialData stores.")
]
Layers = Annotated[
    list[str],
    typer.Option(
        "--layer",
        metavar="NAME",
        autocompletion=complete_layers,
        help="Image layer, or a pattern such as 'fov*', which leaves out what pxprep made from "
        "other layers. Repeat for a cohort.",
    ),
]
Outputs = Annotated[
    list[str],
    typer.Option(
        "--output",
        metavar="NAME",
        help="Layer to make, one for each --layer in order; or once with {layer} in it, as "
        "'{layer}_clean'.",
    ),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        metavar="NAME",
        show_default=False,
        help="Channel to use; repeat, in the order wanted. All, if not given.",
    ),
]
Q = Annotated[
    list[str] | None,
    _steps(
        "--q",
        metavar="VALUE",
        help=f"Percent: each channel is divided by this quantile first. {_EACH}; none leaves out "
        "the step. Default: 99.",
    ),
]
QSum = Annotated[
    str | None,
    _steps(
        "--q-sum",
        metavar="VALUE",
        help="Percent: pixels whose sum is not above this quantile of the sums are dropped, or "
        "none. Default: 5.",
    ),
]
QPost = Annotated[
    list[str] | None,
    _steps(
        "--q-post",
        metavar="VALUE",
        help="Percent: each channel is divided by this quantile at the end; as --q. Default: 99.9.",
    ),
]
Sigma = Annotated[
    list[str] | None,
    _steps("--sigma", metavar="VALUE", help="Pixels: width of the blur; as --q. Default: 2."),
]
NoNormSum = Annotated[
    bool, _steps("--no-norm-sum", help="Do not divide pixels by their sum over channels.")
]
CapMax = Annotated[
    list[str] | None,
    _steps("--cap-max", metavar="VALUE", help="Values above this become this at the end; as --q."),
]
PanelFile = Annotated[
    Path | None,
    _steps(
        "--panel",
        metavar="FILE",
        help="Table of markers with columns sigma, q, q_post or cap_max; the channels that it "
        "keeps are used. Options that are typed come first.",
    ),
]
PipelineFile = Annotated[
    Path | None,
    _steps(
        "--pipeline",
        metavar="FILE",
        help="YAML or JSON of a pipeline, in place of these options; `pxprep pipeline` makes one.",
    ),
]
FittedFile = Annotated[
    Path | None,
    _steps("--fitted", metavar="FILE", help="JSON that `fit` wrote: nothing is measured."),
]
PoolOption = Annotated[
    Pool,
    typer.Option(
        "--pool",
        help="Mean of each layer's quantiles, quantiles over the pixels of all layers, or each "
        "layer by itself.",
    ),
]
Where = Annotated[
    list[str] | None,
    _mask(
        "--where",
        metavar="NAME",
        autocompletion=complete_labels,
        help="Labels layer: only pixels that have a label are measured. One for all layers; "
        "repeated, one for each --layer in order; or once with {layer} in it.",
    ),
]
WhereLabels = Annotated[
    list[int] | None,
    _mask(
        "--where-labels",
        metavar="NUMBER",
        help="Label whose pixels are measured; repeat for several. All but 0, if not given.",
    ),
]
WhereNot = Annotated[
    bool, _mask("--where-not", help="Measure all other pixels instead, as those of no artefact.")
]
DropOutside = Annotated[
    bool,
    _mask("--drop-outside", help="In the new layers, pixels that are not measured are NaN."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="NAME",
        autocompletion=complete_layers,
        show_default=False,
        help="Layer that is not measured: it gets the numbers of the others. Repeat for several.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="FILE:COLUMN",
        show_default=False,
        help="Layers of one batch are measured together, without the others: a column of a CSV "
        "table whose first one names the layers, or a level of their names, as 0 for the stores.",
    ),
]
ByFitted = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="FILE:COLUMN",
        show_default=False,
        help="Batches of layers that were not fitted: a column of a CSV table whose first one "
        "names the layers, or the name of one batch for all.",
    ),
]
DType = Annotated[
    FloatType | None,
    typer.Option("--dtype", show_default=False, help="Type of the computation, and of the layers."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="BYTES",
        show_default=False,
        help="How much of what was read is kept for the next pass, as 2000000 or '2 GiB'. "
        "Default: a quarter of what is free.",
    ),
]
Chunks = Annotated[
    list[str] | None,
    _writing(
        "--chunks",
        metavar="PIXELS",
        help="Chunks of the new layers: a number for y and x, or DIM=NUMBER, repeated; -1 is the "
        "whole dimension. Default: as the input.",
    ),
]
ScaleFactors = Annotated[
    list[str] | None,
    _writing(
        "--scale-factors",
        metavar="FACTOR",
        help="Factor of each coarser scale to the one before, repeated: 2, or y=2,x=2; none makes "
        "one scale. Default: as the input.",
    ),
]
Compressor = Annotated[
    str | None,
    _writing("--compressor", metavar="CODEC:LEVEL", help="lz4 or zstd and a level, as lz4:1."),
]
Overwrite = Annotated[
    bool, _writing("--overwrite", help="Replace layers that have the names of --output.")
]
Resume = Annotated[
    bool,
    _writing("--resume", help="Write layer by layer, and go on with an interrupted run."),
]
Report = Annotated[
    Path | None, _writing("--report", metavar="FILE", help="Write a report in HTML.")
]
Wait = Annotated[
    float | None,
    _writing(
        "--wait", metavar="SECONDS", help="How long to wait for other writers. Default: no limit."
    ),
]
NoWait = Annotated[bool, _writing("--no-wait", help="Fail if another process is writing.")]
DryRun = Annotated[
    bool,
    _writing(
        "--dry-run",
        help="Say what would be read, measured and written, and what it takes; write nothing.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, and no result in words.")]

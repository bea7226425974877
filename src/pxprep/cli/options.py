"""Single options of commands."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer


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


# Options by the panel of the help that they stand in.
step_option = partial(typer.Option, rich_help_panel="Steps", show_default=False)
mask_option = partial(typer.Option, rich_help_panel="Mask", show_default=False)
writing_option = partial(typer.Option, rich_help_panel="Writing", show_default=False)

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
FittedFile = Annotated[
    Path | None,
    step_option("--fitted", metavar="FILE", help="JSON that `fit` wrote: nothing is measured."),
]
Pool = Annotated[
    Literal["mean", "pixels", "none"],
    typer.Option(
        "--pool",
        help="Mean of each layer's quantiles, quantiles over the pixels of all layers, or each "
        "layer by itself.",
    ),
]
DropOutside = Annotated[
    bool,
    mask_option("--drop-outside", help="In the new layers, pixels that are not measured are NaN."),
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
        help="Layers of one batch are measured together, without the others. Batches are in a "
        "column of a CSV table whose first column names the layers; or 0, with several stores: "
        "each store is a batch.",
    ),
]
ByFitted = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="FILE:COLUMN",
        show_default=False,
        help="Batches of layers that were not fitted: a column of a CSV table whose first column "
        "names the layers, or the name of one batch for all.",
    ),
]
DType = Annotated[
    Literal["float32", "float64"] | None,
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
Report = Annotated[
    Path | None, writing_option("--report", metavar="FILE", help="Write a report in HTML.")
]
DryRun = Annotated[
    bool,
    writing_option(
        "--dry-run",
        help="Say what would be read, measured and written, and what it takes; write nothing.",
    ),
]

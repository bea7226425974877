"""The command `pxprep`."""

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from . import __version__
from .errors import PxprepError

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise SystemExit("the command needs: pip install 'pxprep[cli]'") from error

app = typer.Typer(
    help="Prepare multiplexed tissue images for pixel clustering.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"pxprep {__version__}")
        raise typer.Exit


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where the store and the picture go; made anew.")
    ] = Path("pxprep-demo"),
    size: Annotated[int, typer.Option(help="Pixels along each side of a field of view.")] = 256,
    fovs: Annotated[int, typer.Option(help="How many fields of view.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the made-up tissue.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the demo's earlier output.")] = False,
) -> None:
    """Make a small cohort, store it as SpatialData, clean it, and show what was measured."""
    console = Console()
    store, picture = folder / "tissue.zarr", folder / "before-after.png"
    _make_room(store, overwrite)
    sdata, names = _stored_cohort(store, size, fovs, seed)
    console.print(f"made {len(names)} fields of view: {store}")

    from .pipeline import Pipeline
    from .spatialdata import pixel_clustering_preprocess, read_images

    show = sys.stderr.isatty()
    started = time.perf_counter()
    fitted = Pipeline.sparrow().fit(read_images(sdata, names), progress=show)
    cleaned = [f"{name}_clean" for name in names]
    pixel_clustering_preprocess(sdata, names, cleaned, pipeline=fitted, progress=show)
    console.print(f"cleaned them in {time.perf_counter() - started:.1f} s: layers {cleaned}")

    from ._display import channel_table, scalars

    header, rows = channel_table(fitted.measured, fitted.labels)
    table = Table(*header, title="fitted numbers")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for name, numbers in fitted.measured.items():
        for variable, value in scalars(numbers).items():
            console.print(f"{name}_{variable} = {value}")

    from .plot import compare

    axes = compare(sdata[names[0]], sdata[cleaned[0]])
    axes.flat[0].figure.savefig(picture, dpi=120)
    console.print(f"before and after: {picture}")


def _make_room(store: Path, overwrite: bool) -> None:
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
    elif overwrite:
        shutil.rmtree(store)
    else:
        raise PxprepError(f"{str(store)!r} exists already; --overwrite replaces it")


def _stored_cohort(store: Path, size: int, n_fovs: int, seed: int) -> tuple[Any, list[str]]:
    """The made-up cohort as a SpatialData object that is backed by `store`."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    from .datasets import tissue

    cohort = tissue(n_fovs=n_fovs, size=size, seed=seed)
    images = {
        name: Image2DModel.parse(
            fov.data, dims=fov.dims, c_coords=fov.c.values.tolist(), chunks=(1, 128, 128)
        )
        for name, fov in cohort.items()
    }
    SpatialData(images=images).write(store)
    return SpatialData.read(store), list(cohort)


def main() -> None:
    """Run the command; an error that pxprep raises on purpose is one line and exit code 1."""
    try:
        app()
    except PxprepError as error:
        typer.secho(f"pxprep: {error}", err=True, fg="red")
        raise SystemExit(1) from error

"""`pxprep demo`: a small cohort, made up, stored, cleaned and shown."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PxprepError
from .answers import AnswerOptions, Document, only_answers_on_stdout
from .inspect_store import described

if TYPE_CHECKING:
    import xarray as xr
    from spatialdata import SpatialData

    from ..pipeline.pipeline import FittedPipeline
    from ..reporting import Passes

# What the demo spends its time on, in order.
IMPORTING = "importing and compiling"
MAKING, MEASURING, WRITING = "making the cohort", "measuring", "writing"
CHECKING, PICTURE, REPORT = "checking and reading back", "picture", "report"
ORDER = (IMPORTING, MAKING, MEASURING, WRITING, CHECKING, PICTURE, REPORT)


def demo(
    *,
    folder: Annotated[
        Path, typer.Argument(help="Where the store, the picture and the report go; made anew.")
    ] = Path("pxprep-demo"),
    size: Annotated[int, typer.Option(help="Pixels along each side of a field of view.")] = 256,
    fovs: Annotated[int, typer.Option(help="How many fields of view.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the made-up tissue.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the demo's earlier output.")
    ] = False,
    answer: AnswerOptions,
) -> None:
    """Make a small cohort, store it as SpatialData, clean it, and show what was measured."""
    times: dict[str, float] = {}
    store, picture, report = (
        folder / name for name in ("tissue.zarr", "before-after.png", "report.html")
    )
    _make_room(store, overwrite)
    with only_answers_on_stdout():
        with _timed(times, IMPORTING):
            _import(report)
        with _timed(times, MAKING):
            sdata, names = _stored_cohort(store, size, fovs, seed)
        with _timed(times, IMPORTING):
            _compile()
        cleaned = [f"{name}_clean" for name in names]
        fitted, passes = _cleaned(sdata, names, cleaned, answer.has_progress, times)
        with _timed(times, PICTURE):
            _draw(sdata, names[0], cleaned[0], picture)
        with _timed(times, REPORT):
            from ..layers.reports import write_report

            write_report(report, sdata, dict(zip(cleaned, names, strict=True)), fitted, passes)
    document = {
        "store": str(store),
        "picture": str(picture),
        "report": str(report),
        "seconds": {what: round(times[what], 3) for what in ORDER},
        "layers": described(sdata, "images", cleaned),
        "fitted": json.loads(fitted.to_json()),
    }
    answer.give(document, _in_words(document, names, fitted))


def _in_words(document: Document, names: Sequence[str], fitted: "FittedPipeline") -> str:
    made = ", ".join(layer["name"] for layer in document["layers"])
    seconds = document["seconds"]
    return "\n".join(
        [
            f"made {len(names)} fields of view: {document['store']}",
            f"cleaned them: layers {made}\n\n{fitted}\n",
            f"before and after: {document['picture']}",
            f"report: {document['report']}\n",
            *(f"{what:<{max(map(len, ORDER))}} {seconds[what]:5.1f} s" for what in ORDER),
            f"{'all':<{max(map(len, ORDER))}} {sum(seconds.values()):5.1f} s",
        ]
    )


@contextmanager
def _timed(times: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times[what] = times.get(what, 0) + time.perf_counter() - started


def _import(report: Path) -> None:
    """Import what takes long; raises where the report could not be written."""
    from ..reporting.checks import check_file

    check_file(report)
    import spatialdata.models  # noqa: F401

    from ..layers import preprocess  # noqa: F401


def _compile() -> None:
    """Run the steps on few pixels, so that what they need is compiled and loaded."""
    from ..datasets import tissue
    from ..pipeline.pipeline import Pipeline

    small = {name: fov.chunk(c=1, y=64, x=64) for name, fov in tissue(2, size=128).items()}
    fitted = Pipeline.sparrow().fit(small)
    fitted.transform(small["fov0"]).compute()


def _make_room(store: Path, overwrite: bool) -> None:
    """Make the folder of a store; raises where a store is that is not to be replaced."""
    if store.parent.is_file():
        raise PxprepError(f"FOLDER must not be a file, got {str(store.parent)!r}")
    if store.exists() and not overwrite:
        raise PxprepError(f"{str(store)!r} exists already; --overwrite replaces it")
    store.parent.mkdir(parents=True, exist_ok=True)


def _stored_cohort(
    store: Path, size: int, n_fovs: int, seed: int
) -> tuple["SpatialData", list[str]]:
    """The made-up cohort as a SpatialData object that is backed by `store`, whose old one goes."""
    from spatialdata import SpatialData

    from ..datasets import tissue

    cohort = tissue(n_fovs=n_fovs, size=size, seed=seed)
    if store.exists():
        shutil.rmtree(store)
    SpatialData(images={name: _element(fov) for name, fov in cohort.items()}).write(store)
    return SpatialData.read(store), list(cohort)


def _element(fov: "xr.DataArray") -> object:
    from spatialdata.models import Image2DModel

    channels = fov.c.values.tolist()
    return Image2DModel.parse(fov.data, dims=fov.dims, c_coords=channels, chunks=(1, 128, 128))


def _cleaned(
    sdata: "SpatialData",
    names: Sequence[str],
    cleaned: Sequence[str],
    show: bool,
    times: dict[str, float],
) -> tuple["FittedPipeline", "Passes"]:
    """Make the new layers; their numbers, and what the passes took."""
    from ..layers.layer_provenance import provenance
    from ..layers.preprocess import pixel_clustering_preprocess
    from ..reporting import Passes

    passes = Passes(show)
    with _timed(times, CHECKING):
        pixel_clustering_preprocess(sdata, names, cleaned, progress=passes)
        fitted = provenance(sdata, cleaned[0]).fitted()
    measuring = [done.seconds for done in passes if done.name.startswith("measure ")]
    times[MEASURING] = sum(measuring)
    times[WRITING] = sum(done.seconds for done in passes) - times[MEASURING]
    times[CHECKING] -= times[MEASURING] + times[WRITING]
    return fitted, passes


def _draw(sdata: "SpatialData", before: str, after: str, picture: Path) -> None:
    from ..plot import compare
    from ..plot.shown import off_screen

    with off_screen():
        compare(sdata[before], sdata[after]).save(picture, dpi=120)

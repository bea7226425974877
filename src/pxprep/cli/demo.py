"""`pxprep demo`: a small cohort, made up, stored, cleaned and shown."""

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PxprepError
from . import options as o
from .answers import answer, only_answers_on_stdout, shows_progress
from .inspect_store import described

if TYPE_CHECKING:
    from spatialdata import SpatialData


def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where the store and the picture go; made anew.")
    ] = Path("pxprep-demo"),
    size: Annotated[int, typer.Option(help="Pixels along each side of a field of view.")] = 256,
    fovs: Annotated[int, typer.Option(help="How many fields of view.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the made-up tissue.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the demo's earlier output.")
    ] = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Make a small cohort, store it as SpatialData, clean it, and show what was measured."""
    from ..layers.preprocess import pixel_clustering_preprocess
    from ..layers.reading import read_images
    from ..pipeline.pipeline import Pipeline

    store, picture = folder / "tissue.zarr", folder / "before-after.png"
    _make_room(store, overwrite)
    with only_answers_on_stdout():
        sdata, names = _stored_cohort(store, size, fovs, seed)
        cleaned = [f"{name}_clean" for name in names]
        started = time.perf_counter()
        show = shows_progress(quiet)
        fitted = Pipeline.sparrow().fit(read_images(sdata, names), progress=show)
        pixel_clustering_preprocess(sdata, names, cleaned, pipeline=fitted, progress=show)
        seconds = time.perf_counter() - started
        _draw(sdata, names[0], cleaned[0], picture)
    document = {
        "store": str(store),
        "picture": str(picture),
        "seconds": round(seconds, 3),
        "layers": described(sdata, "images", cleaned),
        "fitted": json.loads(fitted.to_json()),
    }
    words = (
        f"made {len(names)} fields of view: {store}\n"
        f"cleaned them in {seconds:.1f} s: layers {', '.join(cleaned)}\n\n{fitted}\n\n"
        f"before and after: {picture}"
    )
    answer(document, words, as_json=as_json, quiet=quiet)


def _make_room(store: Path, overwrite: bool) -> None:
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
    elif overwrite:
        shutil.rmtree(store)
    else:
        raise PxprepError(f"{str(store)!r} exists already; --overwrite replaces it")


def _stored_cohort(
    store: Path, size: int, n_fovs: int, seed: int
) -> tuple["SpatialData", list[str]]:
    """The made-up cohort as a SpatialData object that is backed by `store`."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    from ..datasets import tissue

    cohort = tissue(n_fovs=n_fovs, size=size, seed=seed)
    images = {
        name: Image2DModel.parse(
            fov.data, dims=fov.dims, c_coords=fov.c.values.tolist(), chunks=(1, 128, 128)
        )
        for name, fov in cohort.items()
    }
    SpatialData(images=images).write(store)
    return SpatialData.read(store), list(cohort)


def _draw(sdata: "SpatialData", before: str, after: str, picture: Path) -> None:
    from ..plot import compare
    from ..plot.shown import off_screen

    with off_screen():
        compare(sdata[before], sdata[after]).save(picture, dpi=120)

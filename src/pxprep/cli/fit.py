"""`pxprep fit` and `pxprep apply`: measure once, apply to other stores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ParameterError
from . import options as o
from .answers import answer, only_answers_on_stdout, shows_progress
from .asked import Steps, Where, memory_or_none, name_of, writing
from .batches import batches_here, parse_by
from .run import in_words, made, repaired
from .stores import chosen_layers, labels_of, names_for, naming, opened, require_once

if TYPE_CHECKING:
    import xarray as xr

    from ..images.masks import Mask


def fit(
    stores: o.Stores,
    layer: o.Layers,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="JSON file to write the numbers to.")
    ],
    channel: o.Channels = None,
    q: o.Q = None,
    q_sum: o.QSum = None,
    q_post: o.QPost = None,
    sigma: o.Sigma = None,
    no_norm_sum: o.NoNormSum = False,
    cap_max: o.CapMax = None,
    panel: o.PanelFile = None,
    pipeline: o.PipelineFile = None,
    pool: o.PoolOption = o.Pool.mean,
    where: o.Where = None,
    where_labels: o.WhereLabels = None,
    where_not: o.WhereNot = False,
    exclude: o.Exclude = None,
    by: o.By = None,
    dtype: o.DType = None,
    memory: o.Memory = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure image layers of one or several stores together, and keep the numbers in a file.

    All layers are one cohort. With several stores they are called STORE/LAYER.
    """
    from ..pipeline.pipeline import Pipeline
    from ..store import files

    steps = Steps.of(
        q=q,
        q_sum=q_sum,
        q_post=q_post,
        sigma=sigma,
        no_norm_sum=no_norm_sum,
        cap_max=cap_max,
        channel=channel,
        panel=panel,
        pipeline=pipeline,
    )
    inside = Where(where, where_labels, where_not)
    batches = parse_by(by)
    _check_file(output, overwrite)
    with only_answers_on_stdout():
        images, masks, parameters = _cohort(stores, layer, steps, inside, name_of(dtype))
        recipe = parameters.pop("pipeline", None) or Pipeline.sparrow(**parameters)
        fitted = recipe.fit(
            images,
            pool=pool.value_or_none,
            where=masks or None,
            exclude=exclude,
            by=batches,
            memory=memory_or_none(memory),
            progress=shows_progress(quiet),
        )
        files.replace_file(output, fitted.to_json().encode())
        outliers = fitted.outliers()
    document = {
        "file": str(output),
        "fitted": json.loads(fitted.to_json()),
        "outliers": outliers.to_dict("records"),
    }
    words = [str(fitted), ""]
    words += [outliers.to_string(index=False), ""] if len(outliers) else []
    answer(document, "\n".join([*words, f"written to {output}"]), as_json=as_json, quiet=quiet)


def apply(
    file: Annotated[Path, typer.Argument(metavar="FITTED", help="JSON file that `fit` wrote.")],
    stores: o.Stores,
    layer: o.Layers,
    output: o.Outputs,
    by: o.ByFitted = None,
    memory: o.Memory = None,
    chunks: o.Chunks = None,
    scale_factors: o.ScaleFactors = None,
    compressor: o.Compressor = None,
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    wait: o.Wait = None,
    no_wait: o.NoWait = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Apply fitted numbers to image layers, those of the channels that were fitted.

    Every store gets its own new layers; all of them are read and checked before the first is
    written to.
    """
    from ..layers.reading import read_checked
    from ..pipeline.pipeline import FittedPipeline

    fitted = FittedPipeline.from_json(file)
    steps = Steps.fitted(fitted)
    how = writing(
        chunks=chunks,
        scale_factors=scale_factors,
        compressor=compressor,
        memory=memory,
        overwrite=overwrite,
        resume=resume,
        wait=wait,
        no_wait=no_wait,
    )
    documents: list[dict[str, object]] = []
    batches = parse_by(by)
    with only_answers_on_stdout():
        todo = []
        for store in stores:
            with naming(store):
                sdata = repaired(store, how["wait"])
                layers = chosen_layers(sdata, layer)
                own = batches_here(batches, layers)
                fitted.checked(read_checked(sdata, layers, steps.channels), by=own)
                todo.append((store, sdata, layers))
        for store, sdata, layers in todo:
            with naming(store, done=stores[: len(documents)]):
                own = {**how, "by": batches_here(batches, layers)}
                documents.append(made(sdata, layers, names_for(layers, output), steps, own, quiet))
    words = "\n".join(map(in_words, documents))
    answer({"stores": documents}, words, as_json=as_json, quiet=quiet)


def _check_file(file: Path, overwrite: bool) -> None:
    """Raise ParameterError unless a file can be written there."""
    if not file.parent.is_dir() or file.is_dir():
        raise ParameterError(f"--output must be a file in a folder that exists, got {str(file)!r}")
    if file.exists() and not overwrite:
        raise ParameterError(f"{str(file)!r} exists already; --overwrite replaces it")


def _cohort(
    stores: Sequence[Path], asked: Sequence[str], steps: Steps, inside: Where, dtype: str | None
) -> tuple["dict[str, xr.DataArray]", "dict[str, Mask | None]", dict[str, Any]]:
    """The images of all stores, and their masks; and the parameters of the steps, but channels."""
    from ..layers.masks import asked_masks, read_masks
    from ..layers.reading import read_checked

    images: dict[str, xr.DataArray] = {}
    masks: dict[str, Mask | None] = {}
    parameters: dict[str, Any] = {}
    for store, prefix in zip(stores, _prefixes(stores), strict=True):
        with naming(store):
            sdata = opened(store, inside.kinds)
            layers = chosen_layers(sdata, asked)
            parameters = steps.parameters(labels_of(sdata, layers[0]))
            found = read_checked(sdata, layers, parameters.pop("channels"), dtype=dtype)
            over = read_masks(sdata, asked_masks(inside.masks(layers), layers))
        images |= {prefix + name: image for name, image in found.items()}
        masks |= {prefix + name: mask for name, mask in over.items()}
    return images, masks, parameters


def _prefixes(stores: Sequence[Path]) -> list[str]:
    """What the names of layers begin with: nothing for one store, else the store's name or path."""
    require_once([str(store) for store in stores], "STORE")
    if len(stores) == 1:
        return [""]
    names = [store.name.removesuffix(".zarr") for store in stores]
    return [f"{name}/" for name in (names if len(set(names)) == len(names) else map(str, stores))]

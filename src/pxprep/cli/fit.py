"""`pxprep fit` and `pxprep apply`: measure once, apply to other stores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as o
from . import values
from .answers import AnswerOptions, only_answers_on_stdout
from .batches import EACH_STORE, batches_here, by_store, parse_by
from .bundled_options import AskedSteps, LayerOptions, MaskOptions, PipelineOptions, WaitOptions
from .dry_run import planned
from .run import in_words, make_layers, repaired
from .stores import chosen_layers, labels_of, names_for, naming, opened, require_stores_once

if TYPE_CHECKING:
    import xarray as xr

    from ..aliases import Parameters
    from ..images.masks import Mask


def fit(
    stores: o.Stores,
    layer: o.Layers,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="JSON file to write the numbers to.")
    ],
    *,
    pipeline: PipelineOptions,
    pool: o.Pool = "mean",
    mask: MaskOptions,
    exclude: o.Exclude = None,
    by: o.By = None,
    dtype: o.DType = None,
    memory: o.Memory = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    answer: AnswerOptions,
) -> None:
    """Measure image layers of one or several stores together, and keep the numbers in a file.

    All layers are one cohort. With several stores they are called STORE/LAYER.
    """
    from ..images.parameters import parse_new_file
    from ..pipeline.pipeline import Pipeline
    from ..store import files

    steps = pipeline.steps()
    require_stores_once(stores)
    is_by_store = by == EACH_STORE and len(stores) > 1
    batches = None if is_by_store else parse_by(by)
    file = parse_new_file(output, "output", "a file", may_replace=overwrite)
    with only_answers_on_stdout():
        images, masks, parameters = _cohort(stores, layer, steps, mask, dtype)
        chosen = parameters.pop("pipeline", None) or Pipeline.sparrow(**parameters)
        fitted = chosen.fit(
            images,
            pool=None if pool == "none" else pool,
            where=masks or None,
            exclude=exclude,
            by=by_store(images) if is_by_store else batches,
            memory=values.memory(memory),
            progress=answer.has_progress,
        )
        files.replace_file(file, fitted.to_json().encode())
        outliers = fitted.outliers()
    document = {
        "file": str(output),
        "fitted": json.loads(fitted.to_json()),
        "outliers": outliers.to_dict("records"),
    }
    words = [str(fitted), ""]
    words += [outliers.to_string(index=False), ""] if len(outliers) else []
    answer.give(document, "\n".join([*words, f"written to {output}"]))


def apply(
    file: Annotated[Path, typer.Argument(metavar="FITTED", help="JSON file that `fit` wrote.")],
    stores: o.Stores,
    layer: o.Layers,
    output: o.Outputs,
    *,
    by: o.ByFitted = None,
    memory: o.Memory = None,
    new: LayerOptions,
    waiting: WaitOptions,
    answer: AnswerOptions,
) -> None:
    """Apply fitted numbers to image layers; only the channels that were fitted are used.

    Every store gets its own new layers; all of them are read and checked before the first is
    written to.
    """
    from ..pipeline.pipeline import FittedPipeline

    require_stores_once(stores)
    fitted = FittedPipeline.from_json(file)
    steps = AskedSteps.of_fitted(fitted)
    how = {**new.parameters(), "memory": values.memory(memory), "wait": waiting.seconds}
    documents: list[dict[str, object]] = []
    batches = parse_by(by, steps.batches)
    with only_answers_on_stdout():
        todo = []
        for store in stores:
            with naming(store):
                sdata = repaired(store, waiting.seconds)
                layers = chosen_layers(sdata, layer)
                outputs = names_for(layers, output)
                asked = sdata, layers, outputs, steps, {**how, "by": batches_here(batches, layers)}
                planned(*asked)  # raises what would be raised before any work
                todo.append((store, asked))
        for store, asked in todo:
            with naming(store, done=stores[: len(documents)]):
                documents.append(make_layers(*asked, answer.has_progress))
    words = "\n".join(map(in_words, documents))
    answer.give({"stores": documents}, words)


def _cohort(
    stores: Sequence[Path],
    asked: Sequence[str],
    steps: AskedSteps,
    mask: MaskOptions,
    dtype: str | None,
) -> tuple["dict[str, xr.DataArray]", "dict[str, Mask | None]", "Parameters"]:
    """The images of all stores, and their masks; and the parameters of the steps, but channels."""
    from ..layers.masks import parse_masks, read_masks
    from ..layers.reading import read_checked

    images: dict[str, xr.DataArray] = {}
    masks: dict[str, Mask | None] = {}
    parameters: Parameters = {}
    for store, prefix in zip(stores, _prefixes(stores), strict=True):
        with naming(store):
            sdata = opened(store, mask.kinds)
            layers = chosen_layers(sdata, asked)
            parameters = steps.parameters(labels_of(sdata, layers[0]))
            store_images = read_checked(sdata, layers, parameters.pop("channels"), dtype=dtype)
            store_masks = read_masks(sdata, parse_masks(mask.masks(layers), layers))
        images |= {prefix + name: image for name, image in store_images.items()}
        masks |= {prefix + name: over for name, over in store_masks.items()}
    return images, masks, parameters


def _prefixes(stores: Sequence[Path]) -> list[str]:
    """What the names of layers begin with: nothing for one store, else the store's name or path."""
    if len(stores) == 1:
        return [""]
    names = [store.absolute().name.removesuffix(".zarr") for store in stores]
    return [f"{name}/" for name in (names if len(set(names)) == len(names) else map(str, stores))]

"""`pxprep run`: layers in, layers out; and what all commands that make layers do."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import options as o
from . import values
from .answers import AnswerOptions, Document, only_answers_on_stdout
from .batches import parse_by
from .bundled_options import AskedSteps, LayerOptions, MaskOptions, PipelineOptions, WaitOptions
from .dry_run import plan_in_words, planned
from .inspect_store import described, layer_in_words
from .messages import say
from .stores import chosen_layers, labels_of, names_for, opened

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ..aliases import Parameters


def run(
    store: o.Store,
    layer: o.Layers,
    output: o.Outputs,
    *,
    pipeline: PipelineOptions,
    fitted: o.FittedFile = None,
    pool: o.Pool = "mean",
    mask: MaskOptions,
    drop_outside: o.DropOutside = False,
    exclude: o.Exclude = None,
    by: o.By = None,
    dtype: o.DType = None,
    memory: o.Memory = None,
    new: LayerOptions,
    report: o.Report = None,
    waiting: WaitOptions,
    dry_run: o.DryRun = False,
    answer: AnswerOptions,
) -> None:
    """Measure image layers together, and write each of them processed.

    The layers are one cohort. A store holds its old layers or the new ones, whatever happens.
    """
    steps = pipeline.steps(fitted)
    if drop_outside and not mask.where:
        values.wrong("--drop-outside", "needs a mask: give --where, too")
    how = {
        **new.parameters(),
        "dtype": dtype,
        "pool": None if pool == "none" else pool,
        "keep_outside": not drop_outside,
        "exclude": exclude,
        "by": parse_by(by, steps.batches),
        "memory": values.memory(memory),
        "report": report,
        "wait": waiting.seconds,
    }
    with only_answers_on_stdout():
        sdata = (
            opened(store, mask.kinds) if dry_run else repaired(store, waiting.seconds, mask.kinds)
        )
        layers = chosen_layers(sdata, layer)
        outputs = names_for(layers, output)
        how["where"] = mask.masks(layers)
        asked = sdata, layers, outputs, steps, how
        document = planned(*asked) if dry_run else make_layers(*asked, answer.has_progress)
    words = plan_in_words(document) if dry_run else in_words(document)
    answer.give(document, words)


def repaired(store: Path, wait: bool | float, kinds: Sequence[str] = ("images",)) -> "SpatialData":
    """A store, repaired and then opened."""
    if os.path.isdir(store):  # noqa: PTH112 - False, too, for a name that cannot be one
        from ..layers.preprocess import repair

        if repair(store, wait=wait) != ((), 0):
            say(f"repaired {str(store)!r}: an interrupted write had left something in it")
    return opened(store, kinds)


def make_layers(
    sdata: "SpatialData",
    layers: Sequence[str],
    outputs: Sequence[str],
    steps: AskedSteps,
    how: "Parameters",
    progress: bool,
) -> dict[str, object]:
    """Make layers; what to answer about them."""
    from ..layers.preprocess import pixel_clustering_preprocess
    from ..layers.records import Records
    from ..store.contents import KEY

    started = time.perf_counter()
    parameters = steps.parameters(labels_of(sdata, layers[0]))
    with _telling_what_is_written(Path(sdata.path), outputs):
        pixel_clustering_preprocess(sdata, layers, outputs, **parameters, **how, progress=progress)
        new = described(sdata, "images", outputs)
    runs = Records.parsed(sdata.attrs[KEY]).runs
    return {
        "store": str(sdata.path),
        "seconds": round(time.perf_counter() - started, 3),
        "layers": new,
        "fitted": runs[new[0]["provenance"]["run"]]["fitted"],
    }


def in_words(document: Document) -> str:
    """The answer about layers that were made."""
    lines = [layer_in_words(layer) for layer in document["layers"]]
    return "\n".join([*lines, f"written to {document['store']} in {document['seconds']:.1f} s"])


@contextmanager
def _telling_what_is_written(store: Path, outputs: Sequence[str]) -> Iterator[None]:
    """An interrupt says which layers are new in the store, unless it says so already."""
    from ..layers.backing import layer_folder
    from ..store.contents import identity

    before = {name: identity(layer_folder(store, name)) for name in outputs}
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not getattr(interrupt, "__notes__", None):
            written = [
                name for name in before if identity(layer_folder(store, name)) != before[name]
            ]
            interrupt.add_note(
                f"{written} are written to the store {str(store)!r}"
                if written
                else f"nothing was written, the layers in the store {str(store)!r} are as they were"
            )
        raise

"""`pxprep run`: layers in, layers out; and what all commands that make layers do."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options as o
from . import values
from .answers import answer, only_answers_on_stdout, shows_progress
from .asked import Steps, Where, name_of, writing
from .batches import parse_by
from .dry_run import plan_in_words, planned
from .inspect_store import described, layer_in_words
from .messages import say
from .stores import chosen_layers, labels_of, names_for, opened

if TYPE_CHECKING:
    from spatialdata import SpatialData


def run(
    store: o.Store,
    layer: o.Layers,
    output: o.Outputs,
    channel: o.Channels = None,
    q: o.Q = None,
    q_sum: o.QSum = None,
    q_post: o.QPost = None,
    sigma: o.Sigma = None,
    no_norm_sum: o.NoNormSum = False,
    cap_max: o.CapMax = None,
    panel: o.PanelFile = None,
    pipeline: o.PipelineFile = None,
    fitted: o.FittedFile = None,
    pool: o.PoolOption = o.Pool.mean,
    where: o.Where = None,
    where_labels: o.WhereLabels = None,
    where_not: o.WhereNot = False,
    drop_outside: o.DropOutside = False,
    exclude: o.Exclude = None,
    by: o.By = None,
    dtype: o.DType = None,
    memory: o.Memory = None,
    chunks: o.Chunks = None,
    scale_factors: o.ScaleFactors = None,
    compressor: o.Compressor = None,
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    report: o.Report = None,
    wait: o.Wait = None,
    no_wait: o.NoWait = False,
    dry_run: o.DryRun = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure image layers together, and write each of them processed.

    The layers are one cohort. A store holds its old layers or the new ones, whatever happens.
    """
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
        fitted=fitted,
    )
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
    inside = Where(where, where_labels, where_not)
    if drop_outside and not where:
        values.wrong("--drop-outside", "needs a mask: give --where, too")
    how |= {"dtype": name_of(dtype), "pool": pool.value_or_none, "exclude": exclude}
    how |= {"keep_outside": not drop_outside, "by": parse_by(by)}
    if report is not None:
        how["report"] = report
    with only_answers_on_stdout():
        read = (
            opened(store, inside.kinds) if dry_run else repaired(store, how["wait"], inside.kinds)
        )
        layers = chosen_layers(read, layer)
        outputs = names_for(layers, output)
        how["where"] = inside.masks(layers)
        asked = read, layers, outputs, steps, how
        document = planned(*asked) if dry_run else made(*asked, quiet)
    words = plan_in_words(document) if dry_run else in_words(document)
    answer(document, words, as_json=as_json, quiet=quiet)


def repaired(store: Path, wait: bool | float, kinds: Sequence[str] = ("images",)) -> "SpatialData":
    """A store, repaired and then opened."""
    if os.path.isdir(store):  # noqa: PTH112 - False, too, for a name that cannot be one
        from ..layers.preprocess import repair

        found = repair(store, wait=wait)
        if found != ((), 0):
            say(f"repaired {str(store)!r}: an interrupted write had left something in it")
    return opened(store, kinds)


def made(
    sdata: "SpatialData",
    layers: Sequence[str],
    outputs: Sequence[str],
    steps: Steps,
    how: Mapping[str, Any],
    quiet: bool,
) -> dict[str, object]:
    """Make layers; what to answer about them."""
    from ..layers.preprocess import pixel_clustering_preprocess
    from ..layers.records import Records
    from ..store.contents import KEY

    started = time.perf_counter()
    parameters = steps.parameters(labels_of(sdata, layers[0]))
    with _telling_what_is_written(Path(sdata.path), outputs):
        pixel_clustering_preprocess(
            sdata, layers, outputs, **parameters, **how, progress=shows_progress(quiet)
        )
        new = described(sdata, "images", outputs)
    runs = Records.parsed(sdata.attrs[KEY]).runs
    return {
        "store": str(sdata.path),
        "seconds": round(time.perf_counter() - started, 3),
        "layers": new,
        "fitted": runs[new[0]["provenance"]["run"]]["fitted"],
    }


def in_words(document: Mapping[str, Any]) -> str:
    """The answer about layers that were made."""
    lines = [layer_in_words(layer) for layer in document["layers"]]
    return "\n".join([*lines, f"written to {document['store']} in {document['seconds']:.1f} s"])


@contextmanager
def _telling_what_is_written(store: Path, outputs: Sequence[str]) -> Iterator[None]:
    """An interrupt says which layers are new in the store, unless it says so already."""
    from ..layers.backing import layer_folder
    from ..store.moving import identity

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

"""Resumed calls: what an interrupted one has finished, and whether it was asked for the same."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..aliases import Json
from ..errors import LayerError, ParameterError, spelled, warn
from ..pipeline.pipeline import FittedPipeline
from .backing import SourceState, is_whole, layer_folder
from .records import Records, Run
from .request import Request


@dataclass(frozen=True)
class Finished:
    """Layers that an interrupted call has published.

    Attributes
    ----------
    run
        What made them; None if there are none.
    whole
        The names of those that are kept.
    damaged
        The names of those that lack chunks, and are made again.
    """

    run: Run | None = None
    whole: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def find_finished(
    store: Path | None, request: Request, sources: Mapping[str, SourceState]
) -> Finished:
    """What is finished of a request; raises LayerError if it cannot be resumed.

    `sources` are what layers and masks are read from, by name.
    """
    if store is None:
        raise ParameterError(f"{spelled('resume')} needs an sdata that is backed by a store")
    _check_sources_stay(store, request.pairs, sources)
    records = Records.on_disk(store)
    runs = {name: kept for name in request.pairs if (kept := records.run_of(name)) is not None}
    if not runs:
        return Finished()
    _check_same_run(runs, request, sources)
    damaged = tuple(name for name in runs if not is_whole(layer_folder(store, name)))
    _warn_of_damaged(damaged, request.pairs)
    whole = tuple(name for name in runs if name not in damaged)
    kept = next(iter(runs.values()))
    run = Run(request.parameters, request.pairs, kept["sources"], kept["fitted"])
    return Finished(run, whole, damaged)


def _check_sources_stay(
    store: Path, pairs: Mapping[str, str], sources: Mapping[str, SourceState]
) -> None:
    """Raise LayerError if a new layer takes the place of what another one is made from."""
    folders = {layer_folder(store, new): new for new in pairs}
    for new, name in pairs.items():
        replaced = {folders[folder] for folder in sources[name].folders & folders.keys()} - {new}
        if replaced:
            raise LayerError(
                f"{spelled('output_layer')} {sorted(replaced)} would take the place of what "
                f"{new!r} is made from, perhaps before it is made: leave out {spelled('resume')}, "
                "which publishes layers one after the other, or choose other names"
            )


def _check_same_run(
    runs: Mapping[str, Json], request: Request, sources: Mapping[str, SourceState]
) -> None:
    """Raise LayerError unless all layers are of one run, and it is the one that is asked for."""
    layer_of_each = {run["id"]: name for name, run in runs.items()}
    name = next(iter(layer_of_each.values()))
    difference = (
        "the finished layers are of several runs"
        if len(layer_of_each) > 1
        else _find_difference(runs[name], runs, request, sources)
    )
    if difference:
        raise LayerError(
            f"{spelled('output_layer')} {name!r} is of another run ({difference}): resume does not "
            "mix runs; remove it, choose other names, or replace all with overwrite and no resume"
        )


def _find_difference(
    run: Json, finished: Container[str], request: Request, sources: Mapping[str, SourceState]
) -> str:
    """What tells a request from the run that made the finished layers; empty if nothing does."""
    before, now = run["parameters"], request.parameters
    if before != now:
        other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        return f"with other {', '.join(other)}"
    pipeline = request.pipeline
    if isinstance(pipeline, FittedPipeline) and json.loads(pipeline.to_json()) != run["fitted"]:
        return "with other numbers"
    # What was processed in place is no longer what it was made from.
    changed = [
        name
        for name, source in sources.items()
        if not (name in finished and request.pairs[name] == name)
        and source.fingerprint != run["sources"].get(name)
    ]
    return f"its source {changed} was another" if changed else ""


def _warn_of_damaged(damaged: tuple[str, ...], pairs: Mapping[str, str]) -> None:
    """Warn of finished layers that lack chunks; raise LayerError where their sources are gone."""
    lost = [name for name in damaged if pairs[name] == name]
    if lost:
        raise LayerError(
            f"{spelled('output_layer')} {lost} was finished, but chunks of it are missing on disk, "
            "and it took the place of its source: it cannot be made again; bring it back from a "
            "copy"
        )
    if damaged:
        warn(
            f"{spelled('resume')}: {list(damaged)} had been finished, but chunks of them are "
            "missing on disk: they are made again"
        )

"""Records of what made layers, in the attrs of a SpatialData object and its store."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..aliases import Json
from ..errors import ParameterError, StoreError
from ..pipeline.pipeline import FittedPipeline
from ..pipeline.provenance import IMPORT
from ..store.contents import KEY, read_attrs, token_in
from ..store.places import broken_name_rule
from .backing import layer_folder
from .layouts import scales_of

FORMAT = 1
PACKAGES = ("pxprep", "spatialdata", "zarr", "numpy", "dask")
# The keys of a layer's record that are also in its own attrs, as its mark.
MARK = ("run", "source", "token")


@dataclass(frozen=True)
class Records:
    """What is kept under our key: runs, and for each layer which of them made it."""

    runs: Mapping[str, Json]
    layers: Mapping[str, Json]

    @classmethod
    def parsed(cls, kept: object) -> Records:
        """What attrs hold under our key, or a StoreError if that is not of this format."""
        if kept is None:
            return cls({}, {})
        if not isinstance(kept, Mapping) or kept.get("format") != FORMAT:
            raise StoreError(
                f"attrs[{KEY!r}] must be of format {FORMAT}, got {kept!r:.100}: a newer pxprep "
                "wrote it, or another program; nothing was changed"
            )
        try:
            runs, layers = (
                _mapping(kept.get(key), "runs and layers") for key in ("runs", "layers")
            )
            for run in runs.values():
                _check_run(run)
            for name, entry in layers.items():
                _check_entry(name, entry, runs)
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"attrs[{KEY!r}] are not what pxprep writes: {error}; nothing was changed. "
                "Without that key the layers stay, and what made them is forgotten"
            ) from error
        return cls(runs, layers)

    @classmethod
    def on_disk(cls, store: Path) -> Records:
        """The records of a store, but only of layers that are there."""
        records = cls.parsed(read_attrs(store).get(KEY))
        on_disk = {
            name: entry
            for name, entry in records.layers.items()
            if read_token(store, name) == entry["token"]
        }
        return cls(records.runs, on_disk)

    def run_of(self, layer: str) -> Json | None:
        """The run that made a layer, if it is known."""
        entry = self.layers.get(layer)
        return None if entry is None else {**self.runs[entry["run"]], "id": entry["run"]}


def merge(kept: object, new_record: object, placed: Sequence[str]) -> Json:
    """The records after the layers `placed` were added; runs without layers are removed."""
    records, new = Records.parsed(kept), Records.parsed(new_record)
    unknown = sorted(set(placed) - set(new.layers))
    if unknown:
        raise StoreError(f"nothing says what made the new layers {unknown}; nothing was changed")
    layers = {**records.layers, **{name: new.layers[name] for name in placed}}
    runs = {**new.runs, **records.runs}
    used = {entry["run"] for entry in layers.values()}
    return {
        "format": FORMAT,
        "runs": {name: record for name, record in runs.items() if name in used},
        "layers": layers,
    }


@dataclass(frozen=True)
class Run:
    """One call that makes layers.

    Attributes
    ----------
    parameters
        What was asked for.
    pairs
        By name of each new layer, the name of the layer it is made from.
    sources
        The fingerprints of those, and of masks, by name.
    fitted
        What was measured, as JSON or in words.
    """

    parameters: Json
    pairs: Mapping[str, str]
    sources: Mapping[str, str]
    fitted: object

    @cached_property
    def run_id(self) -> str:
        """A hash, the same for the same parameters, sources and numbers."""
        whole = json.dumps([self.parameters, self.sources, self.fitted], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def entries(self, elements: Mapping[str, object]) -> dict[str, Json]:
        """What to keep of new layers, by name."""
        return {
            name: {
                "run": self.run_id,
                "source": self.pairs[name],
                "token": uuid.uuid4().hex,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "image": summarize(element),
            }
            for name, element in elements.items()
        }

    def record(self, entries: Mapping[str, Json]) -> Json:
        """What to keep of the run, and of its new layers, which have these entries."""
        run = {
            "parameters": self.parameters,
            "sources": dict(self.sources),
            "versions": {package: version(package) for package in PACKAGES},
            "fitted": self.fitted,
        }
        return {"format": FORMAT, "runs": {self.run_id: run}, "layers": dict(entries)}


def fitted_in_json(fitted: FittedPipeline) -> object:
    """What to keep of a fitted pipeline; where JSON cannot hold it, the reason."""
    try:
        return json.loads(fitted.to_json())
    except ParameterError as error:
        return f"{error} ({fitted.pipeline!r})"


def _check_run(kept: object) -> None:
    """Raise ValueError unless a run is as `Run.record` keeps it, as far as anything here reads."""
    run = _mapping(kept, "a run that is a mapping")
    parameters, sources, versions = (
        _mapping(run.get(key), f"a run with a mapping of {key}")
        for key in ("parameters", "sources", "versions")
    )
    texts = [*sources.values(), *versions.values(), versions.get("pxprep")]
    _require(all(isinstance(text, str) for text in texts), "sources and versions that are text")
    _require(isinstance(run.get("fitted"), Mapping | str), "a run with what was fitted")
    if IMPORT not in parameters:
        pipeline = parameters.get("pipeline")
        steps = pipeline.get("steps") if isinstance(pipeline, Mapping) else None
        named = isinstance(steps, list) and all(
            isinstance(step, Mapping) and isinstance(step.get("as"), str) for step in steps
        )
        _require(named or isinstance(pipeline, str), "a run with the steps of a pipeline")


def _check_entry(name: object, kept: object, runs: Mapping[str, object]) -> None:
    """Raise ValueError unless what is kept of a layer is as `Run.record` has it."""
    rule = broken_name_rule(name)
    _require(not rule, f"layers whose name must {rule}, got {name!r:.300}")
    what = f"of layer {name!r} its run, source, token, time and image"
    entry = _mapping(kept, what)
    _mapping(entry.get("image"), what)
    texts = [entry.get(key) for key in ("run", "source", "token", "time")]
    _require(all(isinstance(text, str) for text in texts) and entry["run"] in runs, what)
    datetime.fromisoformat(entry["time"])


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"they must hold {what}")
    return value


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"they must hold {what}")


def read_token(store: Path, layer: str) -> str | None:
    """The token in the mark that pxprep gave a layer in a store; None if it has no mark."""
    folder = layer_folder(store, layer)
    return token_in(folder) if folder.is_dir() else None


def summarize(element: object) -> Json:
    """What tells a layer from another one that was put in its place."""
    finest = scales_of(element)[0]
    labels = finest.coords["c"].values.tolist() if "c" in finest.coords else None
    return {"shape": list(finest.shape), "dtype": str(finest.dtype), "channels": labels}

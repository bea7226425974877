"""Where the wrapper's new layers go: in memory, or to a store, together or in groups."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ..aliases import Json
from ..engine.progress import Progress
from ..engine.threads import n_cores
from ..errors import LayerError, ParameterError, StoreError, spelled, warn
from ..pipeline.pipeline import FittedPipeline
from ..store import staging, transactions
from ..store.contents import KEY, RootContents, read_attrs
from ..store.places import KINDS, Place, broken_name_rule, elements_on_disk
from . import new_layers
from .backing import Snapshot, SourceState, check_dependents, is_whole, layer_folder
from .records import Records, Run, merged
from .spatial_data import put, store_path

if TYPE_CHECKING:
    from spatialdata import SpatialData

# Parameters that may differ between calls that do the same to a layer.
_NOT_STEPS = ("layers",)
# With `resume`, layers are collected for PATIENCE times as long as the last publishing took, and
# MOST_SECONDS at most; then published together: publishing slows down as a store grows.
PATIENCE, MOST_SECONDS = 4, 60
# Layers whose chunks are written in one go: enough for all threads to have work until the end.
MOST_AT_ONCE = 64
# The keys of a layer's record that are also in its own attrs, as its mark.
MARK = ("run", "source", "token")


def repair_store(store: Path, wait: float | None) -> transactions.Repaired:
    """Complete or remove what interrupted writes have left in a store."""
    return transactions.repair(store, RootContents(store, merged), wait)


def check_outputs(sdata: SpatialData, outputs: Iterable[str], what: str = "output_layer") -> None:
    """Raise LayerError unless image layers can have these names, parameter `what`."""
    elements = {name: kind for kind, name, _ in sdata.gen_elements()}
    folded = {name.casefold(): name for name in elements}
    for name in outputs:
        why = broken_name_rule(name)
        if why:
            raise LayerError(f"{spelled(what)} must {why}, got {name!r}")
        same_folded = folded.get(name.casefold(), name)
        if same_folded != name:
            raise LayerError(
                f"{spelled(what)} {name!r} differs only in case from the element {same_folded!r}"
            )
        kind = elements.get(name)
        if kind not in (None, "images"):
            raise LayerError(
                f"{spelled(what)} {name!r} is the name of an element in {kind}; it must be "
                "new or the name of an image layer"
            )


def _check_complete(store: Path) -> None:
    """Raise StoreError if layers in a store are not what they will be once it is repaired."""
    if names := list(transactions.unfinished(store).complete):
        repair = spelled(f"pxprep.repair({str(store)!r})")
        raise StoreError(
            f"{str(store)!r}: an interrupted write has to be completed, of the layers {names}, "
            f"before a plan can be told: {repair} does that"
        )


def _taken(store: Path, names: Iterable[str]) -> dict[str, str]:
    """Names that a new image cannot have in a store, and what is in the way on disk.

    Whatever an object in memory knows of it: with two elements of one name nobody can open the
    store.
    """
    there = elements_on_disk(store)
    taken = {}
    for name in names:
        own = Place("images", name)
        for place in there.get(own.folded, ()):
            if place != own:
                taken[name] = f"{KINDS[place.kind]} called {place.name!r}"
    return taken


@dataclass(frozen=True)
class Destination:
    """Layers that are to be made, and where.

    Attributes
    ----------
    sdata
        The object that gets them.
    store
        The folder of its store; None in memory.
    pairs
        By name of the new layer, the name of the layer it is made from.
    wait
        For how many seconds another process may be writing; None: as long as it takes.
    in_groups
        Whether layers are published group by group (`resume`), not all together at the end.
    done
        The layers that an earlier, interrupted call has made.
    damaged
        The layers in `done` that are not whole any more, and are made again.
    reads
        By name of the new layer, the folders that it is made from.
    before
        How these folders, and those of the new layers' names, were before anything was computed.
    """

    sdata: SpatialData
    store: Path | None
    pairs: Mapping[str, str]
    wait: float | None = None
    in_groups: bool = False
    done: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    reads: Mapping[str, frozenset[Path]] = field(default_factory=dict)
    before: Snapshot = field(default_factory=lambda: Snapshot({}))

    @classmethod
    def of(
        cls,
        sdata: SpatialData,
        pairs: Mapping[str, str],
        wait: float | None,
        changes: bool = True,
    ) -> Destination:
        """A destination that can be written to; its store is repaired first.

        Without `changes` it is not repaired; StoreError if layers have to be completed.
        """
        store = store_path(sdata)
        if store is not None:
            staging.check_writable(store)
            new_layers.check_movable(store, pairs)
            if not changes:
                _check_complete(store)
                return cls(sdata, store, pairs, wait)
            completed = set(repair_store(store, wait).completed)
            stale = sorted(completed & set(pairs.values()))
            if stale:
                raise StoreError(
                    f"an interrupted write of {stale} was completed just now, after sdata had "
                    "been read: read the store again; nothing else was changed"
                )
        return cls(sdata, store, pairs, wait)

    @property
    def todo(self) -> list[str]:
        """Names of the layers that are still to be made."""
        done = set(self.done)
        return [name for name in self.pairs if name not in done]

    def exists(self, name: str) -> bool:
        """Whether an image layer of this name is on disk."""
        return self.store is not None and layer_folder(self.store, name).exists()

    def check_new(self, may_replace: bool, what: str = "output_layer") -> None:
        """Raise LayerError if something exists that may not be replaced."""
        taken = {} if self.store is None else _taken(self.store, self.todo)
        for name, other in taken.items():
            raise LayerError(
                f"{spelled(what)} {name!r} is taken: the store has {other}, and no two elements "
                "may have names that are the same, or differ only in case; choose another"
            )
        again = set(self.damaged)
        for name in () if may_replace else self.todo:
            if name not in again and (name in self.sdata.images or self.exists(name)):
                raise LayerError(
                    f"{spelled(what)} {name!r} exists already; {spelled('overwrite=True')} "
                    "replaces it"
                )

    def checked(self, sources: Mapping[str, SourceState], parameters: Json) -> Destination:
        """The destination, with the state of the disk; raises LayerError if layers are in the way.

        `sources` by name of the layer.
        """
        if self.store is None:
            Records.parsed(self.sdata.attrs.get(KEY))
            return self
        RootContents(self.store, merged).check()
        if not self.in_groups:
            self._check_not_applied(parameters)
        check_dependents(self.sdata, self.store, self.todo)
        reads = {name: sources[self.pairs[name]].folders for name in self.todo}
        folders = {layer_folder(self.store, name) for name in self.todo}.union(*reads.values())
        return replace(self, reads=reads, before=Snapshot.of(folders))

    def _check_not_applied(self, parameters: Json) -> None:
        """Raise LayerError where these very steps have replaced their input already."""
        records = Records.on_disk(self.store) if self.store is not None else Records({}, {})
        for name, source in self.pairs.items():
            entry, run = records.layers.get(name), records.run_of(name)
            if name != source or entry is None or run is None or entry["source"] != name:
                continue
            if _steps(run["parameters"]) == _steps(parameters):
                raise LayerError(
                    f"{spelled('output_layer')} {name!r} already holds the result of these steps, "
                    "made from itself: they are not applied twice; choose another output_layer"
                )

    def resuming(
        self,
        sources: Mapping[str, SourceState],
        parameters: Json,
        given: FittedPipeline | None,
    ) -> tuple[Destination, Run | None]:
        """The destination without what is done, and the run that made that."""
        if self.store is None:
            raise ParameterError(f"{spelled('resume')} needs an sdata that is backed by a store")
        records = Records.on_disk(self.store)
        runs = {name: run for name in self.pairs if (run := records.run_of(name)) is not None}
        if not runs:
            return replace(self, in_groups=True), None
        different = {run["id"]: (name, run) for name, run in runs.items()}
        for name, run in different.values():
            why = self._difference(run, runs, sources, parameters, given)
            if len(different) > 1:
                why = "the finished layers are of several runs"
            if why:
                raise LayerError(
                    f"{spelled('output_layer')} {name!r} is of another run ({why}): resume does "
                    "not mix runs; remove it, choose other names, or replace all with overwrite "
                    "and no resume"
                )
        damaged = tuple(name for name in runs if not is_whole(layer_folder(self.store, name)))
        self._tell_of(damaged)
        done = tuple(name for name in runs if name not in set(damaged))
        first = next(iter(runs.values()))
        begun = Run(parameters, first["sources"], first["fitted"])
        return replace(self, in_groups=True, done=done, damaged=damaged), begun

    def _tell_of(self, damaged: Sequence[str]) -> None:
        """Warn of finished layers that are made again; raise where their sources are gone."""
        lost = [name for name in damaged if self.pairs[name] == name]
        if lost:
            raise LayerError(
                f"{spelled('output_layer')} {lost} was finished, but chunks of it are missing on "
                "disk, and it took the place of its source: it cannot be made again; bring it "
                "back from a copy"
            )
        if damaged:
            warn(
                f"{spelled('resume')}: {list(damaged)} had been finished, but chunks of them "
                "are missing on disk: they are made again"
            )

    def _difference(
        self,
        run: Json,
        done: Iterable[str],
        sources: Mapping[str, SourceState],
        parameters: Json,
        given: FittedPipeline | None,
    ) -> str:
        """What tells this run from an earlier one; nothing if they are the same."""
        if run["parameters"] != parameters:
            names = {*run["parameters"], *parameters}
            other = sorted(n for n in names if run["parameters"].get(n) != parameters.get(n))
            return f"with other {', '.join(other)}"
        if given is not None and json.loads(given.to_json()) != run["fitted"]:
            return "with other numbers"
        # What was processed in place is no longer what it was made from.
        replaced = {name for name in done if self.pairs[name] == name}
        changed = [
            name
            for name, source in sources.items()
            if name not in replaced and source.fingerprint != run["sources"].get(name)
        ]
        return f"its source {changed} was another" if changed else ""

    def put(
        self, elements: Mapping[str, object], run: Run, bar: Progress, codec: Mapping[str, object]
    ) -> None:
        """Add the elements to the object, through its store if it has one."""
        if self.store is None:
            entries = {name: run.entry(self.pairs[name], one) for name, one in elements.items()}
            kept = merged(self.sdata.attrs.get(KEY), run.record(entries), list(elements))
            for name, element in elements.items():
                put(self.sdata, name, element)
            self.sdata.attrs[KEY] = kept
            return
        if self.in_groups:
            self.before.check()  # each gets numbers that were measured on all of them
        waiting, done, seconds = deque(elements.items()), list(self.done), 0.0
        stage_some = partial(new_layers.stage, self.store, bar=bar, codec=codec)
        while waiting:
            group: dict[str, object] = {} if self.in_groups else dict(elements)
            with new_layers.telling_outcome(group, self.store, done):
                seconds = self._write(self.store, waiting, group, run, stage_some, seconds)
            for name, element in group.items():
                put(self.sdata, name, new_layers.on_disk(element, self.store, name))
            self.sdata.attrs[KEY] = read_attrs(self.store)[KEY]
            done += group

    def _write(
        self,
        store: Path,
        waiting: deque[tuple[str, object]],
        group: dict[str, object],
        run: Run,
        stage_some: Callable[..., None],
        seconds: float,
    ) -> float:
        """Write and publish waiting layers in one transaction; they are added to `group`.

        All layers; or in groups the first, and those that are begun within `seconds` of the start.
        Returns how many seconds the next group may take.
        """
        entries: dict[str, Json] = {}
        started = monotonic()
        contents = RootContents(store, merged)
        with (
            new_layers.WRITING,
            transactions.transaction(store, contents, self.wait) as transaction,
        ):
            while waiting and not (self.in_groups and entries and monotonic() > started + seconds):
                some = dict(waiting.popleft() for _ in range(self._n_at_once(waiting, entries)))
                group |= some
                new = {name: run.entry(self.pairs[name], one) for name, one in some.items()}
                marks = {name: {key: entry[key] for key in MARK} for name, entry in new.items()}
                stage_some(transaction.stage, some, marks)
                entries |= new
            staged = monotonic()
            places = [Place("images", name) for name in entries]
            guard = partial(self._check_still, store, list(group))
            transaction.publish(places, run.record(entries), guard)
        return min(PATIENCE * (monotonic() - staged), MOST_SECONDS)

    def _n_at_once(self, waiting: Sized, begun: Sized) -> int:
        """How many layers are written at once: all that wait, up to `MOST_AT_ONCE`.

        In groups: a single layer first, then one for each core.
        """
        most = MOST_AT_ONCE if not self.in_groups else n_cores() if begun else 1
        return min(len(waiting), most)

    def _check_still(self, store: Path, names: Sequence[str]) -> None:
        """Raise StoreError if somebody has changed meanwhile what the new layers rely on."""
        self._relied_on(store, names).check()
        for name, other in _taken(store, names).items():
            raise StoreError(
                f"another program wrote {other} meanwhile, so that {name!r} is taken: nothing was "
                "written; choose another name"
            )

    def _relied_on(self, store: Path, names: Iterable[str]) -> Snapshot:
        """How these layers and their sources were; earlier groups have replaced others since."""
        own = {layer_folder(store, name) for name in names}
        return self.before.only(own.union(*(self.reads[name] for name in names)))

    def refresh(self) -> None:
        """Add the layers that are done to the object, where it was read before they were."""
        missing = [name for name in self.done if name not in self.sdata.images]
        if missing and self.store is not None:
            from spatialdata import read_zarr

            there = read_zarr(self.store, selection=("images",))
            for name in missing:
                put(self.sdata, name, there.images[name])


def _steps(parameters: Json) -> Json:
    return {key: value for key, value in parameters.items() if key not in _NOT_STEPS}

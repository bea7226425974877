"""Finished images become layers: in memory, or in a store, all together or in groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING

from ..aliases import Json
from ..engine.progress import Progress
from ..engine.threads import n_cores
from ..errors import StoreError
from ..store import transactions
from ..store.contents import KEY, RootContents, read_attrs
from ..store.files import WRITE_ERRORS
from ..store.places import Place
from . import new_layers
from .backing import Snapshot
from .destination import find_clashes
from .records import Run, merge
from .spatial_data import put

if TYPE_CHECKING:
    from spatialdata import SpatialData

# With `resume`, layers are collected for PATIENCE times as long as the last publishing took, and
# MOST_SECONDS at most; then published together: publishing slows down as a store grows.
PATIENCE, MOST_SECONDS = 4, 60
# Layers whose chunks are written in one go: enough for all threads to have work until the end.
MOST_AT_ONCE = 64
# Settings of Dask and zarr that a write needs hold for all threads: one thread writes at a time.
_WRITING = RLock()

Elements = dict[str, object]


def put_in_memory(sdata: SpatialData, elements: Elements, run: Run) -> None:
    """Make elements layers of an object without a store."""
    record = run.record(run.entries(elements))
    records = merge(sdata.attrs.get(KEY), record, list(elements))
    for name, element in elements.items():
        put(sdata, name, element)
    sdata.attrs[KEY] = records


@dataclass(frozen=True)
class Writer:
    """Writes new layers of one run to a store, and puts them into its object.

    Attributes
    ----------
    sdata
        The object that gets them.
    store
        The folder of its store.
    run
        What makes them, to be kept with them.
    snapshot
        What they rely on, as it was before anything was computed.
    wait
        For how many seconds another process may be writing; None: as long as it takes.
    bar
        Shows the progress.
    compressor
        Codec and level of chunks; None for those of SpatialData.
    """

    sdata: SpatialData
    store: Path
    run: Run
    snapshot: Snapshot
    wait: float | None
    bar: Progress
    compressor: Mapping[str, int] | None = None

    def write(self, elements: Elements) -> None:
        """Write layers in one transaction: all of them appear in the store, or none."""
        self._write_group(_all_of(deque(elements.items())), dict(elements))

    def write_in_groups(self, elements: Elements, finished: Sequence[str]) -> None:
        """Write layers in several transactions; `finished` ones were published before."""
        self.snapshot.check(elements)  # each gets numbers that were measured on all of them
        waiting, published, seconds = deque(elements.items()), list(finished), 0.0
        while waiting:
            group: Elements = {}
            took = self._write_group(_begun_within(seconds, waiting), group, published)
            published += group
            seconds = min(PATIENCE * took, MOST_SECONDS)

    def _write_group(
        self, parts: Iterable[Elements], group: Elements, published: Sequence[str] = ()
    ) -> float:
        """Write and publish layers, and put them into the object, as they are on disk now.

        They are added to `group` as they are begun. Returns the seconds that publishing took.
        """
        with _telling_outcome(group, self.store, published):
            seconds = self._publish(parts, group)
        for name, element in group.items():
            put(self.sdata, name, new_layers.on_disk(element, self.store, name))
        self.sdata.attrs[KEY] = read_attrs(self.store)[KEY]
        return seconds

    def _publish(self, parts: Iterable[Elements], group: Elements) -> float:
        """Stage layers, part by part, and publish them together."""
        entries: dict[str, Json] = {}
        contents = RootContents(self.store, merge)
        with (
            _WRITING,
            transactions.transaction(self.store, contents, self.wait) as transaction,
        ):
            for part in parts:
                group.update(part)
                entries |= self.run.entries(part)
                new_layers.stage(
                    self.store, transaction.stage, part, entries, self.bar, self.compressor
                )
            staged = monotonic()
            places = [Place("images", name) for name in entries]
            guard = partial(self._check_unchanged, list(entries))
            transaction.publish(places, self.run.record(entries), guard)
        return monotonic() - staged

    def _check_unchanged(self, names: Sequence[str]) -> None:
        """Raise StoreError if somebody has changed meanwhile what the new layers rely on."""
        self.snapshot.check(names)
        for name, other in find_clashes(self.store, names).items():
            raise StoreError(
                f"another program wrote {other} meanwhile, so that {name!r} is taken: nothing was "
                "written; choose another name"
            )


def _all_of(waiting: deque[tuple[str, object]]) -> Iterator[Elements]:
    """All layers that wait, so many at a time."""
    while waiting:
        yield _take(waiting, MOST_AT_ONCE)


def _begun_within(seconds: float, waiting: deque[tuple[str, object]]) -> Iterator[Elements]:
    """The first layer that waits; then one for each core at a time, until the time is over."""
    end = monotonic() + seconds
    yield _take(waiting, 1)
    while waiting and monotonic() <= end:
        yield _take(waiting, n_cores())


def _take(waiting: deque[tuple[str, object]], most: int) -> Elements:
    return dict(waiting.popleft() for _ in range(min(most, len(waiting))))


@contextmanager
def _telling_outcome(names: Iterable[str], store: Path, published: Sequence[str]) -> Iterator[None]:
    """A context whose errors say what became of the layers and the store.

    `names` are under way, and may grow meanwhile; `published` were written before.
    """
    try:
        yield
    except BaseException as error:
        kept = f"; {list(published)} had been written before and are kept" if published else ""
        left = f"{list(names)} not written, the layers in the store {str(store)!r} are as they were"
        if isinstance(error, OSError) and error.errno in WRITE_ERRORS:
            raise StoreError(f"{error}: {left}{kept}") from error
        if isinstance(error, StoreError):
            if kept:
                error.add_note(kept.removeprefix("; "))
        elif isinstance(error, OSError) or not getattr(error, "__notes__", None):
            error.add_note(f"{left}{kept}")
        raise

"""Where new layers are to go: the names, the store and what is in the way, checked before work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..aliases import Json
from ..errors import LayerError, StoreError, spelled
from ..store import files, staging, transactions
from ..store.contents import KEY, RootContents
from ..store.places import KINDS, Place, broken_name_rule, elements_on_disk
from .backing import arrays_behind, layer_folder
from .layouts import scales_of
from .records import Records, merge

if TYPE_CHECKING:
    from spatialdata import SpatialData


def check_names(sdata: SpatialData, names: Iterable[str], parameter: str = "output_layer") -> None:
    """Raise LayerError unless image layers can have these names."""
    kinds = {name: kind for kind, name, _ in sdata.gen_elements()}
    by_folded = {name.casefold(): name for name in kinds}
    for name in names:
        rule = broken_name_rule(name)
        if rule:
            raise LayerError(f"{spelled(parameter)} must {rule}, got {name!r}")
        other = by_folded.get(name.casefold(), name)
        if other != name:
            raise LayerError(
                f"{spelled(parameter)} {name!r} differs only in case from the element {other!r}"
            )
        if kinds.get(name, "images") != "images":
            raise LayerError(
                f"{spelled(parameter)} {name!r} is the name of an element in {kinds[name]}; it "
                "must be new or the name of an image layer"
            )


def prepare_store(
    store: Path, pairs: Mapping[str, str], wait: float | None, *, repairs: bool = True
) -> None:
    """Repair a store; raises unless new layers can be written to it then.

    Parameters
    ----------
    store
        The folder of the store.
    pairs
        By name of each new layer, the name of the layer it is made from.
    wait
        For how many seconds another process may be writing; None: as long as it takes.
    repairs
        False: nothing is changed, and a store of which layers have to be completed is refused.
    """
    staging.check_writable(store)
    _check_movable(store, pairs)
    if not repairs:
        _check_complete(store)
        return
    completed = repair_store(store, wait).completed
    stale = sorted(set(completed) & set(pairs.values()))
    if stale:
        raise StoreError(
            f"an interrupted write of {stale} was completed just now, after sdata had been read: "
            "read the store again; nothing else was changed"
        )


def repair_store(store: Path, wait: float | None) -> transactions.Repaired:
    """Complete or remove what interrupted writes have left in a store."""
    return transactions.repair(store, RootContents(store, merge), wait)


def _check_complete(store: Path) -> None:
    """Raise StoreError if layers in a store are not what they will be once it is repaired."""
    if names := list(transactions.unfinished(store).complete):
        repair = spelled(f"pxprep.repair({str(store)!r})")
        raise StoreError(
            f"{str(store)!r}: an interrupted write has to be completed, of the layers {names}, "
            f"before a plan can be told: {repair} does that"
        )


def _check_movable(store: Path, names: Iterable[str]) -> None:
    """Raise unless layers of these names can be moved to their places in the store."""
    images = store / "images"
    if files.is_folder(images) and images.stat().st_dev != store.stat().st_dev:
        raise StoreError(
            f"{str(images)!r} must be on the same file system as the store, so that a layer can "
            "take its place in one step"
        )
    for name in names:
        folder = layer_folder(store, name)
        if folder.is_symlink():
            raise LayerError(
                f"{spelled('output_layer')} {name!r} is a symbolic link to "
                f"{str(folder.resolve())!r}: remove the link, or choose another name"
            )
        staging.check_permission(folder)


def check_free(
    sdata: SpatialData,
    store: Path | None,
    names: Iterable[str],
    replaceable: Collection[str],
    parameter: str = "output_layer",
) -> None:
    """Raise LayerError if a new layer's name is taken, unless by a layer that is `replaceable`."""
    for name, other in find_clashes(store, names).items():
        raise LayerError(
            f"{spelled(parameter)} {name!r} is taken: the store has {other}, and no two elements "
            "may have names that are the same, or differ only in case; choose another"
        )
    for name in names:
        if name not in replaceable and (name in sdata.images or is_on_disk(store, name)):
            raise LayerError(
                f"{spelled(parameter)} {name!r} exists already; {spelled('overwrite=True')} "
                "replaces it"
            )


def is_on_disk(store: Path | None, name: str) -> bool:
    """Whether a store has an image layer of this name."""
    return store is not None and layer_folder(store, name).exists()


def find_clashes(store: Path | None, names: Iterable[str]) -> dict[str, str]:
    """Names that a new image cannot have in a store, and what is in the way on disk.

    Whatever an object in memory knows of it: with two elements of one name nobody can open the
    store.
    """
    on_disk = {} if store is None else elements_on_disk(store)
    clashes = {}
    for name in names:
        image = Place("images", name)
        for place in on_disk.get(image.folded, ()):
            if place != image:
                clashes[name] = f"{KINDS[place.kind]} called {place.name!r}"
    return clashes


def check_records(sdata: SpatialData, store: Path | None) -> None:
    """Raise StoreError unless what made new layers can be kept beside what is kept already."""
    if store is None:
        Records.parsed(sdata.attrs.get(KEY))
    else:
        RootContents(store, merge).check()


def check_not_applied(store: Path | None, pairs: Mapping[str, str], parameters: Json) -> None:
    """Raise LayerError where these very steps have replaced their input already."""
    if store is None:
        return
    records = Records.on_disk(store)
    for name, source in pairs.items():
        run = records.run_of(name)
        if name != source or run is None or records.layers[name]["source"] != name:
            continue
        if _without_names(run["parameters"]) == _without_names(parameters):
            raise LayerError(
                f"{spelled('output_layer')} {name!r} already holds the result of these steps, "
                "made from itself: they are not applied twice; choose another "
                f"{spelled('output_layer')}"
            )


def _without_names(parameters: Json) -> Json:
    """What is done to each layer, whatever the layers are called."""
    return {key: value for key, value in parameters.items() if key != "layers"}


def check_dependents(sdata: SpatialData, store: Path | None, names: Collection[str]) -> None:
    """Raise LayerError if another element of `sdata` is computed from a layer to be replaced.

    It would silently read the new layer once that is in its place.
    """
    folders = {} if store is None else {layer_folder(store, name): name for name in names}
    replaced = {folder: name for folder, name in folders.items() if folder.exists()}
    if not replaced:
        return
    dependents: dict[str, set[str]] = {}
    for kind, other, element in sdata.gen_elements():
        if kind not in ("images", "labels") or other in names:
            continue
        for array in arrays_behind([scale.data for scale in scales_of(element)]):
            for folder in replaced.keys() & {array, *array.parents}:
                dependents.setdefault(replaced[folder], set()).add(other)
    for name, others in dependents.items():
        raise LayerError(
            f"{spelled('output_layer')} {name!r} cannot be replaced: {sorted(others)} of sdata are "
            "computed from it; write them to the store or remove them first"
        )

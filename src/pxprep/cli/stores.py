"""Stores as they are on disk, opened for a command; and the names of their layers."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LayerError, ParameterError, PxprepError, StoreError, did_you_mean

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ..aliases import Label
    from ..layers.layer_provenance import Origins

# How SpatialData warns of an element that it cannot read.
_DAMAGED = re.compile(r"(images|labels|points|shapes|tables)(/[^:]*)?: ")
RASTERS = ("images", "labels")
LAYER = "{layer}"


def opened(path: Path, kinds: Sequence[str] = ("images",)) -> "SpatialData":
    """What a store has of some kinds of elements, all of which can be read.

    Elements of other kinds are not looked at: they may be damaged.
    """
    sdata, damaged = read(path, kinds)
    if damaged:
        raise StoreError(f"{str(path)!r} is damaged: {'; '.join(damaged)}")
    return sdata


def read(path: Path, kinds: Sequence[str]) -> tuple["SpatialData", list[str]]:
    """A store, of some kinds of elements, and what SpatialData says of those that are damaged."""
    from ..images.parameters import parse_path
    from ..store.contents import check_store

    parse_path(path, "STORE", "a SpatialData store")
    if not os.path.exists(path):  # noqa: PTH110 - False, too, for a name that cannot be one
        raise StoreError(f"there is no store {str(path)!r}")
    check_store(path)
    import spatialdata

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        try:
            sdata = spatialdata.read_zarr(path, selection=kinds, on_bad_files="warn")
        except Exception as error:
            raise StoreError(
                f"{str(path)!r} cannot be read: {type(error).__name__}: {error}"
            ) from error
    messages = [str(warning.message) for warning in record]
    return sdata, [message for message in messages if _DAMAGED.match(message)]


@contextmanager
def naming(path: Path, done: Sequence[Path] = ()) -> Iterator[None]:
    """Errors and interrupts say which store they are about, and which were done before."""
    try:
        yield
    except PxprepError as error:
        error.args = (f"{str(path)!r}: {error}",)
        _note_done(error, done)
        raise
    except KeyboardInterrupt as interrupt:
        _note_done(interrupt, done)
        raise


def _note_done(error: BaseException, done: Sequence[Path]) -> None:
    if done:
        error.add_note(f"done before and kept: {', '.join(repr(str(path)) for path in done)}")


def chosen_layers(
    sdata: "SpatialData", asked: Sequence[str], *, made_too: bool = False
) -> list[str]:
    """The names that were asked for; in place of a pattern, those that match it.

    `made_too`: a pattern finds also what pxprep made from other layers.
    """
    require_once(asked, "--layer")
    found = [
        _matching(sdata, name, made_too) if set(name) & set("*?[") else [name] for name in asked
    ]
    return list(dict.fromkeys(chain.from_iterable(found)))


def require_once(names: Sequence[str], option: str) -> None:
    """Raise ParameterError if something was typed twice."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ParameterError(f"{option} must name each only once, got {twice} more than once")


def require_stores_once(stores: Sequence[Path]) -> None:
    """Raise ParameterError if a store was typed twice, in whatever way."""
    require_once([os.path.realpath(store) for store in stores], "STORE")


def _matching(sdata: "SpatialData", pattern: str, made_too: bool) -> list[str]:
    """Image layers that match, but for those that pxprep made from others, unless `made_too`."""
    from ..layers.layer_provenance import Origins

    origins = Origins(sdata)

    def may_be_meant(name: str) -> bool:
        return made_too or _source(origins, name) in (None, name)

    names = sorted(sdata.images)
    matching = [name for name in names if fnmatchcase(name, pattern) and may_be_meant(name)]
    if not matching:
        others = [name for name in names if may_be_meant(name)]
        likely = [*others, *(name.rstrip("0123456789") + "*" for name in others)]
        is_of_ours = any(fnmatchcase(name, pattern) for name in names)
        but = " but those that pxprep made" if is_of_ours else ""
        raise LayerError(
            f"--layer {pattern!r} matches no layer{but}{did_you_mean([pattern], likely)}; images "
            f"are {names}"
        )
    return matching


def _source(origins: "Origins", name: str) -> str | None:
    """The layer that pxprep made a layer from; None if it did not make it from another."""
    try:
        made = origins.of(name)
    except LayerError:
        return None
    return None if made.is_import else made.source


def names_for(layers: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The names that were asked for, or one for each layer from a template."""
    if len(asked) == 1 and LAYER in asked[0]:
        return [asked[0].replace(LAYER, name) for name in layers]
    return list(asked)


def labels_of(sdata: "SpatialData", layer: str) -> "tuple[Label, ...]":
    """The labels of a layer's channels."""
    from ..channels import labels_or_positions
    from ..layers.reading import read_checked

    return labels_or_positions(read_checked(sdata, layer)[layer])

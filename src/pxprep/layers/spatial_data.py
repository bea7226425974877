"""SpatialData objects: checked; their stores, their elements, and where these lie."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LayerError, ParameterError, PxprepError, StoreError, did_you_mean, spelled
from ..images.parameters import REMOTE
from ..store.places import KINDS, elements_on_disk

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from spatialdata.transformations import BaseTransformation


def check_installed() -> None:
    """Raise unless there is SpatialData."""
    try:
        import spatialdata  # noqa: F401
    except ImportError as error:
        raise PxprepError(
            "SpatialData is not installed: pip install 'pxprep[spatialdata]'"
        ) from error


def check_sdata(sdata: object, parameter: str = "sdata") -> None:
    """Raise unless `sdata` is a SpatialData object; messages call it `parameter`."""
    check_installed()
    from spatialdata import SpatialData

    if not isinstance(sdata, SpatialData):
        is_path = isinstance(sdata, str | Path)
        line = f" {str(sdata)!r}; write spatialdata.read_zarr({str(sdata)!r})" if is_path else ""
        raise ParameterError(
            f"{parameter} must be a spatialdata.SpatialData, got {type(sdata)!r}{line}"
        )


def make_path_absolute(sdata: SpatialData) -> Path:
    """The folder of a store; `sdata` keeps it, for a relative path may mean another one later."""
    path = Path(sdata.path)
    if not path.is_absolute():
        if not path.exists():
            raise StoreError(
                f"the store {str(path)!r} is not in the folder {str(Path.cwd())!r}, to which the "
                "program has gone after the store had been read: read it again by its whole path, "
                "as spatialdata.read_zarr(Path(...).resolve())"
            )
        sdata.path = path.resolve()
    return Path(sdata.path).resolve()


def is_sdata(value: object) -> bool:
    """Whether `value` is a SpatialData object; SpatialData is not imported to find out."""
    module = sys.modules.get("spatialdata")
    return module is not None and isinstance(value, module.SpatialData)


def element_of(sdata: SpatialData, name: str, kind: str, parameter: str) -> object:
    """The element of a kind that a parameter names; raises LayerError if there is none."""
    elements = getattr(sdata, kind)
    if name in elements:
        return elements[name]
    kinds = {other: other_kind for other_kind, other, _ in sdata.gen_elements()}
    if isinstance(sdata.path, Path):
        # The object may hold some kinds of elements only.
        places = (place for same in elements_on_disk(sdata.path).values() for place in same)
        kinds |= {place.name: place.kind for place in places if place.kind != kind}
    if name in kinds:
        raise LayerError(
            f"{spelled(parameter)} {name!r} must be {KINDS[kind]}, but it is one of the "
            f"{kinds[name]}"
        )
    raise LayerError(
        f"{spelled(parameter)} {name!r} does not exist{did_you_mean([name], elements)}; {kind} are "
        f"{sorted(elements)}"
    )


def store_path(sdata: SpatialData) -> Path | None:
    """The folder that holds the store of `sdata`, without symbolic links; None in memory."""
    path = sdata.path
    if path is None:
        return None
    if not isinstance(path, str | Path) or REMOTE.match(str(path)):
        raise StoreError(
            f"the store must be a folder on a local file system, got {path!r}; its layers can be "
            "read lazily, as images: write pxprep.layers.read_images(sdata, "
            f"{sorted(sdata.images)!r})"
        )
    return make_path_absolute(sdata)


def transformations_of(element: object) -> dict[str, BaseTransformation]:
    """The transformations of an element, by coordinate system."""
    from spatialdata.transformations import get_transformation

    return dict(get_transformation(element, get_all=True))


def put(sdata: SpatialData, name: str, element: object) -> None:
    """Make an element the layer `name` of `sdata`, in memory."""
    if name in sdata.images:
        del sdata.images[name]  # else SpatialData warns that the name is taken
    sdata.images[name] = element


def add_missing(sdata: SpatialData, store: Path | None, layers: Iterable[str]) -> None:
    """Add layers that are in the store to its object, where that was read before they were."""
    missing = [name for name in layers if name not in sdata.images]
    if missing and store is not None:
        from spatialdata import read_zarr

        on_disk = read_zarr(store, selection=("images",))
        for name in missing:
            put(sdata, name, on_disk.images[name])

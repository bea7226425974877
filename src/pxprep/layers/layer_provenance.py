"""The provenance of layers, looked up in the records that are kept with them."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import LayerError
from ..pipeline.provenance import Provenance
from ..store.contents import KEY, read_attrs
from .backing import check_there, layer_folder
from .records import Records, read_token, summarize
from .spatial_data import check_sdata, store_path

if TYPE_CHECKING:
    from spatialdata import SpatialData

__all__ = ["provenance"]


def provenance(sdata: SpatialData, layer: str) -> Provenance:
    """What made a layer: pipeline, numbers, source, versions and time.

    Parameters
    ----------
    sdata
        In memory or backed by a zarr store.
    layer
        Name of a layer that `pixel_clustering_preprocess` or `pxprep.io.import_images` made.

    Returns
    -------
    Provenance

    Raises
    ------
    LayerError
        If there is no such layer, pxprep did not make it, or it was replaced or removed since.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import Image2DModel
    >>> fov = tissue(size=64)["fov0"]
    >>> element = Image2DModel.parse(fov.data, dims=fov.dims, c_coords=fov.c.values.tolist())
    >>> sdata = SpatialData(images={"fov0": element})
    >>> sdata = pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean", q=98)
    >>> made = pxprep.provenance(sdata, "clean")
    >>> made.source, made.parameters["pipeline"]["steps"][0]["name"]
    ('fov0', 'quantile_norm')
    >>> made.fitted().transform(fov).sizes["c"]
    10
    """
    return Origins(sdata).of(layer)


class Origins:
    """Looks up the provenance of layers; the records in the store are read only once."""

    def __init__(self, sdata: SpatialData) -> None:
        check_sdata(sdata)
        self._sdata = sdata
        self._store = store_path(sdata)

    def of(self, layer: str) -> Provenance:
        """The provenance of a layer; raises LayerError as `provenance` does."""
        images = self._sdata.images
        if not isinstance(layer, str):
            raise LayerError(f"layer must be the name of one, got {layer!r:.200}")
        if layer not in images:
            raise LayerError(f"layer {layer!r} does not exist; images are {sorted(images)}")
        records, token = self._kept(layer)
        entry = records.layers.get(layer)
        if entry is None:
            raise LayerError(f"layer {layer!r} has no provenance: pxprep did not make it")
        # A copy that SpatialData wrote has no mark: then shape, type and channels must agree.
        if token not in (None, entry["token"]) or summarize(images[layer]) != entry["image"]:
            raise LayerError(f"layer {layer!r} has been replaced since pxprep made it")
        run = records.runs[entry["run"]]
        return Provenance(
            layer=layer,
            source=entry["source"],
            time=datetime.fromisoformat(entry["time"]),
            parameters=run["parameters"],
            versions=run["versions"],
            run=entry["run"],
            _fitted=run["fitted"],
        )

    def _kept(self, layer: str) -> tuple[Records, str | None]:
        """The records, from where this layer is, and the token in its mark there."""
        if self._store is not None and layer_folder(self._store, layer).is_dir():
            return self._on_disk, read_token(self._store, layer)
        if self._store is not None:
            check_there(self._sdata.images[layer], f"layer {layer!r}")
        return Records.parsed(self._sdata.attrs.get(KEY)), None

    @cached_property
    def _on_disk(self) -> Records:
        return Records.parsed(self._store and read_attrs(self._store).get(KEY))

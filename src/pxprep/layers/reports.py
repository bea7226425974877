"""QC reports of layers: of the run that has just ended, and of layers that were made earlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.progress import Passes
from ..errors import LayerError, StoreError
from ..pipeline.pipeline import FittedPipeline
from ..plot.comparison import require_same_size
from ..reporting.checks import check_file, check_title
from ..reporting.fovs import Fov
from ..reporting.page import write
from ..steps.function import ImageFunction
from .layer_provenance import Origins
from .reading import parse_names, read_checked

if TYPE_CHECKING:
    from spatialdata import SpatialData

__all__ = ["report_layers"]


def report_layers(
    file: str | Path,
    sdata: SpatialData,
    layers: str | Sequence[str],
    *,
    title: str | None = None,
    functions: Mapping[str, ImageFunction] | None = None,
) -> Path:
    """Write a QC report of layers that `pixel_clustering_preprocess` has made, at any time later.

    As `pxprep.report`, with the numbers and the parameters that were kept with the layers; what
    each pass took was not kept. The pictures from before are those of the source layers as they are
    now; where a layer has taken the place of its source, there are none.

    Parameters
    ----------
    file
        Path of the report, ending in ``.html``; its folder must exist, and a file that is there is
        replaced, in one step.
    sdata
        In memory or backed by a zarr store. Lazy layers are read once, one after the other.
    layers
        Name of a layer, or of several that one call has made.
    title
        Heading of the report.
    functions
        The functions that steps call, by the step's name: their code is not kept.

    Returns
    -------
    pathlib.Path
        Path of the report.

    Raises
    ------
    LayerError
        If there is no such layer, pxprep did not make it, or they are of several runs.
    ParameterError
        If `layers` are no names, `file` cannot be written, a function is not given, or Jinja2 or
        Matplotlib is not installed.
    ChannelError, ImageError
        If a source layer has since lost a channel or got another size.

    Examples
    --------
    >>> import tempfile
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import Image2DModel
    >>> fov = tissue(size=64)["fov0"]
    >>> element = Image2DModel.parse(fov.data, dims=fov.dims, c_coords=fov.c.values.tolist())
    >>> sdata = SpatialData(images={"fov0": element})
    >>> sdata = pxprep.pixel_clustering_preprocess(sdata, "fov0", "clean")
    >>> pxprep.layers.report_layers(tempfile.mkdtemp() + "/clean.html", sdata, "clean").name
    'clean.html'
    """
    path = check_file(file)
    origins = Origins(sdata)
    records = [origins.of(name) for name in parse_names(layers, "layers")]
    runs = {record.layer: record.run for record in records}
    if len(set(runs.values())) > 1:
        raise LayerError(f"layers must be of one run, got those of several: {runs}")
    fitted = records[0].fitted(functions)
    fovs = compare_layers(sdata, {record.layer: record.source for record in records}, fitted)
    return write(path, fovs, fitted, title=check_title(title), made=records)


def compare_layers(
    sdata: SpatialData, pairs: Mapping[str, str], fitted: FittedPipeline
) -> list[Fov]:
    """Layers before and after, for a report.

    `pairs` has, by name of the new layer, that of the layer it was made from; where that was
    removed or replaced, there is nothing to show from before.
    """
    channels = None if fitted.channels is None else fitted.remaining
    after = read_checked(sdata, list(pairs), channels)
    sources = [name for name in pairs.values() if name in sdata.images and name not in pairs]
    before = read_checked(sdata, sources, channels) if sources else {}
    for layer, source in pairs.items():
        if source in before:
            require_same_size(before[source], after[layer], f"layer {layer!r}: ")
    return [
        Fov(source, _title(source, layer), before.get(source), after[layer])
        for layer, source in pairs.items()
    ]


def _title(source: str, layer: str) -> str:
    return layer if layer == source else f"{source} → {layer}"


def write_report(
    file: Path, sdata: SpatialData, pairs: Mapping[str, str], fitted: Any, passes: Passes
) -> None:
    """Write the report of a run that has just ended; `pairs` as in `compare_layers`."""
    origins = Origins(sdata)
    records = [origins.of(name) for name in pairs]
    try:
        write(file, compare_layers(sdata, pairs, fitted), fitted, passes=passes, made=records)
    except OSError as error:
        raise StoreError(
            f"the report {str(file)!r} could not be written: {error}; the layers were"
        ) from error

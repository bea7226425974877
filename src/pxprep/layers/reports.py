"""QC reports of layers that were made earlier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._report import check_file, check_title, write
from .errors import LayerError, ParameterError
from .provenance import Origins
from .spatialdata import compared_layers

if TYPE_CHECKING:
    from spatialdata import SpatialData

__all__ = ["report_layers"]


def report_layers(
    file: str | Path,
    sdata: SpatialData,
    layers: str | Sequence[str],
    *,
    title: str | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
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
        That of the report.

    Raises
    ------
    LayerError
        If there is no such layer, pxprep did not make it, or they are of several runs.
    ParameterError
        If `file` cannot be written, a function is not given, or Jinja2 or Matplotlib is not
        installed.
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
    >>> pxprep.report_layers(tempfile.mkdtemp() + "/clean.html", sdata, "clean").name
    'clean.html'
    """
    path = check_file(file)
    names = [layers] if isinstance(layers, str) else layers
    if not isinstance(names, Sequence) or not names:
        raise ParameterError(f"layers must be a name or a sequence of names, got {layers!r}")
    origins = Origins(sdata)
    made = [origins.of(name) for name in names]
    if len({one.run for one in made}) > 1:
        runs = {one.layer: one.run for one in made}
        raise LayerError(f"layers must be of one run, got those of several: {runs}")
    fitted = made[0].fitted(functions)
    fovs = compared_layers(sdata, {one.layer: one.source for one in made}, fitted)
    return write(path, fovs, fitted, title=check_title(title), made=made)

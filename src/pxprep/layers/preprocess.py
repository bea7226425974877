"""SpatialData layers in, layers out.

A layer is an image element of a `spatialdata.SpatialData` object, single- or multiscale. Reading is
lazy; writing goes through a stage, so that a store holds the layers it had or the new ones, never a
part of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from .. import ops
from ..aliases import Label, PerChannel, Pool
from ..engine.notes import ToldOnce
from ..images.image_set import ImageSet
from ..images.parameters import parse_path, parse_wait
from ..pipeline.pipeline import FittedPipeline, Pipeline
from ..store.contents import check_store
from ..store.transactions import Repaired
from .destination import repair_store
from .harpy_names import refusing_harpy_names
from .reports import write_report
from .request import Request, unfitted
from .spatial_data import add_missing, check_sdata
from .work import Work
from .writing import Writer, put_in_memory

if TYPE_CHECKING:
    from spatialdata import SpatialData

__all__ = ["pixel_clustering_preprocess", "repair"]


@refusing_harpy_names
def pixel_clustering_preprocess(
    sdata: SpatialData,
    img_layer: str | Sequence[str],
    output_layer: str | Sequence[str],
    channels: Sequence[Label] | None = None,
    q: PerChannel | None = 99,
    q_sum: float | None = 5,
    q_post: PerChannel | None = 99.9,
    sigma: PerChannel | None = 2,
    norm_sum: bool = True,
    chunks: object = None,
    scale_factors: Sequence[object] | None = None,
    overwrite: bool = False,
    *,
    cap_max: PerChannel | None = None,
    dtype: object = None,
    pipeline: Pipeline | FittedPipeline | None = None,
    pool: Pool = "mean",
    where: object = None,
    keep_outside: bool = True,
    exclude: object = None,
    by: object = None,
    memory: int | str | None = None,
    compressor: Mapping[str, int] | None = None,
    progress: object = False,
    resume: bool = False,
    wait: bool | float = True,
    report: str | Path | None = None,
) -> SpatialData:
    """Prepare image layers for pixel clustering: read, measure, apply, write.

    The layers are one cohort: measured together, each processed with the same numbers. Everything
    that can be checked is checked before anything is computed.

    Parameters
    ----------
    sdata
        In memory or backed by a zarr store.
    img_layer
        Name of the image layer, or of several; dims ``c``, ``y``, ``x``, optionally ``z``, single-
        or multiscale (processed at the finest scale).
    output_layer
        Name of the layer to make, one for each in `img_layer`.
    channels
        Labels of the channels to use, in that order; where channels have none, their positions,
        which become the labels. None for all of them.
    q
        Percent: each channel is divided by this quantile first. One number, a sequence in channel
        order, or a mapping by channel label, in which the key ``...`` stands for the channels that
        are not named. None leaves out the step.
    q_sum
        Percent: pixels whose sum over channels is not above this quantile of the sums before the
        blur become NaN in every channel. None leaves out the step.
    q_post
        Percent: each channel is divided by this quantile at the end; as `q`.
    sigma
        Standard deviation of the Gaussian blur in pixels; as `q`. None leaves out the step.
    norm_sum
        Whether pixels are divided by their sum over channels.
    chunks
        Chunks of the new layers in pixels: one number for y and x, one for each dimension, or a
        mapping by dimension; -1 is the whole dimension. None keeps those of the input, thin ones
        joined.
    scale_factors
        Factors of the coarser scales, each relative to the one before: whole numbers (for all
        spatial dimensions) or mappings by dimension. None keeps those of the input, or the nearest
        whole ones; an empty sequence makes a single-scale layer.
    overwrite
        Whether an image layer called `output_layer` may be replaced, which may be the input
        itself; in a store, the same steps are not applied to it a second time. Arrays that were
        read from the replaced layer before are no longer valid.
    cap_max
        Values above this become this in a last step; as `q`. None leaves out the step.
    dtype
        float32 or float64: the type of the computation and of the new layers. None: float32,
        float64 for float64 layers.
    pipeline
        Steps of your own in place of the parameters `q`, `q_sum`, `q_post`, `sigma`, `norm_sum`
        and `cap_max`; a `FittedPipeline` is applied as it is, and nothing is measured.
    pool
        ``"mean"`` of each layer's quantiles, quantiles over the ``"pixels"`` of all layers, or
        None: each layer by itself. A `FittedPipeline` has its own, and takes no other.
    where
        Mask of the pixels that are measured: the name of a labels layer (all labels but 0, at the
        finest scale); a `pxprep.Mask`, for some labels or all others; an `xarray.DataArray`; or one
        of those for each image layer, in their order or by their names, None for a layer that is
        measured whole. Steps are applied to all pixels. None measures all.
    keep_outside
        False: in the new layers, pixels outside of `where` are NaN in every channel.
    exclude
        Layers of `img_layer` that are not measured: the name of one, a sequence of names, or what
        `FittedPipeline.outliers` returned. The numbers of the others are applied to them.
    by
        Batches of layers that are measured together, as if the others were not there: a mapping of
        the names in `img_layer` to their batches, or a pandas Series or an `xarray.DataArray` over
        ``fov`` of them. With a `FittedPipeline`, the batches of layers whose own are not known from
        the fit, or the name of one for all. None is one batch.
    memory
        How much of what was read, or blurred to be measured, is kept for the next pass, in bytes
        or as "2 GiB": layers that fit are read and blurred once. None is a quarter of the memory
        that is available; 0, for images larger than memory, keeps nothing but a sample and the
        edges of chunks.
    compressor
        Codec and level of the new layers' chunks, as ``{"lz4": 1}`` or ``{"zstd": 3}``, levels 0 to
        9; needs spatialdata 0.8. None is what SpatialData chooses.
    progress
        True shows a bar for each pass over the data.
    resume
        False: the new layers appear in the store together, when all are finished. True: in groups,
        one after the other. A group has the layers that are begun within four times as long as
        publishing the group before took, a minute at most. Layers that an interrupted call with the
        same parameters has published are kept and not made again, unless chunks of them are
        missing.
    wait
        Whether to wait while another process is publishing layers in the store, or for how many
        seconds. Readers never wait.
    report
        Path of a QC report of the run, ending in ``.html``, that is written in the end, with the
        time and memory of each pass; see `pxprep.report`. Layers in memory are computed for it.

    Returns
    -------
    spatialdata.SpatialData
        `sdata` itself with the new layers: float32 or float64, with the transformations and
        channel labels of the input. If `sdata` is backed, they are written to its store and read
        back lazily; else they are lazy with their numbers measured.

    Raises
    ------
    LayerError
        If an input layer is missing or no image, or a mask is missing or no labels. If they are not
        on disk any more as they were when they were opened. If an output layer has no valid name,
        exists, is of another run than is resumed, or is what other elements are computed from.
    ParameterError, ChannelError, ImageError
        If a parameter breaks its rule, has the name that harpy gives it, or does not fit the
        channels.
    StoreError
        If the store cannot be written to, somebody else changed it meanwhile, or chunks of a layer
        that pxprep wrote are missing; its layers are then as they were. Or if the report cannot be
        written in the end; the layers then are.

    Warns
    -----
    PxprepWarning
        For channels without signal, negative or infinite pixels, pixels that a step makes NaN, and
        a `sum_mask` that drops far more than `q_sum` percent: once for each step, for all layers.
        If `resume` makes layers again, or scales get other sizes.

    Notes
    -----
    A store holds the old layers or the new ones, whole, whatever happens on the way; what made a
    layer is kept in ``sdata.attrs["pxprep"]``, see `pxprep.provenance`.

    Takes the place of ``sparrow.im.pixel_clustering_preprocess`` (now ``harpy.im``, with other
    names), with its parameters in its order. Memory: a few chunks for each worker, and `memory`.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import Image2DModel
    >>> sdata = SpatialData(
    ...     images={name: Image2DModel.parse(fov, c_coords=fov.c.values)
    ...             for name, fov in tissue(size=64).items()}
    ... )
    >>> sdata = pxprep.pixel_clustering_preprocess(
    ...     sdata, ["fov0", "fov1"], ["clean0", "clean1"], channels=["DAPI", "panCK"], q=99
    ... )
    >>> sdata["clean1"].dims, sdata["clean1"].c.values.tolist()
    (('c', 'y', 'x'), ['DAPI', 'panCK'])
    """
    check_sdata(sdata)
    request = Request.parsed(locals())  # all parameters, by name
    work = Work.of(sdata, request)
    pipeline = work.pipeline
    if work.pairs:
        cohort, layouts = work.read()
        depth = unfitted(pipeline).depth(cohort.labels)
        # What is noticed is told once, and what was read to measure is kept until it is written.
        with ToldOnce(), cohort.sharing_reads(request.memory, depth, results=True):
            pipeline = _measure(pipeline, cohort, request)
            images = _apply(pipeline, cohort, work)
            _write(work.elements(images, layouts), pipeline, work)
    add_missing(sdata, work.store, work.finished.whole)
    if request.report is not None:
        write_report(request.report, sdata, request.pairs, pipeline, request.passes)
    return sdata


def _measure(
    pipeline: Pipeline | FittedPipeline, cohort: ImageSet, request: Request
) -> FittedPipeline:
    """The pipeline with its numbers: those of the cohort, or those that it has already."""
    if isinstance(pipeline, FittedPipeline):
        return pipeline
    return pipeline.fit(cohort, pool=request.pool, exclude=request.exclude, progress=request.passes)


def _apply(fitted: FittedPipeline, cohort: ImageSet, work: Work) -> Mapping[str, xr.DataArray]:
    """The processed images, by name of the layers they are made of; lazily."""
    # The very arrays of the cohort: only what is read of those is shared.
    images = dict(zip(work.pairs.values(), cohort, strict=True))
    processed = fitted.transform(images, by=cohort.batch_of_each() or None)
    if work.request.keep_outside:
        return processed
    return ops.keep_where(processed, {name: work.masks[name] for name in images})


def _write(elements: dict[str, object], fitted: FittedPipeline, work: Work) -> None:
    """Put the new layers into the object, through its store if it has one."""
    sdata, request, run = work.sdata, work.request, work.run_with(fitted)
    if work.store is None:
        put_in_memory(sdata, elements, run)
        return
    writer = Writer(
        sdata, work.store, run, work.snapshot, request.wait, request.passes, request.compressor
    )
    if request.resume:
        writer.write_in_groups(elements, work.finished.whole)
    else:
        writer.write(elements)


def repair(path: str | Path, *, wait: bool | float = True) -> Repaired:
    """Complete or remove what interrupted writes have left in a store.

    The next `pixel_clustering_preprocess` on the store does the same. Layers that were being
    published are completed, also in the consolidated metadata; what was not finished is removed.

    Parameters
    ----------
    path
        Folder of a SpatialData store.
    wait
        Whether to wait while another process is publishing layers, or for how many seconds.

    Returns
    -------
    Repaired
        Names of the layers ``completed``, and how many unfinished writes were ``removed``.

    Raises
    ------
    ParameterError
        If `path` is no path.
    StoreError
        If there is no store, or it cannot be changed; nothing is lost then.

    Examples
    --------
    >>> import tempfile
    >>> import pxprep
    >>> from spatialdata import SpatialData
    >>> store = tempfile.mkdtemp() + "/study.zarr"
    >>> SpatialData().write(store)
    >>> pxprep.repair(store)
    Repaired(completed=(), removed=0)
    """
    seconds = parse_wait(wait)
    store = parse_path(path, "path", "a SpatialData store").resolve()
    check_store(store)
    return repair_store(store, seconds)

"""Pixels that survived as a table, sampled: what a clustering takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .aliases import Array, Block, DType, Images, Label
from .engine import backends
from .errors import ParameterError, StoreError
from .images.cohort import FOV, ImageSet
from .images.hints import check_kind
from .images.image import processing_dtype, shared_pixels
from .images.parameters import (
    SPATIAL,
    parse_bool,
    parse_choice,
    parse_count,
    parse_number,
    parse_path,
)
from .layers.layers import NOT_WRITTEN, is_sdata
from .layers.reading import read_images, read_labels
from .store import files

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame
    from pyarrow import RecordBatch, Schema

__all__ = ["pixel_table"]

LABEL = "label"
# Axes of a strip in the order of its pixels in the table, each an axis of (z, y, x).
PIXEL_ORDER = (1, 0, 2)
# Random numbers that one count of Philox gives.
DRAWS = 4
# Rows of a row group in a parquet file, the least that a reader takes at once.
GROUP_ROWS = 2**17


def pixel_table(
    images: Images,
    img_layer: str | Sequence[str] | None = None,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    labels: object = None,
    drop_background: bool = False,
    channels: Sequence[Label] | None = None,
    to: str = "pandas",
    file: str | Path | None = None,
    overwrite: bool = False,
    variable: object = None,
) -> Any:
    """Pixels as a table for clustering: a row for each that is finite in every channel.

    A pixel that a mask dropped is NaN in every channel and has no row; nor has one that is NaN or
    infinite in some of the channels only, which a clustering could not place either.

    Parameters
    ----------
    images
        An image, dims ``c``, ``y``, ``x``, optionally ``z``, in any order, any real dtype; a
        sequence, a mapping or a tree of images; or a `spatialdata.SpatialData` object.
    img_layer
        Of a SpatialData object: name of the image layer, or of several.
    fraction
        Which part of the rows to take, above 0, at most 1. Each pixel is taken or not by itself,
        with this probability, so the number of rows is near ``fraction`` times that of all, off by
        about its square root.
    seed
        Of the sample, 0 or more. Whether a pixel is taken depends on the seed, the name of its FOV,
        and its place in an image of that size: not on the other FOVs, nor on channels or chunks.
        With one seed, the sample of a smaller fraction is part of that of a larger one.
    labels
        Integers or bool for each pixel, for a column of their own: an `xarray.DataArray` with the
        spatial dims of the image and its size, NumPy or Dask; for several images a mapping by name
        or a sequence. With a SpatialData object also the name of a labels layer (its finest scale,
        pixel for pixel: transformations are not looked at), or a name for each of `img_layer`.
    drop_background
        Whether pixels with the label 0 are left out.
    channels
        Labels of the channels to use, in that order; where channels have none, their positions,
        which become the labels. None for all of them.
    to
        ``"pandas"``, ``"anndata"`` or ``"parquet"``.
    file
        Where a parquet file goes. It appears when it is complete.
    overwrite
        Whether `file` may be replaced.
    variable
        Name of the variable that is the image, if `images` is a tree whose datasets have several.

    Returns
    -------
    pandas.DataFrame, anndata.AnnData or pathlib.Path
        The columns of the table are the channels, as text, float32 or float64 as the image is
        processed; ``fov``, a category, the name of the image or layer as text (its position in a
        sequence, 0 for an image without name); ``z`` (of images that have it), ``y`` and ``x``,
        int32, the pixel's position from 0; and ``label``, of the labels' own type. The rows are
        ordered by FOV as given, then by ``y``, ``z``, ``x``.

        AnnData has the channels in ``X``, the rest in ``obs``, and the positions x, y (and z) in
        ``obsm["spatial"]``. For parquet it is the file's path, whose row groups hold 131,072 rows.

    Raises
    ------
    ParameterError
        If a parameter breaks its rule, `labels` do not fit the images, a channel is called like
        another column, the file exists or has no folder, or a package is missing.
    ImageError, ChannelError, LayerError
        If there are no images, or without the channels or the layers that were asked for.
    StoreError
        If the file cannot be written, then there is none, or the old one; or what is read is gone.

    Notes
    -----
    Lazy images are computed strip by strip: a row of chunks through all planes, or as many as make
    32 MiB. A parquet file needs a few times that; the other tables are held as a whole. The
    statistics of lazy steps of this package (``image.pxprep.preprocess()``) are computed once,
    before the first strip; those that came into an image's graph in another way, as in
    ``image / pxprep.quantile(image)``, once for each strip: compute them first.

    The random numbers are those of Philox 4x64 [1]_, one for each pixel.

    References
    ----------
    .. [1] Salmon, J. K. et al. (2011). Parallel random numbers: as easy as 1, 2, 3. SC '11.

    Examples
    --------
    >>> import pxprep
    >>> from pxprep.datasets import tissue
    >>> clean = pxprep.Pipeline.sparrow().fit_transform(tissue(size=64))
    >>> table = pxprep.pixel_table(clean, channels=["CD3", "CD20"], fraction=0.1, seed=1)
    >>> table.columns.tolist()
    ['CD3', 'CD20', 'fov', 'y', 'x']
    >>> table["fov"].cat.categories.tolist()
    ['fov0', 'fov1', 'fov2']
    """
    sample = Draw.parse(fraction, seed)
    must_have_label = parse_bool(drop_background, "drop_background")
    make = _maker(to, file, overwrite)
    cohort = _opened(images, img_layer, channels, variable)
    by_image = _labels_by_image(labels, cohort, images if img_layer is not None else None)
    if must_have_label and labels is None:
        raise ParameterError("drop_background needs labels, got none")
    form = Form.of(cohort, by_image)
    return make(form, _pieces(form, cohort, by_image, sample, must_have_label))


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of the table.

    Attributes
    ----------
    values
        Shape (c, row).
    places
        The other columns by name, each of shape (row,); FOVs by position.
    """

    values: Block
    places: dict[str, Block]

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def cut(self, start: int, stop: int) -> Rows:
        """Those from `start` to `stop`."""
        places = {name: column[start:stop] for name, column in self.places.items()}
        return Rows(self.values[:, start:stop], places)


@dataclass(frozen=True)
class Form:
    """What the table has, whatever its rows.

    Attributes
    ----------
    channels, fovs
        Their names.
    dtype
        Of the channels.
    places
        Dtypes of the other columns by name, in their order.
    """

    channels: tuple[str, ...]
    fovs: tuple[str, ...]
    dtype: DType
    places: Mapping[str, DType]

    @classmethod
    def of(cls, cohort: ImageSet, labels: Sequence[xr.DataArray | None]) -> Form:
        """That of a cohort's table; raises ParameterError if two columns had the same name."""
        channels, fovs = _as_text(cohort.labels, "channels"), _as_text(cohort.names, "images")
        dims = [FOV, *(dim for dim in SPATIAL if dim in cohort[0].dims)]
        places = dict.fromkeys(dims, np.dtype(np.int32))
        label_types = [each.dtype for each in labels if each is not None]
        if label_types:
            places[LABEL] = np.result_type(*label_types)
            if places[LABEL].kind == "f":
                raise ParameterError(
                    "labels must have types that one integer type can hold, got "
                    f"{sorted(set(map(str, label_types)))}"
                )
        taken = [name for name in channels if name in places]
        if taken:
            raise ParameterError(
                f"channels must not be called like other columns of the table, got {taken}: rename "
                "them with image.assign_coords(c=...)"
            )
        dtype = np.result_type(*(processing_dtype(image) for image in cohort))
        return cls(channels, fovs, dtype, places)

    def joined(self, pieces: Iterable[Rows]) -> Rows:
        """All rows of some pieces, of which there is at least one."""
        held = list(pieces)
        values = np.concatenate([piece.values for piece in held], axis=1)
        places = {
            name: np.concatenate([rows.places[name] for rows in held]) for name in self.places
        }
        return Rows(values, places)


@dataclass(frozen=True)
class Draw:
    """Which pixels are taken: each with the probability `fraction`, by numbers of its own."""

    fraction: float
    seed: int

    @classmethod
    def parse(cls, fraction: object, seed: object) -> Draw:
        """The sample that the user asked for."""
        rule = "a number above 0 and at most 1"
        part = parse_number(fraction, "fraction", rule)
        if not 0 < part <= 1:
            hint = f"; did you mean {part / 100:g}?" if 1 < part <= 100 else ""
            raise ParameterError(f"fraction must be {rule}, got {fraction!r}{hint}")
        return cls(part, parse_count(seed, "seed", "a whole number of at least 0", least=0))

    def of_pixels(self, fov: str, start: int, stop: int) -> Block:
        """Which of the pixels from `start` to `stop` of a FOV are taken: their numbers."""
        if self.fraction == 1:
            return np.arange(stop - start)
        key = hashlib.blake2b(f"{self.seed} {fov}".encode(), digest_size=16).digest()
        stream = np.random.Philox(key=int.from_bytes(key, "little"))
        before = start % DRAWS
        drawn = stream.advance(start // DRAWS).random_raw(before + stop - start)[before:]
        return np.flatnonzero(drawn < np.uint64(self.fraction * 2**64))


def _pieces(
    form: Form,
    cohort: ImageSet,
    labels: Sequence[xr.DataArray | None],
    sample: Draw,
    must_have_label: bool,
) -> Iterator[Rows]:
    """The rows of each strip of each image: at least one piece, which may have none."""
    arrays = backends.measured([shared_pixels(image) for image in cohort])
    for fov, (array, label) in enumerate(zip(arrays, labels, strict=True)):
        others = [] if label is None else [_planes(label)]
        for top, strip in backends.strips(array, *others):
            # Nothing of a strip is held here while the next one is computed.
            yield _rows(form, fov, top, strip, sample, must_have_label)
            del strip


def _rows(
    form: Form,
    fov: int,
    top: int,
    strip: Sequence[Block],
    sample: Draw,
    must_have_label: bool,
) -> Rows:
    """The rows of a strip, which begins at the row `top` of an image and may come with labels."""
    image, *planes = strip
    depth, height, width = image.shape[1:]
    start = top * depth * width
    taken = sample.of_pixels(form.fovs[fov], start, start + depth * height * width)
    values = _in_order(image)[:, taken]
    found = [_in_order(plane)[taken] for plane in planes]
    kept = np.isfinite(values).all(axis=0)
    if must_have_label:
        kept &= found[0] != 0
    y, z, x = np.unravel_index(taken[kept], (height, depth, width))
    known = {FOV: np.full(len(x), fov), "z": z, "y": y + top, "x": x}
    if found:
        known[LABEL] = found[0][kept]
    places = {name: known[name].astype(dtype) for name, dtype in form.places.items()}
    return Rows(values[:, kept].astype(form.dtype, copy=False), places)


def _in_order(strip: Block) -> Block:
    """A strip, axes (..., z, y, x), with its pixels behind each other as in the table."""
    before = strip.ndim - len(PIXEL_ORDER)
    axes = [*range(before), *(before + axis for axis in PIXEL_ORDER)]
    return strip.transpose(axes).reshape(*strip.shape[:before], -1)


def _planes(labels: xr.DataArray) -> Array:
    """Labels as an array with the axes (z, y, x)."""
    array = labels.transpose(*(dim for dim in SPATIAL if dim in labels.dims)).data
    return array if "z" in labels.dims else array[np.newaxis]


def _opened(images: Any, img_layer: Any, channels: Any, variable: Any) -> ImageSet:
    """The images, with these channels only."""
    if img_layer is not None:
        layers = read_images(images, img_layer, channels)
        return ImageSet.of(layers, variable=variable, what="layer")
    if is_sdata(images):
        raise ParameterError(
            "img_layer must name the image layers to take of a SpatialData object, got None; "
            f"images are {sorted(images.images)}"
        )
    return ImageSet.of(images, variable=variable).choosing(channels)


def _labels_by_image(
    labels: object, cohort: ImageSet, sdata: object
) -> list[xr.DataArray] | list[None]:
    """Checked labels of each image; None for each if there are none."""
    if labels is None:
        return [None] * len(cohort)
    if isinstance(labels, xr.DataArray | str):
        labels = [labels]
    if isinstance(labels, Mapping):
        wrong = set(labels) ^ set(cohort.names)
        if wrong:
            raise ParameterError(
                f"labels must be given for each image by its name, {list(cohort.names)}, got "
                f"{list(labels)}"
            )
        labels = [labels[name] for name in cohort.names]
    if not isinstance(labels, Sequence) or len(labels) != len(cohort):
        got = f"{len(labels)}" if isinstance(labels, Sequence) else repr(type(labels))
        raise ParameterError(f"labels must be one for each of {len(cohort)} images, got {got}")
    return [
        _checked_labels(*each, sdata) for each in zip(labels, cohort.names, cohort, strict=True)
    ]


def _checked_labels(
    labels: object, name: Label, image: xr.DataArray, sdata: object
) -> xr.DataArray:
    what = f"labels of image {name!r}"
    if isinstance(labels, str) and sdata is not None:
        what = f"labels {labels!r} of layer {name!r}"
        labels = read_labels(sdata, labels)
    if not isinstance(labels, xr.DataArray):
        raise ParameterError(f"{what} must be an xarray.DataArray, got {type(labels).__qualname__}")
    check_kind(labels, what, "labels", ParameterError)
    sizes = {dim: size for dim, size in image.sizes.items() if dim in SPATIAL}
    if dict(labels.sizes) != sizes:
        raise ParameterError(f"{what} must have the image's size {sizes}, got {dict(labels.sizes)}")
    if labels.dtype.kind not in "bui":
        raise ParameterError(f"{what} must hold integers or bool, got dtype {labels.dtype}")
    return labels


def _as_text(names: Sequence[Label], what: str) -> tuple[str, ...]:
    text = tuple(map(str, names))
    twice = sorted({name for name in text if text.count(name) > 1})
    if twice:
        raise ParameterError(f"{what} must differ as text, too, got {twice} more than once")
    return text


def _maker(to: object, file: object, overwrite: object) -> Callable[[Form, Iterator[Rows]], Any]:
    """What makes the table; everything that it needs is there."""
    kind = parse_choice(to, "to", list(MAKERS))
    may_replace = parse_bool(overwrite, "overwrite")
    _require_packages(kind)
    if kind != "parquet":
        if file is not None:
            raise ParameterError(f'file needs to="parquet", got to={to!r}')
        return MAKERS[kind]
    path = parse_path(file, "file", 'a file for to="parquet"')
    if not path.parent.is_dir():
        raise ParameterError(f"file must be in a folder that exists, got {str(file)!r}")
    if path.is_dir() or (path.exists() and not may_replace):
        hint = "is a folder" if path.is_dir() else "exists already; overwrite=True replaces it"
        raise ParameterError(f"file {str(file)!r} {hint}")
    return partial(MAKERS[kind], path=path)


def _require_packages(kind: str) -> None:
    try:
        if kind == "anndata":
            import anndata  # noqa: F401
        elif kind == "parquet":
            import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ParameterError(
            f"to={kind!r} needs a package that is not installed: pip install 'pxprep[table]'"
        ) from error


def _as_frame(form: Form, pieces: Iterator[Rows]) -> DataFrame:
    import pandas as pd

    rows = form.joined(pieces)
    # Pandas holds columns as we do: nothing is copied.
    frame = pd.DataFrame(rows.values.T, columns=list(form.channels), copy=False)
    for name, column in _described(form, rows).items():
        frame[name] = column
    return frame


def _as_anndata(form: Form, pieces: Iterator[Rows]) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    rows = form.joined(pieces)
    names = pd.RangeIndex(len(rows)).astype(str)
    spatial = [rows.places[dim] for dim in reversed(SPATIAL) if dim in rows.places]
    adata = AnnData(
        np.ascontiguousarray(rows.values.T),
        obs=pd.DataFrame(_described(form, rows), index=names),
        var=pd.DataFrame(index=list(form.channels)),
    )
    adata.obsm["spatial"] = np.stack(spatial, axis=1)
    return adata


def _described(form: Form, rows: Rows) -> dict[str, Any]:
    """The columns beside the channels, for pandas."""
    import pandas as pd

    fov = pd.Categorical.from_codes(rows.places[FOV], categories=list(form.fovs))
    return {**rows.places, FOV: fov}


def _as_parquet(form: Form, pieces: Iterator[Rows], path: Path) -> Path:
    from pyarrow.parquet import ParquetWriter

    schema = _schema(form)
    try:
        with files.drafted(path) as draft:
            with ParquetWriter(draft, schema) as writer:
                for rows in _grouped(form, pieces):
                    writer.write_batch(_batch(form, rows, schema))
            files.flush_entry(draft)
    except OSError as error:
        if error.errno in NOT_WRITTEN:
            raise StoreError(f"{error}: file {str(path)!r} was not written") from error
        raise
    return path


def _schema(form: Form) -> Schema:
    import pyarrow as pa

    types: dict[str, Any] = {
        name: pa.from_numpy_dtype(dtype) for name, dtype in form.places.items()
    }
    types[FOV] = pa.dictionary(pa.int32(), pa.string())
    channels = dict.fromkeys(form.channels, pa.from_numpy_dtype(form.dtype))
    return pa.schema([*channels.items(), *types.items()])


def _batch(form: Form, rows: Rows, schema: Schema) -> RecordBatch:
    import pyarrow as pa

    fov = pa.DictionaryArray.from_arrays(rows.places[FOV], pa.array(form.fovs, pa.string()))
    places = {**rows.places, FOV: fov}
    return pa.RecordBatch.from_arrays(
        [pa.array(column) for column in (*rows.values, *places.values())], schema=schema
    )


def _grouped(form: Form, pieces: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in groups of one size, which do not depend on the pieces."""
    held: list[Rows] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) < GROUP_ROWS:
            continue
        rows = form.joined(held)
        end = len(rows) - len(rows) % GROUP_ROWS
        for start in range(0, end, GROUP_ROWS):
            yield rows.cut(start, start + GROUP_ROWS)
        held = [rows.cut(end, len(rows))]
    rest = form.joined(held)
    if len(rest):
        yield rest


MAKERS: dict[str, Callable[..., Any]] = {
    "pandas": _as_frame,
    "anndata": _as_anndata,
    "parquet": _as_parquet,
}

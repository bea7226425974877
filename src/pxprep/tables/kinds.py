"""The kinds of tables: pandas, AnnData, and a parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..aliases import PixelTable
from ..errors import ParameterError, StoreError
from ..images.image_numbers import FOV
from ..images.parameters import SPATIAL, parse_bool, parse_choice, parse_new_file
from ..store import files
from .rows import Columns, Rows

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame
    from pyarrow import RecordBatch, Schema

# Rows of a row group in a parquet file; a reader reads whole row groups.
GROUP_ROWS = 2**17


def maker_of(
    to: object, file: object, overwrite: object
) -> Callable[[Columns, Iterator[Rows]], PixelTable]:
    """The function that makes the table; raises ParameterError if anything it needs is missing."""
    kind = parse_choice(to, "to", list(MAKERS))
    may_replace = parse_bool(overwrite, "overwrite")
    _require_packages(kind)
    if kind != "parquet":
        if file is not None:
            raise ParameterError(f'file needs to="parquet", got to={to!r}')
        return MAKERS[kind]
    path = parse_new_file(file, "file", 'a file for to="parquet"', may_replace=may_replace)
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


def _as_frame(columns: Columns, pieces: Iterator[Rows]) -> DataFrame:
    import pandas as pd

    rows = columns.joined(pieces)
    # Pandas holds columns as we do: nothing is copied.
    frame = pd.DataFrame(rows.values.T, columns=list(columns.channels), copy=False)
    for name, column in _described(columns, rows).items():
        frame[name] = column
    return frame


def _as_anndata(columns: Columns, pieces: Iterator[Rows]) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    rows = columns.joined(pieces)
    names = pd.RangeIndex(len(rows)).astype(str)
    spatial = [rows.others[dim] for dim in reversed(SPATIAL) if dim in rows.others]
    adata = AnnData(
        np.ascontiguousarray(rows.values.T),
        obs=pd.DataFrame(_described(columns, rows), index=names),
        var=pd.DataFrame(index=list(columns.channels)),
    )
    adata.obsm["spatial"] = np.stack(spatial, axis=1)
    return adata


def _described(columns: Columns, rows: Rows) -> dict[str, object]:
    """The columns beside the channels, for pandas."""
    import pandas as pd

    fov = pd.Categorical.from_codes(rows.others[FOV], categories=list(columns.fovs))
    return {**rows.others, FOV: fov}


def _as_parquet(columns: Columns, pieces: Iterator[Rows], path: Path) -> Path:
    from pyarrow.parquet import ParquetWriter

    schema = _schema(columns)
    try:
        with files.drafted(path) as draft:
            with ParquetWriter(draft, schema) as writer:
                for rows in _grouped(columns, pieces):
                    writer.write_batch(_batch(columns, rows, schema))
            files.flush_entry(draft)
    except OSError as error:
        if error.errno in files.WRITE_ERRORS:
            raise StoreError(f"{error}: file {str(path)!r} was not written") from error
        raise
    return path


def _schema(columns: Columns) -> Schema:
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        name: pa.from_numpy_dtype(dtype) for name, dtype in columns.dtypes.items()
    }
    types[FOV] = pa.dictionary(pa.int32(), pa.string())
    channels = dict.fromkeys(columns.channels, pa.from_numpy_dtype(columns.dtype))
    return pa.schema([*channels.items(), *types.items()])


def _batch(columns: Columns, rows: Rows, schema: Schema) -> RecordBatch:
    import pyarrow as pa

    fov = pa.DictionaryArray.from_arrays(rows.others[FOV], pa.array(columns.fovs, pa.string()))
    others = {**rows.others, FOV: fov}
    return pa.RecordBatch.from_arrays([*rows.values, *others.values()], schema=schema)


def _grouped(columns: Columns, pieces: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in groups of one size, which do not depend on the pieces."""
    held: list[Rows] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) < GROUP_ROWS:
            continue
        rows = columns.joined(held)
        end = len(rows) - len(rows) % GROUP_ROWS
        for start in range(0, end, GROUP_ROWS):
            yield rows.cut(start, start + GROUP_ROWS)
        held = [rows.cut(end, len(rows))]
    rest = columns.joined(held)
    if len(rest):
        yield rest


MAKERS: dict[str, Callable[..., PixelTable]] = {
    "pandas": _as_frame,
    "anndata": _as_anndata,
    "parquet": _as_parquet,
}

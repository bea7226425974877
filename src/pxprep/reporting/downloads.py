"""What a report holds for other programs: files in data URIs."""

import base64
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO

from ..errors import ParameterError
from ..images.image_numbers import FOV
from ..plot.cohort_quantiles import SUMS, values_of_images
from .distances import Distances
from .fovs import DropCount


@dataclass(frozen=True)
class Download:
    """A file of the page: its name, its data URI, and what is in it."""

    name: str
    uri: str
    text: str


def downloads(counts: Sequence[DropCount], distances: Distances) -> list[Download]:
    """The files of a report; without the fitted pipeline if JSON cannot keep it."""
    tables = [
        Download("images.csv", _csv_uri(_image_rows(counts, distances)), "numbers of each image"),
        Download("outliers.csv", _csv_uri(_outlier_rows(distances)), "outliers"),
    ]
    try:
        uri = _uri("application/json", distances.fitted.to_json())
    except ParameterError:
        return tables
    return [*tables, Download("fitted.json", uri, "all numbers, exact")]


def _image_rows(counts: Sequence[DropCount], distances: Distances) -> Iterable[Sequence[object]]:
    """A row for each image: its pixels, and the quantiles that steps measured of it."""
    fitted = distances.fitted
    columns = {
        (step, i): f"{step} {name}"
        for step in distances.ratios
        for i, name in enumerate(distances.columns(step))
    }
    quantiles = {step: values_of_images(fitted, step) for step in distances.ratios}
    header = ["batch"] if fitted.batches else []
    yield ["image", "pixels", "dropped", "outlier in", *header, *columns.values()]
    for count in counts:
        name = count.fov.name
        odd = "; ".join(SUMS if c is None else str(c) for c in distances.reasons(name))
        numbers: list[object] = [""] * len(columns)
        if name in fitted.fovs:
            row = fitted.fovs.index(name)
            numbers = [float(quantiles[step][row, i]) for step, i in columns]
        batch = [fitted.batches.get(name, "")] if header else []
        yield [count.fov.title, count.n_pixels, count.n_dropped, odd, *batch, *numbers]


def _outlier_rows(distances: Distances) -> Iterable[Sequence[object]]:
    table = distances.outliers
    yield ["image" if name == FOV else name for name in table.columns]
    for row in table.itertuples(index=False):
        yield [SUMS if value is None else value for value in row]


def _csv_uri(rows: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return _uri("text/csv;charset=utf-8", text.getvalue())


def _uri(kind: str, text: str) -> str:
    # Names may hold bytes that are no UTF-8.
    data = text.encode(errors="backslashreplace")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"

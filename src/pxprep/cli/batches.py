"""What `--by` says: which layers are measured together."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ParameterError, did_you_mean

if TYPE_CHECKING:
    from ..aliases import BatchName


def parse_by(text: str | None, fitted: "Iterable[BatchName]" = ()) -> object:
    """The parameter `by`: a level, batches by layer from a column of a table, or a batch.

    In the table's first column are the names of the layers. `fitted` are the batches that a fit
    had, which may be called by numbers.
    """
    known = {str(batch): batch for batch in fitted}
    if text is None:
        return None
    if text in known:
        return known[text]
    if text.isdecimal():
        return int(text)
    file, is_table, column = text.rpartition(":")
    if not is_table:
        return text
    batches = _column(Path(file), column)
    return {
        layer: None if batch is None else known.get(batch, batch)
        for layer, batch in batches.items()
    }


def by_store(by: object, names: Iterable[str]) -> object:
    """A parameter `by` for layers called STORE/LAYER: the level 0 is the store, also if a path."""
    if not isinstance(by, int):
        return by
    if by != 0:
        raise ParameterError(
            f"--by must be FILE.csv:COLUMN, or 0 for the stores of several, got {by}"
        )
    return {name: name.rpartition("/")[0] for name in names}


def batches_here(by: object, layers: list[str]) -> object:
    """The part of a parameter `by`, given for the layers of several stores, about these layers."""
    if not isinstance(by, dict):
        return by
    return {layer: batch for layer, batch in by.items() if layer in layers}


def _column(file: Path, column: str) -> dict[str, str | None]:
    """The values of a column of a table, by layer; None where the cell is empty."""
    from ..io.panels import cells_by_line

    rule = "--by must be FILE.csv:COLUMN, a table with the names of layers in its first column"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ParameterError(f"{rule}; {str(file)!r} cannot be read: {error}") from error
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    by_line = cells_by_line(text, delimiter, f"{rule}; {str(file)!r}")
    header, *rows = by_line.values() or [[]]
    if column not in header[1:]:
        got = f"{column!r}{did_you_mean([column], header[1:])}"
        raise ParameterError(f"{rule}; got the column {got}, {str(file)!r} has {header[1:]}")
    odd = [line for line, row in by_line.items() if len(row) != len(header)]
    if odd:
        raise ParameterError(
            f"{rule}; {str(file)!r} must have {len(header)} cells in each line, line {odd[0]} "
            f"has {len(by_line[odd[0]])}"
        )
    names = [row[0] for row in rows]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ParameterError(f"{rule}; {str(file)!r} must name each once, got {twice} again")
    position = header.index(column, 1)
    return {row[0]: row[position] or None for row in rows}

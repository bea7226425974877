"""What `--by` says: which layers are measured together."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ParameterError, did_you_mean

if TYPE_CHECKING:
    from ..aliases import BatchName

# In place of a table: each of several stores is a batch.
EACH_STORE = "0"
RULE = "--by must be FILE.csv:COLUMN, a table with the names of layers in its first column"


def parse_by(text: str | None, fitted: "Iterable[BatchName] | None" = None) -> object:
    """The parameter `by`: batches by layer, from a column of a table; or one batch for all layers.

    `fitted` are the batches that a fit had, which may be called by numbers; None if nothing is
    fitted yet: then there is no batch to name.
    """
    by_text = {str(batch): batch for batch in fitted or ()}
    if text is None:
        return None
    if text in by_text:
        return by_text[text]
    file, is_table, column = text.rpartition(":")
    if is_table:
        return {
            layer: None if batch is None else by_text.get(batch, batch)
            for layer, batch in _column(Path(file), column).items()
        }
    if fitted is None:
        raise ParameterError(f"{RULE}, or {EACH_STORE} with several stores, got {text!r}")
    return text


def by_store(names: Iterable[str]) -> dict[str, str]:
    """The batches of layers called STORE/LAYER: their stores, which may be paths."""
    return {name: name.rpartition("/")[0] for name in names}


def batches_here(by: object, layers: list[str]) -> object:
    """The part of a parameter `by`, given for the layers of several stores, about these layers."""
    if not isinstance(by, dict):
        return by
    return {layer: batch for layer, batch in by.items() if layer in layers}


def _column(file: Path, column: str) -> dict[str, str | None]:
    """The values of a column of a table, by layer; None where the cell is empty."""
    from ..io.tables import table_rows

    header, *rows = table_rows(file, f"{RULE}; {str(file)!r}").values() or [[]]
    if column not in header[1:]:
        got = f"{column!r}{did_you_mean([column], header[1:])}"
        raise ParameterError(f"{RULE}; got the column {got}, {str(file)!r} has {header[1:]}")
    names = [row[0] for row in rows]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ParameterError(f"{RULE}; {str(file)!r} must name each once, got {twice} again")
    position = header.index(column, 1)
    return {row[0]: row[position] or None for row in rows}

"""The cells of tables in text files: CSV, TSV, or one cell on a line."""

import csv
from pathlib import Path

from ..errors import ParameterError


def table_rows(file: Path, called: str) -> dict[int, list[str]]:
    """The cells of each line of a table that is not empty, by the number of the line from 1.

    Cells lie between tabs, semicolons or commas. Raises ParameterError, in which the table is
    `called` so, if it cannot be read.
    """
    text = _text(file, called)
    for delimiter in "\t;,":
        rows = _cells_by_line(text, delimiter, called)
        widths = [len(row) for row in rows.values()]
        if not rows or (len(set(widths)) == 1 and widths[0] > 1):
            return rows
        odd = [line for line, row in rows.items() if len(row) != widths[0]]
        if odd and widths[0] > 1 and file.suffix.lower() in (".csv", ".tsv"):
            raise ParameterError(
                f"{called} must have {widths[0]} cells in each line, line {odd[0]} has "
                f"{len(rows[odd[0]])}"
            )
    lines = enumerate(text.splitlines(), start=1)
    return {number: [line.strip().strip('"')] for number, line in lines if line.strip()}


def _text(file: Path, called: str) -> str:
    """The text of a file, of whatever program: UTF-8 with a mark or without, UTF-16, Latin-1."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ParameterError(f"{called} cannot be read: {error}") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _cells_by_line(text: str, delimiter: str, called: str) -> dict[int, list[str]]:
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    cells = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
    try:
        return {line: row for line, row in cells if any(row)}
    except csv.Error as error:
        raise ParameterError(f"{called} is no table: {error}") from error

"""Tables of markers: what channels are called, which are kept, and what is done to each."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from ..aliases import Label
from ..channels import require_unique
from ..errors import ChannelError, ParameterError, listed_names, spelled, warn
from .names import existing_path

# Headings of columns, the best first; capitals, spaces and underscores do not matter.
NAMES = ("name", "markername", "marker", "target", "biomarker", "channelname", "channel")
KEYS = ("channel", "metaltag", "metal")
CHANNEL_NUMBER = "channelnumber"
KEPT, REMOVED = "keep", "remove"
# Headings of numbers that the pipeline takes by channel.
NUMBERS = {"sigma": "sigma", "q": "q", "qpost": "q_post", "capmax": "cap_max"}
# An empty cell means yes: the channel is kept.
YES, NO = {"1", "true", "yes", "1.0", ""}, {"0", "false", "no", "0.0"}
METAL = re.compile(r"([A-Z][a-z]?)?\(?\d{2,3}\)?([A-Z][a-z]?)?")


@dataclass(frozen=True)
class Panel:
    """Channels as a table of markers tells them.

    Attributes
    ----------
    names
        Names of all channels, in the order of the table.
    keys
        What files call the channels, as their metals; empty if the table does not tell.
    keep
        Whether each channel is used; empty if all are.
    sigma, q, q_post, cap_max
        Numbers by name of the channel, as `Pipeline.sparrow` takes them; empty if there are none.
        Of several rows with one name, those of the row that is used.
    source
        The file.
    in_order
        Whether the names are those of all channels in the file's order, whatever that calls them.
    channel_numbers
        Numbers of the channels, as mcmicro's ``channel_number``; empty if there are none.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...] = ()
    keep: tuple[bool, ...] = ()
    sigma: Mapping[Label, float] = field(default_factory=dict)
    q: Mapping[Label, float] = field(default_factory=dict)
    q_post: Mapping[Label, float] = field(default_factory=dict)
    cap_max: Mapping[Label, float] = field(default_factory=dict)
    source: str = "channel_names"
    in_order: bool = False
    channel_numbers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what in ("keys", "keep", "channel_numbers"):
            if len(getattr(self, what)) not in (0, len(self.names)):
                raise ParameterError(
                    f"{what} must have an entry for each of the {len(self.names)} names, or none, "
                    f"got {getattr(self, what)!r:.300}"
                )

    @property
    def kept(self) -> list[int]:
        """The rows that are used."""
        return [n for n in range(len(self.names)) if not self.keep or self.keep[n]]

    @property
    def channel_counts(self) -> set[int]:
        """How many channels a file may have for the table to fit by order."""
        return {len(self.names)} if self.in_order else {len(self.names), len(self.kept)}

    def labels(
        self, known: Sequence[Sequence[str | None]], n_channels: int, what: str, *, by_order: bool
    ) -> list[tuple[int, str]]:
        """Which channels of an image are used, by position, and their labels.

        Parameters
        ----------
        known
            What the file calls its channels: in each of several ways.
        n_channels
            How many the image has.
        what
            The image, for messages.
        by_order
            Whether names may also be given to channels by their order in the file.
        """
        rows = self.kept
        # Fewer names than channels, as of several time points, tell no positions.
        complete = [own for own in known if len(own) == n_channels]
        if not self.in_order:
            for own in complete:
                for keys in filter(None, (self.keys, self.names)):
                    if all(own.count(keys[row]) == 1 for row in rows):
                        self._check_keys(keys, what)
                        self._tell()
                        return [(own.index(keys[row]), self.names[row]) for row in rows]
        if by_order and n_channels == len(self.names):
            self._check_order(range(n_channels), complete, what)
            self._tell()
            return [(row, self.names[row]) for row in rows]
        if by_order and n_channels == len(rows) and not self.in_order:
            self._check_order(rows, complete, what)
            return list(enumerate(self.names[row] for row in rows))
        if self.in_order:
            raise ChannelError(
                f"{spelled('channel_names')} must name the {n_channels} channels of {what}, got "
                f"{len(self.names)}"
            )
        called = next((own for own in known if any(own)), ())
        raise ChannelError(
            f"{spelled('panel')} {self.source!r} must tell of the {n_channels} channels of {what}"
            f"{f', called {listed_names(called)}' if called else ''}; it has {len(rows)} to keep: "
            f"{listed_names([(self.keys or self.names)[row] for row in rows])}"
        )

    def _check_keys(self, keys: Sequence[str], what: str) -> None:
        """Raise unless each used row stands for a channel of its own."""
        rows_of: dict[str, list[int]] = {}
        for row in self.kept:
            rows_of.setdefault(keys[row], []).append(row)
        for key, rows in rows_of.items():
            if len(rows) > 1:
                raise ChannelError(
                    f"{spelled('panel')} {self.source!r} must keep each channel of {what} once, "
                    f"{key!r} is there as {listed_names([self.names[row] for row in rows])}"
                )

    def _check_order(
        self, rows: Sequence[int], known: Sequence[Sequence[str | None]], what: str
    ) -> None:
        """Raise unless `rows` are in the order of channels, as far as file and table tell it."""
        if self.in_order:
            return
        for own, keys in product(known, (self.keys, self.names)):
            for position, row in enumerate(rows if keys else ()):
                if keys[row] and keys[row] in own and own[position] != keys[row]:
                    raise ChannelError(
                        f"{spelled('panel')} {self.source!r} must name the channels of {what} in "
                        f"their order, or have what the file calls each in a column 'channel': "
                        f"row {row + 1} is {keys[row]!r}, and the file has "
                        f"{listed_names([name or '' for name in own])}"
                    )
        for column in filter(None, (self.keys, self.channel_numbers)):
            numbers = [column[row] for row in rows]
            is_counted = all(map(str.isdecimal, numbers)) and len(set(numbers)) == len(numbers)
            if is_counted and numbers != sorted(numbers, key=int):
                raise ChannelError(
                    f"{spelled('panel')} {self.source!r} must have its rows in the order of their "
                    f"channel numbers, got {', '.join(numbers):.200}"
                )

    def _tell(self) -> None:
        out = [name for row, name in enumerate(self.names) if row not in self.kept]
        if out:
            warn(
                f"{spelled('panel')} {self.source!r} does not keep {listed_names(out)}: they are "
                "left out"
            )


def parse_panel(
    panel: str | Path | Panel | None, channel_names: Sequence[str] | None
) -> Panel | None:
    """What the user gave as a table, or as a list of all names; None if neither."""
    if panel is not None and channel_names is not None:
        raise ParameterError(f"give {spelled('channel_names')} or {spelled('panel')}, not both")
    if panel is not None:
        return panel if isinstance(panel, Panel) else read_panel(panel)
    if channel_names is None:
        return None
    is_sequence = isinstance(channel_names, Sequence) and not isinstance(channel_names, str)
    if not is_sequence or not all(isinstance(name, str) and name for name in channel_names):
        raise ParameterError(
            f"{spelled('channel_names')} must be a sequence of names, got {channel_names!r}"
        )
    require_unique(list(channel_names), "channel_names")
    return Panel(tuple(channel_names), in_order=True)


def read_panel(path: str | Path) -> Panel:
    r"""The table of markers in a text file.

    Parameters
    ----------
    path
        CSV, TSV, or one name on a line. A header is looked for: names are in a column ``name``,
        ``marker_name``, ``marker``, ``target`` or ``channel`` (steinbock's ``panel.csv``, mcmicro's
        ``markers.csv``). ``channel`` beside ``name`` is what files call the channel, as "Ir191",
        or else ``metal``; ``keep`` (0 or 1) says which are used, or ``remove`` which are not.
        ``sigma``, ``q``, ``q_post`` and ``cap_max`` are numbers by channel for the pipeline.

    Returns
    -------
    Panel
        The channels.

    Raises
    ------
    ParameterError
        If it is not clear which column holds the names, or a value is not what it should be.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pxprep.io import read_panel
    >>> file = Path(tempfile.mkdtemp()) / "panel.csv"
    >>> _ = file.write_text("channel,name,keep,sigma\nIr191,DNA,1,0\nPr141,CD3,1,2\n")
    >>> panel = read_panel(file)
    >>> panel.names, panel.keys, dict(panel.sigma)
    (('DNA', 'CD3'), ('Ir191', 'Pr141'), {'DNA': 0.0, 'CD3': 2.0})
    """
    file = existing_path(path, "panel")
    rows = table_rows(file, _called(file))
    if not rows:
        raise ParameterError(f"{_called(file)} must hold names of channels, it is empty")
    lines, (first, *others) = list(rows), rows.values()
    headings = [re.sub(r"[\s_-]", "", cell).casefold() for cell in first]
    if not set(headings) & set(NAMES):
        names, keys = _without_header([first, *others], file)
        return _made(file, lines, names, keys)
    if not others:
        raise ParameterError(f"{_called(file)} must hold names of channels, it has only a header")
    columns = {heading: [row[n] for row in others] for n, heading in enumerate(headings)}
    names = next(columns[heading] for heading in NAMES if heading in columns)
    # The column of the names, or one like it, tells nothing of what files call the channels.
    keys = next((columns[key] for key in KEYS if key in columns and columns[key] != names), [])
    names = [name or (keys[n] if keys else "") for n, name in enumerate(names)]
    keep = [_truth(text, KEPT, file) for text in columns.get(KEPT, [""] * len(names))]
    gone = [_truth(text or "0", REMOVED, file) for text in columns.get(REMOVED, [""] * len(names))]
    kept = [one and not other for one, other in zip(keep, gone, strict=True)]
    # A name may be there again among the channels that are not kept, as DAPI of another cycle.
    used = {name for name, is_kept in zip(names, kept, strict=True) if is_kept}
    numbers = {
        parameter: {
            name: _number(text, parameter, file)
            for name, text, is_kept in zip(names, columns.get(heading, ()), kept, strict=False)
            if text and (is_kept or name not in used)
        }
        for heading, parameter in NUMBERS.items()
    }
    panel = _made(file, lines[1:], names, keys, kept, numbers)
    return replace(panel, channel_numbers=tuple(columns.get(CHANNEL_NUMBER, ())))


def _made(
    file: Path,
    lines: Sequence[int],
    names: Sequence[str],
    keys: Sequence[str] = (),
    keep: Sequence[bool] = (),
    numbers: Mapping[str, Mapping[str, float]] | None = None,
) -> Panel:
    if not all(names):
        line = next(line for line, name in zip(lines, names, strict=True) if not name)
        raise ParameterError(
            f"{_called(file)} must have a name for each channel, line {line} has none"
        )
    used = [name for n, name in enumerate(names) if not keep or keep[n]]
    require_unique(used, _called(file))
    if not used:
        raise ParameterError(f"{_called(file)} keeps no channel")
    panel = Panel(tuple(names), tuple(keys), tuple(keep), source=str(file))
    return replace(panel, **(numbers or {}))  # type: ignore[arg-type]


def _called(file: Path) -> str:
    """What a table is called in messages."""
    return f"{spelled('panel')} {str(file)!r}"


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


def _without_header(rows: Sequence[Sequence[str]], file: Path) -> tuple[list[str], list[str]]:
    """The names, and what files call the channels, in a table without a header."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    texts = [column for column in columns if not all(map(_is_number, column))]
    keys = [column for column in texts if all(map(METAL.fullmatch, column))]
    names = [column for column in texts if column not in keys] or keys
    if len(columns) == 1:
        return columns[0], []
    if len(names) != 1 or len(keys) > 1:
        raise ParameterError(
            f"{_called(file)} must say in its first row which column holds the names: 'name', "
            f"'marker_name', 'marker', 'target' or 'channel'; it has {', '.join(rows[0])}"
        )
    return names[0], keys[0] if keys and keys[0] is not names[0] else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True


def _truth(text: str, column: str, file: Path) -> bool:
    if text.casefold() not in YES | NO:
        raise ParameterError(f"{_called(file)}: {column} must be 0 or 1, got {text!r}")
    return text.casefold() in YES


def _number(text: str, column: str, file: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ParameterError(f"{_called(file)}: {column} must be a number, got {text!r}") from error

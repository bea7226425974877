"""Tables of markers: what channels are called, which are kept, and what is done to each."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from ..aliases import Label
from ..channels import parse_channels, require_unique
from ..errors import ChannelError, ParameterError, listed, listed_names, spelled, warn
from .names import existing_path
from .tables import table_rows

# Headings of columns, the best first; capitals, spaces and underscores do not matter.
NAMES = ("name", "markername", "marker", "target", "biomarker", "channelname", "channel")
KEYS = ("channel", "metaltag", "metal")
CHANNEL_NUMBER, CYCLE = "channelnumber", "cycle"
KEPT, REMOVED = "keep", "remove"
# Headings of numbers that the pipeline takes by channel.
NUMBERS = {"sigma": "sigma", "q": "q", "qpost": "q_post", "capmax": "cap_max"}
# Columns that mean something else, or are looked at by themselves; the last are steinbock's.
NO_COUNTS = {*KEYS, *NUMBERS, KEPT, REMOVED, CHANNEL_NUMBER, "ilastik", "deepcell", "cellpose"}
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
        The column ``channel_number`` (mcmicro), or else the keys if they are in ``channel``.
    other_numbers
        Columns that may tell the order of channels: of cycles, or that count the rows; by heading.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...] = ()
    keep: tuple[bool, ...] = ()
    sigma: Mapping[Label, float] = field(default_factory=dict)
    q: Mapping[Label, float] = field(default_factory=dict)
    q_post: Mapping[Label, float] = field(default_factory=dict)
    cap_max: Mapping[Label, float] = field(default_factory=dict)
    source: str = ""
    in_order: bool = False
    channel_numbers: tuple[str, ...] = ()
    other_numbers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {what: getattr(self, what) for what in ("keys", "keep", "channel_numbers")}
        for what, column in (columns | dict(self.other_numbers)).items():
            if len(column) not in (0, len(self.names)):
                raise ParameterError(
                    f"{what} must have an entry for each of the {len(self.names)} names, or none, "
                    f"got {column!r:.300}"
                )

    @property
    def _called(self) -> str:
        return _called(self.source)

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
            f"{self._called} must tell of the {n_channels} channels of {what}"
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
                    f"{self._called} must keep each channel of {what} once, "
                    f"{key!r} is there as {listed_names([self.names[row] for row in rows])}"
                )

    def _check_order(
        self, rows: Sequence[int], known: Sequence[Sequence[str | None]], what: str
    ) -> None:
        """Raise unless `rows` are in the order of channels, as far as file and table tell it."""
        if self.in_order:
            return
        for own, keys in product(known, (self.keys, self.names)):
            folded = [_folded_name(name or "") for name in own]
            for position, row in enumerate(rows if keys else ()):
                key = _folded_name(keys[row])
                if key and key in folded and folded[position] != key:
                    raise ChannelError(
                        f"{self._called} must name the channels of {what} in their order, or have "
                        f"what the file calls each in a column 'channel': row {row + 1} is "
                        f"{keys[row]!r}, and the file has {listed_names(one or '' for one in own)}"
                    )
        self._check_numbers(rows)

    def _check_numbers(self, rows: Sequence[int]) -> None:
        """Raise if numbers of channels tell another order of `rows`; warn if other numbers may."""
        told = _whole_numbers(self.channel_numbers, rows)
        is_order = bool(told) and len(set(told)) == len(told)
        if is_order and told != sorted(told):
            raise ChannelError(
                f"{self._called} must have its rows in the order of their channel numbers, got "
                f"{listed(list(map(str, told)))}"
            )
        for heading, column in ({} if is_order else self.other_numbers).items():
            numbers = _whole_numbers(column, rows)
            if numbers != sorted(numbers):
                warn(
                    f"{self._called} names channels in the order of its rows; its column "
                    f"{heading!r} has {listed(list(map(str, numbers)))}: sort the rows if that is "
                    "the order of the channels in the file, or else leave the column out"
                )

    def _tell(self) -> None:
        out = [name for row, name in enumerate(self.names) if row not in self.kept]
        if out:
            warn(f"{self._called} does not keep {listed_names(out)}: they are left out")


def parse_panel(
    panel: str | Path | Panel | None, channel_names: Sequence[str] | None
) -> Panel | None:
    """What the user gave as a table, or as a list of all names; None if neither."""
    if panel is not None and channel_names is not None:
        raise ParameterError(f"give {spelled('channel_names')} or {spelled('panel')}, not both")
    if panel is not None:
        return panel if isinstance(panel, Panel) else read_panel(panel)
    names = parse_channels(channel_names, "channel_names")
    if names is None:
        return None
    if not all(isinstance(name, str) and name for name in names):
        raise ParameterError(f"{spelled('channel_names')} must be texts, none empty, got {names}")
    return Panel(tuple(map(str, names)), in_order=True)


def names_or_panel() -> str:
    """What messages say can name channels; folders of fields of view take a panel only."""
    # The command has one option for both.
    return " or ".join(dict.fromkeys((spelled("channel_names"), spelled("panel"))))


def read_panel(path: str | Path) -> Panel:
    r"""The table of markers in a text file.

    Parameters
    ----------
    path
        CSV, TSV, or one name on a line. A header is looked for: names are in a column ``name``,
        ``marker_name``, ``marker``, ``target``, ``biomarker``, ``channel_name`` or ``channel``
        (steinbock's ``panel.csv``, mcmicro's ``markers.csv``), the first of these that is there.
        What files call the channel, as "Ir191", is in ``channel`` beside ``name``, or in ``metal``,
        or in the next column of names; ``keep`` (0 or 1) says which are used, or ``remove`` which
        are not.
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
    headings = [_folded(cell) for cell in first]
    if not set(headings) & set(NAMES):
        names, keys = _without_header([first, *others], file)
        places = [str(place) for place in range(1, len(first) + 1)]
        panel = _made(file, lines, names, keys)
        return replace(panel, other_numbers=_other_numbers(places, rows.values(), names))
    if not others:
        raise ParameterError(f"{_called(file)} must hold names of channels, it has only a header")
    columns = {heading: [row[n] for row in others] for n, heading in enumerate(headings)}
    names = next(columns[heading] for heading in NAMES if heading in columns)
    other_numbers = _other_numbers(first, others, names)
    # The column of the names, or one like it, tells nothing of what files call the channels.
    candidates = (columns[key] for key in (*KEYS, *NAMES) if key in columns)
    keys = next((column for column in candidates if column != names), [])
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
    numbered = keys if keys is columns.get("channel") else ()
    channel_numbers = columns.get(CHANNEL_NUMBER, numbered)
    return replace(panel, channel_numbers=tuple(channel_numbers), other_numbers=other_numbers)


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


def _called(file: Path | str) -> str:
    """What a table is called in messages."""
    return f"{spelled('panel')} {str(file)!r}" if str(file) else spelled("panel")


def _folded(text: str) -> str:
    """A heading without what does not matter: capitals, spaces, underscores and dashes."""
    return re.sub(r"[\s_-]", "", text).casefold()


def _folded_name(name: str) -> str:
    """A name without what does not matter: capitals, and whether a metal is "191Ir" or "Ir191"."""
    if METAL.fullmatch(name):
        name = re.sub(r"[\d()]", "", name) + re.sub(r"\D", "", name)
    return name.casefold()


def _other_numbers(
    headings: Sequence[str], rows: Collection[Sequence[str]], names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The columns of cycles, and those that count the rows from 0 or 1 in whatever order."""
    counts = [list(range(start, start + len(rows))) for start in (0, 1)]
    found = {}
    for heading, column in zip(headings, zip(*rows, strict=True), strict=True):
        is_count = sorted(_whole_numbers(column, range(len(rows)))) in counts
        is_other = _folded(heading) not in NO_COUNTS and list(column) != list(names)
        if _folded(heading) == CYCLE or (is_count and is_other):
            found[heading] = column
    return found


def _whole_numbers(column: Sequence[str], rows: Sequence[int]) -> list[int]:
    """The whole numbers in some rows of a column, "3.0" too; none if a text is something else."""
    texts = [column[row] for row in rows if column and column[row]]
    is_whole = all(re.fullmatch(r"\d+(\.0*)?", text) for text in texts)
    return [int(text.partition(".")[0]) for text in texts] if is_whole else []


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

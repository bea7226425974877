"""How values of this package are shown: as text, and as HTML in notebooks."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

# Columns of text; and how many rows of a table are open in a notebook without a click.
WIDTH, MOST_OPEN = 88, 12
INDENT, NONE = "    ", "none"
# Colours are those of the page around, light or dark; Jupyter aligns cells at the right itself.
STYLE = """
.pxprep-display { line-height: 1.45; margin: 0.3em 0; }
.pxprep-display .title { padding-bottom: 0.3em; border-bottom: 1px solid rgb(128 128 128 / 45%); }
.pxprep-display .soft, .pxprep-display th { opacity: 0.7; }
.pxprep-display details, .pxprep-display .line { padding: 0.25em 0 0; }
.pxprep-display summary { cursor: pointer; }
.pxprep-display .scroll { max-height: 24em; overflow: auto; padding-left: 1.1em; }
.pxprep-display table { border-collapse: collapse; border: 0; margin: 0.2em 0; font-size: 0.95em;
  font-variant-numeric: tabular-nums; color: inherit; }
.pxprep-display tr, .pxprep-display tbody tr:nth-child(odd) { background: none; border: 0; }
.pxprep-display th, .pxprep-display td { border: 0; padding: 0.1em 1.4em 0.1em 0; text-align: left;
  vertical-align: top; font-weight: normal; max-width: 50em; background: none; }
.pxprep-display td:first-child, .pxprep-display .number { white-space: nowrap; }
.pxprep-display .number { text-align: right; }
"""


@dataclass(frozen=True)
class Part:
    """A part of what is shown: a table, or a line of text.

    Attributes
    ----------
    title
        What it is.
    header, rows
        Texts of a table; none for a line. A table may have no header.
    right_aligned
        Which columns, counted from 0, are aligned at the right.
    line
        A text instead of a table. If there are both, notebooks show the table and plain text the
        line.
    count
        How many items the part has, shown after the title; None shows nothing.
    more
        How many of them have no row.
    is_open
        Whether a notebook shows the table without a click; None if it is short.
    """

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    right_aligned: range = range(0)
    line: str = ""
    count: int | None = None
    more: int = 0
    is_open: bool | None = None

    def text(self) -> str:
        """The part as lines of text."""
        title = self.title if self.count is None else f"{self.title} ({self.count})"
        if self.line or not self.rows:
            return textwrap.fill(f"{title}: {self.line or NONE}", WIDTH, subsequent_indent=INDENT)
        rows = [self.header, *self.rows] if self.header else self.rows
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if i in self.right_aligned else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        more = [f"... and {self.more} more"] if self.more else []
        return "\n".join([f"{title}:", *(INDENT + line for line in lines + more)])

    def html(self) -> str:
        """The part as HTML: a table folds up."""
        count = "" if self.count is None else f' <span class="soft">({self.count})</span>'
        title = escape(self.title) + count
        if not self.rows:
            line = escape(self.line or NONE)
            return f'<div class="line">{title}: <span class="soft">{line}</span></div>'
        is_open = len(self.rows) <= MOST_OPEN if self.is_open is None else self.is_open
        head = f"<thead>{self._row(self.header, 'th')}</thead>" if self.header else ""
        body = "".join(self._row(row, "td") for row in self.rows)
        more = f'<div class="soft">and {self.more} more</div>' if self.more else ""
        return (
            f"<details{' open' if is_open else ''}><summary>{title}</summary>"
            f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table>{more}</div></details>'
        )

    def _row(self, cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if i in self.right_aligned else "" for i in range(len(cells))]
        row = [
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        ]
        return f"<tr>{''.join(row)}</tr>"


@dataclass(frozen=True)
class Display:
    """What is shown of a value: its kind, a summary, and parts."""

    kind: str
    summary: str
    parts: Sequence[Part]

    def text(self) -> str:
        """As lines of text."""
        return "\n".join([f"<{self.kind} {self.summary}>", *(part.text() for part in self.parts)])

    def html(self) -> str:
        """As HTML, with its own style."""
        title = f'<div class="title"><b>{escape(self.kind)}</b> {escape(self.summary)}</div>'
        parts = "".join(part.html() for part in self.parts)
        return f'<div class="pxprep-display"><style>{STYLE}</style>{title}{parts}</div>'


class Displayable:
    """Base class of values that show themselves: subclasses define `_display`."""

    def _display(self) -> Display:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._display().text()

    def _repr_html_(self) -> str:
        return self._display().html()


def in_a_line(values: Sequence[object]) -> str:
    """Names in a line."""
    return ", ".join(map(str, values))


def counted(number: int, noun: str) -> str:
    """A number and its noun, a plural in s: ``counted(1, "images")`` is "1 image"."""
    return f"{number:,} {noun}" if number != 1 else f"1 {noun.removesuffix('s')}"


def value_text(value: object) -> str:
    """A value that JSON can hold, in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(value_text, value))
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return "not given" if value is None else str(value)


def seconds_text(seconds: float) -> str:
    """A duration, in few characters."""
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

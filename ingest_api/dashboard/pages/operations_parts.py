"""What the pages for operators have of their own: tables whose cells say something on what is in them, spans of time.

Belongs here: how a thing is written. Does not belong here: which things there are (``operations``,
``operations_letters``), what all pages are made of (``widgets``, ``words``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dash import html

from ingest_api.dashboard import widgets
from ingest_api.dashboard.widgets import Column, aria
from ingest_api.dashboard.words import NONE

# Each unit is used up to twice itself, so that "90 s" is not "1 min".
_UNITS = ((1, "s"), (60, "min"), (3_600, "h"), (86_400, "days"))


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: what it says, a smaller line below, and whether it is a figure."""

    content: Any
    about: str = ""
    number: bool = False


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], empty: str) -> Any:
    """Return a table that scrolls by itself where it is too wide; on a phone its rows become blocks.

    Args:
        caption: What it is, for everybody.
        heads: The names of its columns; the first cell of a row names the row.
        rows: Its rows.
        empty: What is said in its place when there is none.
    """
    if not rows:
        return html.P(empty, className="muted")
    columns = [Column(head, cell.number) for head, cell in zip(heads, rows[0], strict=True)]
    whole = widgets.table(caption, columns, [_contents(row) for row in rows], css="list")
    # The caption once more, where a phone's blocks have room for it; it is read out with the table.
    shown = html.P(caption, className="hint", **aria(hidden="true"))
    # By its id the keyboard finds the way back when the table is made anew, see ``assets/pages.js``.
    name = "table-" + "-".join(caption.lower().split()[:4])
    return html.Div([shown, widgets.scroller(whole, caption, id=name)])


def chip(word: str, kind: str) -> Any:
    """Return a word about a state; ``kind`` is ``good``, ``bad``, ``warn`` or ``live``."""
    return widgets.chip(word, f"chip chip-{kind}")


def time(moment: datetime) -> Any:
    """Return a moment, in UTC, to the second."""
    return html.Time(f"{moment:%Y-%m-%d %H:%M:%S} UTC", dateTime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was, roughly; a dash where there was nothing."""
    if since is None:
        return NONE
    passed = max(0.0, (now - since).total_seconds())
    size, unit = next((each for each in reversed(_UNITS) if passed >= 2 * each[0]), _UNITS[0])
    return f"{passed / size:.0f} {unit}"


def _contents(row: Sequence[Cell]) -> list[Any]:
    first, *others = row
    return [html.Div(_content(first), className="title"), *map(_content, others)]


def _content(cell: Cell) -> Any:
    return [html.Div(cell.content), html.Div(cell.about, className="about")] if cell.about else cell.content

"""What the pages for operators are made of: tables, figures, spans of time in words.

Belongs here: how a thing is written. Does not belong here: which things there are (``operations``,
``operations_letters``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dash import html

from ingest_api.dashboard.widgets import aria, data

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
    are_numbers = [cell.number for cell in rows[0]]
    named = [_head(head, is_number) for head, is_number in zip(heads, are_numbers, strict=True)]
    whole = html.Table(
        [
            html.Caption(caption, className="unseen"),
            # Roles said twice: some browsers forget a table that a style has made blocks of.
            html.Thead(html.Tr(named, role="row"), role="rowgroup"),
            html.Tbody([_row(heads, row) for row in rows], role="rowgroup"),
        ],
        className="list",
        role="table",
    )
    # The caption once more, where a phone's blocks have room for it; it is read out with the table.
    shown = html.P(caption, className="hint", **aria(hidden="true"))
    # By its id the keyboard finds the way back when the table is made anew, see ``assets/pages.js``.
    name = "table-" + "-".join(caption.lower().split()[:4])
    region = html.Div(whole, id=name, className="scroller", tabIndex=0, role="region", **aria(label=caption))
    return html.Div([shown, region])


def figure(name: str, value: Any, about: str) -> Any:
    """Return one of a row of figures."""
    return html.Div([html.Dt(name), html.Dd(value, className="value"), html.Dd(about, className="share")])


def chip(word: str, kind: str) -> Any:
    """Return a word about a state; ``kind`` is ``good``, ``bad``, ``warn`` or ``live``."""
    return html.Span(word, className=f"chip chip-{kind}")


def time(moment: datetime) -> Any:
    """Return a moment, in UTC."""
    return html.Time(f"{moment:%Y-%m-%d %H:%M:%S} UTC", dateTime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def count(number: int) -> str:
    """Return a number for people."""
    return f"{number:,}"


def percent(part: int, whole: int) -> str:
    """Return a share; never 100 % of what is not whole."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{min(share, 99.9) if part < whole else share:.1f} %"


def seconds(number: float | None) -> str:
    """Return a short time to an answer."""
    if number is None:
        return "–"
    return f"{number * 1_000:.0f} ms" if number < 1 else f"{number:.1f} s"


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was, roughly; a dash where there was nothing."""
    if since is None:
        return "–"
    passed = max(0.0, (now - since).total_seconds())
    size, unit = next((each for each in reversed(_UNITS) if passed >= 2 * each[0]), _UNITS[0])
    return f"{passed / size:.0f} {unit}"


def _head(name: str, is_number: bool) -> Any:
    return html.Th(name, scope="col", className="number" if is_number else "", role="columnheader")


def _row(heads: Sequence[str], cells: Sequence[Cell]) -> Any:
    first, *others = cells
    return html.Tr(
        [
            html.Th(_content(first), scope="row", className="title", role="rowheader"),
            *(
                html.Td(_content(cell), className="number" if cell.number else "", role="cell", **data(name=head))
                for head, cell in zip(heads[1:], others, strict=True)
            ),
        ],
        role="row",
    )


def _content(cell: Cell) -> Any:
    return [html.Div(cell.content), html.Div(cell.about, className="about")] if cell.about else cell.content

"""Parts that several pages are made of.

Belongs here: attributes, tables, figures, chips. Does not belong here: what any page shows (``pages``), how figures are
written (``words``), colours and sizes (``assets/style.css``).

Text is given to Dash as text, never as markup: titles and topics are whatever a tenant has sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dash import dcc, html

from ingest_api.dashboard import words
from notify_pipeline.core.vocabulary import RequestState

_CHIPS = {
    RequestState.ACCEPTED: "chip chip-live",
    RequestState.ROUTED: "chip chip-live",
    RequestState.SENDING: "chip chip-live",
    RequestState.DONE: "chip chip-good",
    RequestState.FAILED: "chip chip-bad",
    RequestState.EXPIRED: "chip chip-warn",
    RequestState.UNROUTED: "chip chip-warn",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading.
        is_number: Right-aligned, with figures of one width.
        link: The address that orders the table by it, if anything does.
        id: Of the link.
        order: "ascending" or "descending" when the table is in its order.
    """

    name: str
    is_number: bool = False
    link: str | None = None
    id: str = ""
    order: str | None = None


def aria(**values: object) -> dict[str, Any]:
    """Return attributes for assistive technology: ``aria(label="Pages")``."""
    return {f"aria-{name}": value for name, value in values.items()}


def data(**values: object) -> dict[str, Any]:
    """Return attributes for scripts and styles: ``data(title="News")``."""
    return {f"data-{name.replace('_', '-')}": value for name, value in values.items()}


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, last: Sequence[Any] = (), css: str = ""
) -> Any:
    """Return a table.

    Args:
        caption: What it is about; read out first.
        columns: Its columns. The first one's cells are headings of their rows.
        rows: Cells: text, or components.
        last: A row of sums below.
        css: Classes; ``list`` makes each row a block on phones.
    """
    # Roles said twice: some browsers forget a table that a style has made blocks of.
    heads = html.Tr([_head(column) for column in columns], role="row")
    body = html.Tbody([_row(columns, cells) for cells in rows], role="rowgroup")
    foot = [html.Tfoot([_row(columns, last)], role="rowgroup")] if last else []
    parts = [html.Caption(caption, className="unseen"), html.Thead(heads, role="rowgroup"), body, *foot]
    return html.Table(parts, className=css, role="table")


def scroller(content: Any, label: str, *, css: str = "scroller", **attributes: Any) -> Any:
    """Return a box that scrolls what is too wide for the page; with a keyboard, too."""
    return html.Div(content, className=css, tabIndex=0, role="region", **aria(label=label), **attributes)


def figures(shown: Iterable[tuple[str, Any, str]]) -> Any:
    """Return figures in a row: name, value, and a few words on it."""
    boxes = [
        html.Div([html.Dt(name), html.Dd([html.Div(value, className="value"), html.Div(note, className="share")])])
        for name, value, note in shown
    ]
    return html.Dl(boxes, className="figures")


def chip(text: str, css: str = "chip") -> Any:
    """Return a word in a box."""
    return html.Span(text, className=css)


def state(name: str) -> Any:
    """Return where a request stands."""
    return chip(words.state(name), _CHIPS.get(RequestState(name), "chip"))


def moment(at: datetime | None) -> Any:
    """Return a moment."""
    return words.NONE if at is None else html.Time(words.moment(at), dateTime=at.isoformat())


def card(title: str, about: str, content: Sequence[Any], **attributes: Any) -> Any:
    """Return a section with a heading."""
    return html.Section([html.H2(title), html.P(about, className="hint"), *content], className="card", **attributes)


def numbers(content: Any, name: str = "Numbers") -> Any:
    """Return what is shown when somebody asks for a chart's numbers."""
    return html.Details([html.Summary(name), content])


def empty(title: str, *about: Any) -> Any:
    """Return what is shown where there is nothing, and what to do about it."""
    return html.Div([html.H2(title), *(html.P(each) for each in about)], className="empty")


def field(name: str, control: Any, css: str = "field") -> Any:
    """Return a control with its name."""
    return html.Div([html.Label(name, htmlFor=control.id), control], className=css)


def choice(name: str, chosen: str | None, options: Iterable[tuple[str, str]], *, id: str) -> Any:  # noqa: A002
    """Return a list to choose from: value and text of each, which the form sends by the name."""
    items = [html.Option(text, value=value, selected=value == (chosen or "")) for value, text in options]
    return html.Select(items, id=id, name=name)


def link(text: Any, href: str, css: str = "") -> Any:
    """Return a link to another page of the dashboard."""
    return dcc.Link(text, href=href, className=css)


def _head(column: Column) -> Any:
    css = "number" if column.is_number else ""
    if column.link is None:
        return html.Th(column.name, scope="col", className=css, role="columnheader")
    marked = {None: "", "descending": "sorted", "ascending": "sorted-up"}[column.order]
    name = dcc.Link(html.Span(column.name, className=marked), href=column.link, id=column.id)
    order = aria(sort=column.order) if column.order else {}
    return html.Th(name, scope="col", className=css, role="columnheader", **order)


def _row(columns: Sequence[Column], cells: Sequence[Any]) -> Any:
    made: list[Any] = [html.Th(cells[0], scope="row", role="rowheader")]
    for column, cell in zip(columns[1:], cells[1:], strict=True):
        css = "number" if column.is_number else ""
        made.append(html.Td(cell, className=css, role="cell", **data(name=column.name)))
    return html.Tr(made, role="row")

"""What the list shows: sums, days and rows.

Belongs here: components made of what was read. Does not belong here: reading (``pages.notifications``), the filters
(``filtering``).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from dash import html

from ingest_api.dashboard import widgets, words
from ingest_api.dashboard.asking import Asked
from ingest_api.dashboard.page import address
from ingest_api.dashboard.widgets import Column, aria
from ingest_api.reports.asking import cursor_of
from notify_pipeline.reports.reading_lists import Page, Sort
from notify_pipeline.reports.reading_rows import Row

# The columns, and the figure that each puts the list in order of.
_FIGURES = {
    "Audience": "audience",
    "Accepted": "accepted",
    "Received": "received",
    "Opened": "opened",
    "Clicked": "clicked",
    "In 2 min": "share_120s",
    "Median": "p50_s",
}
# More bars than these are months.
_MOST_DAYS = 92
_FORMATS = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet"}
NOTIFICATIONS = "notifications"


def results(asked: Asked, page: Page, sums: Row, days: Sequence[Row], names: Mapping[str, str]) -> list[Any]:
    """Return what the filters have found.

    Args:
        asked: What was asked for.
        page: The rows, as they stand now.
        sums: Of all pages.
        days: Sums by day.
        names: Of the organizations, by id, where there are any.
    """
    said = [html.P(each) for each in asked.problems]
    problems = [html.Div(said, className="notice notice-bad", role="alert")] if said else []
    if not page.rows:
        return [*problems, _nothing(asked, page)]
    return [
        *problems,
        _figures(sums),
        *_series(asked, days),
        html.Section([_above(asked, page, sums), _table(asked, page.rows, sums, names), _paging(asked, page)]),
    ]


def _figures(sums: Row) -> Any:
    return widgets.figures(
        [
            ("Notifications", words.count(sums["notifications"]), ""),
            ("Audience", words.count(sums["audience"]), ""),
            ("Accepted", words.count(sums["accepted"]), _of(sums, "accepted", "audience")),
            ("Received", words.count(sums["received"]), _of(sums, "received", "accepted")),
            ("Opened", words.count(sums["opened"]), _of(sums, "opened", "received")),
            ("Clicked", words.count(sums["clicked"]), _of(sums, "clicked", "received")),
            ("In 2 minutes", words.share(sums["share_120s"]), "of accepted were received"),
        ]
    )


def _of(figures: Mapping[str, Any], part: str, whole: str) -> str:
    return f"{words.share_of(figures[part], figures[whole])} of {whole}" if figures[whole] else ""


def _series(asked: Asked, days: Sequence[Row]) -> list[Any]:
    """Return accepted deliveries by day, or by month where days would be too many to see."""
    by_day = {row["day"]: row for row in days}
    if len(by_day) < 2:
        return []
    first = max(min(by_day), asked.first or min(by_day))
    span = (max(by_day) - first).days + 1
    unit, shown = ("day", _by_day(first, span, by_day)) if span <= _MOST_DAYS else ("month", _by_month(by_day))
    highest = max(row["accepted"] for _, row in shown) or 1
    name, most = max(shown, key=lambda each: int(each[1]["accepted"]))
    told = f"Accepted deliveries by {unit}. Most on {name}: {words.count(most['accepted'])}."
    bars = [
        html.Span(style={"height": f"{100 * row['accepted'] / highest:.2f}%"}, title=_told(name, row))
        for name, row in shown
    ]
    columns = [
        Column(unit.title()),
        *(Column(each, True) for each in ("Notifications", "Accepted", "Received", "Opened")),
    ]
    cells = [
        [name, *(words.count(row[each]) for each in ("notifications", "accepted", "received", "opened"))]
        for name, row in reversed(shown)
    ]
    rows = widgets.scroller(widgets.table(told, columns, cells), f"Numbers by {unit}", css="scroller tall")
    chart = [
        html.Div(bars, className="bars", role="img", **aria(label=told)),
        html.Div([html.Span(shown[0][0]), html.Span(shown[-1][0])], className="axis", **aria(hidden="true")),
    ]
    content = [html.Figure(chart, className="chart"), widgets.numbers(rows)]
    return [widgets.card(f"By {unit}", "Accepted deliveries of the notifications accepted then.", content)]


def _by_day(first: date, span: int, found: Mapping[date, Row]) -> list[tuple[str, Row]]:
    nothing = dict.fromkeys(("notifications", "accepted", "received", "opened"), 0)
    days = [first + timedelta(days=number) for number in range(span)]
    return [(words.day(day), found.get(day, nothing)) for day in days]


def _by_month(found: Mapping[date, Row]) -> list[tuple[str, Row]]:
    months: dict[str, Row] = {}
    for day in sorted(found):
        sums = months.setdefault(f"{day:%b %Y}", dict.fromkeys(("notifications", "accepted", "received", "opened"), 0))
        for name in sums:
            sums[name] += found[day][name]
    return list(months.items())


def _told(name: str, row: Row) -> str:
    sends = words.many(row["notifications"], "notification")
    return f"{name}: {words.count(row['accepted'])} accepted, {sends}"


def _above(asked: Asked, page: Page, sums: Row) -> Any:
    total = words.many(sums["notifications"], "notification")
    shown = total if len(page.rows) == sums["notifications"] else f"{words.count(len(page.rows))} of {total}"
    files = [
        html.A(text, href=address(f"reports.{name}", asked.download), download="", className="button")
        for name, text in _FORMATS.items()
    ]
    return html.Div(
        [html.H2(shown), html.Div([html.Span("Download", className="muted"), *files], className="row downloads")],
        className="row spread",
    )


def _table(asked: Asked, rows: Sequence[Row], sums: Row, names: Mapping[str, str]) -> Any:
    columns = [
        _column(asked, "Notification", "accepted_at", is_number=False),
        *(_column(asked, name, figure) for name, figure in _FIGURES.items()),
        Column("State"),
    ]
    last = [
        "All pages",
        *(words.count(sums[name]) for name in ("audience", "accepted", "received", "opened", "clicked")),
        words.share(sums["share_120s"]),
        "",
        "",
    ]
    cells = [list(_cells(row, names, asked)) for row in rows]
    made = widgets.table("Notifications, one per row", columns, cells, last=last, css="list")
    return widgets.scroller(made, "Notifications")


def _column(asked: Asked, name: str, figure: str, *, is_number: bool = True) -> Column:
    """Return a column that puts the list in its order, the largest first, and at once more the other way round."""
    is_here = asked.sort.column == figure
    order = None
    if is_here:
        order = "descending" if asked.sort.is_descending else "ascending"
    wanted = figure if is_here and asked.sort.is_descending else f"-{figure}"
    sort = None if wanted == Sort.NEWEST else wanted
    return Column(name, is_number, address("", asked.given, sort=sort, cursor=None), f"sort-{figure}", order)


def _cells(row: Row, names: Mapping[str, str], asked: Asked) -> Iterator[Any]:
    figures = _shown_figures(row, asked)
    yield _title(row, names, asked)
    for name in ("audience", "accepted", "received", "opened", "clicked"):
        yield words.count(figures[name])
    yield words.share(figures["share_120s"])
    yield words.seconds(figures["p50_s"])
    settled = "Settled" if row["settled"] else "May change"
    yield html.Div([widgets.state(row["state"]), html.Div(settled, className="hint")])


def _shown_figures(row: Row, asked: Asked) -> Mapping[str, Any]:
    """Return a row's figures; with a platform asked for, that platform's where it is one row."""
    mine: list[Mapping[str, Any]] = row["platforms"]
    return mine[0] if asked.where.is_of_platforms and len(mine) == 1 else row["totals"]


def _title(row: Row, names: Mapping[str, str], asked: Asked) -> list[Any]:
    own = row["tenant"] == asked.where.tenants[0] and asked.organization is None
    href = address(
        f"{NOTIFICATIONS}/{quote(row['notification_id'], safe='')}", {"organization": None if own else row["tenant"]}
    )
    about = [widgets.moment(row["accepted_at"]), html.Span(row["type"])]
    about += [html.Span(words.platform(name)) for name in dict.fromkeys(each["platform"] for each in row["platforms"])]
    about += [html.Span(topic) for topic in row["topics"][:3]]
    if len(row["topics"]) > 3:
        about.append(html.Span(f"and {words.many(len(row['topics']) - 3, 'topic')} more"))
    if len(asked.where.tenants) > 1 and row["tenant"] in names:
        about.append(html.Span(names[row["tenant"]]))
    if row["is_dry_run"]:
        about.append(widgets.chip("Dry run"))
    return [
        html.Div(widgets.link(row["title"] or row["notification_id"], href), className="title"),
        html.Div(about, className="about"),
    ]


def _paging(asked: Asked, page: Page) -> Any:
    links = []
    if asked.after is not None:
        links.append(widgets.link("First page", address("", asked.given, cursor=None), "button"))
    following = cursor_of(page.following)
    if following is not None:
        links.append(widgets.link("Next page", address("", asked.given, cursor=following), "button"))
    return html.Nav(links, className="row pages", **aria(label="Pages of the list")) if links else None


def _nothing(asked: Asked, page: Page) -> Any:
    if page.version is None:
        about = "The first ones appear about a minute after something was sent."
        return widgets.empty("There are no reports yet", about)
    narrowing = [name for name in asked.given if name not in ("range", "from", "to", "sort", "cursor")]
    if narrowing:
        clear = address("", {name: asked.given[name] for name in ("range", "from", "to") if name in asked.given})
        return widgets.empty(
            "No notification fits these filters",
            "Choose other days, or fewer filters.",
            widgets.link("Clear filters", clear),
        )
    longer = [] if asked.given.get("range") == "30d" else [widgets.link("Show 30 days", address("", {"range": "30d"}))]
    about = "Choose other days. What was accepted only now comes in by itself, most often within a minute."
    return widgets.empty("No reports of these days", about, *longer)

"""What stands behind a report: platforms, stages, failures, actions, and another send beside it.

Belongs here: those tables. Does not belong here: figures and funnel (``standing``), curves, reading.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from dash import dcc, html

from ingest_api.dashboard import widgets, words
from ingest_api.dashboard.page import address
from ingest_api.dashboard.widgets import Column, aria, data
from notify_pipeline.reports.reading_rows import Row

_STAGES = {
    "queued": ("Queued", "due until called"),
    "provider": ("Provider", "called until accepted"),
    "device": ("Device", "accepted until received"),
    "total": ("Total", "due until received"),
}
_FORMATS = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet"}
_OUTCOMES = {
    "invalid_recipient": "Invalid recipient",
    "permanent": "Permanent",
    "transient": "Transient",
    "throttled": "Throttled",
    "ambiguous": "Ambiguous",
    "skipped": "Skipped",
    "expired": "Expired",
}
_COMPARED = {
    "audience": "Audience",
    "accepted": "Accepted",
    "accepted_rate": "Accepted of audience",
    "received": "Received",
    "received_rate": "Received of accepted",
    "opened": "Opened",
    "opened_rate": "Opened of received",
    "clicked": "Clicked",
    "clicked_rate": "Clicked of received",
    "failed": "Failed",
    "invalid": "Invalid",
    "share_120s": "In 2 minutes",
    "p50_s": "Median",
    "p90_s": "90\u00a0% within",
    "p99_s": "99\u00a0% within",
}


def platforms(rows: Sequence[Row]) -> Any:
    """Return each platform's figures."""
    if not rows:
        return html.P("No recipients are planned yet.", className="muted")
    names = ("audience", "attempted", "accepted", "failed", "invalid", "skipped", "received", "opened", "clicked")
    columns = [
        Column("Platform"),
        *(Column(name.title(), True) for name in names),
        *(Column(name, True) for name in ("In 2 min", "Median", "90\u00a0% in", "99\u00a0% in")),
    ]
    cells = [
        [
            _place(row),
            *(words.count(row[name]) for name in names),
            words.share(row["share_120s"]),
            *(words.seconds(row[name]) for name in ("p50_s", "p90_s", "p99_s")),
        ]
        for row in rows
    ]
    return widgets.table("Figures by platform and provider", columns, cells)


def latencies(rows: Sequence[Row]) -> Any:
    """Return how long each stage took."""
    if not rows:
        return html.P("Nothing has been received yet.", className="muted")
    columns = [
        Column("Stage"),
        Column("Platform"),
        *(Column(name, True) for name in ("Deliveries", "Median", "90\u00a0% in", "99\u00a0% in", "Longest")),
    ]
    cells = [
        [
            _stage(row["stage"]),
            _place(row),
            words.count(row["deliveries"]),
            *(words.seconds(row[name]) for name in ("p50_s", "p90_s", "p99_s", "max_s")),
        ]
        for row in rows
    ]
    return widgets.table("How long each stage of a delivery took", columns, cells)


def failures(rows: Sequence[Row]) -> Any:
    """Return how deliveries failed."""
    if not rows:
        return html.P("None so far.", className="muted")
    columns = [
        Column("Outcome"),
        Column("Code or reason"),
        Column("Platform"),
        *(Column(name, True) for name in ("Deliveries", "Attempts")),
        Column("First"),
        Column("Last"),
    ]
    cells = [
        [
            _OUTCOMES.get(row["outcome"], row["outcome"]),
            html.Code(row["provider_code"]) if row["provider_code"] else words.NONE,
            _place(row),
            words.count(row["deliveries"]),
            words.count(row["attempts"]),
            _time(row["first_at"]),
            _time(row["last_at"]),
        ]
        for row in rows
    ]
    return widgets.table("Deliveries that were not accepted, by outcome and code", columns, cells)


def actions(rows: Sequence[Row]) -> Any:
    """Return clicks on buttons."""
    if not rows:
        return html.P("No button of it was clicked.", className="muted")
    columns = [Column("Action"), Column("Platform"), Column("Clicked", True), Column("Clicks, repeats included", True)]
    cells = [
        [row["action"], words.platform(row["platform"]), words.count(row["clicked"]), words.count(row["hits"])]
        for row in rows
    ]
    return widgets.table("Clicks on the notification's actions", columns, cells)


def chooser(notification_id: str, query: Mapping[str, str]) -> Any:
    """Return the form that asks for another send."""
    control = dcc.Input(id="compare-with", name="with", type="text", value=query.get("with", ""), autoComplete="off")
    organization = query.get("organization")
    hidden = [dcc.Input(id="compare-organization", name="organization", type="hidden", value=organization)]
    action = address(f"notifications/{quote(notification_id, safe='')}", {})
    button = html.Button("Compare", type="submit", className="button", disable_n_clicks=True)
    parts = [widgets.field("Notification id", control, "field field-wide"), *(hidden if organization else []), button]
    return html.Form(parts, action=action, className="filters", **data(live=""), **aria(label="Compare"))


def files(notification_id: str, table: str, query: Mapping[str, str]) -> Any:
    """Return links to a table as files."""
    place = f"notifications/{quote(notification_id, safe='')}/{table}"
    kept = {"organization": query.get("organization")}
    links = [
        html.A(
            text,
            href=address(f"{place}.{form}", kept),
            download="",
            className="button",
            **aria(label=f"{text} of {table}"),
        )
        for form, text in _FORMATS.items()
    ]
    return html.Div(links, className="row downloads")


def comparison(found: Row) -> list[Any]:
    """Return two sends side by side, and why they may not be compared as they stand."""
    first, other = found["first"], found["other"]
    columns = [
        Column("Figure"),
        Column("This one", True),
        Column(other["title"] or other["notification_id"], True),
        Column("Difference", True),
    ]
    cells = [[text, *_compared(name, found["totals"][name])] for name, text in _COMPARED.items()]
    caveats = [html.Li(each["message"]) for each in found["caveats"]]
    told = f"{first['title'] or first['notification_id']} beside {other['title'] or other['notification_id']}"
    return [
        *([html.Ul(caveats, className="notice")] if caveats else []),
        widgets.scroller(widgets.table(told, columns, cells), "Comparison"),
    ]


def problem(message: str) -> list[Any]:
    """Return why there is nothing to compare with."""
    return [html.P(message, className="notice notice-bad", role="alert")]


def _compared(name: str, figures: Mapping[str, float | None]) -> Iterable[str]:
    written = words.seconds if name.endswith("_s") else words.share if name.endswith(("_rate", "120s")) else words.count
    yield from (written(figures[each]) for each in ("first", "other"))
    difference = figures["difference"]
    if not difference:
        yield words.NONE if difference is None else "±0"
        return
    sign = "+" if difference > 0 else "−"
    points = written is words.share
    yield f"{sign}{abs(difference) * 100:.1f} points" if points else f"{sign}{written(abs(difference))}"


def _stage(name: str) -> Any:
    title, about = _STAGES.get(name, (name, ""))
    return [html.Div(title), html.Div(about, className="hint")]


def _place(row: Row) -> Any:
    name = words.platform(row["platform"])
    return [html.Div(name), html.Div(row["provider"], className="hint")]


def _time(at: Any) -> Any:
    return html.Time(f"{at:%H:%M:%S}", dateTime=at.isoformat())

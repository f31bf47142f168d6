"""Where a send stands: its description, its figures, its funnel, and all of that in words.

Belongs here: components made of one report. Does not belong here: curves (``curves``), tables of what stands behind it
(``behind``), reading.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from ingest_api.dashboard import widgets, words
from ingest_api.dashboard.widgets import aria
from notify_pipeline.core.vocabulary import RequestState
from notify_pipeline.reports.reading_rows import Row

# The stages of the funnel, and each one's whole.
_STAGES = {"audience": "", "accepted": "audience", "received": "accepted", "opened": "received", "clicked": "received"}
# As many fills as the style has; a send to more platforms than these has its smallest ones in the last.
_FILLS = 5
_REST = "platforms follow"
# Screen readers are told of progress at each of these steps, not at each recipient.
_STEP_PERCENT = 10


def description(report: Row, organization: str | None) -> list[Any]:
    """Return a few words on what was sent."""
    parts: list[Any] = [
        html.Span(["Accepted ", widgets.moment(report["accepted_at"]), " UTC"]),
        html.Span(report["type"]),
    ]
    if report["send_at"] is not None:
        parts.append(html.Span(["To be sent ", _sent_at(report["send_at"]), " UTC"]))
    if report["category"]:
        parts.append(html.Span(report["category"]))
    parts += [html.Span(f"{report['priority']} priority")]
    parts += [html.Span(topic) for topic in report["topics"]]
    if report["domain"]:
        parts.append(html.Span(report["domain"]))
    if organization is not None:
        parts.append(html.Span(organization))
    parts.append(html.Code(report["notification_id"]))
    return parts


def chips(report: Row) -> list[Any]:
    """Return where it stands."""
    found = [widgets.state(report["state"])]
    if report["is_dry_run"]:
        found.append(widgets.chip("Dry run"))
    found.append(widgets.chip("Settled", "chip chip-good") if report["settled"] else widgets.chip("May change"))
    return found


def sentence(report: Row) -> str:
    """Return how final the figures are."""
    through = report["received_through"]
    logs = f"Logs are read through {words.moment(through)} UTC." if through else "No logs have been read yet."
    if not RequestState(report["state"]).is_final:
        moving = "It is being sent: what is counted of sending is of this moment, and this page moves by itself."
        return f"{moving} {logs}"
    if report["settled"]:
        return f"All logs of it are read; no change is expected any more. {logs}"
    if not report["totals"]["accepted"]:
        return f"Its sending has ended, and nothing was accepted. {logs}"
    return f"Its sending has ended. Devices' beacons may still come in, so what was received can grow. {logs}"


def said(report: Row) -> str:
    """Return what is read out when it changes."""
    totals, state = report["totals"], words.state(report["state"])
    if RequestState(report["state"]).is_final:
        return f"{state}: {words.count(totals['accepted'])} accepted."
    audience = totals["audience"]
    percent = 100 * totals["attempted"] // audience // _STEP_PERCENT * _STEP_PERCENT if audience else 0
    return f"{state}: {percent} percent of {words.count(audience)} recipients tried."


def figures(report: Row) -> Any:
    """Return the totals."""
    of = report["totals"]
    return widgets.figures(
        [
            ("Audience", words.count(of["audience"]), _left(of)),
            ("Accepted", words.count(of["accepted"]), _share(of, "accepted")),
            ("Received", words.count(of["received"]), _share(of, "received")),
            ("Opened", words.count(of["opened"]), _share(of, "opened")),
            ("Clicked", words.count(of["clicked"]), _share(of, "clicked")),
            ("In 2 minutes", words.share(of["share_120s"]), _in_two_minutes(of["share_120s"])),
            ("Median", words.seconds(of["p50_s"]), _ninety(of["p90_s"])),
        ]
    )


def funnel(report: Row) -> list[Any]:
    """Return a bar for each stage, made of its platforms."""
    totals, platforms = report["totals"], by_platform(report["platforms"])
    whole = max(1, totals["audience"])
    shown = [name for name in _STAGES if name != "clicked" or totals["clicked"]]
    legend = [
        html.Li([html.Span(className=f"swatch {_fill(number)}", **aria(hidden="true")), words.platform(name)])
        for number, name in enumerate(platforms)
    ]
    if any(_rest(totals, platforms, name) for name in shown):
        legend.append(html.Li([html.Span(className="swatch fill-rest", **aria(hidden="true")), _REST]))
    bars = [_bar(name, totals, platforms, whole) for name in shown]
    told = ", ".join(f"{name} {words.count(totals[name])}" for name in shown)
    return [
        html.Ul(legend, className="legend"),
        html.Div(bars, role="img", **aria(label=f"Funnel: {told}. The table of platforms has all numbers.")),
    ]


def by_platform(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Return each platform's counts, those of its providers added up, the largest platform first."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(row["platform"], dict.fromkeys(_STAGES, 0))
        for name in _STAGES:
            counts[name] += row[name]
    return dict(sorted(found.items(), key=lambda each: -each[1]["audience"]))


def _bar(name: str, totals: Mapping[str, Any], platforms: Mapping[str, Mapping[str, int]], whole: int) -> Any:
    pieces = [
        html.Span(
            className=_fill(number),
            style={"width": f"{100 * counts[name] / whole:.3f}%"},
            title=f"{words.platform(platform)}: {words.count(counts[name])}",
        )
        for number, (platform, counts) in enumerate(platforms.items())
        if counts[name]
    ]
    if rest := _rest(totals, platforms, name):
        width = f"{100 * rest / whole:.3f}%"
        pieces.append(html.Span(className="fill-rest", style={"width": width}, title=f"{_REST}: {words.count(rest)}"))
    of_whole = _share(totals, name) if _STAGES[name] else ""
    share = f" ({of_whole})" if of_whole else ""
    number = html.Span([words.count(totals[name]), html.Span(share, className="hint")], className="number")
    return html.Div([html.Span(name.title()), html.Div(pieces, className="track"), number], className="stage")


def _share(totals: Mapping[str, Any], name: str) -> str:
    whole = _STAGES[name]
    return f"{words.share_of(totals[name], totals[whole])} of {whole}" if totals[whole] else ""


def _rest(totals: Mapping[str, Any], platforms: Mapping[str, Mapping[str, int]], name: str) -> int:
    """Return how many of a stage the published version knows no platform of, while the ledger counts them already."""
    return max(0, int(totals[name]) - sum(counts[name] for counts in platforms.values()))


def _in_two_minutes(share: float | None) -> str:
    return "" if share is None else "of accepted were received"


def _ninety(seconds: float | None) -> str:
    return "" if seconds is None else f"90\u00a0% in {words.seconds(seconds)}"


def _left(totals: Mapping[str, Any]) -> str:
    others = [(name, totals[name]) for name in ("skipped", "expired", "dry_run") if totals[name]]
    return ", ".join(f"{words.count(number)} {name.replace('_', ' ')}" for name, number in others)


def _fill(number: int) -> str:
    return f"fill-{min(number + 1, _FILLS)}"


def _sent_at(at: Any) -> Any:
    # The ledger has what the caller wrote.
    return at if isinstance(at, str) else widgets.moment(at)

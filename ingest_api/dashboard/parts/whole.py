"""One notification's page, put together from its parts.

Belongs here: which cards there are, and what moves in them. Does not belong here: what a part shows (``standing``,
``curves``, ``behind``), reading.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dash import html

from ingest_api.dashboard import widgets
from ingest_api.dashboard.parts import behind, curves, standing
from ingest_api.dashboard.widgets import aria
from notify_pipeline.reports.reading_rows import Row

# What moves while the page is open: each is all that its box has in it.
BOXES: Final = (
    *("chips", "sentence", "figures", "funnel", "timeline-told", "latency-told"),
    *("rows", "platforms", "latencies", "failures", "actions", "said"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A report, and what stands behind it.

    Attributes:
        report: As ``GET /reports/{notification_id}`` has it.
        timeline: Its steps of ten seconds, by platform.
        failures: How deliveries failed.
        latencies: How long their stages took.
        actions: Clicks on its buttons.
        token: A word that changes when any of this does.
    """

    report: Row
    timeline: list[Row]
    failures: list[Row]
    latencies: list[Row]
    actions: list[Row]
    token: str


def parts(found: Found) -> dict[str, Any]:
    """Return what moves, by the names of its boxes, and the figures of the charts ``timeline`` and ``latency``."""
    report = found.report
    steps, accepted = curves.steps_of(found.timeline), report["totals"]["accepted"]
    return {
        "chips": standing.chips(report),
        "sentence": standing.sentence(report),
        "figures": standing.figures(report),
        "funnel": standing.funnel(report),
        "timeline-told": html.P(curves.timeline_told(steps, accepted), className="hint"),
        "latency-told": html.P(curves.latency_told(report["totals"]["share_120s"], steps, accepted), className="hint"),
        "rows": curves.rows(steps, accepted),
        "platforms": behind.platforms(report["platforms"]),
        "latencies": behind.latencies(found.latencies),
        "failures": behind.failures(found.failures),
        "actions": behind.actions(found.actions),
        "said": standing.said(report),
        "timeline": curves.timeline(steps),
        "latency": curves.latency(steps, accepted),
    }


def cards(shown: Mapping[str, Any], files: Callable[[str], Any]) -> list[Any]:
    """Return the cards, from the funnel to the failures.

    Args:
        shown: What ``parts`` gives.
        files: Makes links to a table as files.
    """
    numbers = widgets.scroller(_box("rows", shown), "Numbers of the timeline", css="scroller tall")
    return [
        widgets.card("Funnel", "From planned recipients to clicks, by platform.", [_box("funnel", shown)]),
        _charts(shown),
        widgets.card(
            "Numbers of both charts", "By steps of ten seconds.", [widgets.numbers(numbers, "Show"), files("timeline")]
        ),
        *(
            widgets.card(name, about, [widgets.scroller(_box(table, shown), name), files(table)])
            for name, about, table in (
                ("Platforms", "What became of the deliveries, by platform.", "platforms"),
                ("Stages", "How long each stage of a delivery took.", "latencies"),
                ("Failures", "What was not accepted, and why.", "failures"),
            )
        ),
        widgets.card("Actions", "Clicks on its buttons.", [widgets.scroller(_box("actions", shown), "Actions")]),
    ]


def _charts(shown: Mapping[str, Any]) -> Any:
    lines = [
        html.Li([html.Span(className=f"line line-{number}", **aria(hidden="true")), text])
        for number, text in ((1, "accepted"), (2, "received"))
    ]
    timeline = [
        html.Ul(lines, className="legend"),
        curves.graph("timeline", shown["timeline"]),
        _box("timeline-told", shown),
    ]
    latency = [curves.graph("latency", shown["latency"]), _box("latency-told", shown)]
    about = "What share of the accepted deliveries was received by when. Dashed: 120\u00a0s and 90\u00a0%."
    return html.Div(
        [
            widgets.card("Timeline", "How many were accepted and received, by steps of time.", timeline),
            widgets.card("Latency", about, latency),
        ],
        className="columns",
    )


def _box(name: str, shown: Mapping[str, Any]) -> Any:
    return html.Div(shown[name], id=f"notification-{name}")

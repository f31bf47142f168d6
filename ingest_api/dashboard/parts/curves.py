"""When deliveries were accepted and received: the timeline and the latency curve, and their numbers.

Belongs here: figures for Plotly as plain dicts, and tables. Does not belong here: colours (``assets/style.css``, which
paints what Plotly draws, so that a change of theme redraws nothing), reading.

A step of the timeline has the deliveries of so many seconds after acceptance, or after ``send_at``.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from dash import dcc, html

from ingest_api.dashboard import widgets, words
from ingest_api.dashboard.widgets import Column, aria
from notify_pipeline.reports.reading_rows import Row

# The promise that is kept or not: nine of ten within two minutes.
LIMIT_S, GOAL = 120, 0.9
# How much of what was received the axis reaches to: the few that come hours later would press all else to its edge.
_SHOWN = 0.98
_SHORTEST_S = 180
# Points of a curve; more are not seen.
_POINTS = 400
_STEP_S = 10
# Below this many, every whole number has its line.
_FEW = 5
# What a Plotly figure needs to be told so that it leaves the looks to us, and the page to those who scroll.
_LAYOUT: dict[str, Any] = {
    "margin": {"l": 56, "r": 16, "t": 8, "b": 44},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "showlegend": False,
    "hovermode": "x unified",
    "dragmode": False,
    "separators": ".,",
    "font": {"family": "system-ui, sans-serif", "size": 12},
}
_CONFIG: Any = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False, "showTips": False}
_AXIS: dict[str, Any] = {"fixedrange": True, "zeroline": False, "automargin": True, "rangemode": "tozero"}
_FOLLOWS = "This chart follows with the figures that are published next."
Step = tuple[int, int, int]  # its beginning in seconds; accepted; received


def steps_of(rows: Iterable[Row]) -> list[Step]:
    """Return the timeline over all platforms."""
    found: dict[int, list[int]] = {}
    for row in rows:
        counts = found.setdefault(row["bucket_s"], [0, 0])
        counts[0] += row["accepted"]
        counts[1] += row["received"]
    return [(at, *counts) for at, counts in sorted(found.items())]  # type: ignore[misc]


def graph(name: str, figure: dict[str, Any]) -> Any:
    """Return a chart."""
    # Its own style says as high as what is around it, which has a height only here.
    made = dcc.Graph(id=f"{name}-graph", figure=figure, config=_CONFIG, responsive=True, style={"height": "100%"})
    # What Plotly draws is for eyes; the words beside it and the table say the same.
    return html.Div(made, className="curve", **aria(hidden="true"))


def timeline(steps: Sequence[Step]) -> dict[str, Any]:
    """Return the figure of how many were accepted and received in each step."""
    end, width = _end(steps), _width(_end(steps))
    wide = _wider([step for step in steps if step[0] < end], width)
    first = min([0, *(at for at, _, _ in wide)])
    by_start = {at: (accepted, received) for at, accepted, received in wide}
    starts = list(range(first // width * width, end + width, width))
    hover = f"%{{y:,}} %{{fullData.name}} in {words.seconds(width)}<extra></extra>"
    traces = [
        _trace(name, [by_start.get(at, (0, 0))[number] for at in starts], starts, dash, hover, "hv")
        for number, (name, dash) in enumerate((("accepted", "solid"), ("received", "dash")))
    ]
    y_axis: dict[str, Any] = {**_AXIS, "tickformat": ",d", "nticks": 5}
    highest = max((count for _, *counts in wide for count in counts), default=0)
    if highest < _FEW:
        # Left to itself Plotly would name halves, which are no counts.
        y_axis |= {"dtick": 1, "range": [0, max(1, highest) * 1.05]}
    return {"data": traces, "layout": {**_LAYOUT, "xaxis": _time_axis(end), "yaxis": y_axis}}


def latency(steps: Sequence[Step], accepted: int) -> dict[str, Any]:
    """Return the figure of what share of the accepted deliveries was received by when."""
    end = _end(steps)
    shown = [step for step in steps if step[0] < end]
    whole = max(1, accepted)
    points = [(0, 0.0)]
    points += [
        (at + _STEP_S, 100 * sum_ / whole)
        for (at, _, _), sum_ in zip(shown, accumulate(received for _, _, received in shown), strict=True)
        if at >= 0
    ]
    if points[-1][0] < end:
        points.append((end, points[-1][1]))
    points = _thinned(points)
    hover = "%{y:.1f} % received<extra></extra>"
    trace = _trace("received", [y for _, y in points], [x for x, _ in points], "solid", hover)
    limit = {"type": "line", "x0": LIMIT_S, "x1": LIMIT_S, "y0": 0, "y1": 1, "yref": "paper"}
    goal = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": 100 * GOAL, "y1": 100 * GOAL}
    lines = [{**each, "line": {"dash": "dash", "width": 1}} for each in (limit, goal)]
    y_axis = {**_AXIS, "range": [0, 103], "ticksuffix": " %", "nticks": 6}
    layout = {**_LAYOUT, "xaxis": _time_axis(end), "yaxis": y_axis, "shapes": lines}
    return {"data": [trace], "layout": layout}


def timeline_told(steps: Sequence[Step], accepted: int) -> str:
    """Return in words what the timeline shows, of so many that were accepted."""
    at, most, _ = max(steps, key=lambda step: step[1], default=(0, 0, 0))
    if not most:
        return _FOLLOWS if accepted else "Nothing was accepted yet."
    when = "the first 10 s" if at <= 0 else f"the 10 s from {_second(at)} on"
    return f"Most were accepted in {when}: {words.count(most)}."


def latency_told(share: float | None, steps: Sequence[Step], accepted: int) -> str:
    """Return in words what the latency curve shows, of so many that were accepted."""
    if share is None:
        # E-mail, text messages and the inbox have been accepted, and nothing will ever say when they arrived.
        is_told = any(one for _, one, _ in steps)
        told = "None of its channels says when a message arrived." if is_told else _FOLLOWS
        return told if accepted else "Nothing was accepted yet."
    kept = (
        "The goal of 90\u00a0% in two minutes was reached."
        if share >= GOAL
        else "The goal is 90\u00a0% in two minutes."
    )
    return f"{words.share(share)} of the accepted deliveries were received within two minutes. {kept}"


def rows(steps: Sequence[Step], accepted: int) -> Any:
    """Return both charts' numbers."""
    received = accumulate(step[2] for step in steps)
    cells = [
        [
            f"{at:,}–{at + _STEP_S:,} s",
            words.count(one),
            words.count(two),
            words.count(sum_),
            words.share_of(sum_, accepted),
        ]
        for (at, one, two), sum_ in zip(steps, received, strict=True)
    ]
    columns = [
        Column("After acceptance"),
        *(Column(name, True) for name in ("Accepted", "Received", "Received by then", "Of accepted")),
    ]
    return widgets.table(
        "Accepted and received by steps of ten seconds; steps with none of either are left out", columns, cells
    )


def _trace(
    name: str, y: Sequence[float], x: Sequence[int], dash: str, hover: str, shape: str = "linear"
) -> dict[str, Any]:
    line = {"dash": dash, "width": 2, "shape": shape}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, "hovertemplate": hover}


def _time_axis(end: int) -> dict[str, Any]:
    unit = next(
        each for each in (10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400, 10**9) if each * 8 >= end
    )
    ticks = list(range(0, end + 1, unit))
    title = {"text": "after acceptance by the API", "standoff": 8}
    texts = [_second(at) for at in ticks]
    return {
        **_AXIS,
        "range": [0, end],
        "tickvals": ticks,
        "ticktext": texts,
        "title": title,
        "unifiedhovertitle": {"text": ""},
    }


def _second(at: int) -> str:
    return words.seconds(at) if at >= 100 else f"{at} s"


def _end(steps: Sequence[Step]) -> int:
    """Return where the axis ends: where nearly all have been accepted and received."""
    end = _SHORTEST_S
    for number in (1, 2):
        whole, sum_ = sum(step[number] for step in steps), 0
        for step in steps:
            sum_ += step[number]
            if sum_ >= _SHOWN * whole:
                end = max(end, step[0] + _STEP_S if whole else end)
                break
    return end


def _width(end: int) -> int:
    """Return how wide the steps are that make no more than so many points."""
    return -(-end // (_POINTS * _STEP_S)) * _STEP_S


def _wider(steps: Iterable[Step], width: int) -> list[Step]:
    found: dict[int, list[int]] = {}
    for at, accepted, received in steps:
        counts = found.setdefault(at // width * width, [0, 0])
        counts[0] += accepted
        counts[1] += received
    return [(at, *counts) for at, counts in sorted(found.items())]  # type: ignore[misc]


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(points) // _POINTS)
    return [*points[::every], *([points[-1]] if (len(points) - 1) % every else [])]

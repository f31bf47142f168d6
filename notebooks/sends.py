"""What was sent, to how many, how fast, and what went wrong: a marimo notebook over the report tables and the lake.

Belongs here: questions and charts for people to change. Does not belong here: figures that exist nowhere else; a test
compares these with the reports.

`make notebook` opens it; `NOTIFY_HOME=… python notebooks/sends.py` runs it from its first cell to its last.
"""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="medium", app_title="Sends")


@app.cell
def _():
    import marimo as mo
    import plotly.graph_objects as go

    from notify_pipeline.core.settings import Settings
    from notify_pipeline.reports.analysis import connect

    return Settings, connect, go, mo


@app.cell
def _(Settings, connect):
    settings = Settings()
    analysis = connect(settings)

    def rows(query, **values):
        """Return a query's rows as dicts; moments are aware."""
        return analysis.db.sql(query, params=values or None).to_arrow_table().to_pylist()

    has_reports = analysis.version is not None
    return analysis, has_reports, rows, settings


@app.cell
def _(analysis, has_reports, mo, settings):
    if has_reports:
        said = f"Reports of {analysis.version.published_at:%Y-%m-%d %H:%M:%S} UTC below `{settings.home}`."
    else:
        said = f"There are no reports below `{settings.home}` yet: send something, or point `NOTIFY_HOME` elsewhere."
    mo.md(f"# Sends\n\n{said}")
    return (said,)


@app.cell
def _(has_reports, mo):
    mo.stop(not has_reports)
    days = mo.ui.slider(1, 365, value=30, label="Days up to the last acceptance", show_value=True)
    days
    return (days,)


@app.cell
def _(days, rows):
    # Everything below is of this range: whole UTC days of acceptance, without dry runs.
    (span,) = rows(
        "SELECT max(accepted_at)::DATE AS last, max(accepted_at)::DATE - ($days::INTEGER - 1) AS first"
        " FROM notifications WHERE NOT is_dry_run",
        days=days.value,
    )
    first, last = span["first"], span["last"]
    in_range = {"first": first, "last": last}
    return first, in_range, last


@app.cell
def _(first, in_range, last, mo, rows):
    sent = rows(
        "SELECT type, count(*) AS notifications, sum(audience)::BIGINT AS audience, sum(accepted)::BIGINT AS accepted,"
        " sum(received)::BIGINT AS received, count(*) FILTER (WHERE NOT settled) AS unsettled FROM notifications"
        " WHERE NOT is_dry_run AND accepted_at::DATE BETWEEN $first AND $last GROUP BY type"
        " ORDER BY audience DESC, type",
        **in_range,
    )
    mo.vstack([mo.md(f"## What was sent, {first} to {last}"), mo.ui.table(sent, selection=None)])
    return (sent,)


@app.cell
def _(go, in_range, mo, rows):
    _STEPS = ("audience", "accepted", "received", "opened", "clicked")
    funnel = rows(
        f"SELECT platform, {', '.join(f'sum({step})::BIGINT AS {step}' for step in _STEPS)}"
        " FROM platform_reports SEMI JOIN (FROM notifications WHERE NOT is_dry_run) USING (tenant, notification_id)"
        " WHERE accepted_at::DATE BETWEEN $first AND $last GROUP BY platform ORDER BY platform",
        **in_range,
    )
    _bars = [{"type": "funnel", "name": r["platform"], "y": _STEPS, "x": [r[s] for s in _STEPS]} for r in funnel]
    funnel_chart = go.Figure({"data": _bars, "layout": {"height": 360}})
    mo.vstack([mo.md("## From audience to click, by platform"), funnel_chart, mo.ui.table(funnel, selection=None)])
    return (funnel,)


@app.cell
def _(go, in_range, mo, rows):
    # A share is of accepted deliveries, so the mean of several is weighted by those.
    in_two = rows(
        "SELECT platform, date_part('hour', accepted_at)::INTEGER AS hour, sum(accepted)::BIGINT AS accepted,"
        " sum(share_120s * accepted) / sum(accepted) AS share FROM platform_reports"
        " SEMI JOIN (FROM notifications WHERE NOT is_dry_run) USING (tenant, notification_id)"
        " WHERE share_120s IS NOT NULL AND accepted > 0 AND accepted_at::DATE BETWEEN $first AND $last"
        " GROUP BY ALL ORDER BY platform, hour",
        **in_range,
    )
    _hours = list(range(24))
    _platforms = sorted({r["platform"] for r in in_two})
    _share = {(r["platform"], r["hour"]): r["share"] for r in in_two}
    _cells = [[_share.get((platform, hour)) for hour in _hours] for platform in _platforms]
    _map = {"type": "heatmap", "x": _hours, "y": _platforms, "z": _cells, "zmin": 0, "zmax": 1, "colorscale": "Viridis"}
    in_two_chart = go.Figure({"data": [_map], "layout": {"height": 300, "xaxis": {"title": {"text": "hour, UTC"}}}})
    mo.vstack(
        [
            mo.md("## 90in2: the share received within 120 s, by platform and hour of acceptance"),
            in_two_chart,
            mo.ui.table(in_two, selection=None),
        ]
    )
    return (in_two,)


@app.cell
def _(go, in_range, mo, rows):
    stages = rows(
        "SELECT stage, platform, sum(deliveries)::BIGINT AS deliveries, max(p50_s) AS slowest_p50_s,"
        " sum(p50_s * deliveries) / sum(deliveries) AS mean_p50_s, max(p99_s) AS slowest_p99_s FROM latencies"
        " SEMI JOIN (FROM notifications WHERE NOT is_dry_run AND accepted_at::DATE BETWEEN $first AND $last)"
        " USING (tenant, notification_id) GROUP BY ALL ORDER BY stage, platform",
        **in_range,
    )
    _by_stage = {}
    for _row in stages:
        _by_stage.setdefault(_row["stage"], []).append(_row)
    _data = [
        {"type": "bar", "name": s, "x": [r["platform"] for r in each], "y": [r["mean_p50_s"] for r in each]}
        for s, each in _by_stage.items()
    ]
    stage_chart = go.Figure({"data": _data, "layout": {"yaxis": {"title": {"text": "median seconds, weighted mean"}}}})
    mo.vstack([mo.md("## Latency by stage"), stage_chart, mo.ui.table(stages, selection=None)])
    return (stages,)


@app.cell
def _(in_range, mo, rows):
    failed = rows(
        "SELECT platform, provider, outcome, provider_code, sum(attempts)::BIGINT AS attempts,"
        " sum(deliveries)::BIGINT AS deliveries FROM failures"
        " SEMI JOIN (FROM notifications WHERE NOT is_dry_run AND accepted_at::DATE BETWEEN $first AND $last)"
        " USING (tenant, notification_id) GROUP BY ALL"
        " ORDER BY deliveries DESC, platform, provider, outcome, provider_code",
        **in_range,
    )
    mo.vstack([mo.md("## What went wrong"), mo.ui.table(failed, selection=None)])
    return (failed,)


@app.cell
def _(in_range, mo, rows):
    reach = rows(
        "SELECT topic, sum(notifications)::BIGINT AS notifications, sum(audience)::BIGINT AS audience,"
        " sum(accepted)::BIGINT AS accepted, sum(received)::BIGINT AS received, sum(opened)::BIGINT AS opened"
        " FROM topic_reach WHERE day BETWEEN $first AND $last GROUP BY topic ORDER BY audience DESC, topic LIMIT 50",
        **in_range,
    )
    mo.vstack([mo.md("## Topics (one send to several counts for each)"), mo.ui.table(reach, selection=None)])
    return (reach,)


@app.cell
def _(go, in_range, mo, rows):
    churn = rows(
        "SELECT day, platform, sum(registered)::BIGINT AS registered, sum(unregistered)::BIGINT AS unregistered,"
        " sum(dropped)::BIGINT AS dropped, sum(net)::BIGINT AS net FROM token_churn"
        " WHERE day BETWEEN $first AND $last GROUP BY ALL ORDER BY day, platform",
        **in_range,
    )
    _lines = [
        {"type": "bar", "name": p, "x": [r["day"] for r in churn if r["platform"] == p]}
        | {"y": [r["net"] for r in churn if r["platform"] == p]}
        for p in sorted({r["platform"] for r in churn})
    ]
    churn_chart = go.Figure({"data": _lines, "layout": {"barmode": "relative", "yaxis": {"title": {"text": "tokens"}}}})
    mo.vstack([mo.md("## Tokens that came and went"), churn_chart, mo.ui.table(churn, selection=None)])
    return (churn,)


@app.cell
def _(in_range, mo, rows):
    # The same questions asked of the raw data. It runs ahead of the reports by some seconds, and may be kept for less
    # long; a device that took part twice counts once in both.
    raw = rows(
        "WITH d AS (SELECT DISTINCT tenant, notification_id, delivery_id FROM lake.attempts"
        " SEMI JOIN (FROM notifications WHERE NOT is_dry_run AND accepted_at::DATE BETWEEN $first AND $last)"
        " USING (tenant, notification_id)),"
        " r AS (SELECT DISTINCT notification_id, delivery_id FROM lake.receipts WHERE event = 'received')"
        " SELECT (SELECT count(*) FROM d) AS deliveries,"
        " (SELECT count(*) FROM d SEMI JOIN r USING (notification_id, delivery_id)) AS received,"
        " (SELECT sum(attempted + skipped + expired)::BIGINT FROM notifications"
        "  WHERE NOT is_dry_run AND accepted_at::DATE BETWEEN $first AND $last) AS deliveries_reported,"
        " (SELECT sum(received)::BIGINT FROM notifications"
        "  WHERE NOT is_dry_run AND accepted_at::DATE BETWEEN $first AND $last) AS received_reported",
        **in_range,
    )
    mo.vstack([mo.md("## The same, counted from the lake"), mo.ui.table(raw, selection=None)])
    return (raw,)


@app.cell
def _(funnel, reach, sent):
    # One version says the same everywhere, whatever is being sent meanwhile.
    for _name in ("audience", "accepted", "received"):
        assert sum(r[_name] for r in funnel) == sum(r[_name] for r in sent), _name
    assert all(r["received"] <= r["accepted"] <= r["audience"] for r in [*funnel, *reach])
    return


if __name__ == "__main__":
    app.run()

"""When each part of one broadcast began and ended, asked of the system after it: audit, Dagster, attempts.

All moments are the wall clock of this one machine, so they can be subtracted.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import urllib3

_RUNS = """
query Runs($request: String!) { runsOrError(filter: {tags: [{key: "notify/request_id", value: $request}]}) {
  ... on Runs { results { creationTime startTime endTime stepStats { stepKey startTime endTime } } } } }
"""


def of(facts: dict[str, Any], dagster: str, request_id: str, began: float, seen: float) -> dict[str, float]:
    """Seconds from just before the POST to each moment of a broadcast.

    Args:
        facts: What the lake says of its attempts (``attempts``).
        dagster: The webserver's address.
        request_id: Which.
        began: Just before the POST, seconds since the epoch.
        seen: When the whole report was read.
    """
    run = _run(dagster, request_id)
    steps: dict[str, list[dict[str, float]]] = {}
    for step in run["stepStats"]:
        steps.setdefault(step["stepKey"].partition("[")[0], []).append(step)
    moments = {
        "run requested": run["creationTime"],
        "run started": run["startTime"],
        "snapshot began": min(step["startTime"] for step in steps["snapshot_audience"]),
        "snapshot done": max(step["endTime"] for step in steps["snapshot_audience"]),
        "first shard began": min(step["startTime"] for step in steps["send_shard"]),
        "first attempt": facts["first"],
        "last attempt": facts["last"],
        "last shard done": max(step["endTime"] for step in steps["send_shard"]),
        "finish began": min(step["startTime"] for step in steps["finish_broadcast"]),
        "finished": max(step["endTime"] for step in steps["finish_broadcast"]),
        "report visible": seen,
    }
    return {name: round(at - began, 2) for name, at in moments.items()} | {"shards": len(steps["send_shard"])}


def attempts(lake: Path, notification_id: str) -> dict[str, Any]:
    """Count one notification's attempts in the lake, and tell when the first and the last were made."""
    rows = pl.scan_parquet(lake / "attempts/**/*.parquet", hive_partitioning=True).filter(
        pl.col("notification_id") == notification_id
    )
    facts = rows.select(
        rows=pl.len(),
        accepted=(pl.col("outcome") == "accepted").sum(),
        recipients=pl.col("recipient").n_unique(),
        deliveries=pl.col("delivery_id").n_unique(),
        answers=pl.col("provider_message_id").n_unique(),
        first=pl.col("sent_at").min(),
        last=pl.col("answered_at").max(),
    ).collect()
    found = facts.row(0, named=True)
    moments = {name: at.timestamp() for name, at in found.items() if isinstance(at, datetime)}
    return {**found, **moments}


def _run(dagster: str, request_id: str) -> dict[str, Any]:
    body = orjson.dumps({"query": _RUNS, "variables": {"request": request_id}})
    answer = urllib3.request("POST", f"{dagster}/graphql", body=body, headers={"Content-Type": "application/json"})
    runs: list[dict[str, Any]] = orjson.loads(answer.data)["data"]["runsOrError"]["results"]
    if len(runs) != 1:
        raise SystemExit(f"{len(runs)} runs served request {request_id} instead of one")
    return runs[0]

"""A project's quota that runs out in the middle of a broadcast: real channels, real engine, the sandbox's record."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests as http

from notify_pipeline.channels.registry import open_channels
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import chunks
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.rates import RAMP_S, STARTING_PER_S
from notify_pipeline.core.settings import Settings
from notify_pipeline.delivery import broadcast
from notify_pipeline.sandbox.tokens import fcm_token
from tests.delivery.fakes import context, rows_of
from tests.delivery.lakes import Landing, row
from tests.delivery.test_broadcast import routed
from tests.sandboxes import running_sandbox
from tests.waiting import PATIENCE_S

DEVICES, QUOTA, CHUNK, IN_FLIGHT = 300, 150, 40, 8


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[str]:
    """The control address of a sandbox of this test's own."""
    with running_sandbox(Settings(home=tmp_path / "sandbox")) as url:
        yield url


@pytest.mark.parametrize("window_s", [3, pytest.param(60, marks=pytest.mark.long)])
def test_a_quota_that_runs_out(sandbox: str, sqlite_ledger: Ledger, folder_lake: Lake, window_s: int) -> None:
    faults = {"fcm": {"quota": QUOTA, "quota_window_s": window_s, "latency_ms": 5}}
    assert http.put(f"{sandbox}/faults", json=faults, timeout=PATIENCE_S).status_code == 200
    Landing(folder_lake, sqlite_ledger).land(*(row(fcm_token(str(n)), 1, ["t"]) for n in range(DEVICES)))
    # Retries are jittered by at most a tenth of a second, so that what spreads them is the ramp.
    ctx = context(
        sqlite_ledger,
        folder_lake,
        sandbox_url=sandbox,
        chunk_size=CHUNK,
        max_in_flight=IN_FLIGHT,
        retry_base_s=0.1,
        retry_cap_s=0.1,
    )
    ctx = replace(ctx, open_channels=partial(open_channels, ctx.settings, sqlite_ledger))
    request_id = routed(ctx, topics=["t"])
    (ref,) = broadcast.snapshot(ctx, request_id)
    totals = broadcast.send_shard(ctx, request_id, ref.shard)
    assert totals.outcomes == {"accepted": DEVICES}
    assert chunks.left(sqlite_ledger, request_id, ref.shard) == []
    lines = [orjson.loads(line) for line in http.get(f"{sandbox}/log?since=0", timeout=PATIENCE_S).content.splitlines()]
    _check(lines, rows_of(folder_lake, "attempts"), window_s)


def _check(lines: list[dict[str, Any]], attempts: list[dict[str, Any]], window_s: int) -> None:
    processed = Counter(line["recipient"] for line in lines if line["processed"])
    assert len(processed) == DEVICES and max(processed.values()) == 1
    at = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
    refused = [moment for moment, line in zip(at, lines, strict=True) if line["status"] == 429]
    assert 1 <= len(refused) <= IN_FLIGHT, "those under way, and then nothing"
    after = sorted(moment for moment in at if moment > max(refused))
    assert min(after) >= at[0] + window_s, "a quota's worth, and then nothing until its window was over"
    for first, moment in enumerate(after):
        window = sum(other < moment + 0.1 for other in after[first:])
        rate = STARTING_PER_S * (0.1 + 0.9 * (moment + 0.1 - after[0]) / RAMP_S)
        assert window <= rate * 0.5 + IN_FLIGHT, "half a second's worth, where the machine slept as long"
    outcomes = Counter((each["outcome"], each["provider_code"]) for each in attempts)
    assert outcomes[("accepted", None)] == DEVICES
    assert outcomes[("throttled", "QUOTA_EXCEEDED")] == len(refused)

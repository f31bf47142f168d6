"""The notebook, run from its first cell to its last: its figures are the reports', and an empty home is no error."""

import importlib.util
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.reports import reading_lists
from notify_pipeline.reports.reading_filters import ListFilter
from tests.reports.desk import Desk
from tests.reports.worlds import START, World
from tests.waiting import PATIENCE_S

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "sends.py"


def sent(root: Path) -> Desk:
    """Publish reports of a home: three sends, one of them a dry run, some failures, and changes of tokens."""
    world = World()
    for number in range(3):
        name = f"n{number}"
        world.request(name, at=number * 3_600, type=("news", "sport", "news")[number], dry_run=number == 2)
        for platform in ("ios", "android"):
            world.audience(3, platform, name)
            for who, outcome in (("a", "accepted"), ("b", "accepted"), ("c", "permanent")):
                wanted = "dry_run" if number == 2 else outcome
                at = number * 3_600 + 1
                done = world.attempt(who + platform, wanted, at, platform=platform, notification=name, code="no")
                if (who, platform) != ("b", "ios") and wanted == "accepted":
                    world.beacon(done, at=at + 10, notification=name)
        world.state(name, "t1", "done", number * 3_600 + 5)
    lake = Lake(str(root / "lake"))
    world.put(lake)
    rows = [
        {"tenant": "t1", "token": f"d{n}", "platform": "ios", "topics": [], "op": "upsert", "revision": 1, "at": START}
        for n in range(4)
    ]
    rows.append(rows[0] | {"op": "drop", "revision": 2, "at": START + timedelta(seconds=9), "previous": "upsert"})
    lake.write("registrations/date=2026-11-21/hour=06/r.parquet", pa.Table.from_pylist(rows, REGISTRATIONS.schema))
    desk = Desk(lake, root / "reports")
    desk.publish()
    return desk


def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run every cell; return what they define."""
    monkeypatch.setenv("NOTIFY_HOME", str(home))
    spec = importlib.util.spec_from_file_location("sends_notebook", NOTEBOOK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, defined = module.app.run()
    defined["analysis"].close()
    return dict(defined)


def total(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def test_its_figures_are_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = sent(tmp_path)
    shown = run(tmp_path, monkeypatch)
    listed = reading_lists.page(desk.reader, ListFilter(("t1",)), 10).rows
    assert {row["type"]: row["notifications"] for row in shown["sent"]} == {"news": 1, "sport": 1}
    for name in ("audience", "accepted", "received"):
        reported = sum(report["totals"][name] for report in listed)
        assert total(shown["sent"], name) == total(shown["funnel"], name) == reported > 0
    platforms = {(p["platform"], r["accepted_at"].hour): p for r in listed for p in r["platforms"]}
    assert {(row["platform"], row["hour"]): row["share"] for row in shown["in_two"]} == {
        place: platform["share_120s"] for place, platform in platforms.items()
    }
    assert {row["stage"] for row in shown["stages"]} == {"queued", "provider", "device", "total"}
    (whole,) = {row["mean_p50_s"] for row in shown["stages"] if row["stage"] == "total"}
    assert whole == pytest.approx(listed[0]["totals"]["p50_s"])
    assert [(row["outcome"], row["deliveries"]) for row in shown["failed"]] == [("permanent", 2), ("permanent", 2)]
    assert shown["reach"] == [
        {"topic": "uk", "notifications": 2, "audience": 12, "accepted": 8, "received": 6, "opened": 0}
    ]
    assert [(row["registered"], row["dropped"], row["net"]) for row in shown["churn"]] == [(4, 1, 3)]
    assert shown["raw"] == [{"deliveries": 12, "received": 6, "deliveries_reported": 12, "received_reported": 6}]


def test_an_empty_home_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(tmp_path, monkeypatch)
    assert "There are no reports" in shown["said"]
    assert "funnel" not in shown


def test_it_is_a_script_that_needs_nothing_else_and_marimo_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(NOTEBOOK)!r}, run_name='__main__')"
    code += "; sys.exit('numpy' in sys.modules or 'pandas' in sys.modules)"
    environment = os.environ | {"NOTIFY_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S, env=environment)
    check = [sys.executable, "-m", "marimo", "check", "--strict", str(NOTEBOOK)]
    subprocess.run(check, check=True, timeout=PATIENCE_S, env=environment)

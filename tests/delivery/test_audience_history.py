"""Letting go of superseded registrations: whoever is registered stays so, also for a base made anew from the lake."""

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.delivery import audience, audience_base, audience_history
from notify_pipeline.delivery.audience import AudienceReader
from tests.delivery.lakes import T0, Landing, row


@pytest.fixture
def landing(lake: Lake, sqlite_ledger: Ledger) -> Landing:
    return Landing(lake, sqlite_ledger)


def registered(landing: Landing) -> list[tuple[str, str | None]]:
    found = AudienceReader(landing.lake, landing.ledger).everyone("t1")
    return sorted((row["token"], row["platform"]) for frame in found.batches() for row in frame.to_dicts())


def test_only_superseded_rows_of_folded_files_go(landing: Landing) -> None:
    landing.land(row("kept", 1, ["a"]), row("changed", 1, ["a"]), row("gone", 1, ["a"]))
    landing.land(row("changed", 2, ["b"]), row("gone", 2, [], op="delete"))
    audience.rebuild_base(landing.lake, landing.ledger, T0)
    landing.land(row("changed", 3, ["c"]), row("new", 1, ["c"]))
    before = registered(landing)
    paths = [file.path for file in landing.lake.list("registrations")]
    done = audience_history.thin(landing.lake, landing.ledger, paths, T0)
    assert (done.files, done.rewritten, done.rows) == (2, 1, 2)
    assert registered(landing) == before == [("changed", "android"), ("kept", "android"), ("new", "android")]
    assert audience_history.thin(landing.lake, landing.ledger, paths, T0).rows == 0
    # The base is lost: what the lake still has makes the same one.
    landing.lake.delete([audience_base.POINTER])
    assert registered(landing) == before
    audience.rebuild_base(landing.lake, landing.ledger, T0)
    assert registered(landing) == before

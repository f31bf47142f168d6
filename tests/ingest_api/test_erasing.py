"""The lake's part of an erasure: files name the person no more, reports say what they said, and a proof is left."""

import dataclasses
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, update

from notify_pipeline.core.compaction import compact
from notify_pipeline.core.erasing import Erasing
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lander import Lander
from notify_pipeline.core.ledger.erasures import Erasure
from notify_pipeline.core.ledger.tables import AUDIT, DEVICES, REQUESTS
from notify_pipeline.core.schemas import LANDING_TABLES, SNAPSHOT
from notify_pipeline.core.vocabulary import ErasureState
from notify_pipeline.delivery import audience, audience_base
from notify_pipeline.delivery.audience import AudienceReader
from tests.ingest_api.conftest import House, build, change, registration, send
from tests.ingest_api.test_erasures import ADA, BOB, BROWSER, MAIL, NAMES, PHONE, TOKEN, live, naming
from tests.reports.desk import Desk
from tests.reports.worlds import World
from tests.waiting import PATIENCE_S

# What is about her, and none of her names.
ELSE = ("Countess", "Dorset", "her-old-phone")
SETTLE = timedelta(minutes=10)
_TABLES = ("notifications", "platform_reports", "timeline", "failures", "actions")


@pytest.fixture
def stored(tmp_path: Path, lake_root: str, lake_endpoint: str | None) -> Iterator[House]:
    """An ingress over a lake, once in a folder and once on S3."""
    yield from build(tmp_path / "home", lake_root=lake_root, s3_endpoint_url=lake_endpoint)


def erasing(house: House, lake: Lake | None = None) -> Erasing:
    where = lake or house.services.lake
    return Erasing(
        house.services.ledger,
        where,
        lambda: audience.rebuild_base(where, house.services.ledger, house.clock()),
        SETTLE,
        house.clock,
    )


def land(house: House) -> None:
    lander = Lander(house.services.ledger, house.services.lake, house.clock)
    lander.run_once()
    lander.release()


def sent(house: House) -> World:
    """Send both people something, which one of them got by each of her names."""
    world, tenant = World(), house.mine.tenant
    world.request("n1", tenant, type="news", body=orjson.dumps({"type": "news", "topics": ["uk"]}).decode())
    world.audience(6, "android", "n1", tenant)
    for name, user in ((TOKEN, ADA), ("bobs-token", BOB), (BROWSER, None), ("her-old-phone", ADA)):
        made = world.attempt(name, "accepted", 2, platform="android", notification="n1", tenant=tenant, user_id=user)
        world.beacon(made, notification="n1", at=4)
    world.attempt(TOKEN, "throttled", 1, platform="android", notification="n1", tenant=tenant, user_id=ADA, number=0)
    world.attempt(MAIL, "accepted", 1, platform="email", notification="n1", tenant=tenant, provider_message_id="ses-1")
    world.attempt(PHONE, "accepted", 1, platform="email", notification="n1", tenant=tenant)
    world.attempt(TOKEN, "accepted", 1, platform="android", notification="other", tenant=house.other.tenant)
    world.state("n1", tenant, "done", 9)
    world.put(house.services.lake)
    return world


def texts(lake: Lake) -> dict[str, str]:
    """Return every file of the lake as text, its path included."""
    return {file.path: file.path + str(lake.read(file.path).to_pylist()) for file in lake.list()}


def named(lake: Lake, tenant: str) -> set[tuple[str, str]]:
    """Return the files of the lake that hold a name in a row that is not another tenant's."""
    found = set()
    for file in lake.list():
        rows = [row for row in lake.read(file.path).to_pylist() if row.get("tenant") in (tenant, None)]
        text = str(rows).lower()
        found |= {(file.path, name) for name in (*NAMES, *ELSE) if name.lower() in text}
    return found


def facts(desk: Desk) -> dict[str, list[Any]]:
    columns = {"notifications": "* EXCLUDE (title)"}
    return {each: desk.query(f"SELECT {columns.get(each, '*')} FROM facts.{each} ORDER BY ALL") for each in _TABLES}


def erased(house: House) -> Erasure:
    """Erase her, and carry it through."""
    house.secret.ok("DELETE", f"/users/{ADA}")
    land(house)
    (first,) = erasing(house).run()
    assert (first.state, first.waits_for) == (ErasureState.LAKE_DONE, "what was under way to end")
    assert not erasing(house).due()
    house.clock.advance(minutes=11)
    land(house)
    (done,) = erasing(house).run()
    return done


def test_the_lake_names_nobody_who_was_erased_and_reports_say_the_same(stored: House, tmp_path: Path) -> None:
    house, lake = stored, stored.services.lake
    live(house)
    sent(house)
    land(house)
    audience.rebuild_base(lake, house.services.ledger, house.clock())
    house.clock.advance(hours=1)
    house.secret.ok("POST", "/devices", registration(token=TOKEN, user_id=ADA, topics=["breaking/uk", "sport"]))
    land(house)
    desk = Desk(lake, tmp_path / "reports")
    desk.publish()
    before = facts(desk)
    assert {name for _, name in named(lake, house.mine.tenant)} == {*NAMES, *ELSE}
    done = erased(house)
    assert (done.state, done.subject) == (ErasureState.VERIFIED, None), done.waits_for
    assert named(lake, house.mine.tenant) == set()
    assert naming(house, NAMES) == set(), "nor does the ledger, its tombstones included"
    assert TOKEN in str(texts(lake)), "the other tenant's"
    desk.publish()
    assert facts(desk)["timeline"] == before["timeline"] and before["timeline"]
    assert [row for row in facts(desk)["platform_reports"] if row[1] == "n1"] == [
        row for row in before["platform_reports"] if row[1] == "n1"
    ]
    assert desk.update(full=True) is not None
    assert [row for row in facts(desk)["notifications"] if row[1] == "n1"] == [
        row for row in before["notifications"] if row[1] == "n1"
    ]
    assert done.proof is not None and done.proof["left"] == 0 and done.proof["files"] > 10
    with house.services.ledger.read() as conn:
        entry = conn.execute(select(AUDIT.c.detail).where(AUDIT.c.event == "erasure.verified")).scalar_one()
        assert orjson.loads(entry)["digest"] == done.proof["digest"]
        assert not conn.execute(select(DEVICES).where(DEVICES.c.token == TOKEN)).all()


def test_a_device_that_registers_again_is_new_and_old_rows_do_not_take_it_away(house: House) -> None:
    live(house)
    lake, ledger = house.services.lake, house.services.ledger
    land(house)
    audience.rebuild_base(lake, ledger, house.clock())
    house.secret.ok("DELETE", f"/users/{ADA}")
    house.clock.advance(minutes=1)
    house.secret.ok("POST", "/devices", registration(token=TOKEN, user_id="somebody-new"))
    land(house)
    erasing(house).run()
    house.clock.advance(minutes=11)
    (done,) = erasing(house).run()
    assert done.state is ErasureState.VERIFIED, done.waits_for

    def tokens() -> set[str]:
        found = AudienceReader(lake, ledger).topics(house.mine.tenant, ["breaking/uk"])
        return {row["token"] for frame in found.batches() for row in frame.to_dicts()}

    assert tokens() == {TOKEN, "bobs-token"}
    house.clock.advance(hours=2)
    compact(ledger, lake, "registrations", timedelta(), house.clock())
    audience.rebuild_base(lake, ledger, house.clock())
    assert tokens() == {TOKEN, "bobs-token"}, "no placeholder has become a device"
    everyone = AudienceReader(lake, ledger).everyone(house.mine.tenant)
    assert not any(row["token"].startswith("erased:") for frame in everyone.batches() for row in frame.to_dicts())
    assert audience_base.load(lake).version > 1


def test_what_lands_afterwards_is_caught_and_a_broadcast_waited_for(house: House) -> None:
    live(house)
    lake, tenant = house.services.lake, house.mine.tenant
    made = house.secret.ok("POST", "/notifications", send(id="wide"))
    path = f"snapshots/request={made['request_id']}/x-fcm-00000.parquet"
    row = {name: None for name in SNAPSHOT.names} | {"recipient": TOKEN, "user_id": ADA, "platform": "android"}
    other = row | {"recipient": "bobs-token", "user_id": BOB}
    lake.write(path, pa.Table.from_pylist([other, row], schema=SNAPSHOT))
    move(house, made["request_id"], "sending")
    assert (waiting := erased(house)).state is ErasureState.LAKE_DONE
    assert waiting.waits_for == "1 broadcasts to end"
    world = World()
    world.attempt(TOKEN, "skipped", 1, notification="wide", tenant=tenant, user_id=ADA, code="erased")
    world.put(lake, "late")
    move(house, made["request_id"], "done")
    (done,) = erasing(house).run()
    assert done.state is ErasureState.VERIFIED, done.waits_for
    assert done.counts["lake"]["snapshots"] == 1
    assert named(lake, tenant) == set()
    recipients = [each["recipient"] for each in lake.read(path).to_pylist()]
    assert recipients[0] == "bobs-token" and recipients[1].startswith("erased:"), "rows keep their places"


class Counting(Lake):
    """A lake that counts how often each file is opened."""

    opened: Counter[str]

    def open_parquet(self, path: str) -> AbstractContextManager[pq.ParquetFile]:
        """Open it."""
        self.opened[path] += 1
        return super().open_parquet(path)


def test_who_is_erased_at_the_same_time_shares_the_way_through_the_lake(house: House) -> None:
    live(house)
    sent(house)
    land(house)
    lake, tenant = house.services.lake, house.mine.tenant
    made = house.secret.ok("POST", "/notifications", send(id="wide"))
    row = {name: None for name in SNAPSHOT.names} | {"recipient": "bobs-token", "user_id": BOB, "platform": "android"}
    lake.write(f"snapshots/request={made['request_id']}/x.parquet", pa.Table.from_pylist([row], schema=SNAPSHOT))
    move(house, made["request_id"], "sending")
    for user in (ADA, BOB, "a-third"):
        house.secret.ok("DELETE", f"/users/{user}")
    land(house)
    counting = Counting(lake.root)
    counting.opened = Counter()
    shared = dataclasses.replace(erasing(house), lake=counting)
    assert [each.state for each in shared.run()] == [ErasureState.LAKE_DONE] * 3
    assert max(counting.opened.values()) == 2, "looked through for all of them, and written anew"
    house.clock.advance(minutes=11)
    land(house)
    ada, bob, third = shared.run()
    assert [each.state for each in (ada, third)] == [ErasureState.VERIFIED] * 2, (ada.waits_for, third.waits_for)
    assert (bob.state, bob.waits_for) == (ErasureState.LAKE_DONE, "1 broadcasts to end"), "which holds up nobody else"
    assert [each.counts["lake"].get("attempts") for each in (ada, bob, third)] == [6, 1, None]
    assert named(lake, tenant) == set()
    move(house, made["request_id"], "done")
    land(house)
    (bobs,) = shared.run()
    assert bobs.state is ErasureState.VERIFIED, bobs.waits_for
    assert "bobs-token" not in str([lake.read(file.path).to_pylist() for file in lake.list("snapshots")])


def move(house: House, request_id: str, state: str) -> None:
    change(house.services.ledger, update(REQUESTS).where(REQUESTS.c.request_id == request_id).values(state=state))


# Carries erasures through until so many files are written, and is killed then: its leases stay.
_WORKER = """
import os, signal, sys
from datetime import datetime, timedelta
from notify_pipeline.core.erasing import Erasing
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.delivery import audience
dsn, root, now, left = sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3]), int(sys.argv[4])
class Dying(Lake):
    left = left
    def writer(self, *args, **more):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super().writer(*args, **more)
lake, ledger = Dying(root), Ledger.open(dsn)
fold = lambda: audience.rebuild_base(lake, ledger, now)
Erasing(ledger, lake, fold, timedelta(minutes=10), lambda: now).run()
"""


def test_wherever_it_is_killed_the_next_one_goes_on(house: House) -> None:
    live(house)
    sent(house)
    land(house)
    lake, settings = house.services.lake, house.services.settings
    house.secret.ok("DELETE", f"/users/{ADA}")
    land(house)
    before = len(named(lake, house.mine.tenant))
    for left in (1, 2):
        arguments = [settings.ledger_dsn, lake.root, house.clock().isoformat(), str(left)]
        done = subprocess.run([sys.executable, "-c", _WORKER, *arguments], check=False, timeout=PATIENCE_S)
        assert done.returncode == -signal.SIGKILL
        assert not erasing(house).run(), "its lease counts for a minute"
        house.clock.advance(minutes=2)
    assert 0 < len(named(lake, house.mine.tenant)) < before, "half done"
    (found,) = erasing(house).run()
    assert found.state is ErasureState.LAKE_DONE
    house.clock.advance(minutes=11)
    land(house)
    (found,) = erasing(house).run()
    assert found.state is ErasureState.VERIFIED, found.waits_for
    assert named(lake, house.mine.tenant) == set()


def test_it_goes_beside_a_lander_and_a_compactor(house: House) -> None:
    live(house)
    sent(house)
    land(house)
    house.clock.advance(hours=2)
    over = threading.Event()

    def compacting() -> None:
        while not over.is_set():
            for name in LANDING_TABLES:
                compact(house.services.ledger, house.services.lake, name, timedelta(), house.clock(), timedelta())
            land(house)

    others = threading.Thread(target=compacting)
    others.start()
    try:
        done = erased(house)
        for _ in range(5):
            if done.state is ErasureState.VERIFIED:
                break
            (done,) = erasing(house).run()
    finally:
        over.set()
        others.join()
    assert done.state is ErasureState.VERIFIED, done.waits_for
    compact(house.services.ledger, house.services.lake, "registrations", timedelta(), house.clock(), timedelta())
    assert named(house.services.lake, house.mine.tenant) == set()

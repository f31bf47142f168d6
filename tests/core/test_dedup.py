"""Dedup, against a model: any mix of sends, in batches and apart, on both stores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg2.errors
import pytest
import sqlalchemy.exc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger import accepting, requests
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.tables import AUDIT, REQUESTS
from tests.examples import examples

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)

# Few ids and bodies, so that they meet; ids as odd as a tenant may choose them.
IDS = st.sampled_from(["a", "A", "é", "a ", "a" * 200, "'; drop table requests --", "%s ? :x"])
BODIES = st.sampled_from(
    [
        {"type": "news"},
        {"type": "news", "topics": ["x"]},
        {"type": "alert", "content": {"title": "é"}},
        {"type": "news", "domain": "example.com"},
    ]
)
SENDS = st.lists(st.tuples(st.sampled_from(["t1", "t2"]), IDS, BODIES), min_size=1, max_size=12)


def new(tenant: str, notification_id: str, body: dict[str, Any]) -> requests.NewRequest:
    return requests.NewRequest(tenant, notification_id, body, NOW, NOW + timedelta(days=1))


def outcome(ledger: Ledger, send: requests.NewRequest) -> requests.Accepted | None:
    try:
        return requests.accept(ledger, send)
    except requests.IdReused:
        return None


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    from tests.conftest import fresh_postgres

    if request.param == "sqlite":
        with Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('dedup')}/ledger.db") as ledger:
            yield ledger
    else:
        for url in fresh_postgres(request.getfixturevalue("postgres_server")):
            with Ledger.open(url) as ledger:
                yield ledger


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sends=SENDS, together=st.booleans())
def test_any_mix_of_sends_agrees_with_a_dictionary(
    shared_ledger: Ledger, sends: list[tuple[str, str, dict[str, Any]]], together: bool
) -> None:
    world = new_id()  # tenants of this example's own
    asked = [new(f"{world}-{tenant}", notification_id, body) for tenant, notification_id, body in sends]
    if together and shared_ledger.is_sqlite:
        answers = _one_batch(shared_ledger, asked)
    elif together:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda send: outcome(shared_ledger, send), asked))
    else:
        answers = [outcome(shared_ledger, send) for send in asked]
    _agrees(shared_ledger, asked, answers)


def _one_batch(ledger: Ledger, asked: list[requests.NewRequest]) -> list[requests.Accepted | None]:
    def all_at_once(conn: Connection, items: Any) -> list[Any]:
        return [accepting.accept_all(conn, [accepting.prepare(send) for send in asked])]

    return [None if isinstance(a, requests.IdReused) else a for a in ledger.write(all_at_once, None)]


def _agrees(ledger: Ledger, asked: list[requests.NewRequest], answers: list[requests.Accepted | None]) -> None:
    """Whoever was first decides; everyone equal to it got its answer, everyone else was refused."""
    with ledger.read() as conn:
        of_ours = REQUESTS.c.tenant.in_({send.tenant for send in asked})
        stored = {(r.tenant, r.notification_id): r for r in conn.execute(select(REQUESTS).where(of_ours))}
        audited = list(
            conn.execute(select(AUDIT.c.request_id).where(AUDIT.c.tenant.in_({s.tenant for s in asked}))).scalars()
        )
        outbox = [
            row
            for rows in conn.execute(select(OUTBOX.c.rows).where(OUTBOX.c.lake_table == "requests")).scalars()
            for row in orjson.loads(rows)
        ]
    assert set(stored) == {(send.tenant, send.notification_id) for send in asked}
    assert sorted(audited) == sorted(row.request_id for row in stored.values())
    ours = [r["request_id"] for r in outbox if "body" in r and r["request_id"] in set(audited)]
    assert sorted(ours) == sorted(audited)
    domains = {row.request_id: row.domain for row in stored.values()}
    assert {r["request_id"]: r["domain"] for r in outbox if r["request_id"] in domains and "body" in r} == domains
    for send, answer in zip(asked, answers, strict=True):
        row = stored[send.tenant, send.notification_id]
        same = orjson.loads(row.body) == send.body
        assert (answer is not None) == same
        assert row.domain == orjson.loads(row.body).get("domain")
        if answer is not None:
            assert answer.request_id == row.request_id
    for key, row in stored.items():
        fresh = [a for s, a in zip(asked, answers, strict=True) if (s.tenant, s.notification_id) == key and a]
        assert sum(not a.duplicate for a in fresh) == 1, row


def test_the_order_of_a_bodys_keys_makes_no_difference(sqlite_ledger: Ledger) -> None:
    first = requests.accept(sqlite_ledger, new("t", "n", {"type": "news", "content": {"title": "a", "body": "b"}}))
    again = requests.accept(sqlite_ledger, new("t", "n", {"content": {"body": "b", "title": "a"}, "type": "news"}))
    assert (again.request_id, again.duplicate) == (first.request_id, True)


def test_postgres_repeats_what_the_server_undid(postgres_url: str) -> None:
    tries = []

    def unlucky(conn: Connection, items: Any) -> list[str]:
        tries.append(1)
        if len(tries) < 3:
            conn.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'unlucky' USING ERRCODE = '40P01'; END $$")
        return ["done"]

    def hopeless(conn: Connection, items: Any) -> list[str]:
        tries.append(1)
        conn.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'hopeless' USING ERRCODE = '40001'; END $$")
        return []

    with Ledger.open(postgres_url) as ledger:
        assert ledger.write(unlucky, None) == "done"
        assert len(tries) == 3
        with pytest.raises(sqlalchemy.exc.OperationalError) as raised:
            ledger.write(hopeless, None)
        assert isinstance(raised.value.orig, psycopg2.errors.SerializationFailure)
        assert 4 < len(tries) < 20


def test_a_read_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError), ledger.read() as conn:
        conn.exec_driver_sql("DELETE FROM meta")

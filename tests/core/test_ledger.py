"""The ledger's contract, on SQLite and on PostgreSQL."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from traceback import format_exception

import orjson
import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, devices, keys, leases, outbox, requests, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.outbox_tables import OUTBOX
from notify_pipeline.core.ledger.tables import META
from notify_pipeline.core.vocabulary import KeyScope, Platform, RequestState

NOW = datetime(2026, 11, 21, 10, 30, 15, 250_000, tzinfo=UTC)
HOUR = timedelta(hours=1)


def send(notification_id: str, tenant: str = "t1", **body: object) -> requests.NewRequest:
    return requests.NewRequest(
        tenant=tenant,
        notification_id=notification_id,
        body={"type": "news", "topics": ["a"], "content": {"title": "Hi"}, **body},
        accepted_at=NOW,
        expires_at=NOW + HOUR,
    )


def outbox_rows(ledger: Ledger, table: str) -> list[dict[str, object]]:
    with ledger.read() as conn:
        found = conn.execute(select(OUTBOX.c.rows).where(OUTBOX.c.lake_table == table).order_by(OUTBOX.c.seq)).scalars()
        return [row for rows in found for row in orjson.loads(rows)]


def device(token: str, user: str | None = None, topics: tuple[str, ...] = ()) -> devices.Registration:
    return devices.Registration(token=token, platform=Platform.ANDROID, user_id=user, topics=topics)


def test_a_send_is_stored_with_its_audit_row_and_both_lake_rows(ledger: Ledger) -> None:
    accepted = requests.accept(ledger, send("n1", priority="high"))
    assert not accepted.duplicate
    assert accepted.accepted_at == NOW
    row = requests.get(ledger, "t1", accepted.request_id)
    assert row is not None
    assert row == requests.get_by_notification(ledger, "t1", "n1")
    assert (row.state, row.priority, row.due_at, row.expires_at) == ("accepted", "high", NOW, NOW + HOUR)
    assert row.body["content"] == {"title": "Hi"}
    [entry] = audit.page(ledger, accepted.request_id)
    assert (entry.event, entry.to_state, entry.at) == ("request.accepted", "accepted", NOW)
    [lake] = outbox_rows(ledger, "requests")
    assert lake["title"] == "Hi" and lake["accepted_at"] == to_micros(NOW) and lake["topics"] == ["a"]
    assert [r["audit_id"] for r in outbox_rows(ledger, "audit")] == [entry.audit_id]


def test_the_same_id_replays_and_another_body_is_refused(ledger: Ledger) -> None:
    first = requests.accept(ledger, send("n1"))
    again = requests.accept(ledger, send("n1"))
    assert (again.request_id, again.duplicate, again.accepted_at) == (first.request_id, True, NOW)
    with pytest.raises(requests.IdReused):
        requests.accept(ledger, send("n1", collapse_key="x"))
    assert requests.accept(ledger, send("n1", tenant="t2")).request_id != first.request_id
    assert len(outbox_rows(ledger, "requests")) == 2
    assert len(outbox_rows(ledger, "audit")) == 2


def test_sixty_four_concurrent_sends_of_one_id_have_one_effect(ledger: Ledger) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: requests.accept(ledger, send("n1")), range(64)))
    assert len({a.request_id for a in answers}) == 1
    assert sum(not a.duplicate for a in answers) == 1
    assert len(outbox_rows(ledger, "requests")) == 1


def test_moves_are_guarded_and_audited(ledger: Ledger) -> None:
    accepted = requests.accept(ledger, send("n1"))

    def move(to: RequestState, *source: RequestState, reason: str | None = None) -> bool:
        def handler(conn: Connection, items: object) -> list[bool]:
            return [requests.move(conn, accepted.request_id, source, to, now=NOW, actor="test", reason=reason)]

        return ledger.write(handler, None)

    assert move(RequestState.ROUTED, RequestState.ACCEPTED)
    assert not move(RequestState.ROUTED, RequestState.ACCEPTED)
    assert move(RequestState.FAILED, RequestState.ROUTED, RequestState.SENDING, reason="no_recipients")
    row = requests.get(ledger, "t1", accepted.request_id)
    assert row is not None and (row.state, row.reason) == ("failed", "no_recipients")
    trail = audit.page(ledger, accepted.request_id, tenant="t1")
    assert [(e.from_state, e.to_state) for e in trail] == [
        (None, "accepted"),
        ("accepted", "routed"),
        ("routed", "failed"),
    ]
    assert trail[2].detail == {"reason": "no_recipients"}
    assert audit.page(ledger, accepted.request_id, tenant="t2") == []
    assert audit.page(ledger, accepted.request_id, limit=1, after=trail[0].audit_id) == [trail[1]]


def test_products_organizations_and_keys(ledger: Ledger) -> None:
    made = tenants.create_product(ledger, "News", ["UK", "US"], NOW)
    assert len({made.secret_key, made.publishable_key, *(o.secret_key for o in made.organizations)}) == 4
    info = keys.find(ledger, made.secret_key)
    assert info is not None
    assert (info.tenant, info.parent, info.scope, info.active, info.revoked) == (
        made.tenant,
        None,
        "secret",
        True,
        False,
    )
    org = keys.find(ledger, made.organizations[0].publishable_key)
    assert org is not None and (org.parent, org.scope) == (made.tenant, KeyScope.PUBLISHABLE)
    assert keys.find(ledger, made.secret_key + "x") is None
    assert keys.find(ledger, "\udcff\x00") is None
    with pytest.raises(tenants.NameTaken):
        tenants.create_product(ledger, "News", [], NOW)
    with pytest.raises(tenants.NameTaken):
        tenants.create_product(ledger, "Sport", ["UK", "UK"], NOW)
    tenants.create_product(ledger, "Sport", ["UK"], NOW)
    with pytest.raises(tenants.NameTaken):
        tenants.create_organization(ledger, made.tenant, "US", NOW)
    stored = tenants.get(ledger, made.tenant)
    assert stored is not None and (stored.name, stored.active, stored.created_at) == ("News", True, NOW)
    assert tenants.get(ledger, "nobody") is None


def test_an_admin_key_is_stored_once(ledger: Ledger) -> None:
    key = keys.new_key(KeyScope.ADMIN)
    assert keys.create_admin(ledger, key, NOW) == keys.create_admin(ledger, key, NOW)
    info = keys.find(ledger, key)
    assert info is not None and (info.scope, info.tenant, info.active) == (KeyScope.ADMIN, None, True)


def test_registering_changing_and_removing_a_device(ledger: Ledger) -> None:
    later = NOW + HOUR
    first = devices.register(ledger, "t1", device("tok", "u1", ("b", "a", "b")), NOW)
    assert (first.topics, first.revision, first.created_at) == (("a", "b"), 1, NOW)
    same = devices.register(ledger, "t1", device("tok", "u1", ("a", "b")), later)
    assert (same.revision, same.created_at, same.registered_at) == (1, NOW, later)
    changed = devices.set_topics(ledger, "t1", "tok", [], later)
    assert changed is not None and (changed.topics, changed.revision) == ((), 2)
    assert devices.set_topics(ledger, "t2", "tok", ["x"], later) is None
    assert devices.get(ledger, "t1", "tok") == changed
    assert not devices.delete(ledger, "t2", "tok", later)
    assert devices.delete(ledger, "t1", "tok", later)
    assert not devices.delete(ledger, "t1", "tok", later)
    assert devices.get(ledger, "t1", "tok") is None
    assert devices.set_topics(ledger, "t1", "tok", ["x"], later) is None
    back = devices.register(ledger, "t1", device("tok", "u2"), later)
    assert (back.revision, back.user_id, back.created_at) == (4, "u2", NOW)
    lake = outbox_rows(ledger, "registrations")
    assert [(r["op"], r["revision"], r["topics"], r["previous"]) for r in lake] == [
        ("upsert", 1, ["a", "b"], None),
        ("upsert", 2, [], "upsert"),
        ("delete", 3, [], "upsert"),
        ("upsert", 4, [], "delete"),
    ]


def test_a_drop_is_void_once_the_token_was_registered_again(ledger: Ledger) -> None:
    devices.register(ledger, "t1", device("old"), NOW)
    devices.register(ledger, "t1", device("new"), NOW)
    devices.register(ledger, "t1", device("new"), NOW + HOUR)
    devices.register(ledger, "t2", device("old"), NOW)
    drops = [devices.TokenDrop(token, "UNREGISTERED", NOW + HOUR / 2) for token in ("old", "new", "none")]
    assert devices.drop(ledger, "t1", drops, NOW + HOUR) == 1
    assert devices.drop(ledger, "t1", drops, NOW + HOUR) == 0
    assert devices.get(ledger, "t1", "old") is None
    assert devices.get(ledger, "t1", "new") is not None
    assert devices.get(ledger, "t2", "old") is not None
    dropped = outbox_rows(ledger, "registrations")[-1]
    assert (dropped["op"], dropped["reason"], dropped["revision"]) == ("drop", "UNREGISTERED", 2)
    assert dropped["previous"] == "upsert"
    assert devices.register(ledger, "t1", device("old"), NOW + HOUR).revision == 3
    back = outbox_rows(ledger, "registrations")[-1]
    assert (back["reason"], back["previous"]) == (None, "drop")


def test_each_token_is_dropped_by_its_own_moment_and_reason(ledger: Ledger) -> None:
    for n in range(6):
        devices.register(ledger, "t1", device(f"tok{n}"), NOW + n * HOUR)
    # Each is said to be dead since three hours after NOW, but for the last, which a later answer says again.
    drops = [devices.TokenDrop(f"tok{n}", f"reason{n % 2}", NOW + 3 * HOUR) for n in reversed(range(6))]
    drops.append(devices.TokenDrop("tok5", "later", NOW + 6 * HOUR))
    assert devices.drop(ledger, "t1", drops, NOW + 7 * HOUR) == 5
    assert [d.token for d in devices.find_by_tokens(ledger, "t1", [f"tok{n}" for n in range(6)])] == ["tok4"]
    said = {row["token"]: row["reason"] for row in outbox_rows(ledger, "registrations") if row["op"] == "drop"}
    assert said == {"tok0": "reason0", "tok1": "reason1", "tok2": "reason0", "tok3": "reason1", "tok5": "later"}


def test_finding_devices_in_long_lists(ledger: Ledger) -> None:
    for n in range(3):
        devices.register(ledger, "t1", device(f"tok{n}", f"u{n % 2}"), NOW)
    devices.register(ledger, "t2", device("tok9", "u0"), NOW)
    users = [f"u{n}" for n in range(devices.PIECE * 2 + 1)]
    assert [d.token for d in devices.find_by_users(ledger, "t1", users)] == ["tok0", "tok1", "tok2"]
    assert [d.token for d in devices.find_by_users(ledger, "t1", ["u0", "u0"])] == ["tok0", "tok2"]
    assert [d.token for d in devices.find_by_tokens(ledger, "t1", ["tok9", "tok1"])] == ["tok1"]
    assert devices.find_by_tokens(ledger, "t1", []) == []


def test_concurrent_registrations_of_one_token_number_every_change(ledger: Ledger) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda n: devices.register(ledger, "t1", device("tok", f"u{n}"), NOW), range(48)))
    assert sorted(d.revision for d in made) == list(range(1, 49))
    rows = outbox_rows(ledger, "registrations")
    assert sorted(int(str(r["revision"])) for r in rows) == list(range(1, 49))
    assert all(r["previous"] == (None if r["revision"] == 1 else "upsert") for r in rows)


def test_leases(ledger: Ledger) -> None:
    first = leases.acquire(ledger, "lander", "a", 5, NOW)
    assert first is not None
    assert leases.acquire(ledger, "lander", "b", 5, NOW + timedelta(seconds=4)) is None
    assert leases.holder(ledger, "lander", NOW) == "a"
    assert leases.acquire(ledger, "lander", "a", 5, NOW) == first
    renewed = leases.renew(ledger, first, 10, NOW)
    assert renewed is not None and leases.acquire(ledger, "lander", "b", 5, NOW + timedelta(seconds=9)) is None
    taken = leases.acquire(ledger, "lander", "b", 5, NOW + timedelta(seconds=10))
    assert taken is not None and taken.fence == first.fence + 1
    assert not leases.renew(ledger, first, 5, NOW)
    assert not leases.release(ledger, first)

    def guarded(conn: Connection, items: object) -> list[None]:
        leases.check(conn, first)
        return [None]

    with pytest.raises(leases.LeaseLost):
        ledger.write(guarded, None)
    assert leases.release(ledger, taken)
    assert leases.holder(ledger, "lander", NOW) is None
    again = leases.acquire(ledger, "lander", "b", 5, NOW)
    assert again is not None and again.fence == taken.fence + 1


def test_secrets_are_made_once(ledger: Ledger, ledger_url: str) -> None:
    secret = ledger.secret("delivery")
    assert len(secret) == 32 and ledger.secret("delivery") == secret != ledger.secret("other")
    with Ledger.open(ledger_url) as again:
        assert again.secret("delivery") == secret


def test_a_failing_item_fails_alone_and_leaves_nothing(ledger: Ledger) -> None:
    def put(conn: Connection, items: list[str]) -> list[str | Exception]:
        results: list[str | Exception] = []
        for item in items:
            conn.execute(META.insert().values(name=item, value="x"))
            if item.startswith("raise"):
                raise LookupError(item)
            results.append(ValueError(item) if item.startswith("give") else item)
        return results

    def one(name: str) -> str:
        try:
            return ledger.write(put, name)
        except (LookupError, ValueError) as error:
            return f"{type(error).__name__}: {error.args[0]}"

    names = [f"{kind}{n}" for n in range(8) for kind in ("ok", "raise", "give")]
    with ThreadPoolExecutor(24) as pool:
        answers = dict(zip(names, pool.map(one, names), strict=True))
    for name, answer in answers.items():
        expected = {"o": name, "r": f"LookupError: {name!s}", "g": f"ValueError: {name}"}[name[0]]
        assert answer == expected
    with ledger.read() as conn:
        stored = set(conn.execute(select(META.c.name)).scalars())
    assert stored == {name for name in names if not name.startswith("raise")}


def test_what_is_logged_of_a_failure_shows_no_token(ledger: Ledger) -> None:
    token = "-".join(("a", "token"))  # tracebacks show lines of code, PostgreSQL those it cannot parse
    with ledger.read() as conn, pytest.raises(DBAPIError) as read:
        conn.execute(text("SELECT 1 FROM nowhere\nWHERE token = :token"), {"token": token})
    with pytest.raises((DBAPIError, LedgerError)) as written:
        ledger.write(_store_nowhere, token)
    for raised in (read, written):
        told = "".join(format_exception(raised.value))
        assert "nowhere" in told and token not in told


def _store_nowhere(conn: Connection, items: Sequence[str]) -> list[None]:
    for item in items:
        conn.execute(text("INSERT INTO nowhere (token)\nVALUES (:token)"), {"token": item})
    return [None for _ in items]


def test_reading_sees_one_moment(ledger: Ledger) -> None:
    requests.accept(ledger, send("n1"))
    with ledger.read() as conn:
        before = conn.execute(select(OUTBOX.c.seq)).all()
        requests.accept(ledger, send("n2"))
        assert conn.execute(select(OUTBOX.c.seq)).all() == before


def test_a_query_that_was_left_half_read_keeps_no_later_reader_in_its_moment(ledger: Ledger) -> None:
    keys.create_admin(ledger, "nak_first", NOW)
    keys.create_admin(ledger, "nak_second", NOW)
    with ledger.read() as conn:
        held = conn.execute(text("SELECT key_id FROM keys"))
        assert held.fetchone() is not None
    key_id = keys.create_admin(ledger, "nak_third", NOW)
    found = keys.find(ledger, "nak_third")
    assert found is not None and found.key_id == key_id
    assert held.keys() == ["key_id"]  # somebody has it still


def test_outbox_rows_go_to_the_hour_of_their_own_time(ledger: Ledger) -> None:
    rows = [{"audit_id": str(n), "event": "e", "at": to_micros(NOW + n * HOUR)} for n in (0, 1, 0)]

    def add(conn: Connection, items: object) -> list[None]:
        outbox.add(conn, "audit", [*rows, {"audit_id": "none"}], NOW + HOUR)
        return [None]

    ledger.write(add, None)
    with ledger.read() as conn:
        found = conn.execute(select(OUTBOX.c.at, OUTBOX.c.row_count).order_by(OUTBOX.c.seq)).tuples().all()
    assert found == [(to_micros(NOW), 2), (to_micros(NOW + HOUR), 2)]

    def bad(conn: Connection, items: object) -> list[None]:
        outbox.add(conn, "audit", [{"colour": "red"}], NOW)
        return [None]

    with pytest.raises(ValueError, match="colour"):
        ledger.write(bad, None)

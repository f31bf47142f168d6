"""Daily quotas, counted in the transactions that use them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, func, select

from notify_pipeline.core.ledger import accepting, policies, tenants
from notify_pipeline.core.ledger.accepting import Accepted, IdReused, NewRequest, accept, accept_all, prepare
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.limits import CACHE_S, LimitsBook
from notify_pipeline.core.ledger.tables import REQUESTS
from notify_pipeline.core.ledger.tenant_tables import USAGE
from notify_pipeline.core.ledger.usage import EFFECT_S, Quota, QuotaExceeded
from notify_pipeline.core.vocabulary import PolicyKind

SET = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW = SET + timedelta(seconds=EFFECT_S)
NEVER_BEFORE = round(SET.timestamp() * 1e6)


def quota(subject: str, daily_requests: int | None, since: int = NEVER_BEFORE) -> Quota:
    return Quota(subject, daily_requests, None, since)


def new(notification_id: str, *quotas: Quota, tenant: str = "t", at: datetime = NOW, kind: str = "news") -> NewRequest:
    return NewRequest(tenant, notification_id, {"type": kind}, at, at + timedelta(days=1), quotas=quotas)


def used(ledger: Ledger) -> dict[str, int]:
    with ledger.read() as conn:
        query = select(USAGE.c.tenant, func.sum(USAGE.c.requests)).group_by(USAGE.c.tenant)
        return {tenant: int(number) for tenant, number in conn.execute(query)}


def stored(ledger: Ledger) -> int:
    with ledger.read() as conn:
        return conn.execute(select(func.count()).select_from(REQUESTS)).scalar_one()


def test_many_at_once_take_exactly_what_there_is(ledger: Ledger) -> None:
    def send(n: int) -> bool:
        try:
            accept(ledger, new(f"n{n}", quota("t", 25)))
        except QuotaExceeded as error:
            assert error.resets_at == datetime(2026, 11, 22, tzinfo=UTC)
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(60)))
    assert (sum(answers), stored(ledger), used(ledger)) == (25, 25, {"t": 25})
    accept(ledger, new("tomorrow", quota("t", 25), at=NOW + timedelta(hours=12)))


def test_repetitions_and_refusals_use_nothing(ledger: Ledger) -> None:
    accept(ledger, new("a", quota("t", 1)))
    assert accept(ledger, new("a", quota("t", 1))).duplicate
    with pytest.raises(IdReused):
        accept(ledger, new("a", quota("t", 1), kind="sport"))
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            accept(ledger, new("b", quota("t", 1)))
    assert (used(ledger), stored(ledger)) == ({"t": 1}, 1)


def test_a_batch_counts_each_and_a_repetition_within_it_once(ledger: Ledger) -> None:
    names = ["a", "a", "b", "c", "c", "free"]
    items = [prepare(new(name, *([] if name == "free" else [quota("t", 2)]))) for name in names]

    def handler(conn: Connection, batches: list[list[accepting.Incoming]]) -> list[list[Accepted | Exception]]:
        return [accept_all(conn, batch) for batch in batches]

    outcomes = ledger.write(handler, items)
    shown = [type(o).__name__ if isinstance(o, Exception) else o.duplicate for o in outcomes]
    assert shown == [False, True, False, "QuotaExceeded", "QuotaExceeded", False]
    assert [o.notification_id for o in outcomes if isinstance(o, Accepted)] == ["a", "a", "b", "free"]
    assert (used(ledger), stored(ledger)) == ({"t": 2}, 3)


def test_what_was_accepted_before_the_quota_counts_on_it(ledger: Ledger) -> None:
    for n in range(3):
        accept(ledger, new(f"before{n}", at=SET - timedelta(hours=1)))
    accept(ledger, new("yesterday", at=SET - timedelta(days=1)))
    accept(ledger, new("not yet", quota("t", 4), at=SET + timedelta(seconds=1)))
    assert used(ledger) == {"t": 0}, "it is not in effect"
    with pytest.raises(QuotaExceeded):
        accept(ledger, new("one too many", quota("t", 4)))
    later = quota("t", 6, since=NEVER_BEFORE + 5_000_000)
    accept(ledger, new("unaware"))
    accept(ledger, new("last", later, at=NOW + timedelta(seconds=10)))
    assert used(ledger) == {"t": 6}, "counted again, with what a process let pass that knew of no quota"
    with pytest.raises(QuotaExceeded):
        accept(ledger, new("over", later, at=NOW + timedelta(seconds=10)))


def test_one_batch_across_the_moment_of_effect_counts_all_of_it(ledger: Ledger) -> None:
    early = new("early", quota("t", 9), at=NOW - timedelta(microseconds=1))
    items = [prepare(early), prepare(new("late", quota("t", 9)))]

    def handler(conn: Connection, batches: list[list[accepting.Incoming]]) -> list[list[Accepted | Exception]]:
        return [accept_all(conn, batch) for batch in batches]

    ledger.write(handler, items)
    assert used(ledger) == {"t": 2}


def test_an_organization_counts_on_its_product(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["O", "Q"], SET)
    one, two = (part.tenant for part in product.organizations)
    policies.put(ledger, product.tenant, PolicyKind.LIMITS, {"daily_requests": 4}, "admin", SET)
    policies.put(ledger, one, PolicyKind.LIMITS, {"daily_requests": 2, "max_audience": 9}, "admin", SET)
    book = LimitsBook(ledger)
    quotas = {tenant: book.of(tenant).request_quotas for tenant in (product.tenant, one, two, "stranger")}
    assert {t: [q.subject for q in found] for t, found in quotas.items()} == {
        product.tenant: [product.tenant],
        one: [one, product.tenant],
        two: [product.tenant],
        "stranger": [],
    }
    assert (book.of(one).max_audience, book.of(two).max_audience) == (9, None)
    accept(ledger, new("a", *quotas[one], tenant=one))
    accept(ledger, new("b", *quotas[one], tenant=one))
    with pytest.raises(QuotaExceeded, match="daily_requests is 2"):
        accept(ledger, new("c", *quotas[one], tenant=one))
    accept(ledger, new("d", *quotas[two], tenant=two))
    accept(ledger, new("e", *quotas[product.tenant], tenant=product.tenant))
    with pytest.raises(QuotaExceeded, match="daily_requests is 4"):
        accept(ledger, new("f", *quotas[two], tenant=two))
    assert used(ledger) == {one: 2, product.tenant: 4}


def test_tenants_without_a_quota_leave_no_trace(ledger: Ledger) -> None:
    accept(ledger, new("a"))
    assert used(ledger) == {}


def test_limits_are_read_once_a_second_and_a_change_is_seen_then(sqlite_ledger: Ledger) -> None:
    product = tenants.create_product(sqlite_ledger, "P", [], SET)
    now = 100.0
    book = LimitsBook(sqlite_ledger, monotonic=lambda: now)
    assert book.of(product.tenant).max_audience is None
    policies.put(sqlite_ledger, product.tenant, PolicyKind.LIMITS, {"max_audience": 5}, "admin", SET)
    now += CACHE_S - 0.01
    assert book.of(product.tenant).max_audience is None
    now += 0.01
    assert book.of(product.tenant).max_audience == 5
    assert CACHE_S < EFFECT_S, "a quota counts once every process knows of it"

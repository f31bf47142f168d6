"""Frequency caps: counted once per send, never more than allowed in any period, and forgotten in the end."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import caps, policies, tenants
from notify_pipeline.core.ledger.caps import Uses
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tenant_tables import CAP_USES
from notify_pipeline.core.vocabulary import PolicyKind

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY_S = 86_400


def cap(ledger: Ledger, count: int, period_s: float = DAY_S, name: str = "", tenant: str = "t1") -> None:
    value = {"count": count, "period_s": period_s}
    policies.put(ledger, tenant, PolicyKind.FREQUENCY_CAP, value, "k", NOW, name=name)


def uses(request_id: str, *who: str, hours: float = 0.0, category: str | None = None, tenant: str = "t1") -> Uses:
    return Uses(tenant, request_id, category, to_micros(NOW + timedelta(hours=hours)), frozenset(who))


def stored(ledger: Ledger) -> int:
    with ledger.read() as conn:
        return conn.execute(select(func.count()).select_from(CAP_USES)).scalar_one()


def test_without_a_cap_nothing_is_counted(ledger: Ledger) -> None:
    cap(ledger, 1, tenant="t2")
    cap(ledger, 1, name="ads")
    assert caps.take(ledger, uses("r1", "u", category="news")) == frozenset()
    assert stored(ledger) == 0


def test_the_last_use_is_taken_once_however_often_its_send_asks(ledger: Ledger) -> None:
    cap(ledger, 2)
    for _ in range(2):
        assert caps.take(ledger, uses("r1", "u", "v")) == frozenset()
        assert caps.take(ledger, uses("r2", "u")) == frozenset()
        assert caps.take(ledger, uses("r3", "u", "v")) == {"u"}
    assert stored(ledger) == 4
    assert caps.take(ledger, uses("r4", "v", hours=24)) == frozenset()


def test_a_category_s_cap_and_the_one_on_all_hold_both(ledger: Ledger) -> None:
    cap(ledger, 3)
    cap(ledger, 1, name="ads")
    assert caps.take(ledger, uses("r1", "u", category="ads")) == frozenset()
    assert caps.take(ledger, uses("r2", "u", category="ads")) == {"u"}
    assert caps.take(ledger, uses("r3", "u", category="news")) == frozenset()
    assert caps.take(ledger, uses("r4", "u")) == frozenset()
    assert caps.take(ledger, uses("r5", "u")) == {"u"}


def test_an_organization_goes_by_its_product_s_cap_and_counts_for_itself(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["A", "B"], NOW)
    first, second = (part.tenant for part in product.organizations)
    cap(ledger, 1, tenant=product.tenant)
    assert caps.take(ledger, uses("r1", "u", tenant=first)) == frozenset()
    assert caps.take(ledger, uses("r2", "u", tenant=second)) == frozenset()
    assert caps.take(ledger, uses("r3", "u", tenant=first)) == {"u"}


def test_sends_planned_at_once_cannot_both_take_the_last_use(ledger: Ledger) -> None:
    cap(ledger, 3)
    who = [f"user:{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        over = list(threads.map(lambda number: caps.take(ledger, uses(f"r{number}", *who)), range(8)))
    assert Counter(each for some in over for each in some) == dict.fromkeys(who, 5)


def test_uses_that_no_cap_counts_are_forgotten(ledger: Ledger) -> None:
    cap(ledger, 5)
    cap(ledger, 5, 2 * DAY_S, tenant="t2")
    for number, hours in enumerate((-50, -47, -1, 5)):
        caps.take(ledger, uses(f"r{number}", "u", hours=hours))
    assert caps.forget(ledger, NOW) == 1
    assert stored(ledger) == 3
    policies.remove(ledger, "t2", PolicyKind.FREQUENCY_CAP, "k", NOW)
    assert (caps.forget(ledger, NOW), caps.forget(ledger, NOW), stored(ledger)) == (1, 0, 2)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 72), max_size=25), st.integers(1, 4), st.integers(1, 30))
def test_no_period_ever_holds_more_than_allowed(
    sqlite_ledger: Ledger, hours: list[int], count: int, period_h: int
) -> None:
    sqlite_ledger.write(_clear, None)
    cap(sqlite_ledger, count, period_h * 3600)
    taken = [at for number, at in enumerate(hours) if not caps.take(sqlite_ledger, uses(f"r{number}", "u", hours=at))]
    for start in taken:
        assert sum(start <= at < start + period_h for at in taken) <= count
    if len(hours) <= count:
        assert taken == hours


def _clear(conn: object, items: list[None]) -> list[None]:
    conn.execute(delete(CAP_USES))  # type: ignore[attr-defined]
    return items


@pytest.mark.parametrize(("user_id", "name"), [("x", "user:x"), (None, "device:x")])
def test_a_user_counts_over_all_devices(user_id: str | None, name: str) -> None:
    assert caps.recipient(user_id, "x") == name

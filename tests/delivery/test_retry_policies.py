"""Which retry policy a send goes by: whose, for which channel, and whatever the store holds."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from notify_pipeline.core.ledger import policies, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.policies import Policy
from notify_pipeline.core.ledger.tenant_tables import POLICIES
from notify_pipeline.core.vocabulary import Channel, Outcome, PolicyKind
from notify_pipeline.delivery.retry import Again, Final, Jitter, RetryPolicy, Wishes
from notify_pipeline.delivery.retry_policies import KEPT_S, RetryPolicies, Unreadable, choose, find, parse
from tests.ingest_api.conftest import change

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DEFAULT = RetryPolicy(6, 0.5, 60.0, lambda: 0.5)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "attempts": st.integers(1, 20),
        "base_s": st.floats(0, 100) | st.integers(0, 100),
        "cap_s": st.floats(0, 1_000) | st.integers(0, 1_000),
        "jitter": st.sampled_from(["full", "none"]),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def stored(name: str, value: Any, tenant: str = "t") -> Policy:
    return Policy(tenant, PolicyKind.RETRY, name, value, NOW)


@given(value=VALUES)
def test_what_is_stored_holds_and_what_is_not_is_the_installations(value: dict[str, Any]) -> None:
    found = parse(value, DEFAULT)
    assert found == replace(DEFAULT, **value | ({"jitter": Jitter(value["jitter"])} if "jitter" in value else {}))
    now, wishes = 1_800_000_000_000_000, Wishes(2_000_000_000_000_000)
    for attempt_no in range(1, found.attempts):
        decision = found.after(Outcome.TRANSIENT, attempt_no, now, wishes)
        assert isinstance(decision, Again) and 0 <= decision.due_at - now <= found.cap_s * 1e6 + 1
    assert isinstance(found.after(Outcome.TRANSIENT, found.attempts, now, wishes), Final)


@given(
    value=JSON
    | st.fixed_dictionaries(
        {}, optional={"attempts": JSON, "base_s": JSON, "cap_s": JSON, "jitter": JSON, "attempt": JSON}
    )
)
def test_whatever_is_stored_gives_a_policy_that_ends(value: Any) -> None:
    found = choose({"fcm": stored("fcm", value)}, "fcm", DEFAULT)
    decision = found.after(Outcome.TRANSIENT, 1_000, 0, Wishes(10**18))
    assert isinstance(decision, Final)
    assert 0 <= found.bound_s(1) <= found.bound_s(999) < 1e9


@pytest.mark.parametrize(
    "value",
    [
        [],
        "fast",
        {"attempts": 0},
        {"attempts": 2.5},
        {"attempts": True},
        {"attempts": 10**400},
        {"base_s": -1},
        {"base_s": float("nan")},
        {"cap_s": float("inf")},
        {"cap_s": "60"},
        {"jitter": "half"},
        {"jitter": None},
    ],
)
def test_what_is_no_policy_is_passed_over(value: Any) -> None:
    with pytest.raises(Unreadable):
        parse(value, DEFAULT)
    assert choose({"fcm": stored("fcm", value)}, "fcm", DEFAULT) == DEFAULT
    both = {"fcm": stored("fcm", value), "": stored("", {"attempts": 2})}
    assert choose(both, "fcm", DEFAULT).attempts == 2


def test_the_channel_comes_first_and_then_whose_it_is(ledger: Ledger) -> None:
    product = tenants.create_product(ledger, "P", ["O"], NOW)
    branch = product.organizations[0].tenant

    def put(tenant: str, name: str, attempts: int) -> None:
        policies.put(ledger, tenant, PolicyKind.RETRY, {"attempts": attempts}, "k", NOW, name=name)

    def found(tenant: str, channel: str) -> int:
        return find(ledger, tenant, channel, DEFAULT).attempts

    assert found(branch, "fcm") == DEFAULT.attempts
    put(product.tenant, "", 2)
    assert (found(branch, "fcm"), found(branch, "apns"), found(product.tenant, "apns")) == (2, 2, 2)
    put(product.tenant, "fcm", 3)
    assert (found(branch, "fcm"), found(branch, "apns")) == (3, 2)
    put(branch, "fcm", 4)
    put(branch, "", 5)
    assert (found(branch, "fcm"), found(branch, "apns"), found(product.tenant, "fcm")) == (4, 5, 3)


def test_text_that_is_not_json_is_no_obstacle(ledger: Ledger) -> None:
    policies.put(ledger, "t", PolicyKind.RETRY, {"attempts": 2}, "k", NOW, name="fcm")
    change(ledger, update(POLICIES).values(value="{"))
    assert find(ledger, "t", "fcm", DEFAULT) == DEFAULT


def test_a_policy_is_read_once_in_a_while(ledger: Ledger) -> None:
    now = [0.0]
    kept = RetryPolicies(ledger, Channel.FCM, DEFAULT, lambda: now[0])
    assert kept.of("t") == DEFAULT and kept.stale(["t", "u", "t"]) == ["t", "u"]
    kept.refresh(["t"])
    policies.put(ledger, "t", PolicyKind.RETRY, {"attempts": 2}, "k", NOW, name="fcm")
    now[0] = KEPT_S - 0.1
    kept.refresh(["t"])
    assert kept.of("t") == DEFAULT and kept.stale(["t"]) == []
    now[0] = KEPT_S
    kept.refresh(["t"])
    assert kept.of("t").attempts == 2

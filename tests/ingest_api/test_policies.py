"""Policies and limits over HTTP: what may be said, who inherits what, and that each change is audited."""

from typing import Any

import pytest
from sqlalchemy import select

from notify_pipeline.core.ledger.tables import AUDIT
from tests.ingest_api.conftest import ADMIN, House, fields_of

RETRY = {"attempts": 3, "base_s": 1.0, "cap_s": 9.0, "jitter": "full"}
QUIET = {"from": "22:00", "until": "07:00", "timezone": None}
CAP = {"count": 3, "period_s": 86_400}
KINDS = [
    ("/policies/retry", RETRY, {"channel": None}),
    ("/policies/retry/fcm", RETRY, {"channel": "fcm"}),
    ("/policies/quiet-hours", QUIET, {}),
    ("/policies/frequency-caps", CAP, {"category": None}),
    ("/policies/frequency-caps/marketing", CAP, {"category": "marketing"}),
    ("/policies/preferences", {"channels": {"sms": False, "*": True}}, {"category": None, "mandatory": False}),
    ("/policies/preferences/marketing", {"channels": {}, "mandatory": True}, {"category": "marketing"}),
]


@pytest.mark.parametrize(("path", "value", "name"), KINDS, ids=[kind[0] for kind in KINDS])
def test_a_policy_is_set_shown_inherited_and_removed(
    any_house: House, path: str, value: dict[str, Any], name: dict[str, Any]
) -> None:
    house, branch = any_house, any_house.api(any_house.mine.organizations[0].secret_key)
    assert house.secret.call("GET", path).status_code == 404
    assert house.secret.call("DELETE", path).status_code == 404
    stored = house.secret.ok("PUT", path, value)
    assert stored == value | name | {"inherited": False, "updated_at": "2026-11-21T06:33:59.123456Z"}
    assert house.secret.ok("GET", path) == stored
    house.clock.advance(seconds=5)
    assert house.secret.ok("PUT", path, value) == stored, "the same again changes nothing"
    assert branch.ok("GET", path) == stored | {"inherited": True}
    assert branch.call("DELETE", path).status_code == 404, "it is not the organization's own"
    assert branch.ok("PUT", path, value)["inherited"] is False
    assert house.stranger.call("GET", path).status_code == 404
    assert house.secret.call("DELETE", path).status_code == 204
    assert branch.ok("GET", path)["inherited"] is False
    assert branch.call("DELETE", path).status_code == 204
    assert branch.call("GET", path).status_code == 404


def test_all_of_them_are_shown_together(house: House) -> None:
    nothing = {"retry": [], "quiet_hours": None, "frequency_caps": [], "preferences": [], "limits": None}
    assert house.secret.ok("GET", "/policies") == nothing
    for path, value, _ in KINDS:
        house.secret.ok("PUT", path, value)
    house.api(ADMIN).ok("PUT", f"/tenants/{house.mine.tenant}/limits", {"daily_requests": 5})
    shown = house.api(house.mine.organizations[0].secret_key).ok("GET", "/policies")
    assert [policy["channel"] for policy in shown["retry"]] == [None, "fcm"]
    assert [policy["category"] for policy in shown["frequency_caps"]] == [None, "marketing"]
    assert shown["quiet_hours"]["from"] == "22:00"
    assert shown["limits"]["daily_requests"] == 5
    assert all(policy["inherited"] for policy in (*shown["retry"], *shown["frequency_caps"], shown["limits"]))
    assert house.stranger.ok("GET", "/policies") == nothing


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("/policies/retry", RETRY | {"attempts": 0}, "attempts"),
        ("/policies/retry", RETRY | {"attempts": 21}, "attempts"),
        ("/policies/retry", RETRY | {"attempts": True}, "attempts"),
        ("/policies/retry", RETRY | {"base_s": 0.01}, "base_s"),
        ("/policies/retry", RETRY | {"base_s": 10.0}, "body"),
        ("/policies/retry", RETRY | {"cap_s": 90_000}, "cap_s"),
        ("/policies/retry", RETRY | {"jitter": "equal"}, "jitter"),
        ("/policies/retry", RETRY | {"wait": 1}, "wait"),
        ("/policies/retry", {}, "attempts"),
        ("/policies/retry/pigeon", RETRY, "channel"),
        ("/policies/quiet-hours", QUIET | {"from": "24:00"}, "from"),
        ("/policies/quiet-hours", QUIET | {"until": "7:00"}, "until"),
        ("/policies/quiet-hours", QUIET | {"until": "22:00"}, "body"),
        ("/policies/quiet-hours", QUIET | {"timezone": "Europe/Nowhere"}, "timezone"),
        ("/policies/quiet-hours", {"from_": "22:00", "until": "07:00"}, "from"),
        ("/policies/frequency-caps", CAP | {"count": 0}, "count"),
        ("/policies/frequency-caps", CAP | {"period_s": 91 * 86_400}, "period_s"),
        ("/policies/frequency-caps", CAP | {"period_s": 1.5}, "period_s"),
        ("/policies/frequency-caps/a b", CAP, "category"),
        ("/policies/preferences", {"channels": {"sms": "no"}}, "channels.sms"),
        ("/policies/preferences", {"channels": {}, "mandatory": True}, "mandatory"),
    ],
)
def test_what_makes_no_sense_is_refused(house: House, path: str, value: Any, field: str) -> None:
    answered = house.secret.call("PUT", path, value)
    assert answered.status_code == 422, answered.text
    assert field in fields_of(answered)
    assert house.secret.ok("GET", "/policies")["retry"] == []


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"requests_per_s": 0}, "requests_per_s"),
        ({"requests_per_s": 1e9}, "requests_per_s"),
        ({"burst": 0}, "burst"),
        ({"daily_requests": -1}, "daily_requests"),
        ({"daily_recipients": "5"}, "daily_recipients"),
        ({"max_audience": 0}, "max_audience"),
        ({"max_content_bytes": 0.5}, "max_content_bytes"),
        ({"per_minute": 5}, "per_minute"),
    ],
)
def test_limits_that_make_no_sense_are_refused(house: House, value: Any, field: str) -> None:
    answered = house.api(ADMIN).call("PUT", f"/tenants/{house.mine.tenant}/limits", value)
    assert answered.status_code == 422
    assert field in fields_of(answered)


def test_only_an_admin_sets_limits_and_the_tenant_sees_them(any_house: House) -> None:
    house, admin = any_house, any_house.api(ADMIN)
    path, branch = f"/tenants/{house.mine.tenant}/limits", house.mine.organizations[0]
    none = dict.fromkeys(
        ("requests_per_s", "burst", "daily_requests", "daily_recipients", "max_audience", "max_content_bytes")
    ) | {"inherited": False, "updated_at": None}
    assert admin.ok("GET", path) == none
    assert admin.call("DELETE", path).status_code == 404
    assert house.secret.call("PUT", path, {"max_audience": 5}).status_code == 403
    assert admin.call("PUT", f"/tenants/{'0' * 32}/limits", {}).status_code == 404
    stored = admin.ok("PUT", path, {"max_audience": 5, "burst": None})
    assert stored == none | {"max_audience": 5, "updated_at": "2026-11-21T06:33:59.123456Z"}
    assert house.secret.ok("GET", "/limits") == stored
    assert house.api(branch.secret_key).ok("GET", "/limits") == stored | {"inherited": True}
    assert admin.ok("GET", f"/tenants/{branch.tenant}/limits") == stored | {"inherited": True}
    assert house.stranger.ok("GET", "/limits") == none
    assert admin.call("DELETE", f"/tenants/{branch.tenant}/limits").status_code == 404
    assert admin.call("DELETE", path).status_code == 204
    assert house.secret.ok("GET", "/limits") == none


def test_each_change_is_audited_with_the_key_that_made_it(house: House) -> None:
    house.secret.ok("PUT", "/policies/retry/fcm", RETRY)
    house.api(ADMIN).ok("PUT", f"/tenants/{house.mine.tenant}/limits", {"burst": 5})
    house.secret.call("DELETE", "/policies/retry/fcm")
    with house.services.ledger.read() as conn:
        query = select(AUDIT.c.event, AUDIT.c.actor).where(AUDIT.c.tenant == house.mine.tenant)
        rows = [tuple(row) for row in conn.execute(query.order_by(AUDIT.c.audit_id)) if row.event.startswith("policy")]
    assert [event for event, _ in rows] == ["policy.set", "policy.set", "policy.removed"]
    assert rows[0][1] == rows[2][1] != rows[1][1]

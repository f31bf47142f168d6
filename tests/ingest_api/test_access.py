"""Who may call what: every declared route with every kind of key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ingest_api.app import GROUPS
from ingest_api.keys import CACHE_S, Access, KeyRing
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger import keys, policies
from notify_pipeline.core.ledger.keys import KeyInfo
from notify_pipeline.core.vocabulary import KeyScope, PolicyKind
from tests.ingest_api.conftest import ADMIN, House, fields_of, registration, send

ENDPOINTS = {(e.method, e.path): e for group in GROUPS for e in group.endpoints}
_BEACON = "?notificationId=n-1&platform=android&provider=fcm&d={d}"


@dataclass
class Sample:
    """A request that succeeds with the right key. ``owned``: it is about a thing of one tenant."""

    path: str
    status: int
    body: Any = None
    owned: bool = False


SAMPLES: dict[tuple[str, str], Sample] = {
    ("POST", "/products"): Sample("/products", 201, {"name": "new"}),
    ("POST", "/devices"): Sample("/devices", 201, registration()),
    ("GET", "/devices/{token}"): Sample("/devices/dGhl:APA91b", 200, owned=True),
    ("PUT", "/devices/{token}/topics"): Sample("/devices/dGhl:APA91b/topics", 200, {"topics": []}, owned=True),
    ("DELETE", "/devices/{token}"): Sample("/devices/dGhl:APA91b", 204, owned=True),
    ("POST", "/notifications"): Sample("/notifications", 202, send(id="n-2")),
    ("GET", "/notifications/{notification_id}"): Sample("/notifications/n-1", 200, owned=True),
    ("POST", "/notifications/bulk"): Sample("/notifications/bulk", 200, {"notifications": [send(id="n-3")]}),
    ("PATCH", "/notifications/{notification_id}"): Sample("/notifications/n-1", 200, {"ttl": 60}, owned=True),
    ("DELETE", "/notifications/{notification_id}"): Sample("/notifications/n-1", 200, owned=True),
    ("GET", "/notifications"): Sample("/notifications", 200),
    ("GET", "/requests/{request_id}"): Sample("/requests/{request}", 200, owned=True),
    ("GET", "/users/{user_id}/messages"): Sample("/users/u-1/messages", 200),
    ("GET", "/audit"): Sample("/audit", 200),
    ("GET", "/requests/{request_id}/recipients"): Sample("/requests/{request}/recipients", 200, owned=True),
    ("GET", "/requests/{request_id}/audit"): Sample("/requests/{request}/audit", 200, owned=True),
    ("GET", "/reports"): Sample("/reports", 200),
    # Nothing is published here, so the right key is told 404 too.
    ("GET", "/reports/{notification_id}"): Sample("/reports/n-1", 404, owned=True),
    ("POST", "/callbacks"): Sample("/callbacks", 201, {"url": "https://example.com/"}),
    ("GET", "/callbacks"): Sample("/callbacks", 200),
    ("GET", "/callbacks/{callback_id}"): Sample("/callbacks/{callback}", 200, owned=True),
    ("PATCH", "/callbacks/{callback_id}"): Sample("/callbacks/{callback}", 200, {"active": True}, owned=True),
    ("DELETE", "/callbacks/{callback_id}"): Sample("/callbacks/{callback}", 204, owned=True),
    ("POST", "/callbacks/{callback_id}/rotate"): Sample("/callbacks/{callback}/rotate", 200, {}, owned=True),
    ("POST", "/callbacks/{callback_id}/test"): Sample("/callbacks/{callback}/test", 202, owned=True),
    ("GET", "/callbacks/{callback_id}/messages"): Sample("/callbacks/{callback}/messages", 200, owned=True),
    ("POST", "/callbacks/{callback_id}/messages/{message_id}/retry"): Sample(
        "/callbacks/{callback}/messages/{message}/retry", 202, owned=True
    ),
    ("GET", "/healthz"): Sample("/healthz", 200),
    ("GET", "/readyz"): Sample("/readyz", 200),
} | {
    (method, f"/notification/{event}"): Sample(f"/notification/{event}{_BEACON}", 204)
    for method in ("GET", "POST")
    for event in ("received", "opened", "clicked")
}

_RETRY = {"attempts": 3, "base_s": 1.0, "cap_s": 9.0}
_QUIET_HOURS = {"from": "22:00", "until": "07:00"}
_CAP = {"count": 3, "period_s": 60}
_POLICIES: dict[str, Any] = {
    "/policies/retry": _RETRY,
    "/policies/retry/{channel}": _RETRY,
    "/policies/quiet-hours": _QUIET_HOURS,
    "/policies/frequency-caps": _CAP,
    "/policies/frequency-caps/{category}": _CAP,
}
for _path, _value in _POLICIES.items():
    _sample = _path.replace("{channel}", "fcm").replace("{category}", "marketing")
    SAMPLES["PUT", _path] = Sample(_sample, 200, _value)
    SAMPLES["GET", _path] = Sample(_sample, 200)  # an organization has its product's
    SAMPLES["DELETE", _path] = Sample(_sample, 204, owned=True)
_STATE = {"name": "renamed", "active": True}
for _path, _sample in {
    "/products/{product_id}": "/products/{tenant}",
    "/organizations/{organization_id}": "/organizations/{sister}",
}.items():
    SAMPLES |= {
        ("GET", _path): Sample(_sample, 200, owned=True),
        ("PUT", _path): Sample(_sample, 200, _STATE, owned=True),
        ("PATCH", _path): Sample(_sample, 200, {"active": True}, owned=True),
        ("POST", _path + "/keys"): Sample(_sample + "/keys", 201, {"scope": "publishable"}, owned=True),
        ("GET", _path + "/keys"): Sample(_sample + "/keys", 200, owned=True),
    }
_ORGANIZATIONS = "/products/{product_id}/organizations"
SAMPLES |= {
    ("GET", "/products"): Sample("/products", 200),
    ("POST", _ORGANIZATIONS): Sample("/products/{tenant}/organizations", 201, {"name": "new"}, owned=True),
    ("GET", _ORGANIZATIONS): Sample("/products/{tenant}/organizations", 200, owned=True),
    ("DELETE", "/products/{product_id}/keys/{key_id}"): Sample("/products/{tenant}/keys/{key}", 204, owned=True),
    ("DELETE", "/organizations/{organization_id}/keys/{key_id}"): Sample(
        "/organizations/{sister}/keys/{sisters_key}", 204, owned=True
    ),
}
_TEMPLATE = {"content": {"title": "Hi {{ name }}"}}
SAMPLES |= {
    ("PUT", "/templates/{name}"): Sample("/templates/hello", 200, _TEMPLATE),
    ("GET", "/templates"): Sample("/templates", 200),
    # An organization sees its product's.
    ("GET", "/templates/{name}"): Sample("/templates/hello", 200),
    ("GET", "/templates/{name}/versions"): Sample("/templates/hello/versions", 200),
    ("DELETE", "/templates/{name}"): Sample("/templates/hello", 204, owned=True),
    ("POST", "/templates/{name}/preview"): Sample("/templates/hello/preview", 200, {"fields": {"name": "Ann"}}),
}
_LIMITS = "/tenants/{tenant_id}/limits"
SAMPLES |= {
    ("GET", "/policies"): Sample("/policies", 200),
    ("PUT", _LIMITS): Sample("/tenants/{tenant}/limits", 200, {"max_audience": 5_000}),
    ("GET", _LIMITS): Sample("/tenants/{tenant}/limits", 200),
    ("DELETE", _LIMITS): Sample("/tenants/{tenant}/limits", 204),
    ("GET", "/limits"): Sample("/limits", 200),
    ("PUT", "/users/{user_id}"): Sample("/users/u-1", 200, {"timezone": "Asia/Tokyo"}),
    ("PUT", "/users/{user_id}/quiet-hours"): Sample("/users/u-1/quiet-hours", 200, _QUIET_HOURS),
    ("GET", "/users/{user_id}/quiet-hours"): Sample("/users/u-1/quiet-hours", 200, owned=True),
    ("DELETE", "/users/{user_id}/quiet-hours"): Sample("/users/u-1/quiet-hours", 204, owned=True),
    ("GET", "/usage"): Sample("/usage", 200),
}


def test_every_route_has_a_sample() -> None:
    assert set(SAMPLES) == set(ENDPOINTS)


@pytest.fixture
def ask(house: House) -> Callable[[tuple[str, str], str | None], Any]:
    """Return what sends a route's sample with a key. The house's first tenant owns a device and a send."""
    house.secret.ok("POST", "/devices", registration())
    request_id = house.secret.ok("POST", "/notifications", send())["request_id"]
    for path, value in _POLICIES.items():
        house.secret.ok("PUT", path.replace("{channel}", "fcm").replace("{category}", "marketing"), value)
    house.secret.ok("PUT", "/templates/hello", _TEMPLATE)
    # Not by the admin's key: a key that was seen is remembered for a moment.
    limits, now = {"max_audience": 9_000}, house.clock()
    policies.put(house.services.ledger, house.mine.tenant, PolicyKind.LIMITS, limits, "admin", now)
    house.secret.ok("PUT", "/users/u-1/quiet-hours", _QUIET_HOURS)
    callback = house.secret.ok("POST", "/callbacks", {"url": "https://example.com/"})["callback_id"]
    message = house.secret.ok("POST", f"/callbacks/{callback}/test")["message_id"]
    sister = house.organization(house.mine, "sister").tenant
    ids = {"{tenant}": house.mine.tenant, "{sister}": sister, "{callback}": callback, "{message}": message}
    for name, tenant in (("{key}", house.mine.tenant), ("{sisters_key}", sister)):
        ids[name] = keys.list_page(house.services.ledger, tenant)[-1].key_id
    d = DeliveryIds(house.services.delivery_secret, house.mine.tenant, "n-1", "fcm").of("dGhl:APA91b")

    def call(route: tuple[str, str], key: str | None) -> Any:
        sample = SAMPLES[route]
        path = sample.path.replace("{request}", request_id).replace("{d}", d)
        for name, value in ids.items():
            path = path.replace(name, value)
        return house.api(key).call(route[0], path, sample.body)

    return call


def _keys(house: House) -> dict[str, str | None]:
    tenant = house.mine
    return {
        "none": None,
        "unknown": "nsk_" + "x" * 43,
        "admin": ADMIN,
        "secret": tenant.secret_key,
        "publishable": tenant.publishable_key,
    }


@pytest.mark.parametrize("route", SAMPLES, ids=" ".join)
@pytest.mark.parametrize("kind", ["none", "unknown", "admin", "secret", "publishable"])
def test_the_key_decides(house: House, ask: Any, route: tuple[str, str], kind: str) -> None:
    answered = ask(route, _keys(house)[kind])
    access = ENDPOINTS[route].access
    if access is Access.PUBLIC or (kind not in ("none", "unknown") and KeyScope(kind) in access.scopes):
        assert answered.status_code == SAMPLES[route].status, answered.text
        return
    assert answered.status_code == (401 if kind in ("none", "unknown") else 403)
    assert fields_of(answered) == set()
    assert (answered.headers.get("WWW-Authenticate") == "Bearer") == (answered.status_code == 401)


GUARDED = [route for route in SAMPLES if ENDPOINTS[route].access is not Access.PUBLIC]


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_a_revoked_key_is_unknown(house: House, ask: Any, route: tuple[str, str]) -> None:
    key = ADMIN if ENDPOINTS[route].access is Access.ADMIN else house.other.secret_key
    house.revoke(key)
    assert ask(route, key).status_code == 401


@pytest.mark.parametrize("route", [r for r in GUARDED if ENDPOINTS[r].access is not Access.ADMIN], ids=" ".join)
def test_an_inactive_tenants_key_is_unknown(house: House, ask: Any, route: tuple[str, str]) -> None:
    house.deactivate(house.other.tenant)
    assert ask(route, house.other.secret_key).status_code == 401


@pytest.mark.parametrize("route", [r for r in GUARDED if SAMPLES[r].owned], ids=" ".join)
@pytest.mark.parametrize("who", ["other", "branch", "other_publishable"])
def test_another_tenants_thing_is_not_there(house: House, ask: Any, route: tuple[str, str], who: str) -> None:
    keys = {
        "other": house.other.secret_key,
        "branch": house.mine.organizations[0].secret_key,
        "other_publishable": house.other.publishable_key,
    }
    answered = ask(route, keys[who])
    forbidden = who == "other_publishable" and KeyScope.PUBLISHABLE not in ENDPOINTS[route].access.scopes
    assert answered.status_code == (403 if forbidden else 404)
    assert b"breaking" not in answered.data and b"Parliament" not in answered.data


def test_lists_hold_only_ones_own(house: House, ask: Any) -> None:
    mine = ask(("GET", "/notifications"), house.mine.secret_key).json["items"]
    assert [item["notification_id"] for item in mine] == ["n-1"]
    assert ask(("GET", "/notifications"), house.other.secret_key).json["items"] == []


def test_two_tenants_may_use_the_same_ids(house: House, ask: Any) -> None:
    theirs = house.stranger.ok("POST", "/notifications", send(type="sport"))
    assert theirs["duplicate"] is False
    assert house.secret.ok("GET", "/notifications/n-1")["type"] == "news"
    house.stranger.ok("POST", "/devices", registration(user_id="theirs"))
    house.stranger.ok("DELETE", "/devices/dGhl:APA91b")
    assert house.secret.ok("GET", "/devices/dGhl:APA91b")["user_id"] == "u-1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": ""},
        {"Authorization": "Bearer " + "x" * 10_000},
        {"Authorization": "Bearer \u00e9"},
        {"X-Api-Key": "nsk_nobody"},
        {"X-Api-Key": ""},
    ],
)
def test_malformed_credentials_are_401(house: House, headers: dict[str, str]) -> None:
    answered = house.anonymous.call("GET", "/notifications", headers=headers)
    assert answered.status_code == 401
    fields_of(answered)


@pytest.mark.parametrize("name", ["Bearer", "bearer", "BEARER", "X-Api-Key"])
def test_the_key_comes_in_either_header(house: House, name: str) -> None:
    key = house.mine.secret_key
    headers = {name: key} if name == "X-Api-Key" else {"Authorization": f"{name} {key}"}
    assert house.anonymous.call("GET", "/notifications", headers=headers).status_code == 200


def test_a_rejected_key_appears_nowhere_in_the_answer(house: House) -> None:
    answered = house.api("nsk_verysecretverysecret").call("GET", "/notifications")
    assert b"verysecret" not in answered.data


class _Request:
    def __init__(self, key: str) -> None:
        self.environ = {"HTTP_AUTHORIZATION": f"Bearer {key}"}


def _key(revoked: bool = False) -> KeyInfo:
    return KeyInfo("k", "t", None, KeyScope.SECRET, active=True, revoked=revoked)


def test_a_revoked_key_is_refused_within_the_memorys_time() -> None:
    state = {"revoked": False, "reads": 0, "now": 100.0}

    def find(_: str) -> KeyInfo:
        state["reads"] += 1
        return _key(bool(state["revoked"]))

    ring = KeyRing(find, monotonic=lambda: float(state["now"]))
    request: Any = _Request("nsk_a")
    ring.check(request, Access.SECRET)
    ring.check(request, Access.SECRET)
    assert state["reads"] == 1
    state["revoked"] = True
    state["now"] += CACHE_S
    with pytest.raises(Exception, match="not valid"):
        ring.check(request, Access.SECRET)
    # ... and from then on at once, because a bad key is never remembered.
    with pytest.raises(Exception, match="not valid"):
        ring.check(request, Access.SECRET)
    assert state["reads"] == 3


def test_unknown_keys_do_not_fill_the_memory() -> None:
    ring = KeyRing(lambda _: None)
    for n in range(100):
        request: Any = _Request(f"nsk_{n}")
        with pytest.raises(Exception, match="not valid"):
            ring.check(request, Access.SECRET)
    assert ring.remembered == 0

"""Every declared route with every kind of key: 401, 403, 404 or what it promises, and nothing of anybody else's.

A route that has no case here fails the test: say in ``CASES`` what a request that succeeds looks like, and in
``furnished`` put what it asks for behind it, for every owner.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from werkzeug.test import TestResponse

from ingest_api.app import GROUPS
from ingest_api.endpoint import Endpoint
from ingest_api.keys import ORGANIZATION_HEADER
from ingest_api.services import Services
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import KeyScope
from tests.ingest_api.apps import client_of
from tests.ingest_api.conftest import ADMIN, FROM_ONE_ADDRESS, Clock, House, build, copied, fields_of, send
from tests.ingest_api.furnished import (
    CONNECTION,
    MESSAGE,
    ROUTE,
    TEMPLATE,
    Owner,
    deactivate,
    filled,
    furnish,
    marks,
    onboard,
    publish_reports,
)
from tests.ingest_api.test_webpush import subscription

Route = tuple[str, str]
ENDPOINTS: dict[Route, Endpoint] = {(e.method, e.path): e for group in GROUPS for e in group.endpoints}
# Path parameters that name no thing of one tenant: everybody has these.
COMMON = {"channel", "category", "table", "format"}
EVENT = {"source": "{mark}", "type": "order", "id": "{mark}-new-event", "recipients": ["{mark}-user"]}
SEND = send(id="{mark}-new", topics=["{mark}/topic"])


@dataclass(frozen=True)
class Case:
    """A request that succeeds, once, with the right key of the owner whose names are filled in.

    Attributes:
        status: The answer.
        body: With names in braces.
        form: In the place of the body.
        path: Where the route's own parameters are not the names to fill in.
        query: With names in braces.
        owned: Whether the request names a thing of the owner's, so that others are told 404; by default by its path.
        product_too: Whether a product may ask for its organizations' by its own key.
        organizations_too: Whether a product's organizations have what it has, and so are not told 404.
        of: Whose things it can be about: a product's, an organization's, or either's.
        own: What the owner, or whoever acts for it, is answered where only its product may.
    """

    status: int = 200
    body: Any = None
    form: Any = None
    path: str = ""
    query: str = ""
    owned: bool | None = None
    product_too: bool = False
    organizations_too: bool = False
    of: str = "product one"
    own: int | None = None


_RETRY = {"attempts": 3, "base_s": 1.0, "cap_s": 9.0}
_QUIET = {"from": "22:00", "until": "07:00"}
_CAP = {"count": 3, "period_s": 60}
_DEFAULTS = {"channels": {"sms": False}}
_WANTED = {"preferences": {"offers": {"email": False}}}
_UNSUBSCRIBE = "/unsubscribe/{unsubscribe_token}"
_BEACON = "?notificationId={notification_id}&platform=android&provider=fcm&d={d}"
_MESSAGE = "/push-contacts/{domain}/messages/{domain_message_id}"
_TWILIO = {"sms_provider": "twilio", "twilio_auth_token": "secret"}
_STATE = {"name": "{mark}", "active": True}


def _tenant_cases(path: str, **rights: Any) -> dict[Route, Case]:
    """Return what is asked of products and of organizations alike."""
    change = {"own": 403} if rights["of"] == "one" else {}
    return {
        ("GET", path): Case(**rights),
        ("PUT", path): Case(body=_STATE, **rights, **change),
        ("PATCH", path): Case(body={"active": True}, **rights, **change),
        ("GET", path + "/keys"): Case(**rights),
        ("POST", path + "/keys"): Case(201, {"scope": "publishable"}, **rights),
        ("DELETE", path + "/keys/{key_id}"): Case(204, **rights),
    }


CASES: dict[Route, Case] = {
    ("POST", "/products"): Case(201, {"name": "new"}),
    ("GET", "/products"): Case(),
    **_tenant_cases("/products/{product_id}", of="product"),
    ("GET", "/products/{product_id}/organizations"): Case(of="product"),
    ("POST", "/products/{product_id}/organizations"): Case(201, {"name": "{mark} for {caller}"}, of="product"),
    **_tenant_cases("/organizations/{organization_id}", of="one", product_too=True),
    ("GET", "/policies"): Case(),
    **{
        (method, path): Case(204 if method == "DELETE" else 200, value if method == "PUT" else None)
        for path, value in {
            "/policies/retry": _RETRY,
            "/policies/retry/{channel}": _RETRY,
            "/policies/quiet-hours": _QUIET,
            "/policies/frequency-caps": _CAP,
            "/policies/frequency-caps/{category}": _CAP,
            "/policies/preferences": _DEFAULTS,
            "/policies/preferences/{category}": _DEFAULTS,
        }.items()
        for method in ("GET", "PUT", "DELETE")
    },
    ("PUT", "/tenants/{tenant_id}/limits"): Case(body={"max_audience": 5_000}),
    ("GET", "/tenants/{tenant_id}/limits"): Case(),
    ("DELETE", "/tenants/{tenant_id}/limits"): Case(204),
    ("GET", "/limits"): Case(),
    ("GET", "/usage"): Case(),
    ("POST", "/devices"): Case(201, {"token": "{mark}-new", "platform": "android", "topics": ["{mark}/topic"]}),
    ("GET", "/webpush/key"): Case(owned=False),
    ("PUT", "/domains/{name}"): Case(body={"isPushFeatureEnabled": True}, path="/domains/new.{domain}", owned=False),
    ("GET", "/domains/{name}"): Case(path="/domains/{domain}"),
    ("GET", "/domains"): Case(),
    ("GET", "/domains/{name}/isPushFeatureEnabled"): Case(path="/domains/{domain}/isPushFeatureEnabled"),
    ("GET", "/domains/{name}/push-configuration"): Case(path="/domains/{domain}/push-configuration"),
    ("GET", "/domains/{name}/stats"): Case(path="/domains/{domain}/stats"),
    ("GET", "/push-contacts"): Case(query="?domain={domain}", owned=True),
    ("POST", "/push-contacts"): Case(201, {"domain": "{domain}", "deviceToken": "{mark}-new-browser"}),
    **{
        ("PUT", f"/push-contacts/{{device_token}}/{what}"): Case(204, body)
        for what, body in {
            "email": {"email": "new@{mark}.example.com"},
            "visitor-guid": {"visitorGuid": "{mark}-new-visitor"},
            "subscription": {"subscription": subscription()},
        }.items()
    },
    ("DELETE", "/push-contacts/{device_token}"): Case(204),
    ("GET", "/push-contacts/{domain}/visitors/{visitor_guid}"): Case(),
    ("GET", "/devices/{token}"): Case(),
    ("PUT", "/devices/{token}/topics"): Case(body={"topics": ["{mark}/other"]}),
    ("DELETE", "/devices/{token}"): Case(204),
    ("GET", "/templates"): Case(),
    ("PUT", "/templates/{name}"): Case(body=TEMPLATE, owned=False),
    ("GET", "/templates/{name}"): Case(organizations_too=True),
    ("GET", "/templates/{name}/versions"): Case(organizations_too=True),
    ("POST", "/templates/{name}/preview"): Case(body={"fields": {"who": "you"}}, organizations_too=True),
    ("DELETE", "/templates/{name}"): Case(204),
    ("GET", "/users/{user_id}/messages"): Case(owned=False, product_too=True),
    ("GET", "/users/{user_id}"): Case(),
    ("PUT", "/users/{user_id}"): Case(body={"timezone": "Asia/Tokyo"}, owned=False),
    ("DELETE", "/users/{user_id}"): Case(202, owned=False),
    ("POST", "/erasures"): Case(202, {"email": "forgotten@{mark}.example.com"}),
    ("GET", "/erasures"): Case(),
    ("GET", "/erasures/{erasure_id}"): Case(),
    ("PATCH", "/users/{user_id}"): Case(body={"email": "{mark}@example.com"}),
    ("PUT", "/users/{user_id}/quiet-hours"): Case(body=_QUIET, owned=False),
    ("GET", "/users/{user_id}/quiet-hours"): Case(),
    ("DELETE", "/users/{user_id}/quiet-hours"): Case(204),
    ("GET", "/users/{user_id}/preferences"): Case(owned=False),
    ("PUT", "/users/{user_id}/preferences"): Case(body=_WANTED, owned=False),
    ("PATCH", "/users/{user_id}/preferences"): Case(body=_WANTED, owned=False),
    ("GET", "/unsubscribe/{token}"): Case(path=_UNSUBSCRIBE),
    ("POST", "/unsubscribe/{token}"): Case(path=_UNSUBSCRIBE, form={"List-Unsubscribe": "One-Click"}),
    ("POST", "/users/{user_id}/token"): Case(201, {"ttl": 60}, owned=False),
    ("PUT", "/connections/{connection_id}"): Case(body=CONNECTION, owned=False),
    ("DELETE", "/connections/{connection_id}"): Case(204),
    ("GET", "/inbox/{user_id}"): Case(owned=False),
    ("GET", "/inbox/{user_id}/unread-count"): Case(owned=False),
    ("POST", "/inbox/{user_id}/{item_id}/read"): Case(),
    ("POST", "/inbox/{user_id}/read-all"): Case(body={"through": "{item_id}"}, owned=False),
    ("DELETE", "/inbox/{user_id}/{item_id}"): Case(204),
    ("POST", "/email-subscriptions"): Case(201, {"email": "new@{mark}.example.com"}),
    ("GET", "/email-subscriptions/{email}"): Case(),
    ("PUT", "/email-subscriptions/{email}/topics"): Case(body={"topics": ["{mark}/other"]}),
    ("DELETE", "/email-subscriptions/{email}"): Case(204),
    ("POST", "/email/events"): Case(201, {"address": "gone@{mark}.example.com", "kind": "bounce"}),
    # Nobody set a topic; ``test_ses`` has what Amazon is told.
    ("POST", "/email/events/ses"): Case(404),
    ("GET", "/suppressions"): Case(),
    ("POST", "/suppressions"): Case(201, {"channel": "sms", "address": "+447700900123"}),
    ("DELETE", "/suppressions/{channel}/{address}"): Case(204, path="/suppressions/email/{address}"),
    ("PUT", "/looks/{look_id}"): Case(body={"owner_id": "{user_id}"}, owned=False),
    ("GET", "/looks/{look_id}"): Case(),
    ("DELETE", "/looks/{look_id}"): Case(204),
    ("POST", "/sms/segments"): Case(body={"text": "Hello"}),
    ("GET", "/sms/stops/{number}"): Case(),
    ("DELETE", "/sms/stops/{number}"): Case(204),
    # Who is no Twilio is told so, whoever it is; ``test_sms`` has what Twilio is told.
    ("POST", "/sms/inbound/twilio"): Case(403, form={"From": "+447700900123", "Body": "STOP"}),
    ("POST", "/sms/status/twilio/{tenant_id}"): Case(403, form={"MessageStatus": "delivered"}, query=_BEACON),
    ("POST", "/push-contacts/{domain}/message"): Case(202, MESSAGE),
    ("POST", "/push-contacts/{domain}/visitors/{visitor_guid}/message"): Case(202, MESSAGE),
    ("POST", "/push-contacts/{domain}/visitors/message"): Case(
        202, MESSAGE | {"visitors": [{"visitorGuid": "{visitor_guid}"}]}
    ),
    ("GET", "/push-contacts/{domain}/messages"): Case(),
    ("GET", "/push-contacts/{domain}/stats"): Case(query="?from=2026-11-01&until=2026-12-01&groupBy=week"),
    ("GET", "/push-contacts/{domain}/consumed"): Case(query="?from=2026-11-01&until=2026-12-01"),
    ("GET", "/push-contacts/{domain}/messages.csv"): Case(),
    ("GET", "/push-contacts/{domain}/messages/{message_id}/details"): Case(path=_MESSAGE + "/details"),
    ("GET", "/push-contacts/{domain}/messages/{message_id}/history"): Case(path=_MESSAGE + "/history"),
    ("GET", "/push-contacts/{device_token}/history"): Case(),
    ("POST", "/likes"): Case(202, {"look_id": "{look_id}", "customer_id": "{mark}-fan"}, owned=True),
    ("DELETE", "/looks/{look_id}/likes/{customer_id}"): Case(204),
    ("POST", "/notifications"): Case(202, SEND),
    ("POST", "/notifications/bulk"): Case(200, {"notifications": [SEND | {"id": "{mark}-bulk"}]}),
    ("PATCH", "/notifications/{notification_id}"): Case(body={"ttl": 60}, path="/notifications/{later_id}"),
    ("DELETE", "/notifications/{notification_id}"): Case(path="/notifications/{doomed_id}"),
    ("GET", "/notifications/{notification_id}"): Case(),
    ("GET", "/notifications"): Case(),
    ("GET", "/requests/{request_id}"): Case(product_too=True),
    ("GET", "/requests/{request_id}/audit"): Case(product_too=True),
    ("GET", "/requests/{request_id}/recipients"): Case(product_too=True),
    ("GET", "/audit"): Case(),
    ("GET", "/dead-letters"): Case(),
    ("GET", "/dead-letters/{delivery_id}"): Case(product_too=True),
    ("POST", "/dead-letters/replay"): Case(202, {"ids": ["{delivery_id}"]}, owned=True),
    ("POST", "/events"): Case(202, EVENT),
    ("POST", "/events/bulk"): Case(200, {"events": [EVENT | {"id": "{mark}-bulk"}]}),
    ("GET", "/events"): Case(),
    ("GET", "/events/{event_id}"): Case(product_too=True),
    ("POST", "/events/replay"): Case(202, {"ids": ["{event_id}"]}, owned=True),
    ("POST", "/routes/dry-run"): Case(body={"event": EVENT}),
    ("GET", "/routes"): Case(),
    ("PUT", "/routes/{name}"): Case(body=ROUTE, owned=False),
    ("GET", "/routes/{name}"): Case(organizations_too=True),
    ("DELETE", "/routes/{name}"): Case(204),
    ("POST", "/callbacks"): Case(201, {"url": "https://{mark}.example.com/new"}),
    ("GET", "/callbacks"): Case(),
    ("GET", "/callbacks/{callback_id}"): Case(),
    ("PATCH", "/callbacks/{callback_id}"): Case(body={"active": True}),
    ("DELETE", "/callbacks/{callback_id}"): Case(204),
    ("POST", "/callbacks/{callback_id}/rotate"): Case(body={}),
    ("POST", "/callbacks/{callback_id}/test"): Case(202),
    ("GET", "/callbacks/{callback_id}/messages"): Case(),
    ("POST", "/callbacks/{callback_id}/messages/{message_id}/retry"): Case(202),
    ("GET", "/reports"): Case(),
    ("GET", "/reports/{notification_id}"): Case(),
    ("GET", "/reports/{notification_id}/comparison"): Case(query="?with={notification_id}"),
    ("GET", "/reports/{notification_id}/timeline"): Case(),
    ("GET", "/reports/{notification_id}/failures"): Case(),
    ("GET", "/reports/{notification_id}/latencies"): Case(),
    ("GET", "/reports/{notification_id}/{table}.{format}"): Case(),
    ("GET", "/reports.{format}"): Case(),
    ("GET", "/push/script.js"): Case(),
    ("GET", "/push/worker.js"): Case(),
    ("GET", "/push/demo"): Case(),
    ("GET", "/healthz"): Case(),
    ("GET", "/readyz"): Case(),
    ("GET", "/operations"): Case(),
    **{
        (method, f"/notification/{event}"): Case(204, query=_BEACON)
        for method in ("GET", "POST")
        for event in ("received", "opened", "clicked")
    },
}


class World(NamedTuple):
    """Two products, one with two organizations, each with one of everything; and one that is out of use."""

    product: Owner
    one: Owner
    two: Owner
    stranger: Owner
    inactive: Owner

    @property
    def owners(self) -> tuple[Owner, ...]:
        return (self.product, self.one, self.two, self.stranger)


class Caller(NamedTuple):
    """A way to call: headers, and the tenant that the key stands for (None: no good key)."""

    name: str
    headers: dict[str, str]
    scope: KeyScope | None = None
    owner: Owner | None = None


def people(house: House) -> World:
    """Make the world."""
    product, one, two = onboard(house, "papa", ["oscar", "quebec"])
    (stranger,), (inactive,) = onboard(house, "xray"), onboard(house, "india")
    world = World(product, one, two, stranger, inactive)
    for owner in (*world.owners, inactive):
        furnish(house, owner)
    publish_reports(house, world.owners)
    deactivate(house, inactive)
    return world


@contextmanager
def opened(home: Path, **settings: Any) -> Iterator[House]:
    """Open an ingress over what is there."""
    services = Services(Settings(home=home, **FROM_ONE_ADDRESS, **settings), Clock())
    unused: Any = None
    with client_of(services) as client:
        yield House(services, services.clock, client, unused, unused)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> tuple[Path, World]:
    """The world, in a home to copy."""
    home = copied(migrated, tmp_path_factory.mktemp("matrix"))
    world: World | None = None
    for house in build(home):
        world = people(house)
    assert world is not None
    return home, world


@pytest.fixture
def house(made: tuple[Path, World], tmp_path: Path) -> Iterator[House]:
    """An ingress over a copy of the world."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    with opened(tmp_path, **_TWILIO) as found:
        yield found


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **more}


def bad_callers(owner: Owner, world: World) -> Iterator[Caller]:
    """Yield those who hold no good key, however near to one."""
    yield Caller("nobody", {})
    yield Caller("malformed", {"Authorization": f"Basic {owner.secret}"})
    yield Caller("empty", {"Authorization": "Bearer "})
    yield Caller("unknown", bearer("nsk_" + "x" * 43))
    yield Caller("almost", bearer(owner.secret[:-1] + ("a" if owner.secret[-1] != "a" else "b")))
    yield Caller("digest", bearer(digest_of(owner.secret)))
    yield Caller("revoked", bearer(owner.refs["revoked"]))
    yield Caller("revoked admin", bearer(owner.refs["revoked_admin"]))
    yield Caller("expired", bearer(owner.refs["expired"]))
    yield Caller("inactive", bearer(world.inactive.secret))
    yield Caller("inactive publishable", bearer(world.inactive.publishable))
    yield Caller("inactive's user", bearer(world.inactive.refs["user_token"]))
    yield Caller("expired user", bearer(owner.refs["expired_user_token"]))
    yield Caller("forged user", bearer(owner.refs["user_token"][:-4] + "AAAA"))


def digest_of(key: str) -> str:
    from tests.ingest_api.furnished import digest

    return digest(key)


def good_callers(owner: Owner, world: World, once: bool) -> Iterator[Caller]:
    """Yield those who hold a good key, the owner last; ``once``: only one of the owner's, as it can be done once."""
    for other in world.owners:
        if other is not owner:
            yield Caller(f"{other.mark} publishable", bearer(other.publishable), KeyScope.PUBLISHABLE, other)
            yield Caller(other.mark, bearer(other.secret), KeyScope.SECRET, other)
    acting = {ORGANIZATION_HEADER: owner.tenant}
    yield Caller("stranger for it", bearer(world.stranger.secret, **acting), KeyScope.SECRET)
    if not owner.is_product:
        sibling = world.two if owner is world.one else world.one
        yield Caller("sibling for it", bearer(sibling.secret, **acting), KeyScope.SECRET)
    yield Caller("admin", bearer(ADMIN), KeyScope.ADMIN)
    yield Caller("another user", bearer(owner.refs["other_user_token"]), KeyScope.USER)
    yield Caller("stranger's user", bearer(world.stranger.refs["user_token"]), KeyScope.USER)
    if not owner.is_product:
        own = bearer(world.product.refs["user_token"], **acting)
        yield Caller("its product's user", own, KeyScope.USER)
    if not once:
        yield Caller("its user", bearer(owner.refs["user_token"]), KeyScope.USER, owner)
    if not once:
        yield Caller("publishable", bearer(owner.publishable), KeyScope.PUBLISHABLE, owner)
    if not owner.is_product:
        yield Caller("its product", bearer(world.product.secret, **acting), KeyScope.SECRET, owner)
    if owner.is_product or not once:
        yield Caller("itself", bearer(owner.secret), KeyScope.SECRET, owner)


def ask(house: House, route: Route, owner: Owner, caller: Caller, query: str = "") -> TestResponse:
    """Send the route's case as the caller, about the owner's things where it names any."""
    case = CASES[route]
    refs = owner.refs if is_owned(route) or caller.owner is None else caller.owner.refs
    refs = refs | {"caller": caller.name}
    path = filled((case.path or route[1]) + (query or case.query), refs)
    if case.form is not None:
        return house.client.open(path, method=route[0], data=filled(case.form, refs), headers=caller.headers)
    return house.api(None).call(route[0], path, filled(case.body, refs), headers=caller.headers)


def is_owned(route: Route) -> bool:
    case = CASES[route]
    names = ENDPOINTS[route].parameters.keys() - COMMON
    return bool(names) if case.owned is None else case.owned


def expected(route: Route, owner: Owner, caller: Caller) -> int:
    """Return the status that the route's declaration and the design ask for."""
    endpoint, case = ENDPOINTS[route], CASES[route]
    if not endpoint.access.needs_key:
        return case.status
    if caller.scope is None:
        return 401
    if caller.scope not in endpoint.access.scopes:
        return 403
    if caller.scope is KeyScope.ADMIN:
        return case.status
    if caller.owner is owner:
        return case.status if case.own is None else case.own
    if caller.owner is None:
        return 404  # for an organization that is not its own
    if case.product_too and caller.owner.tenant == owner.product:
        return case.status
    if case.organizations_too and caller.owner.product == owner.tenant:
        return case.status
    return 404 if is_owned(route) else case.status


def seen_by(caller: Caller, world: World) -> tuple[Owner, ...]:
    """Return whose data the caller may see."""
    if caller.scope is KeyScope.ADMIN:
        return (*world.owners, world.inactive)
    if caller.owner is None:
        return ()
    return tuple(o for o in world.owners if caller.owner.tenant in (o.tenant, o.product))


def check_nothing_leaks(answered: TestResponse, caller: Caller, world: World, asked: Owner | None = None) -> None:
    """Check that no body or header holds a string of somebody whose data the caller may not see."""
    seen = seen_by(caller, world)
    # An organization may know whose it is, and has its product's templates.
    own = {*marks(seen), *(owner.product for owner in seen)}
    if any(owner.product == world.product.tenant for owner in seen):
        own |= {world.product.refs["name"]}
    text = answered.get_data(as_text=True) + "\n".join(f"{name}: {value}" for name, value in answered.headers)
    for trace in set(marks([o for o in (*world.owners, world.inactive) if o not in seen])) - own:
        assert trace not in text, f"{caller.name} is told {trace}: {text}"


def test_every_route_has_a_case() -> None:
    missing = sorted(set(ENDPOINTS) - set(CASES))
    assert not missing, f"say in CASES how these are asked: {missing}"
    assert not set(CASES) - set(ENDPOINTS)


def check_route(house: House, world: World, route: Route, owner: Owner) -> None:
    endpoint = ENDPOINTS[route]
    once = route[0] == "DELETE"
    for caller in (*bad_callers(owner, world), *good_callers(owner, world, once)):
        answered = ask(house, route, owner, caller)
        wanted = expected(route, owner, caller)
        assert answered.status_code == wanted, f"{caller.name}: {answered.status_code} {answered.text}"
        if wanted >= 400:
            fields_of(answered)
            assert (answered.headers.get("WWW-Authenticate") == "Bearer") == (wanted == 401)
        if endpoint.access.needs_key:
            check_nothing_leaks(answered, caller, world)


@pytest.mark.parametrize(
    ("route", "who"),
    [(route, who) for route, case in CASES.items() for who in case.of.split()],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_key_decides(house: House, made: tuple[Path, World], route: Route, who: str) -> None:
    check_route(house, made[1], route, getattr(made[1], who))


def test_the_key_decides_on_postgres_too(tmp_path: Path, postgres_url: str) -> None:
    world: World | None = None
    for house in build(tmp_path, ledger_url=postgres_url):
        world = people(house)
    assert world is not None
    # Another process, which has seen no key while it was good.
    with opened(tmp_path, ledger_url=postgres_url, **_TWILIO) as house:
        # What is there to be read stays there, until the user is erased.
        for route in sorted(CASES, key=lambda route: route[0] == "DELETE"):
            if "one" in CASES[route].of and (route[0] == "GET" or CASES[route].status == 202):
                check_route(house, world, route, world.one)


SPANNING = [
    route
    for route, endpoint in ENDPOINTS.items()
    if endpoint.query is not None and "include_organizations" in endpoint.query.model_fields
]


@pytest.mark.parametrize("route", SPANNING, ids=" ".join)
def test_lists_that_span_show_a_products_own_organizations(
    house: House, made: tuple[Path, World], route: Route
) -> None:
    world = made[1]
    query = "?include_organizations=true"
    for owner in world.owners:
        caller = Caller(owner.mark, bearer(owner.secret), KeyScope.SECRET, owner)
        answered = ask(house, route, owner, caller, query)
        assert answered.status_code == 200, answered.text
        check_nothing_leaks(answered, caller, world)
    acting = bearer(world.product.secret, **{ORGANIZATION_HEADER: world.one.tenant})
    check_nothing_leaks(
        ask(house, route, world.one, Caller("acting", acting), query),
        Caller("acting", acting, KeyScope.SECRET, world.one),
        world,
    )


READS = [route for route in CASES if route[0] == "GET" and ENDPOINTS[route].access.needs_key]


def test_what_one_sees_is_the_same_whether_others_exist_or_not(any_house: House) -> None:
    """Byte by byte: counts, cursors and orders tell nothing of other tenants,"""
    house = any_house
    product, one = onboard(house, "papa", ["oscar"])
    for owner in (product, one):
        furnish(house, owner)

    def everything() -> dict[tuple[str, str], bytes]:
        found = {}
        house.services.limits.forget()  # read a moment ago, perhaps before they were set
        for owner in (product, one):
            for route in READS:
                whose = "product" if owner.is_product else "one"
                if (
                    KeyScope.SECRET in ENDPOINTS[route].access.scopes
                    and not route[1].startswith("/reports/{notification_id}/")
                    and whose in CASES[route].of
                ):
                    caller = Caller(owner.mark, bearer(owner.secret), KeyScope.SECRET, owner)
                    answered = ask(house, route, owner, caller)
                    assert answered.status_code == 200, (route, answered.text)
                    found[owner.mark, route[1]] = answered.data
        return found

    # When keys were used last is stored every few seconds: let it be told before, whatever this takes.
    house.services._note_uses()
    before = everything()
    assert len(before) > 20
    for owner in onboard(house, "xray", ["yankee"]):
        furnish(house, owner)
    assert everything() == before

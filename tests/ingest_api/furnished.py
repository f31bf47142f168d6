"""Owners with one of everything behind every route, each told from the others by its names.

Belongs here: making them. Does not belong here: what is asked about them (``test_matrix``).
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, update

from notify_pipeline.core import unsubscribe_tokens, user_tokens
from notify_pipeline.core.ids import DeliveryIds, new_id, to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import inbox, policies, sms_stops, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.inbox import NewItem
from notify_pipeline.core.ledger.tenant_tables import KEYS, TENANTS
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.unsubscribe_tokens import Unsubscribing
from notify_pipeline.core.vocabulary import Channel, PolicyKind
from notify_pipeline.reports.build import build_candidate, publish
from tests.ingest_api.conftest import Api, House, change, send
from tests.ingest_api.test_dead_letters import died
from tests.reports.worlds import World

CATEGORY = "marketing"  # the same for all: an organization sees its product's cap
CONTENT = {"title": "{mark} title", "body": "{mark} body", "link": "https://{mark}.example.com/"}

MESSAGE = {"title": "{mark} title", "body": "{mark} body", "onClickLink": "https://{mark}.example.com/"}

CONNECTION = {"user_id": "{mark}-user", "endpoint": "https://{mark}.execute-api.eu-west-1.amazonaws.com/production"}

# Without a word of its owner's: an organization has its product's.
TEMPLATE = {"content": {"title": "Hello {{ who }}"}}
ROUTE = {"match": {"source": "shop", "type": "order.*"}, "content": {"title": "Order {{ detail.number }}"}}


@dataclass
class Owner:
    """A tenant, its keys, and what paths and bodies name of it."""

    mark: str
    tenant: str
    secret: str
    publishable: str
    product: str
    refs: dict[str, str] = field(default_factory=dict)

    def traces(self) -> set[str]:
        """Return the strings that tell its data from others'."""
        shared = {"category", "channel", "table", "format", "product_id"} | (
            {"organization_id"} if self.is_product else set()
        )
        ids = {value for name, value in self.refs.items() if name not in shared}
        return {self.mark, self.tenant, self.secret, self.publishable, *ids} - {
            self.product if not self.is_product else ""
        }

    @property
    def is_product(self) -> bool:
        """True for a product, False for an organization."""
        return self.product == self.tenant


def filled(template: Any, refs: dict[str, str]) -> Any:
    """Return a template with the names in braces replaced, in whatever depth."""
    if isinstance(template, dict):
        return {filled(key, refs): filled(value, refs) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, refs) for value in template]
    if not isinstance(template, str):
        return template
    for name, value in refs.items():
        template = template.replace("{" + name + "}", value)
    return template


def onboard(house: House, mark: str, organizations: Sequence[str] = ()) -> list[Owner]:
    """Make a product and organizations of these marks."""
    made = tenants.create_product(house.services.ledger, mark, tuple(organizations), house.clock())
    return [
        Owner(each.name, each.tenant, each.secret_key, each.publishable_key, made.tenant)
        for each in (made, *made.organizations)
    ]


def furnish(house: House, owner: Owner) -> None:
    """Put one of everything behind the routes of an owner, through the routes where there are any."""
    mark, api = owner.mark, house.api(owner.secret)
    refs = owner.refs = {
        "mark": mark,
        "token": f"{mark}-token",
        "user_id": f"{mark}-user",
        "look_id": f"{mark}-look",
        "customer_id": f"{mark}-customer",
        "notification_id": f"{mark}-send",
        "later_id": f"{mark}-later",
        "doomed_id": f"{mark}-doomed",
        "category": CATEGORY,
        "channel": "fcm",
        "table": "timeline",
        "format": "csv",
        "name": f"template-of-{owner.tenant}",
        "address": f"bounced@{mark}.example.com",
        "email": f"reader@{mark}.example.com",
        "domain": f"{mark}.example.org",
        "tenant_id": owner.tenant,
        "product_id": owner.product,
        "organization_id": owner.tenant,
    }
    device = {"token": refs["token"], "platform": "android", "user_id": refs["user_id"], "topics": [f"{mark}/topic"]}
    api.ok("POST", "/devices", device)
    body = {
        "type": mark,
        "category": CATEGORY,
        "users": [refs["user_id"]],
        "topics": ...,
        "content": filled(CONTENT, refs),
    }
    refs["request_id"] = api.ok("POST", "/notifications", send(id=refs["notification_id"], **body))["request_id"]
    at = (house.clock() + timedelta(days=2)).isoformat()
    for name in ("later_id", "doomed_id"):
        api.ok("POST", "/notifications", send(id=refs[name], send_at=at, **body))
    _, (refs["delivery_id"],) = died(house, api, f"{mark}-dead", [f"{mark}-dead-token"], **body)
    api.ok("PUT", f"/users/{refs['user_id']}", {"timezone": "Asia/Tokyo"})
    api.ok("PUT", f"/users/{refs['user_id']}/quiet-hours", {"from": "22:00", "until": "07:00"})
    api.ok("PUT", f"/users/{refs['user_id']}/preferences", {"preferences": {"*": {"sms": True}}})
    api.ok("PUT", f"/templates/{refs['name']}", TEMPLATE)
    api.ok("POST", "/email-subscriptions", {"email": refs["email"], "topics": [f"{mark}/topic"]})
    api.ok("POST", "/suppressions", {"channel": "email", "address": refs["address"]})
    refs["number"] = f"+4477009{zlib.crc32(mark.encode()) % 100_000:05d}"
    sms_stops.stop(house.services.ledger, refs["number"], None, "test", house.clock())
    api.ok("PUT", f"/domains/{refs['domain']}", {"isPushFeatureEnabled": True})
    _add_message(house, api, owner)
    api.ok("PUT", f"/looks/{refs['look_id']}", {"owner_id": refs["user_id"]})
    api.ok("POST", "/likes", {"look_id": refs["look_id"], "customer_id": refs["customer_id"]})
    api.ok("PUT", f"/routes/{refs['name']}", ROUTE)
    event = {"source": mark, "type": "order", "recipients": [refs["user_id"]]}
    refs["event_id"] = api.ok("POST", "/events", event)["event_id"]
    refs["erasure_id"] = api.ok("POST", "/erasures", {"email": f"erased@{mark}.example.com"})["erasure_id"]
    _set_policies(house, api, owner)
    _add_callback(api, owner)
    _add_keys(house, owner)
    _add_user_tokens(house, owner)
    refs["connection_id"] = f"{mark}-connection"
    api.ok("PUT", f"/connections/{refs['connection_id']}", filled(CONNECTION, refs))
    content = filled(CONTENT, refs)
    item = NewItem(owner.tenant, refs["user_id"], refs["notification_id"], mark, content, CATEGORY)
    refs["item_id"] = add_item(house.services.ledger, item, house.clock())
    about = Unsubscribing(owner.tenant, f"user:{refs['user_id']}", CATEGORY, Channel.EMAIL)
    refs["unsubscribe_token"] = unsubscribe_tokens.mint(house.services.ledger.secret(unsubscribe_tokens.SECRET), about)
    refs["d"] = DeliveryIds(house.services.delivery_secret, owner.tenant, refs["notification_id"], "fcm").of(
        refs["token"]
    )


def add_item(ledger: Ledger, item: NewItem, now: datetime) -> str:
    """Put an item into an inbox; return its id."""

    def handler(conn: Connection, items: Sequence[NewItem]) -> list[str]:
        return [added.item_id for added in inbox.add(conn, items, now)]

    return ledger.write(handler, item)


def _set_policies(house: House, api: Api, owner: Owner) -> None:
    retry = {"attempts": 3, "base_s": 1.0, "cap_s": 9.0}
    cap = {"count": 3, "period_s": 60}
    for path, value in {
        "/policies/retry": retry,
        "/policies/retry/fcm": retry,
        "/policies/quiet-hours": {"from": "22:00", "until": "07:00"},
        "/policies/frequency-caps": cap,
        f"/policies/frequency-caps/{CATEGORY}": cap,
        "/policies/preferences": {"channels": {"sms": False}},
        f"/policies/preferences/{CATEGORY}": {"channels": {"sms": True}},
    }.items():
        api.ok("PUT", path, value)
    limits = {"max_audience": 9_000, "daily_requests": 10_000, "daily_recipients": 10_000, "requests_per_s": 10_000.0}
    policies.put(house.services.ledger, owner.tenant, PolicyKind.LIMITS, limits, "admin", house.clock())


def _add_callback(api: Api, owner: Owner) -> None:
    refs = owner.refs
    refs["callback_id"] = api.ok("POST", "/callbacks", {"url": f"https://{owner.mark}.example.com/"})["callback_id"]
    refs["message_id"] = api.ok("POST", f"/callbacks/{refs['callback_id']}/test")["message_id"]


def _add_message(house: House, api: Api, owner: Owner) -> None:
    """Add a contact of the domain, and a message to it."""
    refs = owner.refs
    refs |= {"device_token": f"{owner.mark}-contact", "visitor_guid": f"{owner.mark}-visitor"}
    contact = {"domain": refs["domain"], "deviceToken": refs["device_token"], "visitorGuid": refs["visitor_guid"]}
    api.ok("POST", "/push-contacts", contact | {"email": f"fan@{owner.mark}.example.com"})
    headers = {"Idempotency-Key": f"{owner.mark}-message"}
    sent = api.ok("POST", f"/push-contacts/{refs['domain']}/message", filled(MESSAGE, refs), headers=headers)
    refs["domain_message_id"] = sent["messageId"]


def _add_keys(house: House, owner: Owner) -> None:
    """Add keys that are good no more: of each owner one revoked, and one whose rotation's overlap is over."""
    at = to_micros(house.clock())
    for name, ended in (("revoked", {"revoked_at": at - 1}), ("expired", {"expires_at": at - 1})):
        plaintext = owner.refs[name] = f"nsk_{name}-{new_id()}"
        row = {"key_id": new_id(), "tenant": owner.tenant, "scope": "secret", "sha256": digest(plaintext)}
        change(house.services.ledger, insert(KEYS).values(row | {"created_at": at - 2} | ended))
    owner.refs["key_id"] = row["key_id"]
    admins = owner.refs["revoked_admin"] = f"nak_revoked-{new_id()}"
    row = {"key_id": new_id(), "scope": "admin", "sha256": digest(admins), "created_at": at - 2, "revoked_at": at - 1}
    change(house.services.ledger, insert(KEYS).values(row))


def _add_user_tokens(house: House, owner: Owner) -> None:
    """Add tokens of the owner's user and of another, made long ago as they are good for no more than a day."""
    secret, now = house.services.ledger.secret(user_tokens.SECRET), house.clock()
    for name, user_id, at in (
        ("user_token", owner.refs["user_id"], now),
        ("other_user_token", f"{owner.mark}-other", now),
        ("expired_user_token", owner.refs["user_id"], now - timedelta(days=1)),
    ):
        owner.refs[name] = user_tokens.mint(secret, owner.tenant, user_id, at, user_tokens.MAX_TTL_S)


def digest(plaintext: str) -> str:
    """Return what is stored of a key."""
    import hashlib

    return hashlib.sha256(plaintext.encode()).hexdigest()


def deactivate(house: House, owner: Owner) -> None:
    """Take an owner out of use."""
    change(house.services.ledger, update(TENANTS).where(TENANTS.c.tenant == owner.tenant).values(active=False))


def publish_reports(house: House, owners: Sequence[Owner]) -> None:
    """Publish a version that holds a report of each owner's send."""
    world = World()
    for owner in owners:
        name, tenant = owner.refs["notification_id"], owner.tenant
        world.request(name, tenant, 0, type=owner.mark)
        world.audience(1, "android", name, tenant)
        made = world.attempt(owner.refs["token"], "accepted", 1, platform="android", notification=name, tenant=tenant)
        world.beacon(made, at=1.5, notification=name)
    world.put(house.services.lake)
    publish_lake(house.services.settings, house.clock() + timedelta(days=1))


def publish_lake(settings: Settings, now: datetime) -> None:
    """Publish a version of what the lake holds."""
    publish(build_candidate(Lake(settings.lake), settings.reports, settings, now), settings, now)


def marks(owners: Sequence[Owner]) -> Iterator[str]:
    """Yield all that tells these owners' data."""
    for owner in owners:
        yield from owner.traces()

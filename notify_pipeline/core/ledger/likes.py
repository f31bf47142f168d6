"""Likes: who likes which look, and that its owner is told, once.

Belongs here: the transaction that stores a like, the owner's inbox item and the event; taking a like back. Does not
belong here: looks (``looks``), what is sent because of the event (``core.built_in_routes``, the tenant's own routes).

A like that was taken back stays as a row: whoever likes the same look again is one who likes it, and nobody is told of
it a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from notify_pipeline.core import consents
from notify_pipeline.core.built_in_routes import LIKE_CREATED, LIKE_TITLE, LIKES
from notify_pipeline.core.consents import Consent, Defaults
from notify_pipeline.core.ids import from_micros, new_id, to_micros
from notify_pipeline.core.ledger import audit, event_tables, events, inbox, looks, policies, preferences, users
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.looks import Look
from notify_pipeline.core.ledger.statements import insert_for
from notify_pipeline.core.route_sends import notification_id
from notify_pipeline.core.send_checks import IMAGE
from notify_pipeline.core.vocabulary import Channel, PolicyKind

_L = event_tables.LIKES.c


class NoSuchLook(Exception):
    """There is no look by that id."""


@dataclass(frozen=True, slots=True)
class NewLike:
    """Somebody likes a look."""

    tenant: str
    look_id: str
    customer_id: str
    actor: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Liked:
    """A like as it is stored.

    Attributes:
        look_id: Which look.
        customer_id: Who likes it.
        notification_id: Of the owner's inbox item and of the send; None where nobody is told, as it is the owner's own.
        duplicate: Whether it was there before.
        created_at: When it was first there.
    """

    look_id: str
    customer_id: str
    notification_id: str | None
    duplicate: bool
    created_at: datetime

    @property
    def event_id(self) -> str | None:
        """The event's; None without one."""
        return None if self.notification_id is None else self.notification_id.partition(":")[0]


def like(ledger: Ledger, new: NewLike) -> Liked:
    """Store a like, and with it the owner's inbox item and the event; a like that is there already changes nothing.

    Raises:
        NoSuchLook: There is no such look.
    """
    return ledger.write(_like, new)


def unlike(ledger: Ledger, tenant: str, look_id: str, customer_id: str, actor: str, now: datetime) -> bool:
    """Take a like back; False when there is none. What the owner was told stays."""
    return ledger.write(_unlike, NewLike(tenant, look_id, customer_id, actor, now))


def _like(conn: Connection, items: Sequence[NewLike]) -> list[Liked | Exception]:
    return [_like_one(conn, item) for item in items]


def _like_one(conn: Connection, new: NewLike) -> Liked | Exception:
    look = looks.of(conn, new.tenant, new.look_id)
    if look is None:
        return NoSuchLook(new.look_id)
    event_id = new_id()
    told = None if look.owner_id == new.customer_id else notification_id(event_id, LIKES)
    at = to_micros(new.now)
    row = {"tenant": new.tenant, "look_id": new.look_id, "customer_id": new.customer_id}
    # Whoever comes second waits here until the first is stored.
    insert = insert_for(conn.dialect.name)(event_tables.LIKES).values(
        {**row, "notification_id": told, "created_at": at}
    )
    if not conn.execute(insert.on_conflict_do_nothing(index_elements=list(row))).rowcount:
        return _again(conn, new)
    if told is not None:
        _tell(conn, new, look, event_id, told)
    return Liked(new.look_id, new.customer_id, told, False, from_micros(at))


def _again(conn: Connection, new: NewLike) -> Liked:
    row = conn.execute(select(event_tables.LIKES).where(*_this(new))).one()
    if row.removed_at is not None:
        conn.execute(update(event_tables.LIKES).where(*_this(new)).values(removed_at=None))
    return Liked(new.look_id, new.customer_id, row.notification_id, True, from_micros(row.created_at))


def _tell(conn: Connection, new: NewLike, look: Look, event_id: str, told: str) -> None:
    liker = users.profile_of(conn, new.tenant, new.customer_id)
    picture = (liker.attributes or {}).get("image_url") if liker is not None else None
    detail: dict[str, Any] = {
        "notification_id": told,
        "look_id": new.look_id,
        "owner_id": look.owner_id,
        "customer_id": new.customer_id,
        "media_urls": [url for url in (look.image_url, picture) if isinstance(url, str) and IMAGE.match(url)],
        "deep_link": look.deep_link,
    }
    event = events.NewEvent(
        tenant=new.tenant,
        source=LIKES,
        type=LIKE_CREATED,
        detail=detail,
        accepted_at=new.now,
        actor=new.actor,
        recipients={"users": [look.owner_id]},
    )
    events.accept_all(conn, [events.prepare(event, event_id)])
    consent = _consent(conn, new.tenant, look.owner_id)
    if not consent.allowed:
        why = {"user_id": look.owner_id, "reason": consents.UNSUBSCRIBED, "consent": consent.word}
        entry = audit.Entry(
            "inbox.skipped", "likes", to_micros(new.now), tenant=new.tenant, notification_id=told, detail=why
        )
        audit.write(conn, [entry], new.now)
        return
    item = inbox.NewItem(
        tenant=new.tenant,
        user_id=look.owner_id,
        notification_id=told,
        type="like",
        content=_content(detail),
        category=LIKES,
    )
    # Last: it locks what others wait for.
    inbox.add(conn, [item], new.now)


def _consent(conn: Connection, tenant: str, owner_id: str) -> Consent:
    """Return whether a look's owner wants such items, as of any send to inboxes."""
    who = consents.recipient(owner_id, Channel.INBOX, owner_id)
    said = preferences.find(conn, tenant, [who]).get(who, {})
    stored = policies.find_in(conn, tenant, PolicyKind.PREFERENCES)
    defaults = {name: Defaults.of(policy.value) for name, policy in stored.items()}
    return consents.decide(LIKES, Channel.INBOX, said, defaults)


def _content(detail: Mapping[str, Any]) -> dict[str, Any]:
    media = detail["media_urls"]
    texts = {"title": LIKE_TITLE, "link": detail["deep_link"], "image_url": media[0] if media else None}
    data = {"look_id": detail["look_id"], "customer_id": detail["customer_id"]}
    if len(media) > 1:
        data["liker_image_url"] = media[1]
    return {**{name: text for name, text in texts.items() if text is not None}, "data": data}


def _unlike(conn: Connection, items: Sequence[NewLike]) -> list[bool]:
    results = []
    for item in items:
        at = to_micros(item.now)
        gone = update(event_tables.LIKES).where(*_this(item), _L.removed_at.is_(None)).values(removed_at=at)
        results.append(conn.execute(gone).rowcount == 1)
        if results[-1]:
            detail = {"look_id": item.look_id, "customer_id": item.customer_id}
            entry = audit.Entry("like.removed", item.actor, at, tenant=item.tenant, detail=detail)
            audit.write(conn, [entry], item.now)
    return results


def _this(new: NewLike) -> tuple[Any, ...]:
    return (_L.tenant == new.tenant, _L.look_id == new.look_id, _L.customer_id == new.customer_id)

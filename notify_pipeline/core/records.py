"""Record types that rooms hand to each other: what a send asks for, and what one attempt gave.

Belongs here: frozen records without behaviour beyond their own invariants, and their JSON form. Does not belong
here: HTTP request models (``ingest_api``), Arrow schemas (``schemas``), rows of one ledger table (``ledger``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from notify_pipeline.core.vocabulary import Channel, OnAmbiguous, Outcome, Platform, Priority, QuietHours

# FCM keeps a message four weeks at most; APNs has no shorter limit.
# https://firebase.google.com/docs/cloud-messaging/customize-messages/setting-message-lifespan
MAX_TTL_S = 2_419_200
DEFAULT_TTL_S = 86_400


class Visitor(NamedTuple):
    """A visitor of a domain's pages, and what fills a send's fields for them."""

    guid: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Audience:
    """Who a send is for. Exactly one of the kinds is set; a recipient who matches twice is addressed once.

    Attributes:
        topics: Devices registered for any of these.
        users: These, on the channels that the send allows.
        devices: These tokens.
        emails: These addresses.
        phones: These numbers, E.164.
        everyone: All registered devices.
        condition: With ``everyone``: only devices whose topics satisfy this.
        domain: Its contacts; with ``devices`` (a replay), these of them.
        visitors: With ``domain``: only the contacts of these visitors.
        device_fields: With ``devices``: what fills their own fields, by token, as ``Recipient`` has it.
    """

    topics: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    everyone: bool = False
    condition: str | None = None
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    domain: str | None = None
    visitors: tuple[Visitor, ...] = ()
    device_fields: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_counted_out(self) -> bool:
        """True when the lake says who it is, not the ledger."""
        all_contacts = self.domain is not None and not self.visitors and not self.devices
        return bool(self.topics) or self.everyone or all_contacts


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a notification in a browser.

    Attributes:
        action: Its name, by which the page's worker and reports know it.
        title: What it says.
        link: What a click opens; None: a click is told to us and opens nothing.
        icon_url: An icon of its own.
    """

    action: str
    title: str
    link: str | None = None
    icon_url: str | None = None

    @property
    def stored(self) -> dict[str, str]:
        """Its JSON form, in bodies as in payloads: what is None is absent."""
        whole = {"action": self.action, "title": self.title, "link": self.link, "icon_url": self.icon_url}
        return {name: value for name, value in whole.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Content:
    """What the recipient sees. ``data`` reaches the app as it is, all values text; ``html`` is for e-mail only.

    ``icon_url`` and ``actions`` are for browsers.
    """

    title: str | None = None
    body: str | None = None
    link: str | None = None
    image_url: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    html: str | None = None
    icon_url: str | None = None
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Notification:
    """A send as the pipeline works on it: the accepted request, parsed."""

    tenant: str
    request_id: str
    notification_id: str
    type: str
    audience: Audience
    content: Content
    accepted_at: datetime
    expires_at: datetime
    priority: Priority = Priority.NORMAL
    category: str | None = None
    importance: str | None = None
    channels: frozenset[Channel] | None = None  # None: push
    send_at: datetime | None = None
    collapse_key: str | None = None
    retry: bool = True
    dry_run: bool = False
    on_ambiguous: OnAmbiguous = OnAmbiguous.RESEND
    overrides: Mapping[Channel, Content] = field(default_factory=dict)
    send_at_local: datetime | None = None  # naive: each recipient's own wall clock
    quiet_hours: QuietHours = QuietHours.WAIT
    replay_of: str | None = None  # the request whose dead letters it sends again
    ttl_s: float = DEFAULT_TTL_S  # counts from when a recipient is due
    has_ttl: bool = False  # its sender named it
    revision: int = 0  # how often it was edited

    @property
    def has_own_fields(self) -> bool:
        """True when its texts may have any personal field: what fills them came with the send, or with the original."""
        return bool(self.audience.visitors or self.audience.device_fields)

    def content_on(self, channel: Channel) -> Content:
        """Return what a channel's recipients see: its override where there is one."""
        return self.overrides.get(channel, self.content)


class Recipient(NamedTuple):
    """One address on one channel; for push, a device token with what was registered beside it.

    Attributes:
        fields: JSON object of what fills this recipient's own fields; None: nothing does.
    """

    address: str
    platform: Platform
    user_id: str | None = None
    locale: str | None = None
    timezone: str | None = None
    app_version: str | None = None
    fields: str | None = None


class AttemptResult(NamedTuple):
    """How one provider call for one recipient ended, classified once by its channel.

    A tuple, because a million of them are made per send, and turned into columns.

    Attributes:
        outcome: The class of the answer.
        provider_code: The provider's own word for it (``UNREGISTERED``, ``BadDeviceToken``, ``http_503``); for a
            skipped or expired attempt, the reason.
        sent_at: When the call began, microseconds since the epoch.
        answered_at: When its end was known, likewise; None when it never was.
        provider_message_id: The provider's id of an accepted message.
        retry_after_s: How long the provider asked to wait.
        drop_token: True only on the provider's unambiguous word that this token is dead.
        unregistered_at: Since when, where the provider says so (APNs 410).
    """

    outcome: Outcome
    provider_code: str | None
    sent_at: int
    answered_at: int | None
    provider_message_id: str | None = None
    retry_after_s: float | None = None
    drop_token: bool = False
    unregistered_at: datetime | None = None


def notification_from_body(
    body: Mapping[str, Any],
    *,
    tenant: str,
    request_id: str,
    notification_id: str,
    accepted_at: datetime,
    expires_at: datetime,
    revision: int = 0,
) -> Notification:
    """Build the notification from the canonical request body that the ingress validated and stored.

    Raises:
        KeyError, ValueError: The body is not one that the ingress could have stored.
    """
    return Notification(
        tenant=tenant,
        request_id=request_id,
        notification_id=notification_id,
        type=body["type"],
        audience=_audience(body),
        content=_content(body.get("content", {})),
        accepted_at=accepted_at,
        expires_at=expires_at,
        priority=Priority(body.get("priority", Priority.NORMAL)),
        category=body.get("category"),
        importance=body.get("importance"),
        channels=frozenset(map(Channel, body["channels"])) if body.get("channels") is not None else None,
        send_at=_time(body.get("send_at")),
        collapse_key=body.get("collapse_key"),
        retry=body.get("retry", True),
        dry_run=body.get("dry_run", False),
        on_ambiguous=OnAmbiguous(body.get("on_ambiguous", OnAmbiguous.RESEND)),
        overrides=_overrides(body),
        send_at_local=_time(body.get("send_at_local")),
        quiet_hours=QuietHours(body.get("quiet_hours", QuietHours.WAIT)),
        ttl_s=body.get("ttl", DEFAULT_TTL_S),
        has_ttl="ttl" in body,
        revision=revision,
    )


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _overrides(body: Mapping[str, Any]) -> dict[Channel, Content]:
    if not (overrides := body.get("overrides")):
        return {}
    content = body.get("content", {})
    return {Channel(name): content_over(content, over) for name, over in overrides.items()}


def _audience(body: Mapping[str, Any]) -> Audience:
    get = body.get
    topics, users, devices = tuple(get("topics", ())), tuple(get("users", ())), tuple(get("devices", ()))
    emails, phones = tuple(get("emails", ())), tuple(get("phones", ()))
    visitors = tuple(Visitor(each["visitor_guid"], each.get("fields", {})) for each in get("visitors", ()))
    return Audience(
        topics, users, devices, get("everyone", False), get("condition"), emails, phones, get("domain"), visitors,
        get("device_fields", {}),
    )  # fmt: skip


def content_over(content: Mapping[str, Any], override: Mapping[str, Any]) -> Content:
    """Return content with the fields that an override names replaced; null takes one away."""
    return _content({name: value for name, value in {**content, **override}.items() if value is not None})


def _content(stored: Mapping[str, Any]) -> Content:
    if "actions" not in stored:  # the way of all that no browser is to show buttons for
        return Content(**stored)
    return Content(**{**stored, "actions": tuple(Action(**each) for each in stored["actions"])})

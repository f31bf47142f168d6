"""Bodies and queries of the tracking routes.

Belongs here: models of what sends have become. Does not belong here: what a send is made of (``notifications.models``),
where the answers come from (``routes``).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from ingest_api.fields import IncludeOrganizations, Name, PageQuery, RequestId, Shown, TenantId, UserId, UtcTime
from notify_pipeline.core.vocabulary import Channel, DeliveryMode, Outcome, Priority, RequestState


class RequestShown(Shown):
    """Where a send stands."""

    tenant: str = Field(description="Whose it is: the key's own tenant, or an organization of its product.")
    request_id: str
    notification_id: str
    state: RequestState
    reason: str | None = Field(
        description="Why it failed, expired, was cancelled or unrouted, or what it waits for: a sentence, or one of"
        " `quota_exceeded`, `audience_too_large`, `domain_disabled`."
    )
    mode: DeliveryMode | None = Field(description="How its recipients are sent to, once that is known.")
    replay_of: str | None = Field(description="The request whose dead letters it sends again.")
    type: str
    category: str | None
    priority: Priority
    dry_run: bool
    accepted_at: datetime
    send_at: datetime | None
    send_at_local: str | None = Field(description="The time on each recipient's own clock.")
    expires_at: datetime
    routed_at: datetime | None = Field(
        description="When its channels were chosen; null before, and where it ended first."
    )
    sending_at: datetime | None = Field(description="When its recipients were fixed and queued; likewise.")
    ended_at: datetime | None = Field(description="When it came to its last state.")
    updated_at: datetime
    status_url: str
    channels: dict[str, dict[str, int]] = Field(
        description="Counts by channel: `audience`, `pending`, and one per outcome."
    )


class NotificationShown(RequestShown):
    """A notification with what was asked for."""

    request: dict[str, Any] = Field(
        description="The send as it was accepted, or edited since; a template's content is filled in."
    )


class RequestPage(Shown):
    """A page of sends, newest first."""

    items: list[RequestShown]
    next_cursor: str | None


class AuditShown(Shown):
    """One thing that happened."""

    audit_id: str
    tenant: str | None = Field(description="Whose; null for what is the installation's own.")
    request_id: str | None
    notification_id: str | None
    event: str = Field(description="What happened, such as `request.accepted`; the guide lists all.")
    from_state: RequestState | None
    to_state: RequestState | None
    actor: str = Field(description="The id of a key, or the part of the pipeline that did it.")
    detail: dict[str, Any] | None
    at: datetime


class AuditPage(Shown):
    """A page of a history."""

    items: list[AuditShown]
    next_cursor: str | None


class RecipientShown(Shown):
    """One recipient of a send and what became of it; it counts once, with its last attempt."""

    recipient: str = Field(description="The address, such as a device token.")
    user_id: str | None = Field(description="Whose it was when it was sent, where that is known.")
    channel: str | None = Field(description="Null where none reaches the recipient.")
    platform: str | None
    delivery_id: str = Field(description="The same in every attempt, and in the device's receipt.")
    outcome: Outcome | None = Field(description="Of the last attempt; null while there may be another.")
    provider_code: str | None = Field(description="What the provider said last, or why it was skipped.")
    provider_message_id: str | None
    attempts: int = Field(description="Attempts begun; 0 for one that was skipped when the send was routed.")
    last_attempt_at: datetime | None = Field(description="When the last one began, or when it was skipped.")
    consent: str | None = Field(
        description="On whose word it was sent, or not: `user:<source>:<date>`, `policy`, `mandatory` or `default`;"
        " null where nobody was asked."
    )


class RecipientPage(Shown):
    """A page of a send's recipients."""

    items: list[RecipientShown]
    complete: bool = Field(
        description="False while outcomes are still on their way from the ledger to the lake: then recipients that were"
        " skipped may be missing, and others lack what their provider said. Ask again."
    )
    next_cursor: str | None


class RecipientOutcome(StrEnum):
    """An outcome, or `pending` for those that have none yet."""

    ACCEPTED = "accepted"
    INVALID_RECIPIENT = "invalid_recipient"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    AMBIGUOUS = "ambiguous"
    SKIPPED = "skipped"
    DRY_RUN = "dry_run"
    EXPIRED = "expired"
    PENDING = "pending"


class RecipientQuery(PageQuery):
    """Which recipients to list."""

    outcome: RecipientOutcome | None = None
    channel: Channel | None = None


class MessageShown(Shown):
    """One delivery to a user."""

    request_id: str
    notification_id: str
    type: str
    category: str | None
    title: str | None
    channel: str | None
    platform: str | None
    recipient: str = Field(description="The address, such as a device token.")
    delivery_id: str
    outcome: Outcome | None = Field(description="Of the last attempt; null while there may be another.")
    provider_code: str | None = Field(description="What the provider said last, or why it was skipped.")
    attempts: int
    first_attempt_at: datetime = Field(description="When the first attempt began, or when it was skipped.")
    last_attempt_at: datetime


class MessagePage(Shown):
    """A page of what a user was sent, newest first."""

    items: list[MessageShown]
    complete: bool = Field(description="False while attempts are still on their way to the lake: ask again.")
    next_cursor: str | None


class MessageQuery(PageQuery):
    """Which part of a user's history."""

    from_: UtcTime | None = Field(default=None, alias="from", description="First attempted then or later.")
    until: UtcTime | None = Field(default=None, description="First attempted before.")
    channel: Channel | None = None


class ListQuery(PageQuery):
    """Which sends to list; every filter that is given must fit."""

    state: RequestState | None = None
    type: Name | None = None
    category: Name | None = None
    channel: Channel | None = Field(
        default=None, description="Only those with recipients on this channel, which is known once they are routed."
    )
    priority: Priority | None = None
    user: UserId | None = Field(
        default=None, description="Only those that sent to this user, by the newest delivery; not with organizations'."
    )
    from_: UtcTime | None = Field(default=None, alias="from", description="Accepted then or later.")
    until: UtcTime | None = Field(default=None, description="Accepted before.")
    include_organizations: IncludeOrganizations = False


class AuditOrder(StrEnum):
    """Which end of a history comes first."""

    OLDEST = "oldest"
    NEWEST = "newest"


class AuditQuery(PageQuery):
    """Which part of the history to list; every filter that is given must fit."""

    from_: UtcTime | None = Field(default=None, alias="from", description="Then or later.")
    until: UtcTime | None = Field(default=None, description="Before.")
    event: Name | None = None
    actor: Name | None = None
    request_id: RequestId | None = None
    tenant: TenantId | None = Field(
        default=None, description="Only this one's: any for an admin key, oneself or one's organization for others."
    )
    include_organizations: IncludeOrganizations = False
    order: AuditOrder = Field(default=AuditOrder.NEWEST, description="Which end comes first.")

"""Bodies and queries of the tracking routes.

Belongs here: models of what sends have become. Does not belong here: what a send is made of (``notifications.models``),
where the answers come from (``routes``).
"""

from datetime import datetime
from typing import Any

from pydantic import Field

from ingest_api.fields import Cursor, Limit, Loose, Name, Shown
from notify_pipeline.core.vocabulary import Priority, RequestState


class RequestShown(Shown):
    """Where a send stands."""

    request_id: str
    notification_id: str
    state: RequestState
    reason: str | None = Field(description="Why it failed, expired or was unrouted.")
    type: str
    category: str | None
    priority: Priority
    dry_run: bool
    accepted_at: datetime
    send_at: datetime | None
    expires_at: datetime
    updated_at: datetime
    status_url: str
    channels: dict[str, dict[str, int]] = Field(
        description="Counts by channel: `audience`, `pending`, and one per outcome."
    )


class NotificationShown(RequestShown):
    """A notification with what was asked for."""

    request: dict[str, Any] = Field(description="The send as it was accepted.")


class RequestPage(Shown):
    """A page of sends, newest first."""

    items: list[RequestShown]
    next_cursor: str | None


class AuditShown(Shown):
    """One thing that happened to a send."""

    audit_id: str
    event: str
    from_state: RequestState | None
    to_state: RequestState | None
    actor: str
    detail: dict[str, Any] | None
    at: datetime


class AuditPage(Shown):
    """A page of a send's history, oldest first."""

    items: list[AuditShown]
    next_cursor: str | None


class ListQuery(Loose):
    """Which sends to list."""

    state: RequestState | None = None
    type: Name | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class PageQuery(Loose):
    """Which part of a list."""

    limit: Limit = 100
    cursor: Cursor | None = None

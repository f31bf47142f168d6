"""Sends: accepting them, and following what became of them.

Belongs here: the send routes. Does not belong here: dedup and storage (``core.ledger.accepting``), delivery.
"""

from datetime import datetime, timedelta
from typing import Any

from flask import Response
from pydantic import TypeAdapter, ValidationError

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import FieldError, conflict, not_found, unprocessable
from ingest_api.fields import NotificationId, RequestId
from ingest_api.keys import Access
from ingest_api.notifications.models import (
    AuditPage,
    ListQuery,
    NewSend,
    NotificationShown,
    PageQuery,
    RequestPage,
    RequestShown,
    SendAccepted,
)
from ingest_api.paging import moment, pack, unpack
from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.ledger import audit, requests
from notify_pipeline.core.records import DEFAULT_TTL_S

GROUP = Group("notifications", "Sends, and what became of them.")
# Beyond a year a plan is a typing error, and the sum with a ttl stays a date.
MAX_AHEAD = timedelta(days=366)
_REPLAYED = ("Idempotent-Replayed", "true")
_ID: TypeAdapter[str] = TypeAdapter(NotificationId)


@GROUP.endpoint(
    "POST",
    "/notifications",
    access=Access.SECRET,
    headers={"Idempotency-Key": (NotificationId, "The same as `id` in the body; when both are given they must agree.")},
    answers={
        202: Answer(
            "It is durable and will be sent.",
            SendAccepted,
            {"Idempotent-Replayed": "`true` when this id was accepted before."},
        )
    },
    errors={409: "`id_reused`: this id was used before, with another body."},
)
def send_notification(call: Call, body: NewSend) -> Response:
    """Send a notification.

    Answers once the send is durable. The same id with the same body is sent once, however often it is posted.

    Title, body and the values of data may hold `[[[user_id]]]`, `[[[locale]]]`, `[[[timezone]]]` and
    `[[[app_version]]]`: each recipient gets what its registration knows, or nothing in their place. Another name in
    such brackets is refused. A recipient whose payload becomes too large for its provider fails as
    `payload_too_large`; the others get theirs.
    """
    services = call.services
    faults = list(body.faults(services.settings.max_audience_list))
    if faults:
        raise unprocessable(*faults)
    now = services.clock()
    new = requests.NewRequest(
        tenant=call.tenant,
        notification_id=_notification_id(call, body),
        body=body.canonical(),
        accepted_at=now,
        expires_at=_expiry(body, now),
        due_at=body.send_at,
        actor="api" if call.key is None else call.key.key_id,
    )
    try:
        accepted = requests.accept(services.ledger, new)
    except requests.IdReused as error:
        raise conflict("id_reused", "This id was used before, with another body.", "id") from error
    return _accepted(accepted)


@GROUP.endpoint(
    "GET",
    "/notifications/{notification_id}",
    access=Access.SECRET,
    answers={200: Answer("The send and where it stands.", NotificationShown)},
    errors={404: "This tenant has no such notification."},
)
def show_notification(call: Call, notification_id: NotificationId) -> Response:
    """Show a notification by the tenant's id."""
    row = requests.get_by_notification(call.services.ledger, call.tenant, notification_id)
    if row is None:
        raise not_found("There is no such notification.")
    return answer(200, {**_shown(row), "request": row.body})


@GROUP.endpoint(
    "GET", "/notifications", access=Access.SECRET, answers={200: Answer("A page, newest first.", RequestPage)}
)
def list_notifications(call: Call, query: ListQuery) -> Response:
    """List notifications."""
    after = unpack(query.cursor, int, str)
    rows = requests.list_page(
        call.services.ledger,
        call.tenant,
        states=() if query.state is None else (query.state,),
        type=query.type,
        limit=query.limit + 1,
        after=None if after is None else (moment(after[0]), str(after[1])),
    )
    page = rows[: query.limit]
    more = len(rows) > len(page)
    cursor = pack(to_micros(page[-1].accepted_at), page[-1].request_id) if more else None
    return answer(200, {"items": [_shown(row) for row in page], "next_cursor": cursor})


@GROUP.endpoint(
    "GET",
    "/requests/{request_id}",
    access=Access.SECRET,
    answers={200: Answer("Where the send stands.", RequestShown)},
    errors={404: "This tenant has no such request."},
)
def show_request(call: Call, request_id: RequestId) -> Response:
    """Show where a send stands."""
    return answer(200, _shown(_request(call, request_id)))


@GROUP.endpoint(
    "GET",
    "/requests/{request_id}/audit",
    access=Access.SECRET,
    answers={200: Answer("A page of its history, oldest first.", AuditPage)},
    errors={404: "This tenant has no such request."},
)
def show_audit(call: Call, request_id: RequestId, query: PageQuery) -> Response:
    """Show everything that happened to a send."""
    _request(call, request_id)
    after = unpack(query.cursor, str)
    rows = audit.page(
        call.services.ledger,
        request_id,
        tenant=call.tenant,
        limit=query.limit + 1,
        after=None if after is None else str(after[0]),
    )
    page = rows[: query.limit]
    names = ("audit_id", "event", "from_state", "to_state", "actor", "detail", "at")
    items = [{name: getattr(row, name) for name in names} for row in page]
    return answer(200, {"items": items, "next_cursor": pack(page[-1].audit_id) if len(rows) > len(page) else None})


def _notification_id(call: Call, body: NewSend) -> str:
    """Return the id from the body, the header, or a new one."""
    header: str | None = call.request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return body.id or new_id()
    # The header's draft makes it a quoted string; most clients send it bare.
    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    if len(header) >= 2 and header[0] == header[-1] == '"':
        header = header[1:-1]
    try:
        _ID.validate_python(header)
    except ValidationError as error:
        raise unprocessable(
            FieldError("Idempotency-Key", "must be 1 to 128 visible ASCII characters, no slash")
        ) from error
    if body.id is not None and body.id != header:
        raise unprocessable(FieldError("id", "must be the same as the Idempotency-Key header"))
    return header


def _expiry(body: NewSend, now: datetime) -> datetime:
    ttl = timedelta(seconds=DEFAULT_TTL_S if body.ttl is None else body.ttl)
    if body.send_at is None:
        return now + ttl
    if body.send_at > now + MAX_AHEAD:
        raise unprocessable(FieldError("send_at", f"must lie at most {MAX_AHEAD.days} days ahead"))
    return max(body.send_at, now) + ttl


def _accepted(accepted: requests.Accepted) -> Response:
    payload = {
        "request_id": accepted.request_id,
        "notification_id": accepted.notification_id,
        "state": "accepted",
        "status_url": f"/requests/{accepted.request_id}",
        "duplicate": accepted.duplicate,
    }
    return answer(202, payload, [_REPLAYED] if accepted.duplicate else ())


def _request(call: Call, request_id: str) -> requests.RequestRow:
    row = requests.get(call.services.ledger, call.tenant, request_id)
    if row is None:
        raise not_found("There is no such request.")
    return row


def _shown(row: requests.RequestRow) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "notification_id": row.notification_id,
        "state": row.state,
        "reason": row.reason,
        "type": row.type,
        "category": row.category,
        "priority": row.priority,
        "dry_run": row.body.get("dry_run", False),
        "accepted_at": row.accepted_at,
        "send_at": row.body.get("send_at"),
        "expires_at": row.expires_at,
        "updated_at": row.updated_at,
        "status_url": f"/requests/{row.request_id}",
        "channels": row.counts,
    }

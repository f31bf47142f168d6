"""What became of sends.

Belongs here: the routes that only look at sends. Does not belong here: those that change something
(``notifications``), numbers of receipts (``reports``).
"""

from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId, RequestId
from ingest_api.keys import Access
from ingest_api.paging import moment, pack, unpack
from ingest_api.tracking.models import AuditPage, ListQuery, NotificationShown, PageQuery, RequestPage, RequestShown
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import audit, requests

GROUP = Group("tracking", "What became of sends.")


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

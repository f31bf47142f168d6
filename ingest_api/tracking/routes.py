"""What became of sends, and everything that happened.

Belongs here: the routes that only look. Does not belong here: those that change something (``notifications``), numbers
of receipts (``reports``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId, RequestId
from ingest_api.keys import Access
from ingest_api.paging import moment, pack, unpack
from ingest_api.tracking.models import (
    AuditOrder,
    AuditPage,
    AuditQuery,
    AuditShown,
    ListQuery,
    NotificationShown,
    PageQuery,
    RecipientOutcome,
    RecipientPage,
    RecipientQuery,
    RecipientShown,
    RequestPage,
    RequestShown,
)
from notify_pipeline.core.ledger import audit, request_lists, requests
from notify_pipeline.core.ledger.request_lists import RequestFilter
from notify_pipeline.core.vocabulary import KeyScope, Outcome
from notify_pipeline.reports import reading_recipients
from notify_pipeline.reports.reading_attempts import RecipientFilter

GROUP = Group("tracking", "What became of sends, and everything that happened.")


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
    (shown,) = _shown(call, [row])
    return answer(200, {**shown, "request": row.body})


@GROUP.endpoint(
    "GET", "/notifications", access=Access.SECRET, answers={200: Answer("A page, newest first.", RequestPage)}
)
def list_notifications(call: Call, query: ListQuery) -> Response:
    """List notifications.

    Newest first; sends that are accepted meanwhile do not move the pages that follow. A page looks at a bounded number
    of sends, so that a filter which hardly ever fits gives short pages, or empty ones: go on while there is a
    `next_cursor`.
    """
    after = unpack(query.cursor, int, str)
    page = request_lists.page(
        call.services.ledger,
        call.reads(query.include_organizations),
        RequestFilter(
            state=query.state,
            type=query.type,
            category=query.category,
            priority=query.priority,
            channel=query.channel,
            since=query.from_,
            until=query.until,
        ),
        query.limit,
        None if after is None else _key(after),
    )
    following = None if page.following is None else pack(*page.following)
    return answer(200, {"items": _shown(call, page.rows), "next_cursor": following})


@GROUP.endpoint(
    "GET",
    "/requests/{request_id}",
    access=Access.SECRET,
    answers={200: Answer("Where the send stands.", RequestShown)},
    errors={404: "Neither this tenant nor an organization of it has such a request."},
)
def show_request(call: Call, request_id: RequestId) -> Response:
    """Show where a send stands.

    A product's key also sees what its organizations sent.
    """
    (shown,) = _shown(call, [_request(call, request_id)])
    return answer(200, shown)


@GROUP.endpoint(
    "GET",
    "/requests/{request_id}/audit",
    access=Access.SECRET,
    answers={200: Answer("A page of its history, oldest first.", AuditPage)},
    errors={404: "Neither this tenant nor an organization of it has such a request."},
)
def show_audit(call: Call, request_id: RequestId, query: PageQuery) -> Response:
    """Show everything that happened to a send."""
    row = _request(call, request_id)
    after = unpack(query.cursor, str)
    rows = audit.page(
        call.services.ledger,
        request_id,
        tenant=row.tenant,
        limit=query.limit + 1,
        after=None if after is None else str(after[0]),
    )
    page = rows[: query.limit]
    cursor = pack(page[-1].audit_id) if len(rows) > len(page) else None
    return answer(200, {"items": [_entry(each) for each in page], "next_cursor": cursor})


@GROUP.endpoint(
    "GET",
    "/requests/{request_id}/recipients",
    access=Access.SECRET,
    answers={200: Answer("A page of its recipients.", RecipientPage)},
    errors={404: "Neither this tenant nor an organization of it has such a request."},
)
def list_recipients(call: Call, request_id: RequestId, query: RecipientQuery) -> Response:
    """Show whom a send went to and what became of each.

    While it is being sent and afterwards; recipients without an outcome yet have null. The order is fixed when the
    recipients are. A page of a large send looks at a bounded number of them, so that with a filter it may be short: go
    on while there is a `next_cursor`.
    """
    _request(call, request_id)
    after = unpack(query.cursor, int, int, str)
    is_pending = query.outcome is RecipientOutcome.PENDING
    where = RecipientFilter(
        outcome=None if query.outcome is None or is_pending else Outcome(query.outcome),
        pending=is_pending,
        channel=query.channel,
    )
    place = None if after is None else (int(str(after[0])), int(str(after[1])), str(after[2]))
    services = call.services
    page = reading_recipients.page(
        services.ledger, services.lake, request_id, where, query.limit, place, services.clock()
    )
    following = None if page.following is None else pack(*page.following)
    items = [{name: getattr(row, name) for name in RecipientShown.model_fields} for row in page.rows]
    return answer(200, {"items": items, "complete": page.complete, "next_cursor": following})


@GROUP.endpoint(
    "GET",
    "/audit",
    access=Access.OPERATOR,
    answers={200: Answer("A page.", AuditPage)},
    errors={404: "The key sees no such tenant."},
)
def list_audit(call: Call, query: AuditQuery) -> Response:
    """Show everything that happened.

    Sends, keys, tenants, templates, policies: whatever a tenant's key or the pipeline did. An admin key sees every
    tenant's, in the order in which it was written. As with notifications, a page may be short before the last one.
    """
    whose = _audited(call, query)
    by_id = whose is None or query.request_id is not None
    after = unpack(query.cursor, str if by_id else int, str)
    rows, following = audit.timeline(
        call.services.ledger,
        whose,
        audit.AuditFilter(query.event, query.actor, query.request_id, query.from_, query.until),
        query.limit,
        None if after is None else (str(after[0]), str(after[1])) if by_id else _key(after),
        newest_first=query.order is AuditOrder.NEWEST,
    )
    cursor = None if following is None else pack(*following)
    return answer(200, {"items": [_entry(each) for each in rows], "next_cursor": cursor})


def _audited(call: Call, query: AuditQuery) -> Sequence[str] | None:
    """Return whose entries the caller asks for; None for everybody's."""
    if call.key is None or call.key.scope is KeyScope.ADMIN:
        return None if query.tenant is None else (query.tenant,)
    if query.tenant is None:
        return call.reads(query.include_organizations)
    if query.tenant not in call.reads(True):
        raise not_found("There is no such tenant.")
    return (query.tenant,)


def _key(position: tuple[object, ...]) -> tuple[int, str]:
    """Return a position of a list by time; 422 for a time that there is not."""
    moment(position[0])
    return int(str(position[0])), str(position[1])


def _request(call: Call, request_id: str) -> requests.RequestRow:
    ledger = call.services.ledger
    row = requests.get(ledger, call.tenant, request_id)
    if row is None and len(family := call.reads(True)) > 1:
        row = requests.get_of_any(ledger, family, request_id)
    if row is None:
        raise not_found("There is no such request.")
    return row


def _entry(row: audit.AuditRow) -> Mapping[str, Any]:
    return {name: getattr(row, name) for name in AuditShown.model_fields}


def _shown(call: Call, rows: Sequence[requests.RequestRow]) -> list[dict[str, Any]]:
    times = request_lists.times(call.services.ledger, [row.request_id for row in rows]) if rows else {}
    return [_shown_one(row, times[row.request_id]) for row in rows]


def _shown_one(row: requests.RequestRow, times: request_lists.Times) -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "request_id": row.request_id,
        "notification_id": row.notification_id,
        "state": row.state,
        "reason": row.reason,
        "mode": row.mode,
        "replay_of": row.replay_of,
        "type": row.type,
        "category": row.category,
        "priority": row.priority,
        "dry_run": row.body.get("dry_run", False),
        "accepted_at": row.accepted_at,
        "send_at": row.body.get("send_at"),
        "expires_at": row.expires_at,
        "routed_at": times.routed_at,
        "sending_at": times.sending_at,
        "ended_at": times.ended_at,
        "updated_at": row.updated_at,
        "status_url": f"/requests/{row.request_id}",
        "channels": row.counts,
    }

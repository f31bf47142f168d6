"""What became of sends, and everything that happened.

Belongs here: the routes that only look. Does not belong here: those that change something (``notifications``), numbers
of receipts (``reports``).
"""

from collections.abc import Sequence

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import FieldError, not_found, unprocessable
from ingest_api.fields import NotificationId, PageQuery, RequestId, UserInPath
from ingest_api.inputs import check_order
from ingest_api.keys import Access
from ingest_api.paging import cut, following, unpack, unpack_key, unpack_text
from ingest_api.tracking import recipients, shown
from ingest_api.tracking.models import (
    AuditOrder,
    AuditPage,
    AuditQuery,
    ListQuery,
    MessagePage,
    MessageQuery,
    NotificationShown,
    RecipientPage,
    RecipientQuery,
    RequestPage,
    RequestShown,
)
from notify_pipeline.core.ledger import audit, request_lists, requests
from notify_pipeline.core.ledger.request_lists import RequestFilter
from notify_pipeline.reports import reading_messages
from notify_pipeline.reports.reading_messages import Asked

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
    (send,) = shown.sends(call, [row])
    return answer(200, {**send, "request": row.body})


@GROUP.endpoint(
    "GET", "/notifications", access=Access.SECRET, answers={200: Answer("A page, newest first.", RequestPage)}
)
def list_notifications(call: Call, query: ListQuery) -> Response:
    """List notifications.

    Newest first; sends that are accepted meanwhile do not move the pages that follow. A page looks at a bounded number
    of sends, so that a filter which hardly ever fits gives short pages, or empty ones: go on while there is a
    `next_cursor`.
    """
    check_order(query.from_, query.until)
    place = unpack_key(query.cursor)
    services, where = call.services, _filter(query)
    if query.user is None:
        page = request_lists.page(services.ledger, call.reads(query.include_organizations), where, query.limit, place)
        rows, after = page.rows, page.following
    else:
        if query.include_organizations:
            raise unprocessable(
                FieldError("include_organizations", "must not be given beside user: a user has one tenant")
            )
        asked = Asked(call.tenant, query.user, since=query.from_, channel=query.channel)
        rows, after = reading_messages.requests_page(services.ledger, services.lake, asked, where, query.limit, place)
    return answer(200, {"items": shown.sends(call, rows), "next_cursor": following(after)})


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
    (send,) = shown.sends(call, [_request(call, request_id)])
    return answer(200, send)


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
    rows = audit.page(
        call.services.ledger,
        request_id,
        tenant=row.tenant,
        limit=query.limit + 1,
        after=unpack_text(query.cursor),
    )
    page, cursor = cut(rows, query.limit, lambda row: (row.audit_id,))
    return answer(200, {"items": [shown.entry(each) for each in page], "next_cursor": cursor})


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
    page = recipients.page(call, request_id, query.limit, query.cursor, query.outcome, query.channel)
    items = [shown.recipient(row) for row in page.rows]
    return answer(200, {"items": items, "complete": page.complete, "next_cursor": following(page.following)})


@GROUP.endpoint(
    "GET",
    "/users/{user_id}/messages",
    access=Access.SECRET,
    answers={200: Answer("A page, newest first.", MessagePage)},
)
def list_messages(call: Call, user_id: UserInPath, query: MessageQuery) -> Response:
    """Show what a user was sent.

    One item for each device or address that it went to, at its first attempt, with what its last one gave; whose it
    was when it was sent counts. Skipped ones say why. A page looks through a bounded number of files, and may be
    short: go on while there is a `next_cursor`.
    """
    check_order(query.from_, query.until)
    services = call.services
    page = reading_messages.page(
        services.ledger,
        services.lake,
        Asked(call.tenant, user_id, query.from_, query.until, query.channel),
        query.limit,
        unpack_key(query.cursor),
    )
    items = [shown.message(each) for each in page.rows]
    return answer(200, {"items": items, "complete": page.complete, "next_cursor": following(page.following)})


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
    check_order(query.from_, query.until)
    whose = _audited(call, query)
    by_id = whose is None or query.request_id is not None
    rows, after = audit.timeline(
        call.services.ledger,
        whose,
        audit.AuditFilter(query.event, query.actor, query.request_id, query.from_, query.until),
        query.limit,
        _by_id(query.cursor) if by_id else unpack_key(query.cursor),
        newest_first=query.order is AuditOrder.NEWEST,
    )
    return answer(200, {"items": [shown.entry(each) for each in rows], "next_cursor": following(after)})


def _filter(query: ListQuery) -> RequestFilter:
    return RequestFilter(
        state=query.state,
        type=query.type,
        category=query.category,
        priority=query.priority,
        channel=query.channel,
        since=query.from_,
        until=query.until,
    )


def _audited(call: Call, query: AuditQuery) -> Sequence[str] | None:
    """Return whose entries the caller asks for; None for everybody's."""
    if call.is_admin:
        return None if query.tenant is None else (query.tenant,)
    if query.tenant is None:
        return call.reads(query.include_organizations)
    if query.tenant not in call.reads(True):
        raise not_found("There is no such tenant.")
    return (query.tenant,)


def _by_id(cursor: str | None) -> tuple[str, str] | None:
    position = unpack(cursor, str, str)
    return None if position is None else (str(position[0]), str(position[1]))


def _request(call: Call, request_id: str) -> requests.RequestRow:
    ledger = call.services.ledger
    row = requests.get(ledger, call.tenant, request_id)
    if row is None and len(family := call.reads(True)) > 1:
        row = requests.get_of_any(ledger, family, request_id)
    if row is None:
        raise not_found("There is no such request.")
    return row

"""Messages to a domain's contacts: what became of them.

Belongs here: the routes that only look. Does not belong here: those that send (``routes``), sums over periods.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from flask import Response

from ingest_api.domain_messages import shown
from ingest_api.domain_messages.answers import ContactEventPage, DomainMessagePage, MessageDetails, MessageEventPage
from ingest_api.domain_messages.models import HISTORY_DAYS, EventsQuery, ExportQuery, HistoryQuery, MessagesQuery
from ingest_api.domain_messages.routes import GROUP
from ingest_api.domains.finding import own_domain
from ingest_api.domains.models import DomainName
from ingest_api.endpoint import Answer, Call, answer
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId, Token
from ingest_api.inputs import check_order
from ingest_api.keys import Access
from ingest_api.lean import StreamedResponse
from ingest_api.paging import following, unpack_key
from ingest_api.tracking import recipients
from notify_pipeline.core.ledger import contact_names, domain_messages
from notify_pipeline.core.ledger.requests import RequestRow
from notify_pipeline.reports import reading_messages
from notify_pipeline.reports.reading_messages import Asked

__all__ = ["GROUP"]

_NO_DOMAIN = {404: "`unknown_domain`: this tenant has no such domain."}
_NO_MESSAGE = {404: "This tenant has no such domain, or no such message to it."}
# Written down at a time: some 20 ms of work, and a megabyte at most.
_CSV_PAGE = 500


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/messages",
    access=Access.SECRET,
    answers={200: Answer("A page, newest first.", DomainMessagePage)},
    errors=_NO_DOMAIN,
)
def list_domain_messages(call: Call, domain: DomainName, query: MessagesQuery) -> Response:
    """Report on a domain's messages.

    The details of each, as its own route shows them. Messages that are accepted meanwhile do not move the pages that
    follow.
    """
    check_order(query.from_, query.until)
    name, after = own_domain(call, domain).name, unpack_key(query.cursor)
    page = domain_messages.page(call.services.ledger, call.tenant, name, query.from_, query.until, query.limit, after)
    return answer(200, DomainMessagePage(items=shown.details(call, page.rows), next_cursor=following(page.following)))


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/messages.csv",
    access=Access.SECRET,
    answers={200: Answer("All of them, newest first, with a line of names before.", content_type=shown.CSV_TYPE)},
    errors=_NO_DOMAIN,
)
def export_domain_messages(call: Call, domain: DomainName, query: ExportQuery) -> Response:
    """Report on a domain's messages as CSV.

    RFC 4180 in UTF-8, as long as the range is. A cell that a spreadsheet would take for a formula begins with a quote.
    `actionClicks` is JSON.
    """
    check_order(query.from_, query.until)
    name = own_domain(call, domain).name
    headers = {"Content-Disposition": 'attachment; filename="messages.csv"'}
    return StreamedResponse(_csv(call, name, query), 200, headers, content_type=shown.CSV_TYPE)


def _csv(call: Call, domain: str, query: ExportQuery) -> Iterator[bytes]:
    yield shown.csv_lines([shown.CSV_COLUMNS])
    after, ledger = None, call.services.ledger
    while True:
        page = domain_messages.page(ledger, call.tenant, domain, query.from_, query.until, _CSV_PAGE, after)
        yield shown.csv_lines(shown.csv_row(each) for each in shown.details(call, page.rows))
        if (after := page.following) is None:
            return


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/messages/{message_id}/details",
    access=Access.SECRET,
    answers={200: Answer("The message and its figures.", MessageDetails)},
    errors=_NO_MESSAGE,
)
def show_message_details(call: Call, domain: DomainName, message_id: NotificationId) -> Response:
    """Show a message and what became of it.

    `sent`, `delivered`, `notDelivered` and `pending` are what is so now; what browsers told comes from the reports.
    """
    (details,) = shown.details(call, [_message(call, domain, message_id)])
    return answer(200, details)


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/messages/{message_id}/history",
    access=Access.SECRET,
    answers={200: Answer("A page of its contacts.", ContactEventPage)},
    errors=_NO_MESSAGE,
)
def list_message_events(call: Call, domain: DomainName, message_id: NotificationId, query: EventsQuery) -> Response:
    """Show what became of a message for each contact.

    One event for each contact that it is for. The order is fixed when they are. A page of a large message looks at a
    bounded number of them, so that with `outcome` it may be short: go on while there is a `nextCursor`.
    """
    message, services = _message(call, domain, message_id), call.services
    page = recipients.page(call, message.request_id, query.limit, query.cursor, query.outcome)
    known = contact_names.by_address(services.ledger, call.tenant, [row.recipient for row in page.rows])
    items = [shown.contact_event(row, known.get(row.recipient)) for row in page.rows]
    return answer(200, ContactEventPage(items=items, complete=page.complete, next_cursor=following(page.following)))


@GROUP.endpoint(
    "GET",
    "/push-contacts/{device_token}/history",
    access=Access.SECRET,
    answers={200: Answer("A page, newest first.", MessageEventPage)},
    errors={404: "This tenant has no such contact."},
)
def list_contact_events(call: Call, device_token: Token, query: HistoryQuery) -> Response:
    """Show what was sent to a contact.

    One event for each message, at its first attempt, with what its last one gave; notifications that reached it
    otherwise than as a message to its domain too. A page looks through a bounded number of files, and may be short: go
    on while there is a `nextCursor`.
    """
    check_order(query.from_, query.until)
    services = call.services
    addresses = contact_names.addresses_of(services.ledger, call.tenant, device_token)
    if not addresses:
        raise not_found("There is no such contact.")
    since = query.from_ or _before(query.until or services.clock())
    asked = Asked(call.tenant, addresses=addresses, since=since, until=query.until)
    page = reading_messages.page(services.ledger, services.lake, asked, query.limit, unpack_key(query.cursor))
    items = [shown.message_event(each) for each in page.rows]
    return answer(200, MessageEventPage(items=items, complete=page.complete, next_cursor=following(page.following)))


def _before(end: datetime) -> datetime:
    """Return where a history begins that ends there; no sooner than there are dates."""
    span = timedelta(days=HISTORY_DAYS)
    return end - span if end - datetime.min.replace(tzinfo=UTC) > span else end


def _message(call: Call, domain: str, message_id: str) -> RequestRow:
    name = own_domain(call, domain).name
    found = domain_messages.get(call.services.ledger, call.tenant, name, message_id)
    if found is None:
        raise not_found("There is no such message.")
    return found

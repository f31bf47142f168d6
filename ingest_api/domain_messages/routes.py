"""Messages to a domain's contacts: sending them.

Belongs here: the routes that send. Does not belong here: what became of messages (``reading``), what is stored of one
(``making``), delivery, which is every other send's.
"""

from flask import Response

from ingest_api.domain_messages.answers import MessageAccepted, VisitorsMessageAccepted
from ingest_api.domain_messages.making import ID_HEADER, Missing, Target, missing_in, sent
from ingest_api.domain_messages.models import NewMessage, VisitorMessage, VisitorsMessage
from ingest_api.domains.models import DomainName
from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.fields import NotificationId, VisitorGuid
from ingest_api.keys import Access
from ingest_api.notifications.storing import REPLAYED, REPLAYED_HEADER
from notify_pipeline.core.ledger.accepting import Accepted

GROUP = Group("messages", "Messages to the contacts of a domain, and what became of them.")
# Enough to mend a list; the count says the rest.
_MOST_MISSING = 100
_HEADERS = {ID_HEADER: (NotificationId, "The message's id; by default one is made, and a repetition is another one.")}
_ERRORS = {
    404: "`unknown_domain`: this tenant has no such domain.",
    409: "`domain_disabled`: its push feature is off. `id_reused`: this id was used before, with another body.",
}
_DURABLE = "It is durable and will be sent."


@GROUP.endpoint(
    "POST",
    "/push-contacts/{domain}/message",
    access=Access.SECRET,
    headers=_HEADERS,
    answers={202: Answer(_DURABLE, MessageAccepted, REPLAYED_HEADER)},
    errors=_ERRORS,
)
def send_message(call: Call, domain: DomainName, body: NewMessage) -> Response:
    """Send a message to all active contacts of a domain.

    Answers once the message is durable; the pipeline sends it as any other notification of that id. The same
    Idempotency-Key with the same body is sent once, however often it is posted.
    """
    return _answer(sent(call, domain, body))


@GROUP.endpoint(
    "POST",
    "/push-contacts/{domain}/visitors/{visitor_guid}/message",
    access=Access.SECRET,
    headers=_HEADERS,
    answers={202: Answer(_DURABLE, VisitorsMessageAccepted, REPLAYED_HEADER)},
    errors=_ERRORS,
)
def send_to_visitor(call: Call, domain: DomainName, visitor_guid: VisitorGuid, body: VisitorMessage) -> Response:
    """Send a message to the contacts of one visitor.

    Title and body may hold `[[[name]]]`, as in a message to a list of visitors.
    """
    return _to_visitors(call, domain, body, [Target(visitor_guid, body.fields, "fields.")])


@GROUP.endpoint(
    "POST",
    "/push-contacts/{domain}/visitors/message",
    access=Access.SECRET,
    headers=_HEADERS,
    answers={202: Answer(_DURABLE, VisitorsMessageAccepted, REPLAYED_HEADER)},
    errors=_ERRORS,
)
def send_to_visitors(call: Call, domain: DomainName, body: VisitorsMessage) -> Response:
    """Send a message to the contacts of some visitors.

    Each `[[[name]]]` in title and body becomes what the visitor's `fields` say. With `replacementIsMandatory`, nothing
    is sent where any visitor lacks a field: 422 `missing_fields` names visitors and fields. Without it, there is
    nothing in its place, and the answer says who lacks what.
    """
    targets = [
        Target(each.visitor_guid, each.fields, f"visitors.{number}.fields.")
        for number, each in enumerate(body.visitors)
    ]
    return _to_visitors(call, domain, body, targets)


def _to_visitors(call: Call, domain: str, body: VisitorMessage | VisitorsMessage, targets: list[Target]) -> Response:
    missing = missing_in(body, targets)
    found = sent(call, domain, body, targets, missing if body.replacement_is_mandatory else ())
    return _answer(found, missing)


def _answer(found: Accepted, missing: list[Missing] | None = None) -> Response:
    shown: dict[str, object] = {
        "messageId": found.notification_id,
        "requestId": found.request_id,
        "statusUrl": f"/requests/{found.request_id}",
        "duplicate": found.duplicate,
    }
    if missing is not None:
        listed = [{"visitorGuid": each.target.guid, "fields": each.names} for each in missing[:_MOST_MISSING]]
        shown |= {"missingFields": listed, "missingFieldsCount": len(missing)}
    return answer(202, shown, [REPLAYED] if found.duplicate else ())

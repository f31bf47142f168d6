"""From a message to the send that it is, and which of its fields visitors lack.

Belongs here: a message's id, times and stored body. Does not belong here: the models (``models``), what every send
goes through (``notifications.making``, ``notifications.storing``), answers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from ingest_api.domain_messages.models import NewMessage
from ingest_api.domains.finding import domain_disabled, own_domain
from ingest_api.endpoint import Call
from ingest_api.errors import ApiError, FieldError, unprocessable
from ingest_api.inputs import MAX_DETAILS
from ingest_api.notifications import storing
from ingest_api.notifications.making import Stored, times_at, with_icon, within_limits
from notify_pipeline.core import personal
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.accepting import Accepted, NewRequest
from notify_pipeline.core.ledger.domains import Domain

ID_HEADER = "Idempotency-Key"


class Target(NamedTuple):
    """A visitor, what fills the fields for them, and where the caller named them."""

    guid: str
    fields: Mapping[str, str]
    where: str


class Missing(NamedTuple):
    """The fields that a visitor lacks."""

    target: Target
    names: Sequence[str]


def sent(
    call: Call, name: str, body: NewMessage, targets: Sequence[Target] | None = None, lacking: Sequence[Missing] = ()
) -> Accepted:
    """Store a message durably, or find the one that used its id first.

    Args:
        call: Of the route.
        name: Of the domain.
        body: The message.
        targets: The visitors that get it; None: every contact of the domain.
        lacking: For whose sake nobody gets it.

    Raises:
        ApiError: 404 when the tenant has no such domain, 409 when the domain is disabled or another message has this
            id, 422 naming what is wrong, 429 when a day's quota is used up.
    """
    message_id = storing.id_of(call.request)
    domain = _open_domain(call, name, message_id)
    _raise_first(body.faults(call.services.settings.max_audience_list))
    _raise_missing(lacking)
    new = _new_request(call, domain, body, targets, message_id, call.services.clock())
    return storing.accepted(call, new, ID_HEADER)


def missing_in(body: NewMessage, targets: Sequence[Target]) -> list[Missing]:
    """Return who lacks which fields of title and body; nobody who has them all."""
    wanted = personal.missing_fields((body.title, body.body), ())
    if not wanted:
        return []
    found = (Missing(each, personal.lacking(wanted, each.fields)) for each in targets)
    return [each for each in found if each.names]


def _raise_missing(missing: Sequence[Missing]) -> None:
    """Refuse a message whose fields must all be there.

    Raises:
        ApiError: 422 ``missing_fields``, naming fields of visitors, where there is any.
    """
    if missing:
        faults = (FieldError(f"{each.target.where}{name}", "is required") for each in missing for name in each.names)
        message = "Visitors lack fields that the title or the body has; nothing was sent."
        raise ApiError(422, "missing_fields", message, _bounded(faults))


def _raise_first(faults: Any) -> None:
    """Refuse what has faults; a list of thousands of wrong items shall not be answered by as many lines.

    Raises:
        ApiError: 422 naming the first of them.
    """
    if found := _bounded(faults):
        raise unprocessable(*found)


def _bounded(faults: Any) -> list[FieldError]:
    waiting = iter(faults)
    found = list(islice(waiting, MAX_DETAILS))
    left = sum(1 for _ in waiting)
    return [*found, FieldError("…", f"and {left} more")] if left else found


def _open_domain(call: Call, name: str, message_id: str) -> Domain:
    """Return the domain; one that was disabled meanwhile still answers the repetition of an older message."""
    domain = own_domain(call, name)
    if domain.is_push_feature_enabled:
        return domain
    if requests.get_by_notification(call.services.ledger, call.tenant, message_id) is None:
        raise domain_disabled("domain")
    return domain


def _new_request(
    call: Call, domain: Domain, body: NewMessage, targets: Sequence[Target] | None, message_id: str, now: datetime
) -> NewRequest:
    asked: dict[str, Any] = {**body.stored(), "domain": domain.name}
    if targets is not None:
        asked["visitors"] = [
            {"visitor_guid": each.guid, **({"fields": each.fields} if each.fields else {})} for each in targets
        ]
    times = times_at(body.send_at, body.ttl, now, "sendAt")
    return within_limits(call, message_id, Stored(with_icon(domain, asked), asked), times, now)

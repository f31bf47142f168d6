"""What a domain's owner asks of its contacts.

Belongs here: the contact routes that take a key. Does not belong here: what pages call (``routes``), messages to
contacts, queries (``core.ledger.contact_lists``).
"""

from flask import Response

from ingest_api.domains.finding import own_domain
from ingest_api.domains.models import DomainName
from ingest_api.endpoint import Answer, Call, answer
from ingest_api.inputs import check_order
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_key
from ingest_api.push_contacts.models import (
    MAX_CURSOR_LENGTH,
    ContactCounts,
    ContactPage,
    ContactQuery,
    ContactShown,
    DomainStats,
)
from ingest_api.push_contacts.routes import GROUP
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import contact_lists
from notify_pipeline.core.ledger.contact_lists import ContactFilter
from notify_pipeline.core.ledger.contact_rows import Contact
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import RegistrationOp

__all__ = ["GROUP"]

_UNKNOWN = {404: "`unknown_domain`: there is none, or it is another tenant's."}


@GROUP.endpoint(
    "GET",
    "/push-contacts",
    access=Access.SECRET,
    answers={200: Answer("A page, longest unchanged first.", ContactPage)},
    errors=_UNKNOWN,
)
def list_contacts(call: Call, query: ContactQuery) -> Response:
    """List a domain's contacts.

    What changes while you read comes later in the list: whoever goes on from where they stopped misses nothing.
    """
    check_order(query.modified_from, query.modified_until, "modifiedUntil", "modifiedFrom")
    domain = own_domain(call, query.domain)
    email = None if query.email is None else folded(query.email)
    where = ContactFilter(email, query.modified_from, query.modified_until, query.is_active)
    after = unpack_key(query.cursor, MAX_CURSOR_LENGTH)
    rows = contact_lists.query(call.services.ledger, domain.tenant, domain.name, where, query.limit + 1, after)
    page, cursor = cut(rows, query.limit, lambda row: (to_micros(row.changed_at), row.token))
    return answer(200, ContactPage(items=[_shown(row) for row in page], next_cursor=cursor))


@GROUP.endpoint(
    "GET",
    "/domains/{name}/stats",
    access=Access.SECRET,
    answers={200: Answer("What it has now.", DomainStats)},
    errors=_UNKNOWN,
)
def count_contacts(call: Call, name: DomainName) -> Response:
    """Count a domain's contacts."""
    domain = own_domain(call, name, "name")
    found = contact_lists.counts(call.services.ledger, domain.tenant, domain.name)
    counted = ContactCounts(active=found.active, inactive=found.inactive, total=found.active + found.inactive)
    return answer(200, DomainStats(name=domain.name, contacts=counted))


def _shown(contact: Contact) -> ContactShown:
    is_active = contact.is_active
    # Whoever took a device away by its own routes gave no reason.
    reason = contact.drop_reason or ("deleted" if contact.op is RegistrationOp.DELETE else None)
    return ContactShown(
        device_token=contact.device_token,
        token=contact.token,
        domain=contact.domain,
        platform=contact.platform,
        email=contact.email,
        visitor_guid=contact.visitor_guid,
        is_active=is_active,
        created_at=contact.created_at,
        modified_at=contact.changed_at,
        registered_at=contact.registered_at,
        deleted_at=None if is_active else contact.changed_at,
        delete_reason=None if is_active else reason,
        deleted_by_message_id=contact.dropped_by,
    )

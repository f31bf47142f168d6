"""What browsers do with their contacts: registering, saying whose they are, moving, leaving.

Belongs here: the routes that pages call. Does not belong here: what their owner asks of contacts (``lists``), storing
(``core.ledger.contacts``), which pages may speak for a domain (``domains.finding``).

A page has no key. What it may change is what it can name: a token that nobody else knows, from one of the domain's
origins. It is never told what is stored.
"""

from flask import Response

from ingest_api.devices.models import BrowserSubscription
from ingest_api.devices.subscribed import subscribed
from ingest_api.domains.finding import domain_for
from ingest_api.domains.models import DomainName
from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, FieldError, bad_request, conflict, not_found, unprocessable
from ingest_api.fields import VisitorGuid
from ingest_api.keys import Access
from ingest_api.push_contacts.models import (
    ContactExists,
    ContactMade,
    DeviceToken,
    NewBrowserSubscription,
    NewContact,
    NewEmail,
    NewVisitorGuid,
)
from notify_pipeline.core.ledger import contact_lists, contacts
from notify_pipeline.core.ledger.contact_rows import BROWSERS, MAX_TOKEN_LENGTH, Contact
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.push_subscriptions import PREFIX
from notify_pipeline.core.vocabulary import Platform

GROUP = Group("push contacts", "Browsers that registered for a domain.")
_OFF = "`domain_disabled`: the domain's push feature is off."
_SEVERAL = "`several_contacts`: it is a contact of several tenants; a call from its page says by `Origin` of which."
_OF_TOKEN = {404: "There is no active contact by this token.", 409: f"{_OFF} {_SEVERAL}"}
_CHANGED = {204: Answer("Stored.")}


@GROUP.endpoint(
    "POST",
    "/push-contacts",
    access=Access.ANONYMOUS,
    answers={201: Answer("Stored.", ContactMade)},
    errors={
        400: "Malformed JSON. `invalid_token`: the provider says that `deviceToken` is none; nothing is stored. "
        "`not_a_browser`: it is registered as something else.",
        404: "`unknown_domain`: nobody has named it, or its owner is not active.",
        409: _OFF,
    },
)
def register_contact(call: Call, body: NewContact) -> Response:
    """Register a browser for a domain, or register it again.

    A page should call this at each visit: a token counts as dead from a provider's word only if it was not registered
    again since. The same token is the same contact: it is refreshed, and comes back if it was deleted. With a
    subscription, that is the contact's address from now on, and the token beside it a name for it.
    """
    domain = domain_for(call, body.domain)
    if body.device_token is None and body.subscription is None:
        raise unprocessable(FieldError("deviceToken", "is required, or subscription"))
    subscription = None if body.subscription is None else _address(call, body.subscription)
    if subscription is None and body.device_token is not None:
        _check(call, domain.tenant, body.device_token)
    email = None if body.email is None else folded(body.email)
    new = contacts.NewContact(domain.name, body.device_token, subscription, email, body.visitor_guid)
    try:
        contact = contacts.register(call.services.ledger, domain.tenant, new, call.services.clock())
    except contacts.NotABrowser as error:
        raise _not_a_browser("deviceToken") from error
    except contacts.NeedsSubscription as error:
        message = "is required: deviceToken stands for one that is not registered"
        raise unprocessable(FieldError("subscription", message)) from error
    return answer(201, ContactMade(device_token=contact.device_token, domain=contact.domain))


@GROUP.endpoint(
    "PUT", "/push-contacts/{device_token}/email", access=Access.ANONYMOUS, answers=_CHANGED, errors=_OF_TOKEN
)
def set_contact_email(call: Call, device_token: DeviceToken, body: NewEmail) -> Response:
    """Say whose a contact is."""
    contact, email = _contact(call, device_token), None if body.email is None else folded(body.email)
    ledger, now = call.services.ledger, call.services.clock()
    return _stored(contacts.update_email(ledger, contact.tenant, device_token, email, now))


@GROUP.endpoint(
    "PUT", "/push-contacts/{device_token}/visitor-guid", access=Access.ANONYMOUS, answers=_CHANGED, errors=_OF_TOKEN
)
def set_contact_visitor(call: Call, device_token: DeviceToken, body: NewVisitorGuid) -> Response:
    """Say which visitor a contact is of."""
    contact = _contact(call, device_token)
    ledger, now = call.services.ledger, call.services.clock()
    return _stored(contacts.update_visitor(ledger, contact.tenant, device_token, body.visitor_guid, now))


@GROUP.endpoint(
    "PUT",
    "/push-contacts/{device_token}/subscription",
    access=Access.ANONYMOUS,
    answers=_CHANGED,
    errors=_OF_TOKEN | {400: "Malformed JSON. `not_a_browser`: the subscription is registered as something else."},
)
def set_contact_subscription(call: Call, device_token: DeviceToken, body: NewBrowserSubscription) -> Response:
    """Give a contact its browser's new subscription.

    Browsers change subscriptions by themselves (`pushsubscriptionchange`). The contact keeps all that is known of it,
    and the name that its page knows; the old address gets nothing more. One that was found dead is revived.
    """
    contact, address = _contact(call, device_token), _address(call, body.subscription)
    ledger, now = call.services.ledger, call.services.clock()
    try:
        return _stored(contacts.update_subscription(ledger, contact.tenant, device_token, address, now))
    except contacts.NotABrowser as error:
        raise _not_a_browser("subscription") from error


@GROUP.endpoint(
    "DELETE",
    "/push-contacts/{device_token}",
    access=Access.ANONYMOUS,
    answers={204: Answer("It is sent nothing more.")},
    errors={404: "There is no contact by this token, and was none.", 409: _SEVERAL},
)
def delete_contact(call: Call, device_token: DeviceToken) -> Response:
    """Take a contact away, softly: its history and the evidence stay, and registering again revives it.

    Also for one that is gone already, and when the domain's push feature is off. The domain's owner may call it too,
    with a secret key: then the contact's `deleteReason` is `deleted`, else it is `unsubscribed`.
    """
    owner = _owner(call)
    contact = _contact(call, device_token, even_disabled=True, owner=owner)
    reason = "deleted" if owner == contact.tenant else "unsubscribed"
    contacts.delete(call.services.ledger, contact.tenant, device_token, reason, call.services.clock())
    return empty()


@GROUP.endpoint(
    "GET",
    "/push-contacts/{domain}/visitors/{visitor_guid}",
    access=Access.ANONYMOUS,
    answers={200: Answer("Whether there is an active contact.", ContactExists)},
    errors={404: "`unknown_domain`: nobody has named it, or its owner is not active."},
)
def show_visitor(call: Call, domain: DomainName, visitor_guid: VisitorGuid) -> Response:
    """Say whether a visitor has an active contact of a domain."""
    found = domain_for(call, domain, even_disabled=True)
    return answer(
        200,
        ContactExists(exists=contact_lists.exists(call.services.ledger, found.tenant, found.name, visitor_guid)),
    )


def _check(call: Call, tenant: str, token: str) -> None:
    """Refuse a token that its provider says is none. Raises ApiError: 400."""
    ledger = call.services.ledger
    if token.startswith(PREFIX) or contacts.is_name(ledger, tenant, token):
        return
    # What a send found out counts for more than what was found before, and remembered.
    was_dead = contacts.is_dropped(ledger, tenant, token)
    if call.services.token_desk.check(Platform.WEB, token, was_dead).is_valid is False:
        raise bad_request("The provider says that this is no token, or a dead one.", "deviceToken", "invalid_token")


def _address(call: Call, body: BrowserSubscription) -> str:
    """Return the token that a subscription makes. Raises ApiError: 422 with the field that is wrong."""
    token = subscribed(body, call.services.settings)
    if len(token) > MAX_TOKEN_LENGTH:
        raise unprocessable(FieldError("subscription.endpoint", "is too long"))
    return token


def _contact(call: Call, token: str, even_disabled: bool = False, owner: str | None = None) -> Contact:
    """Return the contact that a page means by a token: the active one before one that is gone.

    Tenants know nothing of each other: a token can be a contact of several, and a page means that of its own domain.

    Raises:
        ApiError: As ``domain_for`` does; 404 when there is none, 409 when it cannot be told of which tenant.
    """
    found = [each for each in contacts.find(call.services.ledger, token) if each.platform in BROWSERS]
    if not found:
        raise not_found("There is no such contact.")
    origin = None if call.page is None else call.page.origin
    if owner in {each.tenant for each in found}:
        found = [each for each in found if each.tenant == owner]
    elif origin is not None:
        found = [each for each in found if _speaks_for(call, origin, each.domain)] or found[:1]
    found = [each for each in found if each.is_active] or found
    if len({each.tenant for each in found}) > 1:
        raise conflict("several_contacts", "It is a contact of several tenants.", "device_token")
    domain_for(call, found[0].domain, "device_token", even_disabled)
    return found[0]


def _speaks_for(call: Call, origin: str, domain: str) -> bool:
    found = call.services.domains.find(domain)
    return found is not None and origin in found.origins


def _owner(call: Call) -> str | None:
    """Return the tenant whose secret key a call has, though it needs none; None without a good one."""
    try:
        key = call.services.keys.check(call.request, Access.SECRET)
        return call.services.keys.organization(call.request, key) or key.tenant
    except ApiError:
        return None


def _stored(contact: Contact | None) -> Response:
    if contact is None:
        raise not_found("There is no such contact.")
    return empty()


def _not_a_browser(field: str) -> ApiError:
    return bad_request("It is registered as something else than a browser's.", field, "not_a_browser")

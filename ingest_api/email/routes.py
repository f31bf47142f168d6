"""E-mail subscriptions, and bounces and complaints that are reported with a key.

Belongs here: those routes. Does not belong here: what Amazon SES reports (``ses``), storing (``core.ledger.devices``,
``core.ledger.suppressions``).

A publishable key subscribes, as a page's form does. It neither reads nor ends a subscription: everybody has that key,
and unlike a device's token an address can be guessed.
"""

from flask import Response

from ingest_api.devices.models import NewTopics
from ingest_api.email.models import MailEvent, NewSubscription, SubscriptionShown
from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import Email, fields_of, stored_topics
from ingest_api.keys import Access
from ingest_api.suppressions.models import SuppressionShown
from notify_pipeline.core.ledger import devices, suppressions
from notify_pipeline.core.ledger.suppressions import NewSuppression
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import Channel, Platform, SuppressionReason

GROUP = Group("e-mail", "Addresses that want e-mail, and what becomes of messages to them.")
_STORED = Answer("The stored subscription.", SubscriptionShown)
_NONE = {404: "This address is not subscribed with this tenant."}
_REASONS = {"bounce": SuppressionReason.HARD_BOUNCE, "complaint": SuppressionReason.COMPLAINT}


@GROUP.endpoint("POST", "/email-subscriptions", access=Access.DEVICE, answers={201: _STORED})
def subscribe(call: Call, body: NewSubscription) -> Response:
    """Subscribe an address, or subscribe it again.

    Sends to its topics, and to everyone, reach it where they name the channel `email`. Nobody is asked whether the
    address is theirs: do that before. A suppressed address stays suppressed.
    """
    registration = devices.Registration(
        token=folded(body.email),
        platform=Platform.EMAIL,
        user_id=body.user_id,
        topics=stored_topics(body.topics),
        locale=body.locale,
        timezone=body.timezone,
    )
    return answer(201, _shown(devices.register(call.services.ledger, call.tenant, registration, call.services.clock())))


@GROUP.endpoint("GET", "/email-subscriptions/{email}", access=Access.SECRET, answers={200: _STORED}, errors=_NONE)
def show_subscription(call: Call, email: Email) -> Response:
    """Show an address's subscription."""
    found = devices.get(call.services.ledger, call.tenant, folded(email))
    if found is None:
        raise _no_subscription()
    return answer(200, _shown(found))


@GROUP.endpoint(
    "PUT", "/email-subscriptions/{email}/topics", access=Access.SECRET, answers={200: _STORED}, errors=_NONE
)
def replace_subscribed_topics(call: Call, email: Email, body: NewTopics) -> Response:
    """Replace the topics that an address is subscribed to."""
    ledger, now = call.services.ledger, call.services.clock()
    changed = devices.set_topics(ledger, call.tenant, folded(email), stored_topics(body.topics), now)
    if changed is None:
        raise _no_subscription()
    return answer(200, _shown(changed))


@GROUP.endpoint(
    "DELETE",
    "/email-subscriptions/{email}",
    access=Access.SECRET,
    answers={204: Answer("It is subscribed to nothing.")},
    errors=_NONE,
)
def unsubscribe_address(call: Call, email: Email) -> Response:
    """End an address's subscription.

    Sends that name the address itself, or its user, still reach it: see preferences and suppressions for those.
    """
    if not devices.delete(call.services.ledger, call.tenant, folded(email), call.services.clock()):
        raise _no_subscription()
    return empty()


@GROUP.endpoint(
    "POST",
    "/email/events",
    access=Access.SECRET,
    answers={201: Answer("What is stored of the address.", SuppressionShown)},
)
def report_mail_event(call: Call, body: MailEvent) -> Response:
    """Report a bounce or a complaint.

    For relays other than Amazon SES, by whatever reads their reports. The address is suppressed: no e-mail goes to it
    any more. Report no bounces that may pass, such as full mailboxes.
    """
    new = NewSuppression(call.tenant, Channel.EMAIL, body.address, _REASONS[body.kind], body.detail, call.actor)
    stored = suppressions.add(call.services.ledger, new, call.services.clock())
    return answer(201, fields_of(SuppressionShown, stored))


def _shown(device: devices.Device) -> dict[str, object]:
    return {**fields_of(SubscriptionShown, device, "email"), "email": device.token}


def _no_subscription() -> ApiError:
    return not_found("No such address is subscribed.")

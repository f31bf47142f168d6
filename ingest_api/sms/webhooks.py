"""What Twilio posts: replies of phones, and what became of messages.

Belongs here: those routes. Does not belong here: whether it was Twilio (``proof``), the words (``core.sms_keywords``),
what reports make of receipts.

https://www.twilio.com/docs/messaging/guides/webhook-request and
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
"""

import logging

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, empty
from ingest_api.errors import bad_request
from ingest_api.fields import TenantId
from ingest_api.inputs import read_form
from ingest_api.keys import Access
from ingest_api.lean import LeanResponse
from ingest_api.receipts.logging import append
from ingest_api.receipts.models import Beacon
from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.ledger import sms_stops, suppressions
from notify_pipeline.core.ledger.suppressions import NewSuppression
from notify_pipeline.core.phone_numbers import is_e164, masked
from notify_pipeline.core.sms_keywords import Wish, wish_of
from notify_pipeline.core.vocabulary import Channel, SuppressionReason

GROUP = Group("SMS webhooks", "What Twilio posts to this installation.")
_ERRORS = {
    403: "`forged`: the signature is not this request's.",
    404: "SMS are not sent through Twilio here.",
    413: "The body is too large.",
    415: "The body is not a form.",
}
_ACTOR = "twilio"
_TWIML = "text/xml"
_RECEIVED = "/notification/received"
_DELIVERED = frozenset({"delivered", "read"})
_LOST = frozenset({"undelivered", "failed"})
# "Unknown destination handset": the number is of no phone. A phone that is off (30003), a landline *or* a carrier that
# cannot be reached (30006), a message that was filtered (30007) may all be another way tomorrow.
# https://www.twilio.com/docs/api/errors/30005
_UNKNOWN = "30005"
_MAX_CODE = 16
# Anybody may post here, and is believed only once all of it was read; Twilio's forms have some 2 KB.
_MAX_FORM_BYTES = 65_536

log = logging.getLogger(__name__)


@GROUP.endpoint(
    "POST",
    "/sms/inbound/twilio",
    access=Access.PUBLIC,
    answers={200: Answer("Kept; nothing is replied, as Twilio answers STOP and START itself.", content_type=_TWIML)},
    errors=_ERRORS,
)
def take_sms_reply(call: Call) -> Response:
    """Take a phone's reply: STOP and START are kept, everything else is let go.

    All tenants text from one number, so a STOP holds for all of them, until a START.
    """
    form = _signed_form(call)
    number, services = form.get("From", ""), call.services
    wish = _said(form)
    if wish is not None and is_e164(number):
        if wish is Wish.STOP:
            sms_stops.stop(services.ledger, number, None, _ACTOR, services.clock())
        else:
            sms_stops.start(services.ledger, number, _ACTOR, services.clock())
    return LeanResponse(b"<Response/>", 200, content_type=_TWIML)


@GROUP.endpoint(
    "POST",
    "/sms/status/twilio/{tenant_id}",
    access=Access.PUBLIC,
    answers={204: Answer("Kept.")},
    errors={**_ERRORS, 400: "`forged`: `d` is not this message's."},
)
def take_sms_status(call: Call, tenant_id: TenantId, query: Beacon) -> Response:
    """Take what became of a message: a delivery is a receipt, an unknown number is suppressed.

    The address is made by this installation for each message, and names its delivery.
    """
    form = _signed_form(call)
    services, number, status = call.services, form.get("To", ""), form.get("MessageStatus", "")
    ids = DeliveryIds(services.delivery_secret, tenant_id, query.notificationId, Channel.SMS.value)
    if ids.of(number) != query.d:
        raise bad_request("d is not of this message.", "d", "forged")
    if status in _DELIVERED:
        append(services, _RECEIVED, call.request)
    elif status in _LOST:
        code = form.get("ErrorCode", "")[:_MAX_CODE]
        log.warning("a message to %s was %s: %s", masked(number), status, code if code.isalnum() else "no code")
        if code == _UNKNOWN:
            reason = SuppressionReason.HARD_BOUNCE
            new = NewSuppression(tenant_id, Channel.SMS, number, reason, code, _ACTOR)
            suppressions.add(services.ledger, new, services.clock())
    return empty()


def _signed_form(call: Call) -> dict[str, str]:
    pairs = read_form(call.request, _MAX_FORM_BYTES)
    call.services.twilio.check(call.request, pairs)
    return dict(pairs)


def _said(form: dict[str, str]) -> Wish | None:
    """Return what a reply asks for: in Twilio's word where it has one, which knows the sender's own keywords too."""
    word = form.get("OptOutType", "")
    return Wish(word) if word in set(Wish) else wish_of(form.get("Body", ""))

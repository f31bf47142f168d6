"""SMS: what a text takes, and who replied STOP.

Belongs here: those routes. Does not belong here: what Twilio posts (``webhooks``), a tenant's own suppressions
(``suppressions``), sending (``channels.sms``).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import Phone
from ingest_api.keys import Access
from ingest_api.sms.models import NewText, StopShown, TextShown, shown
from notify_pipeline.core import phone_numbers
from notify_pipeline.core.ledger import sms_stops

GROUP = Group("sms", "What a text takes as SMS, and who replied STOP.")
_NONE = {404: "The number has not replied STOP."}


@GROUP.endpoint("POST", "/sms/segments", access=Access.SECRET, answers={200: Answer("What it takes.", TextShown)})
def measure_sms(call: Call, body: NewText) -> Response:
    """Count the segments of a text.

    Networks carry 160 characters of their default alphabet or 70 others; a longer text goes out, and is paid for, as
    several messages, each a little shorter. One letter that is not in that alphabet makes all of them wide.
    """
    return answer(200, shown(body.text, call.services.settings.sms_max_segments))


@GROUP.endpoint(
    "GET", "/sms/stops/{number}", access=Access.ADMIN, answers={200: Answer("It has.", StopShown)}, errors=_NONE
)
def show_sms_stop(call: Call, number: Phone) -> Response:
    """Show whether a number replied STOP.

    That holds for all tenants, who text from one number, and none of them sees it before it texts that number.
    """
    number = phone_numbers.normalized(number)
    stopped_at = sms_stops.stopped_at(call.services.ledger, number)
    if stopped_at is None:
        raise _none()
    return answer(200, {"number": number, "stopped_at": stopped_at})


@GROUP.endpoint(
    "DELETE", "/sms/stops/{number}", access=Access.ADMIN, answers={204: Answer("It may be texted again.")}, errors=_NONE
)
def lift_sms_stop(call: Call, number: Phone) -> Response:
    """Let a number be texted again, as if it had replied START.

    Only its owner can ask for that, and the provider goes on blocking it until it replies START.
    """
    number = phone_numbers.normalized(number)
    if not sms_stops.start(call.services.ledger, number, call.actor, call.services.clock()):
        raise _none()
    return empty()


def _none() -> ApiError:
    return not_found("The number has not replied STOP.")

"""What Amazon SES reports of messages, by way of an Amazon SNS topic.

Belongs here: the route that SNS posts to. Does not belong here: reading and proving messages (``core.sns_messages``,
``core.ses_events``), calling SNS (``certificates``).

Amazon answers for the signature, this installation's settings for the topic, and our own mark in the message's headers
for whose it was. A message that comes twice changes nothing more than once.
"""

import logging
from datetime import timedelta

from flask import Response

from ingest_api.email.certificates import SnsUnreachable
from ingest_api.endpoint import Answer, Call, Group, empty
from ingest_api.errors import ApiError, bad_request, not_found, unavailable
from ingest_api.inputs import read_raw
from ingest_api.keys import Access
from notify_pipeline.core import mail_origin, ses_events
from notify_pipeline.core.ledger import suppressions
from notify_pipeline.core.ledger.suppressions import NewSuppression
from notify_pipeline.core.mail_addresses import masked
from notify_pipeline.core.ses_events import SesEvent
from notify_pipeline.core.sns_messages import MAX_BYTES, NotSns, SnsMessage, SnsType
from notify_pipeline.core.vocabulary import Channel

GROUP = Group("Amazon SES", "What Amazon SES reports to this installation.")
_ACTOR = "ses"
# SNS goes on trying for an hour at most; beyond twice that somebody else repeats what it once said.
# https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
_FRESH = timedelta(hours=2)

log = logging.getLogger(__name__)


@GROUP.endpoint(
    "POST",
    "/email/events/ses",
    access=Access.PUBLIC,
    answers={204: Answer("Taken; or nothing to be taken.")},
    errors={
        400: "It is no message of Amazon SNS.",
        403: "`forged`: not signed by Amazon SNS, too old, or from a topic that the settings do not name.",
        404: "The settings name no topic.",
        413: "The body is too large.",
        503: "Amazon SNS could not be asked for its certificate, or to confirm: post it again.",
    },
)
def take_ses_events(call: Call) -> Response:
    """Take what an Amazon SNS topic posts.

    Subscribe this address to the topics in `NOTIFY_SES_TOPIC_ARNS`: the subscription is confirmed by itself. Addresses
    that bounce for good, or whose owners complain, are suppressed for the tenant whose message it was.
    """
    services = call.services
    if not services.settings.ses_topic_arns:
        raise not_found("No topic of Amazon SNS is set.")
    try:
        message = SnsMessage.of(read_raw(call.request, MAX_BYTES))
    except NotSns as error:
        raise bad_request(f"The body {error}.", "body", "not_sns") from error
    _prove(call, message)
    if message.type is SnsType.SUBSCRIBE and message.subscribe_url is not None:
        _confirm(call, message.subscribe_url, message.topic_arn)
    elif message.type is SnsType.UNSUBSCRIBE:
        log.warning("SES: the subscription to %s has ended: bounces are no longer heard of", message.topic_arn)
    else:
        _take(call, message.message)
    return empty()


def _prove(call: Call, message: SnsMessage) -> None:
    services = call.services
    if message.topic_arn not in services.settings.ses_topic_arns:
        raise _forged("The topic is none of those in the settings.")
    now = services.clock()
    if abs(now - message.sent_at) > _FRESH:
        raise _forged("The message is too old, or of the future.")
    try:
        certificate = services.sns.certificate(message.certificate_url)
    except SnsUnreachable as error:
        log.warning("SES: %s", error)
        raise unavailable("sns_unreachable", "Amazon SNS could not be asked for its certificate.") from error
    if not message.is_signed(certificate, now):
        raise _forged("The signature is not of this message.")


def _confirm(call: Call, url: str, topic: str) -> None:
    try:
        call.services.sns.confirm(url)
    except SnsUnreachable as error:
        log.warning("SES: the subscription to %s could not be confirmed: %s", topic, error)
        raise unavailable("sns_unreachable", "Amazon SNS could not be asked to confirm.") from error
    log.info("SES: subscribed to %s", topic)


def _take(call: Call, text: str) -> None:
    try:
        event = ses_events.read(text)
    except ValueError:
        # A topic's first message may be a test of somebody's; repeating it would not make it better.
        log.warning("SES: a message that is no record of Amazon SES")
        return
    if event is not None and event.affected:
        _suppress(call, event)


def _suppress(call: Call, event: SesEvent) -> None:
    services = call.services
    origin = mail_origin.read(services.ledger.secret(mail_origin.SECRET), event.mark or "")
    if origin is None:
        why = "without headers: let SES include the original ones" if event.mark is None else "of another installation"
        log.warning("SES: a report %s", why)
        return
    for each in event.affected:
        log.info("SES: delivery %s to %s: %s", origin.delivery_id, masked(each.address), each.kind)
    new = [
        NewSuppression(origin.tenant, Channel.EMAIL, each.address, each.reason, each.detail, _ACTOR)
        for each in event.affected
        if each.reason is not None
    ]
    suppressions.add_many(services.ledger, new, services.clock())


def _forged(message: str) -> ApiError:
    return ApiError(403, "forged", message)

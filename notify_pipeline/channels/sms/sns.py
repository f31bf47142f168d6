"""SMS through Amazon SNS.

Belongs here: one ``Publish`` per recipient, in threads, and what its errors mean. Does not belong here: the text
(``message``), gates and expiry (``each``). Who opted out is answered at ``Publish``; what became of a message goes to
CloudWatch, and to nobody else.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html, https://docs.aws.amazon.com/sns/latest/dg/sms_publish-to-phone.html
"""

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notify_pipeline.channels.base import OPTED_OUT, PAYLOAD_TOO_LARGE, CredentialsRejected, Verdict
from notify_pipeline.channels.each import NoAnswer, NotCalled
from notify_pipeline.channels.sms import message as messages
from notify_pipeline.channels.sms.message import SmsMessage
from notify_pipeline.core.phone_numbers import is_e164
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform, Priority

PROVIDER = "sns"
# Throttling names no time; SNS counts by the second. https://docs.aws.amazon.com/general/latest/gr/sns.html
THROTTLE_S = 1.0

_THROTTLED = Verdict(Outcome.THROTTLED, retry_after_s=THROTTLE_S, hold=True)
_OURS = Verdict(Outcome.TRANSIENT, credentials=True)
# The service's own errors, and those that every AWS service has.
# https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html
_TABLE: Mapping[str, Verdict] = {
    "OptedOut": Verdict(Outcome.INVALID_RECIPIENT, drop_token=True),
    **dict.fromkeys(
        ("Throttled", "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "SlowDown"),
        _THROTTLED,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "AuthorizationError",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "MissingAuthenticationToken",
            "NotAuthorized",
            "OptInRequired",
            "RequestExpired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        _OURS,
    ),
}
_LONGEST_WORD = 64


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how SNS is spoken to. Credentials come from AWS's own chain: environment, profile, the machine's role.

    Attributes:
        region: AWS's name for it; None: from the environment.
        endpoint_url: In the place of AWS.
        sender_id: Shown as the sender where the recipient's country allows it.
        max_price: US dollars that one message may cost, as text.
        ca: Certificates that the service is checked with; None: botocore's.
    """

    region: str | None = None
    endpoint_url: str | None = None
    sender_id: str | None = None
    max_price: str | None = None
    ca: Path | None = None


class SnsCarrier:
    """A ``Carrier``."""

    name = Channel.SMS
    provider = PROVIDER

    def __init__(self, target: Target, *, at_once: int, timeout_s: float, most_segments: int) -> None:
        """Take the target; nothing is connected yet.

        Args:
            target: Where and how SNS is spoken to.
            at_once: Threads, and connections.
            timeout_s: A request without an answer by then is ambiguous.
            most_segments: Longer texts are refused.
        """
        self._target = target
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._most_segments = most_segments
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="sns")
        self._guard = threading.Lock()
        self._client: Any = None

    def prepare(self, notification: Notification, platform: Platform) -> SmsMessage:
        """See ``ChannelSender``."""
        return messages.prepare(notification, platform, self._most_segments)

    def is_address(self, address: str) -> bool:
        """See ``Carrier``."""
        return is_e164(address)

    async def call(self, message: SmsMessage, recipient: Recipient, delivery_id: str) -> Verdict:
        """See ``Carrier``. A thread cannot be stopped: who is cancelled while it works may have been texted."""
        if (text := message.text_for(recipient)) is None:
            return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
        attributes = self._attributes(message.notification.priority)
        future = self._pool.submit(self._publish, recipient.address, text, attributes)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancelled():
                raise NotCalled("cancelled") from None
            raise

    async def aclose(self) -> None:
        """See ``Carrier``. Waits for the calls that are under way."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _attributes(self, priority: Priority) -> dict[str, dict[str, str]]:
        """Return what SNS is told beside the text: what cannot wait is transactional, which costs more."""
        kind = "Promotional" if priority is Priority.LOW else "Transactional"
        attributes = {"AWS.SNS.SMS.SMSType": {"DataType": "String", "StringValue": kind}}
        if self._target.sender_id is not None:
            attributes["AWS.SNS.SMS.SenderID"] = {"DataType": "String", "StringValue": self._target.sender_id}
        if self._target.max_price is not None:
            attributes["AWS.SNS.SMS.MaxPrice"] = {"DataType": "Number", "StringValue": self._target.max_price}
        return attributes

    def _publish(self, number: str, text: str, attributes: dict[str, dict[str, str]]) -> Verdict:
        """Publish, in a thread of the pool."""
        from botocore import exceptions as known

        try:
            client = self._opened()
            answer = client.publish(PhoneNumber=number, Message=text, MessageAttributes=attributes)
        except known.ClientError as error:
            return classify(error.response)
        except (
            known.EndpointConnectionError,
            known.ConnectTimeoutError,
            known.ProxyConnectionError,
            known.SSLError,
        ) as error:
            raise NotCalled("connection", type(error).__name__) from error
        except known.HTTPClientError as error:
            reason = "timeout" if isinstance(error, known.ReadTimeoutError) else "connection"
            raise NoAnswer(reason, type(error).__name__) from error
        except known.ParamValidationError:
            return Verdict(Outcome.PERMANENT, "param_validation")
        except known.BotoCoreError as error:
            # No region, no credentials, a profile that is not there: nothing was sent, and time alone mends nothing.
            raise CredentialsRejected(
                type(error).__name__, "see AWS's credential chain and NOTIFY_SNS_REGION"
            ) from error
        return Verdict(Outcome.ACCEPTED, message_id=answer.get("MessageId"))

    def _opened(self) -> Any:
        with self._guard:
            if self._client is None:
                self._client = self._open()
            return self._client

    def _open(self) -> Any:
        """Make the client: boto3 loads for most of a second, which processes that send no SMS do not spend."""
        import boto3
        from botocore.config import Config

        config = Config(
            # A call without an answer may have been carried out: whether to call again is not botocore's decision.
            retries={"total_max_attempts": 1},
            connect_timeout=self._timeout_s,
            read_timeout=self._timeout_s,
            max_pool_connections=self._at_once,
        )
        target = self._target
        return boto3.session.Session().client(
            "sns",
            region_name=target.region,
            endpoint_url=target.endpoint_url,
            verify=None if target.ca is None else str(target.ca),
            config=config,
        )


def classify(response: Mapping[str, Any]) -> Verdict:
    """Return what an error answer of ``Publish`` means, in the form in which botocore hands it on.

    A number is suppressed when it opted out, or when SNS says that the number itself is no number.
    """
    error = response.get("Error", {})
    word = str(error.get("Code", ""))[:_LONGEST_WORD]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if word == "OptedOut" or _says_opted_out(word, error):
        return _TABLE["OptedOut"]._replace(code=f"{OPTED_OUT}:{word}")
    verdict = _TABLE.get(word)
    if verdict is None and word in _PARAMETER and "PhoneNumber" in str(error.get("Message", "")):
        verdict = Verdict(Outcome.INVALID_RECIPIENT, drop_token=True)
    if verdict is None:
        verdict = _by_status(status)
    return verdict._replace(code=word or f"http_{status}")


_PARAMETER = frozenset({"InvalidParameter", "ParameterValueInvalid", "InvalidParameterValue", "ValidationException"})


def _says_opted_out(word: str, error: Mapping[str, Any]) -> bool:
    return word in _PARAMETER and "opted out" in str(error.get("Message", "")).lower()


def _by_status(status: int) -> Verdict:
    if status == 429:
        return _THROTTLED
    if status in (401, 403):
        return _OURS
    return Verdict(Outcome.TRANSIENT if status >= 500 else Outcome.PERMANENT)

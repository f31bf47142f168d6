"""SMS through Twilio, or whatever speaks its Messages API.

Belongs here: one HTTP request per recipient, and telling whether it left. Does not belong here: what an answer means
(``twilio_answers``), the text (``message``), gates and expiry (``each``), what Twilio posts to us (``ingest_api``).

https://www.twilio.com/docs/messaging/api/message-resource
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, Clock, Verdict
from notify_pipeline.channels.each import NoAnswer, NotCalled
from notify_pipeline.channels.sms import message as messages
from notify_pipeline.channels.sms.message import SmsMessage
from notify_pipeline.channels.sms.twilio_answers import classify
from notify_pipeline.core.phone_numbers import is_e164
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Outcome, Platform

if TYPE_CHECKING:
    import aiohttp

PROVIDER = "twilio"
# "Set the value in whole seconds between 1 and 36,000." https://www.twilio.com/docs/api/errors/90007
_MAX_VALIDITY_S = 36_000
# A connection that the other side closes while a request is on its way makes that request ambiguous: let go of idle
# ones long before anybody else would.
_IDLE_S = 10.0
# A message's own JSON has about 1 KB.
_MAX_ANSWER = 65_536
# A sender id of one's own may begin like one. https://www.twilio.com/docs/glossary/what-is-a-sid
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}\Z")


@dataclass(frozen=True, slots=True)
class Account:
    """Whose messages these are.

    Attributes:
        url: The API's base URL.
        sid: The account's id.
        token: Its secret.
        sender: A number, a sender id, or a messaging service (``MG…``).
        status_url: Where Twilio tells what became of a message, without query; None: it does not.
        ca: Certificates that an https URL is checked with; None: the system's.
    """

    url: str
    sid: str
    token: str
    sender: str
    status_url: str | None
    ca: Path | None = None


class TwilioCarrier:
    """A ``Carrier``."""

    name = Channel.SMS
    provider = PROVIDER

    def __init__(self, account: Account, clock: Clock, *, at_once: int, timeout_s: float, most_segments: int) -> None:
        """Take the account; nothing is connected yet.

        Args:
            account: Whose messages these are.
            clock: Tells the time.
            at_once: Connections.
            timeout_s: A request without an answer by then is ambiguous.
            most_segments: Longer texts are refused.
        """
        self._account = account
        self._clock = clock
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._most_segments = most_segments
        self._url = f"{account.url}/2010-04-01/Accounts/{quote(account.sid, safe='')}/Messages.json"
        self._session: aiohttp.ClientSession | None = None

    def prepare(self, notification: Notification, platform: Platform) -> SmsMessage:
        """See ``ChannelSender``."""
        return messages.prepare(notification, platform, self._most_segments)

    def is_address(self, address: str) -> bool:
        """See ``Carrier``."""
        return is_e164(address)

    async def call(self, message: SmsMessage, recipient: Recipient, delivery_id: str) -> Verdict:
        """See ``Carrier``."""
        if (text := message.text_for(recipient)) is None:
            return Verdict(Outcome.PERMANENT, PAYLOAD_TOO_LARGE)
        form = self._form(message.notification, recipient.address, text, delivery_id)
        return await self._posted(form)

    async def aclose(self) -> None:
        """See ``Carrier``."""
        if self._session is not None:
            await self._session.close()

    def _form(self, notification: Notification, number: str, text: str, delivery_id: str) -> dict[str, str]:
        left_s = int((notification.expires_at - self._clock()).total_seconds())
        sender = self._account.sender
        form = {
            "To": number,
            "MessagingServiceSid" if _SERVICE.match(sender) else "From": sender,
            "Body": text,
            "ValidityPeriod": str(min(max(left_s, 1), _MAX_VALIDITY_S)),
        }
        if self._account.status_url is not None:
            query = {
                "notificationId": notification.notification_id,
                "platform": Platform.SMS.value,
                "provider": PROVIDER,
                "d": delivery_id,
            }
            whole = urlencode(query, quote_via=quote, safe="")
            form["StatusCallback"] = f"{self._account.status_url}/{notification.tenant}?{whole}"
        return form

    async def _posted(self, form: dict[str, str]) -> Verdict:
        import aiohttp

        session = self._session or self._open()
        call = SimpleNamespace(left=False)
        try:
            async with session.post(self._url, data=form, allow_redirects=False, trace_request_ctx=call) as answer:
                body = await _read(answer)
                return classify(answer.status, answer.headers.get("Retry-After"), body, self._clock())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = "timeout" if isinstance(error, TimeoutError) else "connection"
            raise (NoAnswer if call.left else NotCalled)(reason, type(error).__name__) from error
        except asyncio.CancelledError:
            if call.left:
                raise
            raise NotCalled("cancelled") from None

    def _open(self) -> "aiohttp.ClientSession":
        """Make the client. It loads for half a second, which processes that send no SMS do not spend."""
        import aiohttp

        async def leaves(session: aiohttp.ClientSession, call: Any, params: Any) -> None:
            call.trace_request_ctx.left = True

        ca = self._account.ca
        tls = ssl.create_default_context(cafile=ca) if self._url.startswith("https://") else True
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(leaves)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._at_once, keepalive_timeout=_IDLE_S, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={
                "Accept": "application/json",
                "Authorization": aiohttp.encode_basic_auth(self._account.sid, self._account.token),
                "User-Agent": "notify-pipeline/1",
            },
            trace_configs=[trace],
        )
        return self._session


async def _read(answer: "aiohttp.ClientResponse") -> bytes:
    """Return an answer's body, or what came of it: its status alone says whether the message was taken."""
    import aiohttp

    body = b""
    try:
        while len(body) < _MAX_ANSWER and (piece := await answer.content.read(_MAX_ANSWER - len(body))):
            body += piece
    except (aiohttp.ClientError, OSError, TimeoutError):
        answer.close()
    return body

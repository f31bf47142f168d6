"""A stand-in for a mail relay, and the mailboxes behind it.

Belongs here: deciding on one message, logging it, keeping it to be read. Does not belong here: the protocol
(aiosmtpd).

It wants STARTTLS with the sandbox's certificate, and a user name and password that ``GET /`` tells within ``smtp_url``.
``GET /mail?to=ada@example.com`` shows the last messages of a mailbox, newest first; without ``to`` everybody's.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import orjson

from notify_pipeline.core import mail_origin
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.sandbox import credentials
from notify_pipeline.sandbox.faults import Fault
from notify_pipeline.sandbox.http1 import HttpRequest, Response
from notify_pipeline.sandbox.quota import Quota

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP as Conversation
    from aiosmtpd.smtp import AuthResult, Envelope, Session

    from notify_pipeline.sandbox.parts import Surroundings

HOST = "127.0.0.1"
USER = "sandbox"
PASSWORD = "sandbox"  # noqa: S105 - keeps nobody out: it shows that the client logs in
MAX_BYTES = 10 * 1024 * 1024
# Some 10 MB. The truth's log has all.
_KEPT = 2_000
_SHOWN = 100
_SHOWN_HEADERS = ("From", "To", "Message-ID", "Date", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID")
_ANSWERS = {
    Fault.THROTTLED: "421 4.7.0 Too much mail, try again later",
    Fault.UNAVAILABLE: "421 4.3.2 Service shutting down",
    Fault.INTERNAL: "451 4.3.0 Mail server temporarily rejected the message",
}

# As Amazon SES says it.
_BEYOND_QUOTA = "454 Throttling failure: Maximum sending rate exceeded."


class Smtp:
    """A ``Part``, and the handler of its conversations."""

    name = "email"
    prefix = "/mail"

    def __init__(self, around: "Surroundings") -> None:
        self._around = around
        self._counts: Counter[str] = Counter()
        self._quota = Quota()
        self._mails: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._faults: WeakKeyDictionary[Session, Fault | None] = WeakKeyDictionary()
        self._connections: set[Conversation] = set()

    async def start(self) -> dict[str, str]:
        """See ``Part``."""
        # Loads for a tenth of a second: not where a sandbox's other parts are used alone.
        import logging

        from aiosmtpd.smtp import SMTP

        # Every command is a line of it, addresses and all.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        tls = credentials.server_tls(self._around.home / "keys", self._around.clock())
        loop = asyncio.get_running_loop()

        def conversation() -> SMTP:
            return SMTP(
                self,
                hostname=HOST,
                ident="notify sandbox",
                tls_context=tls,
                require_starttls=True,
                auth_required=True,
                authenticator=_authenticated,
                data_size_limit=MAX_BYTES,
                loop=loop,
            )

        port = self._around.ports.get("smtp", 0)
        try:
            self._server = await loop.create_server(conversation, HOST, port)
        except OSError:
            if not port:
                raise
            self._server = await loop.create_server(conversation, HOST, 0)
        self._port = int(self._server.sockets[0].getsockname()[1])
        return {"smtp_url": f"smtp://{USER}:{PASSWORD}@{HOST}:{self._port}"}

    async def stop(self) -> None:
        """See ``Part``."""
        self._server.close()
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.close()

    @property
    def ports(self) -> Mapping[str, int]:
        """See ``Part``."""
        return {"smtp": self._port}

    @property
    def stats(self) -> Mapping[str, Any]:
        """See ``Part``: answers by code, and ``connections`` that logged in or tried to send without."""
        return self._counts

    def handle(self, request: HttpRequest) -> Response:
        """Show a mailbox."""
        if request.method != "GET" or request.path != self.prefix:
            return Response(404, b"{}\n")
        asked = parse_qs(request.query).get("to")
        found = (mail for mail in reversed(self._mails) if asked is None or folded(mail["to"]) == folded(asked[0]))
        shown = [mail for mail, _ in zip(found, range(_SHOWN), strict=False)]
        return Response(body=orjson.dumps({"items": shown}, option=orjson.OPT_INDENT_2))

    # aiosmtpd's hooks: an answer each.

    async def handle_EHLO(
        self, server: "Conversation", session: "Session", envelope: "Envelope", hostname: str, responses: list[str]
    ) -> list[str]:
        """Greet."""
        session.host_name = hostname
        if server not in self._connections:
            self._connections = {each for each in self._connections if each.transport is not None} | {server}
            self._counts["connections"] += 1
        return responses

    async def handle_MAIL(
        self, server: "Conversation", session: "Session", envelope: "Envelope", address: str, options: list[str]
    ) -> str:
        """Begin a message: what befalls it is drawn here."""
        rates = self._around.book.current.email
        await asyncio.sleep(self._around.book.latency_s(rates))
        if rates.quota is not None and self._quota.back_in(rates.quota, rates.quota_window_s, self._around.clock()):
            self._record(None, _BEYOND_QUOTA, None)
            return _BEYOND_QUOTA
        fault = self._around.book.draw(rates)
        if fault in (Fault.THROTTLED, Fault.UNAVAILABLE):
            # RFC 5321 section 3.8: whoever says 421 ends the connection.
            asyncio.get_running_loop().call_soon(_close, server)
            self._record(None, _ANSWERS[fault], None)
            return _ANSWERS[fault]
        if fault is Fault.HANG:
            self._record(None, "hang", None)
            await asyncio.Event().wait()
        if fault is Fault.RESET:
            await self._reset(server, None, None)
        envelope.mail_from, envelope.mail_options = address, options
        self._faults[session] = fault
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: "Conversation", session: "Session", envelope: "Envelope", address: str, options: list[str]
    ) -> str:
        """Take a recipient, or know none such."""
        if self._around.book.is_dead(self._around.book.current.email, folded(address)):
            answer = "550 5.1.1 The email account that you tried to reach does not exist"
            self._record(address, answer, None)
            return answer
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: "Conversation", session: "Session", envelope: "Envelope") -> str:
        """Take a message over."""
        to = envelope.rcpt_tos[0]
        mail = _read(to, envelope.original_content or b"")
        fault = self._faults.get(session)
        if fault is Fault.INTERNAL:
            self._record(to, _ANSWERS[Fault.INTERNAL], mail)
            return _ANSWERS[Fault.INTERNAL]
        self._mails.append(mail | {"time": self._around.clock()})
        if fault is Fault.RESET_AFTER_PROCESSING:
            await self._reset(server, to, mail)
        number = self._record(to, "250", mail, processed=True)
        return f"250 2.0.0 OK: queued as {number:012x}"

    async def _reset(self, server: "Conversation", to: str | None, mail: dict[str, Any] | None) -> None:
        self._record(to, "reset", mail, processed=mail is not None)
        if isinstance(server.transport, asyncio.WriteTransport):
            server.transport.abort()
        await asyncio.Event().wait()  # the lost connection ends it

    def _record(self, to: str | None, answer: str, mail: dict[str, Any] | None, processed: bool = False) -> int:
        """Write the truth's line, as ``control`` describes it."""
        status = answer[:3] if answer[:3].isdigit() else None
        self._counts[status or answer] += 1
        self._counts["processed"] += processed
        headers = {} if mail is None else mail["headers"]
        number = self._around.log.append(
            {
                "n": 0,
                "time": self._around.clock(),
                "channel": "email",
                "recipient": to,
                "notification_id": headers.get("X-Notify-Notification"),
                "d": _delivery_id(headers.get(mail_origin.HEADER)),
                "status": None if status is None else int(status),
                "answer": answer,
                "message_id": headers.get("Message-ID"),
                "how": None if status else "close",
                "processed": processed,
                "dry_run": False,
                "collapse_id": None,
                "headers": headers,
                "body": mail and {name: mail[name] for name in ("subject", "text", "html")},
            }
        )
        self._around.log.commit()
        return number


def _authenticated(
    server: "Conversation", session: "Session", envelope: "Envelope", mechanism: str, data: Any
) -> "AuthResult":
    from aiosmtpd.smtp import AuthResult

    good = getattr(data, "login", None) == USER.encode() and getattr(data, "password", None) == PASSWORD.encode()
    return AuthResult(success=good, handled=False)


def _close(server: "Conversation") -> None:
    if server.transport is not None:
        server.transport.close()


def _read(to: str, content: bytes) -> dict[str, Any]:
    parsed = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(content)
    wanted = (*_SHOWN_HEADERS, mail_origin.HEADER, "X-Notify-Notification")
    return {
        "to": to,
        "subject": str(parsed["Subject"]),
        "headers": {name: str(parsed[name]) for name in wanted if parsed[name] is not None},
        "text": _part(parsed, "plain"),
        "html": _part(parsed, "html"),
    }


def _part(parsed: EmailMessage, kind: str) -> str | None:
    part = parsed.get_body((kind,))
    return None if part is None else str(part.get_content())


def _delivery_id(mark: str | None) -> str | None:
    return None if mark is None else mark.split(".")[1]

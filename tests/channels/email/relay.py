"""A real mail relay (aiosmtpd, with TLS and authentication) that answers as a test says, and counts.

Belongs here: the server and what it saw. Does not belong here: what is expected of it.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.email.carrier import EmailCarrier
from notify_pipeline.channels.email.message import Letterhead, Mail
from notify_pipeline.channels.email.pool import Pool
from notify_pipeline.channels.email.relay import Relay as Target
from notify_pipeline.channels.rates import Gate
from notify_pipeline.core.rates import Limits
from notify_pipeline.sandbox import credentials
from tests.channels.buckets import OwnBucket
from tests.waiting import PATIENCE_S

HOST = "127.0.0.1"
USER, PASSWORD = "ada@relay", "p:ss/wörd"


@dataclass
class Seen:
    """One message that arrived whole."""

    sender: str
    to: str
    raw: bytes

    @property
    def parsed(self) -> EmailMessage:
        return BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(self.raw)

    def part(self, kind: str) -> str:
        body = self.parsed.get_body((kind,))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


@dataclass
class Asked:
    """A recipient that mail was offered for; the message id where the content came."""

    address: str
    message_id: str | None = None
    refused: bool = False


@dataclass
class Script:
    """How the relay behaves. An answer of None is what it says when all is well; ``drop`` and ``hang`` are no answers.

    Attributes:
        mail, rcpt, content: Answers to MAIL, RCPT and the final dot.
        close_after: Messages on a connection after which it says 421 or, with ``rudely``, nothing.
    """

    mail: str | None = None
    rcpt: str | None = None
    content: str | None = None
    close_after: int | None = None
    rudely: bool = False


@dataclass
class Relay:
    """The relay: what it does next, and what it saw."""

    script: Script = field(default_factory=Script)
    seen: list[Seen] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    logins: int = 0
    open: set[Any] = field(default_factory=set)
    port: int = 0
    ca: Path = Path()

    def url(self, scheme: str = "smtp", user: str = f"{USER.replace('@', '%40')}:p%3Ass%2Fw%C3%B6rd@") -> str:
        return f"{scheme}://{user}{HOST}:{self.port}"

    async def _end(self, server: Any, how: str) -> None:
        if how == "drop":
            server.transport.abort()
        await asyncio.Event().wait()

    async def _answered(self, server: Any, answer: str | None, good: str) -> str:
        if answer in ("drop", "hang"):
            await self._end(server, answer)
        if (answer or "").startswith("421") or (answer or "").endswith("goodbye"):
            asyncio.get_running_loop().call_soon(server.transport.close)
        return answer or good

    async def handle_EHLO(
        self, server: Any, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if server not in self.open:
            self.open.add(server)
            self.connections += 1
            server.messages = 0
        return responses

    async def handle_MAIL(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.script.close_after is not None and server.messages >= self.script.close_after:
            await self._answered(server, "drop" if self.script.rudely else "421 4.3.2 enough", "")
            return "421 4.3.2 enough"
        answer = await self._answered(server, self.script.mail, "250 2.1.0 OK")
        if answer.startswith("250"):
            envelope.mail_from, envelope.mail_options = address, options
        return answer

    async def handle_RCPT(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        server.asked = Asked(address)
        self.asked.append(server.asked)
        answer = await self._answered(server, self.script.rcpt, "250 2.1.5 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        else:
            server.asked.refused = True
        return answer

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        server.messages += 1
        seen = Seen(envelope.mail_from or "", envelope.rcpt_tos[0], envelope.original_content or b"")
        self.seen.append(seen)
        server.asked.message_id = seen.parsed["Message-ID"]
        return await self._answered(server, self.script.content, f"250 2.0.0 Ok: queued as Q{len(self.seen)}")

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins += 1
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)


Make = Callable[[Relay, ssl.SSLContext], SMTP]


def with_starttls(relay: Relay, tls: ssl.SSLContext) -> SMTP:
    """What most relays are: STARTTLS, and authentication once it is encrypted."""
    return SMTP(
        relay,
        hostname=HOST,
        tls_context=tls,
        require_starttls=True,
        auth_required=True,
        authenticator=relay.login,
    )


def plain(relay: Relay, tls: ssl.SSLContext) -> SMTP:
    """A relay inside somebody's own network."""
    return SMTP(relay, hostname=HOST)


def small(relay: Relay, tls: ssl.SSLContext) -> SMTP:
    """One that takes short messages only."""
    return SMTP(relay, hostname=HOST, data_size_limit=5_000)


@asynccontextmanager
async def running(folder: Path, make: Make = with_starttls, implicit: bool = False) -> AsyncIterator[Relay]:
    """Run a relay on a port of its own."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # every command, addresses and all
    tls = credentials.server_tls(folder, datetime.now(UTC))
    relay = Relay(ca=folder / "ca.pem")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: make(relay, tls), HOST, 0, ssl=tls if implicit else None)
    relay.port = server.sockets[0].getsockname()[1]
    yield relay
    server.close()
    for conversation in relay.open:
        if conversation.transport is not None:
            conversation.transport.abort()
    await asyncio.sleep(0)


LETTERHEAD = Letterhead("news@example.org", "The Daily", "https://notify.example.org", b"u" * 32, b"o" * 32)


def utc_now() -> datetime:
    return datetime.now(UTC)


def sender_over(
    relay: Relay, url: str = "", at_once: int = 8, timeout_s: float = PATIENCE_S
) -> tuple[EachSender[Mail], Gate, Pool]:
    """Return an e-mail channel to the relay, its gate and its connections."""
    pool = Pool(Target.of_url(url or relay.url(), relay.ca, timeout_s, timeout_s))
    gate = Gate(OwnBucket(), Limits(None), utc_now)
    return EachSender(EmailCarrier(pool, LETTERHEAD, utc_now), gate, utc_now, at_once), gate, pool

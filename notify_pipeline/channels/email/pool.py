"""Connections to a relay: opened when they are needed, used for message after message, closed when idle.

Belongs here: the conversation of RFC 5321 and the life of connections. Does not belong here: what a message says
(``message``), what an answer means (``answers``).

Opening one costs a TCP and a TLS handshake, EHLO twice and a login: five round trips and more, of which a message
itself takes four. A relay may close a connection whenever it likes, after so many messages or so long (RFC 5321 section
3.8): then nothing was begun on it, and the message goes over another one.
"""

import asyncio
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from notify_pipeline.channels.base import CredentialsRejected
from notify_pipeline.channels.each import NoAnswer, NotCalled
from notify_pipeline.channels.email.answers import Answer, Stage
from notify_pipeline.channels.email.relay import Relay, Tls

if TYPE_CHECKING:
    from aiosmtplib import SMTP

# Relays close what is idle for five minutes (RFC 5321 section 4.5.3.2.7), many earlier: Amazon SES after some ten
# seconds. Who has mail has it by then.
IDLE_S = 10.0
# A relay that was not there, or did not know us, is not asked again for each recipient of a send.
_DOWN_S = 1.0
_STRANGER_S = 10.0
_QUIT_S = 1.0
_DOT = re.compile(rb"(?m)^\.")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.\-]")
_SERVICE_CLOSING = 421
_START_CONTENT = 354


class Lost(Exception):
    """The connection ended, or said nothing for too long, before the message's content left."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


class Pool:
    """The connections of one process to one relay. As many as calls are under way; use it in one event loop."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._idle: list[tuple[SMTP, float]] = []
        self._tls: asyncio.Task[ssl.SSLContext] | None = None
        self._failed: tuple[float, Exception] | None = None
        self._reaping: asyncio.TimerHandle | None = None
        self._closed = False
        self.opened = 0

    async def deliver(self, sender: str, to: str, raw: bytes) -> Answer:
        """Hand one message to the relay.

        Args:
            sender: Where bounces go.
            to: One address.
            raw: The message, lines ended by CRLF.

        Raises:
            NotCalled, NoAnswer, CredentialsRejected: See ``Carrier.call``.
        """
        used = self._take()
        if used is not None:
            try:
                answer = await self._converse(used, sender, to, raw)
            except Lost as lost:
                if lost.stage is not Stage.MAIL:
                    raise NotCalled(lost.reason) from None
            else:
                if answer.stage is not Stage.MAIL or answer.code != _SERVICE_CLOSING:
                    return answer
        try:
            return await self._converse(await self._open(), sender, to, raw)
        except Lost as lost:
            raise NotCalled(lost.reason) from None

    async def aclose(self) -> None:
        """Say goodbye on idle connections."""
        self._closed = True
        if self._reaping is not None:
            self._reaping.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_quit(link) for link, _ in idle))

    def _take(self) -> "SMTP | None":
        """Return the connection that was used last, if any is fresh; those are the likeliest to be open still."""
        while self._idle:
            link, since = self._idle.pop()
            if link.is_connected and time.monotonic() - since < IDLE_S:
                return link
            link.close()
        return None

    def _keep(self, link: "SMTP") -> None:
        if self._closed or not link.is_connected:
            link.close()
            return
        self._idle.append((link, time.monotonic()))
        if self._reaping is None:
            self._reaping = asyncio.get_running_loop().call_later(IDLE_S, self._reap)

    def _reap(self) -> None:
        now, kept = time.monotonic(), self._idle
        self._idle = [(link, since) for link, since in kept if now - since < IDLE_S]
        for link, since in kept:
            if now - since >= IDLE_S:
                link.close()
        again = bool(self._idle) and not self._closed
        self._reaping = asyncio.get_running_loop().call_later(IDLE_S, self._reap) if again else None

    async def _open(self) -> "SMTP":
        if self._failed is not None:
            until, error = self._failed
            if time.monotonic() < until:
                raise error.with_traceback(None)  # or it would grow with every caller
        try:
            link = await self._connected()
        except asyncio.CancelledError:
            raise NotCalled("cancelled") from None
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing was sent
            problem = _problem(error)
            wait_s = _STRANGER_S if isinstance(problem, CredentialsRejected) else _DOWN_S
            self._failed = (time.monotonic() + wait_s, problem)
            raise problem from None
        self._failed = None
        self.opened += 1
        return link

    async def _connected(self) -> "SMTP":
        import aiosmtplib

        relay = self._relay
        link = aiosmtplib.SMTP(
            hostname=relay.host,
            port=relay.port,
            username=relay.username,
            password=relay.password,
            timeout=relay.timeout_s,
            use_tls=relay.tls is Tls.IMPLICIT,
            start_tls={Tls.REQUIRED: True, Tls.OFFERED: None}.get(relay.tls, False),
            tls_context=None if relay.tls is Tls.NEVER else await self._context(),
            local_hostname=_local_name(),
        )
        try:
            await link.connect()
            if link.is_ehlo_or_helo_needed:  # after STARTTLS too, where nobody logs in (RFC 3207 section 4.2)
                await link.ehlo()
        except BaseException:
            link.close()
            raise
        return link

    async def _context(self) -> ssl.SSLContext:
        # Reading a CA bundle takes 20 ms: once, in a thread.
        if self._tls is None:
            ca = None if self._relay.ca is None else str(self._relay.ca)
            self._tls = asyncio.create_task(asyncio.to_thread(ssl.create_default_context, cafile=ca))
        return await asyncio.shield(self._tls)

    async def _converse(self, link: "SMTP", sender: str, to: str, raw: bytes) -> Answer:
        """Send one message over a connection, and keep it for the next, or close it.

        Raises:
            Lost, NoAnswer, NotCalled: There was no answer.
        """
        try:
            answer = await self._envelope(link, sender, to, len(raw))
            if answer is None:
                answer = await self._content(link, raw)
        except BaseException:
            link.close()
            raise
        if answer.code == _SERVICE_CLOSING or not await _is_reset(link, answer):
            link.close()
        else:
            self._keep(link)
        return answer

    async def _envelope(self, link: "SMTP", sender: str, to: str, size: int) -> Answer | None:
        """Say whom it is from and for; return the answer that ends it there, None where the content may come."""
        mail = [b"MAIL", f"FROM:<{sender}>".encode()]
        if link.supports_extension("size"):
            mail.append(b"SIZE=%d" % size)  # RFC 1870
        for stage, words in ((Stage.MAIL, mail), (Stage.RCPT, [b"RCPT", f"TO:<{to}>".encode()])):
            answer = await _command(link, stage, *words)
            if not 200 <= answer.code < 300:
                return answer
        answer = await _command(link, Stage.DATA, b"DATA")
        return None if answer.code == _START_CONTENT else answer

    async def _content(self, link: "SMTP", raw: bytes) -> Answer:
        """Send the content; from its final dot on the relay may have the message, whatever it says or does not say."""
        from aiosmtplib import SMTPException

        protocol = link.protocol
        if protocol is None:
            raise Lost(Stage.DATA, "connection_lost")
        try:
            # RFC 5321 section 4.5.2: a line that begins with a dot gets another one.
            protocol.write(_DOT.sub(b"..", raw) + b".\r\n")
        except SMTPException:
            raise Lost(Stage.DATA, "connection_lost") from None
        try:
            code, text = await protocol.read_response(timeout=self._relay.answer_timeout_s)
        except TimeoutError:
            raise NoAnswer("timeout") from None
        except (SMTPException, OSError):
            raise NoAnswer("connection_lost") from None
        return Answer(Stage.CONTENT, code, text)


async def _command(link: "SMTP", stage: Stage, *words: bytes) -> Answer:
    from aiosmtplib import SMTPException

    try:
        return Answer(stage, *await link.execute_command(*words))
    except asyncio.CancelledError:
        raise NotCalled("cancelled") from None
    except TimeoutError:
        raise Lost(stage, "timeout") from None
    except (SMTPException, OSError):
        raise Lost(stage, "connection_lost") from None


async def _is_reset(link: "SMTP", answer: Answer) -> bool:
    """Tell whether the next message can begin on a connection; a refusal may have been its last word."""
    if answer.stage in (Stage.MAIL, Stage.CONTENT):
        return True
    try:
        # RFC 5321 section 4.1.1.5: what the refused message had begun is over.
        return (await _command(link, answer.stage, b"RSET")).code < 300
    except (Lost, NotCalled):
        return False


async def _quit(link: "SMTP") -> None:
    with suppress(Exception):
        async with asyncio.timeout(_QUIT_S):
            await link.quit()
    link.close()


def _problem(error: Exception) -> NotCalled | CredentialsRejected:
    """Say in few words why there is no connection; what the relay said may hold anything, and is left out."""
    import aiosmtplib

    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and 500 <= error.code < 600:
        return CredentialsRejected(str(error.code), "the relay does not take our user name and password")
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return NotCalled(f"smtp_{error.code}", "the relay does not talk to us")
    if isinstance(error, TimeoutError):
        return NotCalled("timeout", "while connecting")
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return NotCalled("tls", "no encrypted connection; is the relay's certificate signed by a CA that we know?")
    if isinstance(error, OSError):
        return NotCalled("unreachable", "the relay cannot be reached")
    # What is left is a relay without STARTTLS or AUTH where the settings ask for it.
    return CredentialsRejected("not_offered", "the relay offers no STARTTLS or no authentication that we know")


def _local_name() -> str:
    """Return how we introduce ourselves: this host's name, without asking DNS, which could take seconds."""
    return _NOT_IN_NAMES.sub("-", socket.gethostname()).strip("-.") or "localhost"

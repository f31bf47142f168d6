"""SMS for the outcomes suite: a real HTTP server that speaks as Twilio or as Amazon SNS, and answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import orjson
from aiohttp import web

from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.sms.message import SmsMessage
from notify_pipeline.channels.sms.sns import THROTTLE_S, SnsCarrier, Target
from notify_pipeline.channels.sms.twilio import Account, TwilioCarrier
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.records import Content
from notify_pipeline.core.vocabulary import Channel, Platform
from tests.channels.buckets import OwnBucket
from tests.channels.harness import utc_now
from tests.channels.outcomes import Case, Harness
from tests.waiting import PATIENCE_S

AT_ONCE = 32
SID, TOKEN, SENDER = "AC" + "0" * 32, "s3cret", "+15005550006"
STATUS_URL = "https://notify.example/sms/status/twilio"

Answering = Callable[[Mapping[str, str]], web.Response | None]


@dataclass
class Seen:
    """A request as the server got it."""

    path: str
    headers: Mapping[str, str]
    form: dict[str, str]


@dataclass
class Server:
    """Answers every POST by ``answering``; None closes the connection once the request was read."""

    answering: Answering = lambda form: web.Response(status=500)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    hangs: bool = False
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.seen.append(Seen(request.path, dict(request.headers), form))
        if self.hangs:
            await self.let_go.wait()
        answer = None if self.hangs else self.answering(form)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


@asynccontextmanager
async def running_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.let_go.set()
        await runner.cleanup()


@dataclass
class SmsHarness:
    """A provider of SMS."""

    sender: EachSender[SmsMessage]
    gate: Gate
    server: Server
    answers: Mapping[Case, Answering]
    to: str
    throttled_s: float | None
    has_marks: bool

    platform = Platform.SMS
    gives_ids = True
    oversized = Content("Title", "x" * 1_600)

    def address(self, number: int) -> str:
        return f"+447700900{number:03d}"

    def answer(self, case: Case) -> None:
        # Who hung is cut off, so that it holds up nobody who comes now.
        self.server.let_go.set()
        self.server.hangs = False
        self.server.answering = self.answers[case]

    def hang(self) -> None:
        self.server.let_go = asyncio.Event()
        self.server.hangs = True

    @property
    def called(self) -> list[str]:
        return [seen.form[self.to] for seen in self.server.seen]

    @property
    def marks(self) -> list[str] | None:
        if not self.has_marks:
            return None
        queries = [parse_qs(urlsplit(seen.form["StatusCallback"]).query) for seen in self.server.seen]
        return [query["d"][0] for query in queries]


def _gate() -> Gate:
    return Gate(OwnBucket(), Limits(None), utc_now)


def _twilio_says(status: int, headers: Mapping[str, str] | None = None, **body: object) -> Answering:
    return lambda form: web.Response(
        status=status, body=orjson.dumps(body), headers=headers, content_type="application/json"
    )


TWILIO = {
    Case.ACCEPTED: _twilio_says(201, sid="SM" + "1" * 32),
    Case.THROTTLED: _twilio_says(429, {"Retry-After": "7"}, code=20429, message="Too Many Requests"),
    Case.TRANSIENT: _twilio_says(503, code=20503),
    Case.PERMANENT: _twilio_says(400, code=21408, message="not enabled for the region"),
    Case.INVALID_RECIPIENT: _twilio_says(400, code=21614, message="'To' number is not a valid mobile number"),
    Case.AMBIGUOUS: lambda form: None,
}


@asynccontextmanager
async def open_twilio(folder: Path) -> AsyncIterator[Harness]:
    async with running_server() as server:
        account = Account(server.url, SID, TOKEN, SENDER, STATUS_URL)
        carrier = TwilioCarrier(account, utc_now, at_once=AT_ONCE, timeout_s=PATIENCE_S, most_segments=10)
        gate = _gate()
        sender = EachSender[SmsMessage](carrier, gate, utc_now, AT_ONCE)
        try:
            yield SmsHarness(sender, gate, server, TWILIO, "To", 7.0, has_marks=True)
        finally:
            server.let_go.set()
            await sender.aclose()


def _sns_says(status: int, code: str = "", message: str = "") -> Answering:
    if status == 200:
        body = "<PublishResult><MessageId>m-1</MessageId></PublishResult><ResponseMetadata/>"
        text = f'<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">{body}</PublishResponse>'
    else:
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return lambda form: web.Response(status=status, text=text, content_type="text/xml")


SNS = {
    Case.ACCEPTED: _sns_says(200),
    Case.THROTTLED: _sns_says(400, "Throttling", "Rate exceeded"),
    Case.TRANSIENT: _sns_says(500, "InternalError"),
    Case.PERMANENT: _sns_says(400, "InvalidParameter", "Invalid parameter: Message too long"),
    Case.INVALID_RECIPIENT: _sns_says(400, "InvalidParameter", "Invalid parameter: PhoneNumber Reason: not valid"),
    Case.AMBIGUOUS: lambda form: None,
}
_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@asynccontextmanager
async def open_sns(folder: Path) -> AsyncIterator[Harness]:
    async with running_server() as server:
        with mock.patch.dict("os.environ", _KEYS):
            target = Target("eu-west-1", server.url)
            carrier = SnsCarrier(target, at_once=AT_ONCE, timeout_s=PATIENCE_S, most_segments=10)
            gate = _gate()
            sender = EachSender[SmsMessage](carrier, gate, utc_now, AT_ONCE)
            try:
                yield SmsHarness(sender, gate, server, SNS, "PhoneNumber", THROTTLE_S, has_marks=False)
            finally:
                server.let_go.set()
                await sender.aclose()


HARNESSES = {"twilio": (Channel.SMS, open_twilio), "sns": (Channel.SMS, open_sns)}

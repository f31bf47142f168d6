"""A stand-in for Twilio, and the phones behind it.

Belongs here: deciding on one message, keeping it to be read, and what phones do: they get it, or reply STOP. Does not
belong here: the form and the words (``sms_requests``), posting (``sms_posts``).

``POST /sms/2010-04-01/Accounts/{sid}/Messages.json`` takes a message. ``GET /sms/messages?to=`` shows the last ones,
newest first. ``POST /sms/reply`` {"from", "body", "url"?} is a phone's reply: it is posted, signed, to ``url``, by
default to whoever sent this phone its last message, and STOP and START are kept as Twilio does.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson

from notify_pipeline.core.sms_keywords import Wish, wish_of
from notify_pipeline.sandbox import sms_requests
from notify_pipeline.sandbox.faults import Fault
from notify_pipeline.sandbox.http1 import HttpRequest, NoAnswer, Response
from notify_pipeline.sandbox.quota import Quota
from notify_pipeline.sandbox.sms_posts import Posts
from notify_pipeline.sandbox.sms_requests import ACCOUNT_SID, NUMBER, Submitted, refusal

if TYPE_CHECKING:
    from notify_pipeline.sandbox.parts import Surroundings

# Some 5 MB. The truth's log has all.
_KEPT = 10_000
_SHOWN = 100
_STOP_S = 5.0
_STATUS_PATH = "/sms/status/twilio"
_INBOUND_PATH = "/sms/inbound/twilio"
_TOKEN_FILE = "sms-token"  # noqa: S105 - a file's name


class Sms:
    """A ``Part``."""

    name = "sms"
    prefix = "/sms/"

    def __init__(self, around: "Surroundings") -> None:
        self._around = around
        self._counts: Counter[str] = Counter()
        self._quota = Quota()
        self._messages: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._callbacks: dict[str, str] = {}  # of each phone's last message
        self._stopped: set[str] = set()

    async def start(self) -> dict[str, str]:
        """See ``Part``."""
        path = self._token_file()
        self._token = path.read_text()
        self._posts = Posts(self._token)
        return {
            "sms_url": f"{self._around.url}/sms",
            "sms_account_sid": ACCOUNT_SID,
            "sms_auth_token": str(path),
            "sms_from": NUMBER,
        }

    async def stop(self) -> None:
        """See ``Part``."""
        await self._posts.stop(_STOP_S)

    @property
    def ports(self) -> Mapping[str, int]:
        """See ``Part``: it listens where the control API does."""
        return {}

    @property
    def stats(self) -> Mapping[str, Any]:
        """See ``Part``."""
        return {**self._counts, "posts": dict(self._posts.counts), "stopped": len(self._stopped)}

    def handle(self, request: HttpRequest) -> Response | Awaitable[Response]:
        """See ``Part``."""
        if request.path == "/sms/messages" and request.method == "GET":
            return self._shown(request)
        if request.path == "/sms/reply" and request.method == "POST":
            return self._reply(request)
        if request.method != "POST":
            return refusal(405, 20004, "Method not allowed")
        return self._message(request)

    def _message(self, request: HttpRequest) -> Response | Awaitable[Response]:
        now = self._around.clock()
        read = sms_requests.read(request, self._token)
        if isinstance(read, Response):
            self._record(None, read, None, None, now)
            return read
        fault, answer = self._decided(read, now)
        processed = answer.status == 201 if answer else fault is Fault.RESET_AFTER_PROCESSING
        sid = self._accept(read, answer, now) if processed else None
        how = None if answer else "hang" if fault is Fault.HANG else "reset"
        self._record(read, answer, sid, how, now)
        latency_s = self._around.book.latency_s(self._around.book.current.sms)
        return answer if answer and not latency_s else _later(answer, latency_s, hangs=fault is Fault.HANG)

    def _decided(self, message: Submitted, now: datetime) -> tuple[Fault | None, Response | None]:
        """Return what befalls a good request, and its answer; None where it gets none."""
        book = self._around.book
        rates = book.current.sms
        if rates.quota is not None and (left_s := self._quota.back_in(rates.quota, rates.quota_window_s, now)):
            return Fault.THROTTLED, _throttled(left_s)
        match fault := book.draw(rates):
            case Fault.HANG | Fault.RESET | Fault.RESET_AFTER_PROCESSING:
                return fault, None
            case Fault.THROTTLED:
                return fault, _throttled(rates.retry_after_s)
            case Fault.UNAVAILABLE:
                return fault, refusal(503, 20503, "Service unavailable")
            case Fault.INTERNAL:
                return fault, refusal(500, 20500, "Internal server error")
        if message.to in self._stopped:
            return None, refusal(400, 21610, "Attempt to send to unsubscribed recipient")
        if book.is_dead(rates, message.to):
            return None, refusal(400, 21614, "'To' number is not a valid mobile number")
        made = sms_requests.created(message, messaging=message.sender.startswith("MG"))
        return None, Response(201, orjson.dumps(made))

    def _accept(self, message: Submitted, answer: Response | None, now: datetime) -> str:
        """Let the phone get a message."""
        made = sms_requests.created(message, messaging=False) if answer is None else orjson.loads(answer.body)
        self._messages.appendleft({"time": now, **made, "d": message.known.get("d")})
        rates, book = self._around.book.current.sms, self._around.book
        if message.callback is not None:
            self._callbacks[message.to] = message.callback
            lost = rates.undelivered > 0 and book.share(message.to, "undelivered") < rates.undelivered
            status = {"MessageStatus": "undelivered", "ErrorCode": "30005"} if lost else {"MessageStatus": "delivered"}
            numbers = {"To": message.to, "From": message.sender, "AccountSid": ACCOUNT_SID}
            self._posts.add(message.callback, {"MessageSid": str(made["sid"]), **numbers, **status})
        return str(made["sid"])

    async def _reply(self, request: HttpRequest) -> Response:
        try:
            asked = orjson.loads(request.body)
            number, body, url = str(asked["from"]), str(asked["body"]), asked.get("url")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return refusal(422, 20001, 'Send {"from": "+…", "body": "STOP"}')
        if url is None and (callback := self._callbacks.get(number)) is not None:
            parts = urlsplit(callback)
            url = parts._replace(path=parts.path.partition(_STATUS_PATH)[0] + _INBOUND_PATH, query="").geturl()
        if url is None:
            return refusal(404, 20404, f"{number} has had no message to reply to")
        if (wish := wish_of(body)) is not None:
            (self._stopped.add if wish is Wish.STOP else self._stopped.discard)(number)
        form = {
            "MessageSid": f"SM{secrets.token_hex(16)}",
            "AccountSid": ACCOUNT_SID,
            "From": number,
            "To": NUMBER,
            "Body": body,
            "NumSegments": "1",
        }
        return Response(body=orjson.dumps({"status": await self._posts.post(str(url), form)}))

    def _shown(self, request: HttpRequest) -> Response:
        to = parse_qs(request.query).get("to", [None])[0]
        found = [each for each in self._messages if to is None or each["to"] == to][:_SHOWN]
        return Response(body=orjson.dumps({"items": found}, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))

    def _record(
        self, message: Submitted | None, answer: Response | None, sid: str | None, how: str | None, now: datetime
    ) -> None:
        """Write the truth's line: ``GET /log`` in ``control`` tells what it means."""
        outcome = str(answer.status) if answer else str(how)
        self._counts[outcome] += 1
        self._around.log.append(
            {
                "n": 0,
                "time": now,
                "channel": self.name,
                "recipient": message and message.to,
                "notification_id": message and message.known.get("notificationId"),
                "d": message and message.known.get("d"),
                "status": answer.status if answer else None,
                "answer": orjson.Fragment(answer.body) if answer else outcome,
                "message_id": sid,
                "how": how,
                "processed": sid is not None,
                "dry_run": False,
                "collapse_id": None,
                "headers": {},
                "body": message and {"To": message.to, "From": message.sender, "Body": message.body},
            }
        )
        self._around.log.commit()

    def _token_file(self) -> Path:
        """Return where the auth token is kept: clients outlive the sandbox."""
        path = self._around.home / "keys" / _TOKEN_FILE
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16))
        return path


def _throttled(retry_after_s: int | None) -> Response:
    answer = refusal(429, 20429, "Too Many Requests")
    if retry_after_s is not None:
        answer.headers["Retry-After"] = str(retry_after_s)
    return answer


async def _later(answer: Response | None, latency_s: float, *, hangs: bool) -> Response:
    """Answer after a while, or never."""
    if hangs:
        await asyncio.Event().wait()  # until the client goes
    await asyncio.sleep(latency_s)
    if answer is None:
        raise NoAnswer
    return answer

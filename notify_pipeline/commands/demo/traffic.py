"""The demo's product team: everything it does to the system, over HTTP only.

Belongs here: an HTTP client as a user would write one, and the scripted traffic. Does not belong here: judging the
answers' figures (``reconcile``), starting or stopping the system (``run``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson
import urllib3

TOPIC = "breaking/uk"
# As many connections as a busy gateway would hold open; the ingress group-commits what arrives together.
_CONNECTIONS = 32
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON body (None when there is none) and headers of one HTTP answer."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """A JSON client for one base URL and one key."""

    def __init__(self, base: str, key: str | None = None) -> None:
        self._base = base.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False, timeout=_TIMEOUT_S)

    def call(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request; any status is an answer. Raises urllib3's errors when there is none."""
        raw = None if body is None else orjson.dumps(body)
        response = self._pool.request(method, self._base + path, body=raw, headers={**self._headers, **(headers or {})})
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return Answer(response.status, orjson.loads(response.data) if is_json else None, response.headers)

    def expect(self, status: int, method: str, path: str, body: object = None) -> Any:
        """Send one request and return its body; any other status is an error that says what came instead."""
        answer = self.call(method, path, body)
        if answer.status != status:
            raise UnexpectedAnswerError(f"{method} {path}: {answer.status} instead of {status}: {answer.body}")
        return answer.body

    def text(self, path: str) -> str:
        """Return an answer's body as text, whatever its status."""
        response = self._pool.request("GET", self._base + path, headers=self._headers)
        return response.data.decode()

    def lines(self, path: str) -> Iterator[Any]:
        """Stream an NDJSON answer, one parsed line at a time."""
        response = self._pool.request("GET", self._base + path, headers=self._headers, preload_content=False)
        rest = b""
        for block in response.stream(1 << 20):
            *whole, rest = (rest + block).split(b"\n")
            yield from (orjson.loads(line) for line in whole if line)
        if rest:
            yield orjson.loads(rest)


class UnexpectedAnswerError(Exception):
    """The system answered something else than the demo's script expects."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that registers."""

    token: str
    platform: str
    user_id: str

    def registration(self) -> dict[str, object]:
        """Return the body of its POST /devices."""
        return {
            "token": self.token,
            "platform": self.platform,
            "user_id": self.user_id,
            "topics": [TOPIC],
            "app_version": "1.0.0",
            "locale": "en-GB",
            "timezone": "Europe/London",
        }


def devices(count: int) -> list[Device]:
    """Return that many devices, half of them Android and half iOS; each user has one of both."""
    made = []
    for n in range(count):
        user = f"user-{n // 2}"
        if n % 2 == 0:
            made.append(Device(f"demo{n:08d}:APA91b{n:0128x}", "android", user))
        else:
            made.append(Device(f"{n:064x}", "ios", user))
    return made


def register_all(api: Api, what: Sequence[Device], progress: Callable[[], None]) -> None:
    """Register every device over HTTP, several at a time, calling ``progress`` after each."""

    def one(device: Device) -> None:
        api.expect(201, "POST", "/devices", device.registration())
        progress()

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in pool.map(one, what):
            pass


def broadcast_body(notification_id: str, title: str = "Parliament dissolved") -> dict[str, object]:
    """Return the body of the demo's broadcast."""
    return {
        "id": notification_id,
        "type": "news",
        "topics": [TOPIC],
        "priority": "high",
        "ttl": 3600,
        "content": {
            "title": title,
            "body": "A general election will be held in six weeks.",
            "link": "https://example.com/1",
        },
    }


def single_body(notification_id: str, user: str) -> dict[str, object]:
    """Return the body of a send to one user."""
    return {
        "id": notification_id,
        "type": "message",
        "users": [user],
        "priority": "high",
        "content": {"title": "You have a reply", "body": "Someone answered your comment."},
    }

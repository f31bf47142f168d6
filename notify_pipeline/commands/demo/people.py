"""One person on every channel: a phone of each kind, a mailbox, a number, an open app, an inbox; and what they get.

Belongs here: making that person known, what happens to them, and where it arrived how often. Does not belong here: the
traffic of many devices (``traffic``), the verdict (``run``), tables (``show``).
"""

import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson

from notify_pipeline.commands.demo.traffic import Api, Device

OWNER, LIKER, LOOK = "ada", "ben", "look-1"
PHONES = (
    Device("ada-phone:APA91b" + "0" * 128, "android", OWNER),
    Device(f"{0xADA:064x}", "ios", OWNER),
)
_PROFILE = {
    "email": "ada@example.com",
    "phone": "+447700900123",
    "locale": "en-GB",
    "timezone": "Europe/London",
    "attributes": {"name": "Ada", "image_url": "https://img.example.com/ada.jpg"},
}
# Where things arrive: channels, as the sandbox's log and tables name them.
PLACES = ("fcm", "apns", "email", "sms", "websocket", "inbox")


_GREETED_S, _ARRIVED_S = 10.0, 60.0
# What is sent twice comes at once with the first.
_TOO_MUCH_S = 0.5


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens, the type of the send that comes of it, and the title that it has in the inbox."""

    name: str
    type: str
    title: str


HAPPENINGS = (
    Happening("a like", "like", "Someone liked your look!"),
    Happening("an order", "order.shipped", "Order 1042 is on its way"),
)
_LOOK = {
    "owner_id": OWNER,
    "image_url": "https://img.example.com/look-1.jpg",
    "deep_link": "https://example.com/looks/1",
}
# Likes have a route of their own from the start.
_ORDERS = {
    "match": {"source": "orders", "type": "order.*"},
    "category": "orders",
    "content": {"title": "Order {{ detail.order.id }} is on its way", "body": "It comes tomorrow."},
    "channels": list(PLACES),
    "priority": "high",
}


class WebSocketClient:
    """An app that is open: connected to the gateway for as long as the with block, keeping what it is told."""

    def __init__(self, url: str, token: str, cursor: int | None = None) -> None:
        """Connect nothing yet; with a cursor, what came after it is told first."""
        self._url = f"{url}?token={token}" + ("" if cursor is None else f"&cursor={cursor}")
        self._open = ExitStack()
        self.told: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        # At first use: the demo's other parts do without.
        from websockets.sync.client import connect

        self._connection = self._open.enter_context(connect(self._url))
        self.told.append(orjson.loads(self._connection.recv(timeout=_GREETED_S)))
        reader = threading.Thread(target=self._read, name="websocket-client", daemon=True)
        reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed):
            while True:
                self.told.append(orjson.loads(self._connection.recv()))


@dataclass(frozen=True)
class Meeting:
    """Where everything arrived, and how often, by happening and place."""

    arrived: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def is_complete(self) -> bool:
        """True when everything arrived everywhere."""
        return all(self.arrived[each.name, place] for each in HAPPENINGS for place in PLACES)

    @property
    def is_exact(self) -> bool:
        """True when everything arrived everywhere, and once."""
        return all(self.arrived[each.name, place] == 1 for each in HAPPENINGS for place in PLACES)


def gather(api: Api, sandbox: Api, gateway: str) -> Meeting:
    """Have a like and an order happen to a person who is on every channel; return where they arrived.

    Args:
        api: With a secret key.
        sandbox: The stand-ins' control API.
        gateway: Where clients connect.
    """
    token = meet(api)
    with WebSocketClient(gateway, token) as client:
        for _ in range(2):  # as a nervous client would: nothing comes of the second
            happen(api)
        return wait(api, sandbox, client)


def meet(api: Api) -> str:
    """Make the person known on every channel, and say what is sent because of orders; return their user token."""
    api.expect(200, "PUT", f"/users/{OWNER}", _PROFILE)
    api.expect(200, "PUT", f"/users/{LIKER}", {"attributes": {"image_url": "https://img.example.com/ben.jpg"}})
    for phone in PHONES:
        # Of no topic: the broadcast is not for them.
        api.expect(201, "POST", "/devices", {**phone.registration(), "topics": []})
    api.expect(200, "PUT", f"/looks/{LOOK}", _LOOK)
    api.expect(200, "PUT", "/routes/orders", _ORDERS)
    return str(api.expect(201, "POST", f"/users/{OWNER}/token", {"ttl": 3600})["token"])


def happen(api: Api) -> None:
    """Tell of one like and one order."""
    api.expect(202, "POST", "/likes", {"look_id": LOOK, "customer_id": LIKER})
    order = {"source": "orders", "type": "order.shipped", "id": "order-1042", "detail": {"order": {"id": 1042}}}
    api.expect(202, "POST", "/events", {**order, "recipients": [OWNER]})


def wait(api: Api, sandbox: Api, client: WebSocketClient) -> Meeting:
    """Wait until everything is everywhere, or time is up, and a moment longer for what should not come."""
    deadline = time.monotonic() + _ARRIVED_S
    while not (meeting := look(api, sandbox, client)).is_complete and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(_TOO_MUCH_S)
    return look(api, sandbox, client) if meeting.is_complete else meeting


def look(api: Api, sandbox: Api, client: WebSocketClient) -> Meeting:
    """Return where everything has arrived by now, as the stand-ins, the app and the inbox have it."""
    arrived: Counter[tuple[str, str]] = Counter()
    sends = {
        send["notification_id"]: each.name
        for each in HAPPENINGS
        for send in api.expect(200, "GET", f"/notifications?type={each.type}")["items"]
    }
    for line in sandbox.lines("/log?since=0"):
        if line["notification_id"] in sends and line["processed"]:
            arrived[sends[line["notification_id"]], line["channel"]] += 1
    for told in tuple(client.told):
        if told.get("type") == "notification" and told["notificationId"] in sends:
            arrived[sends[told["notificationId"]], "websocket"] += 1
    titles = {each.title: each.name for each in HAPPENINGS}
    for item in api.expect(200, "GET", f"/inbox/{OWNER}")["items"]:
        arrived[titles[item["content"]["title"]], "inbox"] += 1
    return Meeting(arrived)

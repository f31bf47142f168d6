"""What every client sends.

Belongs here: addresses, headers and bodies, alike for all clients. Does not belong here: a client, a
server (``servers``), time and memory (``meter``).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import jwt
import orjson

from notify_pipeline.channels.transport import Headers, Request

FCM, APNS = "fcm", "apns"
# What an app with a beacon gets for a usual piece of news: 700 bytes as JSON with FCM's token of 163 characters.
DATA = {
    "title": "Parliament dissolved",
    "body": "A general election will be held in six weeks, the prime minister said on Tuesday.",
    "link": "https://example.com/politics/2026/11/21/parliament-dissolved",
    "image": "https://images.example.com/politics/2026/11/21/5d0e8f/1200x630.jpg",
    "notification_id": "7f1c2a80-5a3c-4f4e-9b53-0f6f2f3d9a10",
    "receipt": "https://beacons.example.com/notification/received",
}
COLLAPSE_KEY = "politics-election"
TTL_S = 14_400
_TOKEN = "dQw4w9WgXcQ_0123456789:APA91b%0134d"


@dataclass(frozen=True)
class Target:
    """Where to send, and what the server there wants to see.

    Attributes:
        fcm_url: Scheme, host and port that play FCM.
        apns_url: The same for APNs.
        ca: What both certificates must chain to.
        project: The Firebase project.
        bearer: An access token for it.
        apns_key: The PEM file with which APNs' tokens are signed.
        key_id: Its id.
        team_id: Whose it is.
        topic: The app.
    """

    fcm_url: str
    apns_url: str
    ca: str
    project: str
    bearer: str
    apns_key: str
    key_id: str
    team_id: str
    topic: str

    def url(self, shape: str) -> str:
        """Return the address that plays this shape's provider."""
        return self.fcm_url if shape == FCM else self.apns_url


@dataclass(frozen=True)
class Job:
    """What one client's process has to do: warm up, then send ``count`` requests and measure."""

    client: str
    shape: str
    count: int
    warm_up: int
    in_flight: int
    target: Target

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``orjson.dumps`` made of a job."""
        fields = orjson.loads(text)
        return cls(**{**fields, "target": Target(**fields["target"])})


def fcm_token(number: int) -> str:
    """Return a registration token of usual length."""
    return _TOKEN % number


def apns_token(number: int) -> str:
    """Return a device token."""
    return f"{number:064x}"


def fcm_path(target: Target) -> str:
    """Return where FCM takes messages."""
    return f"/v1/projects/{target.project}/messages:send"


def fcm_template() -> bytes:
    """Return a request's body with a hole for its number."""
    android = {"collapse_key": COLLAPSE_KEY, "priority": "high", "ttl": f"{TTL_S}s"}
    return orjson.dumps({"message": {"token": _TOKEN, "data": DATA, "android": android}})


def apns_payload(delivery_id: str) -> dict[str, Any]:
    """Return what APNs passes to the device."""
    alert = {"title": DATA["title"], "body": DATA["body"]}
    extra = {key: DATA[key] for key in ("link", "image", "notification_id", "receipt")}
    return {"aps": {"alert": alert, "mutable-content": 1, "thread-id": "politics"}, "d": delivery_id, **extra}


@cache
def headers(shape: str, target: Target) -> Headers:
    """Return the headers that all requests of a shape share; the same at each call, as APNs takes few new tokens."""
    if shape == FCM:
        return (("authorization", f"Bearer {target.bearer}"), ("content-type", "application/json"))
    key = Path(target.apns_key).read_text()
    claims = {"iss": target.team_id, "iat": int(time.time())}
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": target.key_id})
    return (
        ("authorization", f"bearer {token}"),
        ("apns-topic", target.topic),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
        ("apns-expiration", str(int(time.time()) + TTL_S)),
        ("apns-collapse-id", COLLAPSE_KEY),
        ("content-type", "application/json"),
    )


def requests(shape: str, target: Target, count: int) -> Iterator[Request]:
    """Make each request when it is drawn, as a channel does: a template with the recipient's part spliced in."""
    shared = headers(shape, target)
    if shape == FCM:
        path, template = fcm_path(target), fcm_template()
        for number in range(count):
            yield Request(number, path, shared, template % number)
        return
    template = orjson.dumps(apns_payload("%022d"))
    for number in range(count):
        yield Request(number, f"/3/device/{number:064x}", shared, template % number)

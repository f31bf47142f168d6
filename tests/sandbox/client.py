"""A small HTTP/2 client for tests: one connection, blocking, and it shows how each stream ended."""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import jwt
import orjson
import requests

from tests.waiting import PATIENCE_S


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    data_frames: int = 0
    ended: bool = False
    reset: int | None = None  # the error code of RST_STREAM

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class _Patient(h2.connection.H2Connection):
    """h2 forbids everything after a GOAWAY; a client must take the answers that it still allows."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class Client:
    """Opens streams on one connection and reads until each has ended, was reset, or the connection is gone."""

    def __init__(self, url: str, ca: str, acknowledge: bool = True) -> None:
        host, port = url.removeprefix("https://").split(":")
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname=host)
        self.h2 = _Patient(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings.initial_window_size = 1 << 20
        self.acknowledge = acknowledge
        self.answers: dict[int, Answer] = {}
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.gone = False
        self.max_streams: list[int] = []
        self.h2.initiate_connection()
        self.flush()
        while not self.gone and self.h2.outbound_flow_control_window <= 65_535:
            self.read()  # the server's settings and its window

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def open(self, path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> int:
        """Queue a request; ``flush`` sends it."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        self.h2.send_headers(stream, [*head, *headers.items()], end_stream=not body)
        while body:
            chunk, body = body[:16_384], body[16_384:]
            self.h2.send_data(stream, chunk, end_stream=not body)
        self.answers[stream] = Answer()
        return stream

    def read(self) -> None:
        """Read once and take in what came."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            self.gone = True
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
            return
        if isinstance(event, h2.events.RemoteSettingsChanged):
            change = event.changed_settings.get(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS)
            if change is not None:
                self.max_streams.append(change.new_value)
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = dict(event.headers)  # type: ignore[arg-type]
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data or b""
            answer.data_frames += 1
            if self.acknowledge:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    def settle(self, *streams: int, seconds: float = PATIENCE_S) -> list[Answer]:
        """Read until these streams are over, one way or another."""
        deadline = time.monotonic() + seconds
        wanted = [self.answers[s] for s in streams]
        while not self.gone and not all(a.ended or a.reset is not None for a in wanted):
            assert time.monotonic() < deadline, f"no end of {streams}: {wanted}"
            self.read()
        return wanted

    def post(self, path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> Answer:
        stream = self.open(path, headers, body, method)
        self.flush()
        return self.settle(stream)[0]

    def wait_for_streams(self, limit: int) -> None:
        """Read until the server has announced this limit."""
        while limit not in self.max_streams:
            assert not self.gone
            self.read()


class Peer:
    """A running sandbox as a client sees it: only addresses and files."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.addresses = addresses
        self.url = addresses["control_url"]
        self._access: str | None = None
        self._provider: str | None = None

    def get(self, path: str) -> Any:
        answer = requests.get(self.url + path, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def lines(self, path: str) -> list[dict[str, Any]]:
        answer = requests.get(self.url + path, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.content.splitlines()]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Ask again and again."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} never came"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until all devices have called all their beacons."""
        self.wait_for("rest", lambda: self.get("/stats")["devices"]["pending"] == 0)

    def faults(self, **faults: Any) -> None:
        answer = requests.put(self.url + "/faults", json=faults, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text

    def fcm(self, **options: Any) -> Client:
        return Client(self.addresses["fcm_url"], self.addresses["ca"], **options)

    def apns(self, **options: Any) -> Client:
        return Client(self.addresses["apns_url"], self.addresses["ca"], **options)

    def assertion(self, **changes: Any) -> str:
        account = orjson.loads(Path(self.addresses["service_account"]).read_bytes())
        now = int(time.time())
        claims = {
            "iss": account["client_email"],
            "aud": account["token_uri"],
            "iat": now,
            "exp": now + 3600,
            "scope": "https://www.googleapis.com/auth/firebase.messaging",
            **changes,
        }
        return jwt.encode(claims, account["private_key"], algorithm="RS256")

    def token_answer(self, assertion: str, **fields: str) -> requests.Response:
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion, **fields}
        return requests.post(self.addresses["token_url"], data=form, timeout=PATIENCE_S)

    @property
    def fcm_headers(self) -> dict[str, str]:
        if self._access is None:
            self._access = self.token_answer(self.assertion()).json()["access_token"]
        return {"authorization": f"Bearer {self._access}", "content-type": "application/json"}

    @property
    def fcm_path(self) -> str:
        return f"/v1/projects/{self.addresses['fcm_project']}/messages:send"

    def provider_token(self, key: str | None = None, kid: str | None = None, **claims: Any) -> str:
        content = {"iss": self.addresses["apns_team_id"], "iat": int(time.time()), **claims}
        pem = key or Path(self.addresses["apns_key"]).read_text()
        return jwt.encode(content, pem, "ES256", headers={"kid": kid or self.addresses["apns_key_id"]})

    def apns_headers(self, **changes: str | None) -> dict[str, str]:
        if self._provider is None:
            self._provider = self.provider_token()
        headers: dict[str, str | None] = {
            "authorization": f"bearer {self._provider}",
            "apns-topic": self.addresses["apns_topic"],
            "apns-push-type": "alert",
            "apns-priority": "10",
            "apns-expiration": "0",
        }
        headers.update({name.replace("_", "-"): value for name, value in changes.items()})
        return {name: value for name, value in headers.items() if value is not None}


def fcm_message(token: str, d: str = "d1", notification_id: str = "n1", **more: Any) -> dict[str, Any]:
    return {
        "token": token,
        "notification": {"title": "Hello", "body": "World"},
        "data": {"notificationId": notification_id, "platform": "android", "provider": "fcm", "d": d},
        **more,
    }


def beacon_url(base: str, d: str, notification_id: str = "n1", platform: str = "android", provider: str = "fcm") -> str:
    query = f"notificationId={notification_id}&platform={platform}&provider={provider}&d={d}"
    return f"{base}/notification/received?{query}"

"""Channels whose providers hang take no thread from the others: two dozen calls of theirs do not stop the ledger's."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from notify_pipeline.channels.each import EachSender
from notify_pipeline.channels.rates import Gate
from notify_pipeline.channels.websocket.carrier import WebSocketCarrier
from notify_pipeline.channels.websocket.desk import Desk
from notify_pipeline.channels.websocket.posting import AwsPoster, OwnPoster
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import connections
from notify_pipeline.core.ledger.connections import FOREIGN, Held
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.rates import Limits
from notify_pipeline.core.sigv4 import Credentials
from notify_pipeline.core.vocabulary import Channel
from tests.channels.buckets import OwnBucket
from tests.channels.email.relay import Relay, sender_over
from tests.delivery.fakes import TENANT, FakeSender, accept, context
from tests.delivery.test_drain import drain_until, found, register

# More than there are threads for the ledger.
MANY, AT_LEAST = 40, 25
HANGS_S = 30.0
DEAD = "relay.hang.example"


class Lookups:
    """Name servers: those of one name are dead."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.back = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != DEAD:
            return self._real(host, *args, **kwargs)
        self.asked.release()
        self.back.wait(HANGS_S)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookups]:
    made = Lookups()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.back.set()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * MANY) as listening:
        listening.settimeout(10.0)
        yield listening


def through(silent: socket.socket, ledger: Ledger) -> EachSender[Any]:
    """Return WebSocket to an API Gateway that is silent."""
    own = OwnPoster(Credentials("a", "b", "c", "d"), utc_now, 1.0)
    carrier = WebSocketCarrier(Desk(ledger, utc_now), own, AwsPoster(HANGS_S), utc_now, "https://receipts.example")
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    held = [Held(TENANT, f"u{number}", f"c{number}", url, FOREIGN) for number in range(MANY)]
    connections.register(ledger, held, utc_now())
    return EachSender(carrier, Gate(OwnBucket(), Limits(None), utc_now), utc_now, MANY)


def test_what_hangs_in_names_and_in_calls_holds_up_nobody_else(
    sqlite_ledger: Ledger,
    folder_lake: Lake,
    lookups: Lookups,
    silent: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    ledger, push = sqlite_ledger, FakeSender(Channel.FCM)
    mail, _, _ = sender_over(Relay(), f"smtp://{DEAD}?starttls=never", MANY, HANGS_S)
    ctx = context(ledger, folder_lake, push, mail, through(silent, ledger), lease_seconds=30.0)
    register(ledger, "phone", user_id="ada")
    accept(ledger, emails=[f"{number}@example.com" for number in range(MANY)])
    accept(ledger, users=[f"u{number}" for number in range(MANY)], channels=["websocket"])
    sent: list[str] = []
    heard: list[socket.socket] = []

    def others_go_on() -> bool:
        if not sent:
            heard.append(silent.accept()[0])
            if len(heard) < AT_LEAST or not lookups.asked.acquire(blocking=False):
                return False
            sent.append(accept(ledger, users=["ada"]))
        if not found(ledger, sent[0]).state.is_final:
            return False
        assert not lookups.back.is_set()
        lookups.back.set()
        for each in (silent, *heard):
            each.close()
        return True

    drain_until(ctx, others_go_on)
    assert [call[0] for call in push.calls] == ["phone"]

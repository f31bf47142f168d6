"""The ingress's side of the token desk: what it makes of answers, and of none."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

import orjson
import pytest

from ingest_api.token_desk import TokenDesk
from notify_pipeline.core import token_desk
from notify_pipeline.core.token_desk import UNKNOWN, TokenState
from notify_pipeline.core.vocabulary import Platform
from tests.ingest_api.conftest import House, registration
from tests.waiting import PATIENCE_S, wait_for

TOKEN = "dGhl:APA91b" + "x" * 140


@dataclass
class Desk:
    """A desk that says what the test tells it to; ``answer`` may wait."""

    server: ThreadingHTTPServer
    answer: Callable[[], tuple[int, bytes]]
    asked: list[tuple[str | None, bytes, int]] = field(default_factory=list)  # bearer, body, the caller's port
    hangs_up: bool = False  # after each answer, without having said so

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def says(self, is_valid: bool | None, code: str | None = None) -> None:
        self.answer = lambda: (200, token_desk.answer(TokenState(is_valid, code)))


def start(port: int = 0) -> Desk:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            desk.asked.append((self.headers["Authorization"], body, self.client_address[1]))
            status, said = desk.answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the test's caller is impatient
                self.wfile.write(said)
            self.close_connection = desk.hangs_up

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    desk = Desk(server, lambda: (500, b""))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    started = start()
    yield started
    started.server.shutdown()
    started.server.server_close()


class Seconds:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Client(Protocol):
    def __call__(
        self, url: str | None, timeout_s: float = 10.0, at_once: int = 4, seconds: Seconds | None = None
    ) -> TokenDesk: ...


@pytest.fixture
def client() -> Iterator[Client]:
    """Makes clients, and closes them."""
    made = []

    def make(url: str | None, timeout_s: float = 10.0, at_once: int = 4, seconds: Seconds | None = None) -> TokenDesk:
        made.append(TokenDesk(url, lambda: "proof", timeout_s, at_once, seconds or Seconds()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(("is_valid", "code"), [(True, None), (False, "UNREGISTERED"), (None, "throttled")])
def test_an_answer_is_what_the_desk_says(desk: Desk, client: Client, is_valid: bool | None, code: str | None) -> None:
    desk.says(is_valid, code)
    asking = client(desk.url)
    assert asking.check(Platform.WEB, TOKEN) == asking.check(Platform.ANDROID, TOKEN) == TokenState(is_valid, code)
    (proof, body, port), (_, other, same_port) = desk.asked
    assert proof == "Bearer proof"
    assert orjson.loads(body) == {"platform": "web", "token": TOKEN}
    assert token_desk.read_question(other) == (Platform.ANDROID, TOKEN, False)
    asking.check(Platform.WEB, TOKEN, anew=True)
    assert token_desk.read_question(desk.asked[-1][1]) == (Platform.WEB, TOKEN, True)
    assert port == same_port, "the connection is kept"


@pytest.mark.parametrize("platform", [Platform.IOS, Platform.WEBPUSH, Platform.EMAIL])
def test_nobody_is_asked_whose_provider_would_show_a_message(desk: Desk, client: Client, platform: Platform) -> None:
    desk.says(True)
    assert client(desk.url).check(platform, TOKEN) == UNKNOWN
    assert desk.asked == []


def test_without_a_desk_nothing_is_known(client: Client) -> None:
    assert client(None).check(Platform.WEB, TOKEN) == UNKNOWN


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, b"{}"),
        (500, token_desk.answer(TokenState(True))),
        (200, b""),
        (200, b"[]"),
        (200, b'{"is_valid": 1}'),
        (200, b'{"is_valid": false, "code": 7}'),
    ],
)
def test_a_desk_that_answers_otherwise_knows_nothing(desk: Desk, client: Client, status: int, said: bytes) -> None:
    desk.answer = lambda: (status, said)
    assert client(desk.url).check(Platform.WEB, TOKEN) == UNKNOWN


def test_a_desk_that_is_down_is_told_of_once_and_asked_again(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = start()
    port = first.server.server_address[1]
    first.says(True)
    first.hangs_up = True
    seconds = Seconds()
    asking = client(first.url, seconds=seconds)
    assert asking.check(Platform.WEB, TOKEN).is_valid
    assert asking.check(Platform.WEB, TOKEN).is_valid, "a connection that was ended meanwhile is no trouble"
    first.server.shutdown()
    first.server.server_close()
    for _ in range(3):
        seconds.now += 2
        assert asking.check(Platform.WEB, TOKEN) == UNKNOWN
    assert len([record for record in caplog.records if record.name == "ingest_api.token_desk"]) == 1
    assert "cannot be asked" in caplog.text and TOKEN[:20] not in caplog.text
    second = start(port)
    second.says(False, "UNREGISTERED")
    assert asking.check(Platform.WEB, TOKEN) == UNKNOWN, "it is not asked twice in a second"
    seconds.now += 2
    assert asking.check(Platform.WEB, TOKEN) == TokenState(False, "UNREGISTERED")
    assert "answers again" in caplog.text
    second.server.shutdown()
    second.server.server_close()


def test_a_desk_that_hangs_holds_up_few_and_not_for_long(desk: Desk, client: Client) -> None:
    go_on = threading.Event()
    desk.answer = lambda: (200 if go_on.wait(60) else 500, token_desk.answer(TokenState(True)))
    seconds = Seconds()
    impatient = client(desk.url, timeout_s=0.2, seconds=seconds)
    assert impatient.check(Platform.WEB, TOKEN) == UNKNOWN
    assert len(desk.asked) == 1
    assert impatient.check(Platform.WEB, TOKEN) == UNKNOWN
    assert len(desk.asked) == 1, "the next one does not wait as well"

    seconds.now += 2
    impatient._timeout_s = 60
    trying = threading.Thread(target=impatient.check, args=(Platform.WEB, TOKEN))
    trying.start()
    wait_for(lambda: len(desk.asked) == 2)
    assert impatient.check(Platform.WEB, TOKEN) == UNKNOWN
    assert len(desk.asked) == 2, "one at a time finds out whether it is back"

    patient, found = client(desk.url, timeout_s=60, at_once=1), list[TokenState]()
    waiting = threading.Thread(target=lambda: found.append(patient.check(Platform.WEB, TOKEN)))
    waiting.start()
    wait_for(lambda: len(desk.asked) == 3)
    assert patient.check(Platform.WEB, TOKEN) == UNKNOWN, "no more than so many wait"
    go_on.set()
    waiting.join(PATIENCE_S)
    trying.join(PATIENCE_S)
    assert found == [TokenState(True)]


def test_a_device_s_route_shows_what_the_desk_says(desk: Desk, client: Client, house: House) -> None:
    asking = client(desk.url)
    house.services.__dict__["token_desk"] = asking
    house.publishable.ok("POST", "/devices", registration())
    path = f"/devices/{registration()['token']}"
    for is_valid in (True, False, None):
        desk.says(is_valid)
        assert house.secret.ok("GET", path)["is_valid"] is is_valid
    assert len(desk.asked) == 3


def test_the_ingress_proves_itself_with_the_installation_s_secret(desk: Desk, house: House) -> None:
    desk.says(True)
    proof = token_desk.bearer(house.services.ledger)
    settings = house.services.settings.model_copy(update={"token_desk_url": desk.url + "/"})
    house.services.settings = settings
    assert house.services.token_desk.check(Platform.WEB, TOKEN).is_valid
    assert [asked[0] for asked in desk.asked] == [f"Bearer {proof}"]
    assert len(proof) == 64

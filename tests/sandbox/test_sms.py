"""The stand-in for Twilio: what it takes, what it refuses, and what the phones behind it do."""

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pytest
import requests

from notify_pipeline.core.twilio_signature import HEADER, is_signed
from tests.sandbox.client import Peer
from tests.sandbox.conftest import Start
from tests.waiting import PATIENCE_S

PHONE = "+447700900123"


class Posted(NamedTuple):
    url: str
    form: dict[str, str]
    signature: str


class Listener(NamedTuple):
    """Whoever is called back."""

    url: str
    posts: "queue.Queue[Posted]"


@pytest.fixture
def listener() -> Iterator[Listener]:
    posts: queue.Queue[Posted] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            posts.put(Posted(f"{url}{self.path}", dict(parse_qsl(body)), self.headers[HEADER]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever).start()
    yield Listener(url, posts)
    server.shutdown()
    server.server_close()


def auth_token(peer: Peer) -> str:
    return Path(peer.addresses["sms_auth_token"]).read_text()


def message(peer: Peer, *, token: str | None = None, **form: str) -> requests.Response:
    where = peer.addresses
    url = f"{where['sms_url']}/2010-04-01/Accounts/{where['sms_account_sid']}/Messages.json"
    auth = (where["sms_account_sid"], token or auth_token(peer))
    return requests.post(
        url, data={"To": PHONE, "From": where["sms_from"], "Body": "Hello", **form}, auth=auth, timeout=PATIENCE_S
    )


def faults(peer: Peer, **sms: Any) -> None:
    requests.put(f"{peer.url}/faults", json={"sms": sms}, timeout=PATIENCE_S).raise_for_status()


def test_a_message_reaches_its_phone_and_its_sender_is_told(sandbox: Peer, listener: Listener) -> None:
    callback = f"{listener.url}/sms/status/twilio/t?notificationId=n-1&d={'a' * 40}"
    answer = message(sandbox, Body="ж" * 71, StatusCallback=callback)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["status"], made["num_segments"], made["to"]) == ("queued", "2", PHONE)
    posted = listener.posts.get(timeout=PATIENCE_S)
    assert posted.url == callback
    assert posted.form["MessageStatus"] == "delivered"
    assert posted.form["MessageSid"] == made["sid"]
    assert is_signed(auth_token(sandbox), posted.url, posted.form.items(), posted.signature)
    assert not is_signed("another", posted.url, posted.form.items(), posted.signature)
    (line,) = sandbox.lines("/log")
    assert (line["channel"], line["recipient"], line["notification_id"], line["d"]) == ("sms", PHONE, "n-1", "a" * 40)
    assert (line["processed"], line["status"], line["message_id"]) == (True, 201, made["sid"])
    assert line["body"]["Body"] == "ж" * 71
    (shown,) = requests.get(f"{sandbox.url}/sms/messages", params={"to": PHONE}, timeout=PATIENCE_S).json()["items"]
    assert (shown["sid"], shown["body"]) == (made["sid"], "ж" * 71)
    assert requests.get(f"{sandbox.url}/sms/messages", params={"to": "+1"}, timeout=PATIENCE_S).json() == {"items": []}


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"token": "wrong"}, 401, 20003),
        ({"To": ""}, 400, 21604),
        ({"To": "07700900123"}, 400, 21211),
        ({"From": ""}, 400, 21603),
        ({"Body": ""}, 400, 21602),
        ({"Body": "a" * 1_601}, 400, 21617),
        ({"ValidityPeriod": "36001"}, 400, 21624),
    ],
)
def test_bad_messages_are_refused_in_twilios_words(sandbox: Peer, form: dict[str, str], status: int, code: int) -> None:
    answer = message(sandbox, **form)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    (line,) = sandbox.lines("/log")
    assert (line["status"], line["processed"]) == (status, False)


def test_who_replies_stop_gets_no_more_until_start(sandbox: Peer, listener: Listener) -> None:
    def reply(text: str) -> Posted:
        sent = requests.post(f"{sandbox.url}/sms/reply", json={"from": PHONE, "body": text}, timeout=PATIENCE_S)
        assert sent.json() == {"status": 204}
        return listener.posts.get(timeout=PATIENCE_S)

    message(sandbox, StatusCallback=f"{listener.url}/base/sms/status/twilio/t?d=1")
    listener.posts.get(timeout=PATIENCE_S)
    posted = reply("stop")
    assert posted.url == f"{listener.url}/base/sms/inbound/twilio"
    assert (posted.form["From"], posted.form["Body"], posted.form["To"]) == (
        PHONE,
        "stop",
        sandbox.addresses["sms_from"],
    )
    assert is_signed(auth_token(sandbox), posted.url, posted.form.items(), posted.signature)
    assert message(sandbox).json()["code"] == 21610
    reply("START")
    assert message(sandbox).status_code == 201


def test_a_phone_that_was_never_texted_has_nobody_to_reply_to(sandbox: Peer) -> None:
    for body, status in (({"from": PHONE, "body": "STOP"}, 404), ({"from": PHONE}, 422), ([], 422)):
        assert requests.post(f"{sandbox.url}/sms/reply", json=body, timeout=PATIENCE_S).status_code == status


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"throttled": 1, "retry_after_s": 7}, 429, 20429),
        ({"quota": 0}, 429, 20429),
        ({"unavailable": 1}, 503, 20503),
        ({"internal": 1}, 500, 20500),
        ({"unregistered": 1}, 400, 21614),
    ],
)
def test_faults_are_answers(sandbox: Peer, fault: dict[str, Any], status: int, code: int) -> None:
    faults(sandbox, **fault)
    answer = message(sandbox)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if "retry_after_s" in fault:
        assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize(("fault", "processed"), [("reset", False), ("reset_after_processing", True)])
def test_an_answer_may_be_lost(sandbox: Peer, fault: str, processed: bool) -> None:
    faults(sandbox, **{fault: 1})
    with pytest.raises(requests.ConnectionError):
        message(sandbox)
    (line,) = sandbox.lines("/log")
    assert (line["answer"], line["processed"], line["status"]) == ("reset", processed, None)


def test_a_number_may_turn_out_to_be_unknown(sandbox: Peer, listener: Listener) -> None:
    faults(sandbox, undelivered=1)
    assert message(sandbox, StatusCallback=f"{listener.url}/x").status_code == 201
    form = listener.posts.get(timeout=PATIENCE_S).form
    assert (form["MessageStatus"], form["ErrorCode"]) == ("undelivered", "30005")


def test_the_account_outlives_the_sandbox(start: Start, tmp_path: Path) -> None:
    with start(tmp_path) as first:
        kept = auth_token(first)
    with start(tmp_path) as second:
        assert auth_token(second) == kept
        assert message(second).status_code == 201

"""The stand-ins under clients that were written for the real services."""

import asyncio
import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import firebase_admin
import orjson
import pycurl
import pytest
from firebase_admin import credentials, exceptions, messaging

from notify_pipeline.sandbox.tokens import apns_token, fcm_token
from tests.sandbox.client import Peer

# Registration tokens are what devices have today; firebase-admin 7.7 would rather be given installation ids.
pytestmark = pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")


@pytest.fixture
def app(sandbox: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[firebase_admin.App]:
    # firebase-admin has no setting for a certificate authority: httpx takes certifi's, requests the environment's.
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(Path(certifi.where()).read_text() + Path(sandbox.addresses["ca"]).read_text())
    monkeypatch.setattr(certifi, "where", lambda: str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", "")
    service = messaging._MessagingService
    monkeypatch.setattr(service, "FCM_URL", sandbox.addresses["fcm_url"] + "/v1/projects/{0}/messages:send")
    account = credentials.Certificate(sandbox.addresses["service_account"])
    made = firebase_admin.initialize_app(account, name=f"test-{id(sandbox)}")
    yield made
    firebase_admin.delete_app(made)


def message(token: str, **more: object) -> messaging.Message:
    data = {"notificationId": "n1", "d": "d1"}
    return messaging.Message(
        token=token,
        notification=messaging.Notification(title="T", body="B", image="https://example.com/i.png"),
        data=data,
        android=messaging.AndroidConfig(
            collapse_key="n1",
            priority="high",
            ttl=timedelta(seconds=90),
            notification=messaging.AndroidNotification(tag="t", notification_count=2, priority="max"),
        ),
        webpush=messaging.WebpushConfig(headers={"TTL": "90"}, fcm_options=messaging.WebpushFCMOptions("https://a.b")),
        apns=messaging.APNSConfig(payload=messaging.APNSPayload(aps=messaging.Aps(badge=1))),
        fcm_options=messaging.FCMOptions(analytics_label="news"),
        **more,
    )


async def _send(app: firebase_admin.App, rounds: list[tuple[Callable[[], None], list[str]]]) -> list[Any]:
    """Send one batch per round, all through one client; a round begins with its preparation."""
    service = messaging._get_messaging_service(app)
    batches = []
    try:
        for prepare, tokens in rounds:
            prepare()
            batches.append(await service.send_each_async([message(token) for token in tokens], dry_run=False))
    finally:
        await service._async_client.aclose()
    return batches


def test_firebase_admin_sends_over_http2_with_our_access_token(sandbox: Peer, app: firebase_admin.App) -> None:
    tokens = [fcm_token(str(n)) for n in range(20)]
    (batch,) = asyncio.run(_send(app, [(lambda: None, [*tokens, "malformed"])]))
    assert batch.success_count == 20
    bad = batch.responses[-1].exception
    assert isinstance(bad, exceptions.InvalidArgumentError)
    assert str(bad) == "The registration token is not a valid FCM registration token"
    lines = sandbox.lines("/log")
    assert sorted(line["message_id"] for line in lines if line["processed"]) == sorted(
        response.message_id for response in batch.responses[:-1]
    )
    assert {line["collapse_id"] for line in lines} == {"n1"}


def test_firebase_admin_understands_our_errors(sandbox: Peer, app: firebase_admin.App) -> None:
    rounds = [
        (lambda: sandbox.faults(fcm={"unregistered": 1}), [fcm_token("a")]),
        (lambda: sandbox.faults(fcm={"throttled": 1, "retry_after_s": 0}), [fcm_token("a")]),
    ]
    found = [batch.responses[0].exception for batch in asyncio.run(_send(app, rounds))]
    assert [type(error) for error in found] == [messaging.UnregisteredError, messaging.QuotaExceededError]
    assert str(found[0]) == "Requested entity was not found."


def _curl(peer: Peer, url: str, headers: dict[str, str], body: bytes) -> tuple["pycurl.Curl", io.BytesIO]:
    handle, received = pycurl.Curl(), io.BytesIO()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.CAINFO, peer.addresses["ca"])
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_0)
    handle.setopt(pycurl.PIPEWAIT, 1)
    handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
    handle.setopt(pycurl.POSTFIELDS, body)
    handle.setopt(pycurl.WRITEDATA, received)
    handle.setopt(pycurl.TIMEOUT, 30)
    return handle, received


def _perform(handles: list["pycurl.Curl"]) -> dict["pycurl.Curl", str]:
    """Run all handles on one multi handle; return the errors."""
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    for handle in handles:
        multi.add_handle(handle)
    errors = {}
    left = len(handles)
    while left:
        multi.perform()
        _, _, failed = multi.info_read(len(handles))
        errors.update({handle: text for handle, _, text in failed})
        left = multi.perform()[1]
        multi.select(0.05)
    _, _, failed = multi.info_read(len(handles))
    errors.update({handle: text for handle, _, text in failed})
    multi.close()
    return errors


def test_curl_pushes_to_apns_through_one_stream_then_many(sandbox: Peer) -> None:
    body = orjson.dumps({"aps": {"alert": "x"}, "notificationId": "n"})
    requests = [
        _curl(sandbox, f"{sandbox.addresses['apns_url']}/3/device/{apns_token(str(n))}", sandbox.apns_headers(), body)
        for n in range(200)
    ]
    assert _perform([handle for handle, _ in requests]) == {}
    assert {handle.getinfo(pycurl.RESPONSE_CODE) for handle, _ in requests} == {200}
    assert {handle.getinfo(pycurl.INFO_HTTP_VERSION) for handle, _ in requests} == {pycurl.CURL_HTTP_VERSION_2_0}
    processed = [line["recipient"] for line in sandbox.lines("/log") if line["processed"]]
    assert sorted(processed) == sorted(apns_token(str(n)) for n in range(200))


def test_curl_survives_refusals_and_goaway_without_doubling(sandbox: Peer) -> None:
    sandbox.faults(seed=2, fcm={"reset": 0.02})
    url = sandbox.addresses["fcm_url"] + sandbox.fcm_path
    requests = []
    for n in range(300):
        body = orjson.dumps({"message": {"token": fcm_token(str(n)), "data": {"d": str(n)}}})
        requests.append(_curl(sandbox, url, sandbox.fcm_headers, body))
    errors = _perform([handle for handle, _ in requests])
    good = {orjson.loads(text.getvalue())["name"] for handle, text in requests if handle not in errors}
    lines = sandbox.lines("/log")
    hows = {line["how"] for line in lines}
    assert {"refused_stream", "internal_error"} <= hows
    # Whatever curl took for answered was processed exactly once, and under that name.
    assert good <= {line["message_id"] for line in lines if line["processed"]}
    assert len(good) == 300 - len(errors)

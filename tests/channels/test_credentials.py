"""Provider tokens: when they are made, how often their issuer is asked, and what a refusal does."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from notify_pipeline.channels.apns.credentials import ProviderTokens
from notify_pipeline.channels.base import CredentialsRejected
from notify_pipeline.channels.fcm.credentials import OAuthTokens
from tests.channels.peer import make_certificates

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


class Clock:
    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def apns(folder: Path, clock: Clock, key: ec.EllipticCurvePrivateKey | None = None) -> ProviderTokens:
    path = write_key(folder / "k.p8", key or ec.generate_private_key(ec.SECP256R1()))
    return ProviderTokens(path, key_id="KEYID", team_id="TEAM", clock=clock)


def test_apns_tokens_are_signed_anew_every_half_hour(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    clock = Clock()
    tokens = apns(tmp_path, clock, key)

    async def main() -> None:
        first = await tokens.bearer()
        assert jwt.get_unverified_header(first) == {"alg": "ES256", "kid": "KEYID", "typ": "JWT"}
        claims = jwt.decode(first, key.public_key(), algorithms=["ES256"], options={"verify_iat": False})
        assert claims == {"iss": "TEAM", "iat": int(START.timestamp())}
        clock.pass_(minutes=29, seconds=59)
        assert await tokens.bearer() == first
        clock.pass_(seconds=1)
        second = await tokens.bearer()
        assert second != first
        clock.pass_(hours=-1)
        assert await tokens.bearer() not in (first, second), "a token from the future is refused by Apple"

    asyncio.run(main())


def test_apns_tokens_are_used_for_20_to_60_minutes_and_shared_by_all_processes(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    clock = Clock(START + timedelta(minutes=17))

    async def main() -> None:
        begun: dict[str, datetime] = {}
        for _ in range(180):
            # A process that starts now, which knows nothing of those before it.
            begun.setdefault(token := await apns(tmp_path, clock, key).bearer(), clock.now)
            issued = jwt.decode(token, options={"verify_signature": False})["iat"]
            assert 0 <= clock.now.timestamp() - issued < 3600
            clock.pass_(minutes=1)
        times = sorted(begun.values())
        assert len(times) == 7
        gaps = [later - earlier for earlier, later in zip(times[1:], times[2:], strict=False)]
        assert all(timedelta(minutes=20) <= gap <= timedelta(minutes=60) for gap in gaps)

    asyncio.run(main())


def test_apns_renews_a_refused_token_unless_it_is_the_current_one(tmp_path: Path) -> None:
    clock = Clock()
    tokens = apns(tmp_path, clock)

    async def main() -> None:
        first = await tokens.bearer()
        with pytest.raises(CredentialsRejected) as caught:
            await tokens.renew(first)
        assert first not in str(caught.value)
        clock.pass_(minutes=30)
        second = await tokens.renew(first)
        assert second != first
        assert await tokens.renew(first) == second, "another caller has renewed it already"
        assert await tokens.bearer() == second

    asyncio.run(main())


def test_apns_keys_that_are_none_are_refused_without_showing_them(tmp_path: Path) -> None:
    junk = tmp_path / "junk.p8"
    junk.write_text("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----")
    wrong_curve = write_key(tmp_path / "p384.p8", ec.generate_private_key(ec.SECP384R1()))
    wrong_kind = write_key(tmp_path / "rsa.p8", rsa.generate_private_key(65537, 2048))
    for path in (junk, wrong_curve, wrong_kind, tmp_path / "none.p8"):
        with pytest.raises(CredentialsRejected) as caught:
            ProviderTokens(path, key_id="K", team_id="T", clock=Clock())
        assert "secret" not in str(caught.value)


class TokenServer:
    """A token endpoint that answers as told and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.body = b""
        self.hold: threading.Event | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.asked += 1
                if outer.hold is not None:
                    outer.hold.wait(10)
                body = outer.body or orjson.dumps(
                    {"access_token": f"ya29.{outer.asked}", "expires_in": 3600, "token_type": "Bearer"}
                )
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/token"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def endpoint() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.stop()


def account(folder: Path, token_uri: str) -> Path:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = folder / "account.json"
    path.write_bytes(
        orjson.dumps(
            {
                "type": "service_account",
                "project_id": "project-1",
                "private_key_id": "1",
                "private_key": pem,
                "client_email": "a@project-1.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": token_uri,
            }
        )
    )
    return path


def oauth(folder: Path, endpoint: TokenServer, clock: Clock) -> OAuthTokens:
    ca, _ = make_certificates(folder)
    return OAuthTokens(account(folder, endpoint.url), ca=ca, clock=clock)


def test_an_access_token_is_fetched_once_however_many_wait(tmp_path: Path, endpoint: TokenServer) -> None:
    tokens = oauth(tmp_path, endpoint, Clock(datetime.now(UTC)))
    assert tokens.project == "project-1"

    async def main() -> None:
        assert set(await asyncio.gather(*(tokens.bearer() for _ in range(20)))) == {"ya29.1"}
        assert await tokens.bearer() == "ya29.1"
        assert endpoint.asked == 1
        await tokens.aclose()

    asyncio.run(main())


def test_the_next_token_is_fetched_before_the_last_runs_out_and_nobody_waits(
    tmp_path: Path, endpoint: TokenServer
) -> None:
    clock = Clock(datetime.now(UTC))
    tokens = oauth(tmp_path, endpoint, clock)

    async def main() -> None:
        assert await tokens.bearer() == "ya29.1"
        clock.pass_(minutes=56)
        endpoint.hold = threading.Event()
        assert await tokens.bearer() == "ya29.1", "the old one is good for minutes"
        assert await tokens.bearer() == "ya29.1"
        endpoint.hold.set()
        await tokens.aclose()
        assert await tokens.bearer() == "ya29.2"
        assert endpoint.asked == 2

    asyncio.run(main())


def test_a_good_token_is_used_on_while_its_successor_cannot_be_had(
    tmp_path: Path, endpoint: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(datetime.now(UTC))
    tokens = oauth(tmp_path, endpoint, clock)

    async def main() -> None:
        assert await tokens.bearer() == "ya29.1"
        clock.pass_(minutes=56)
        endpoint.status, endpoint.body = 400, b'{"error": "invalid_grant"}'
        assert await tokens.bearer() == "ya29.1"
        await tokens.aclose()
        asked = endpoint.asked
        assert {await tokens.bearer() for _ in range(100)} == {"ya29.1"}
        assert endpoint.asked == asked, "not per request"
        clock.pass_(seconds=10)
        endpoint.status, endpoint.body = 200, b""
        assert await tokens.bearer() == "ya29.1"
        await tokens.aclose()
        assert await tokens.bearer() == f"ya29.{endpoint.asked}"
        assert endpoint.asked == asked + 1

    asyncio.run(main())
    assert "no FCM access token" in caplog.text


def test_a_clock_that_was_set_back_fetches_once(tmp_path: Path, endpoint: TokenServer) -> None:
    clock = Clock(datetime.now(UTC))
    tokens = oauth(tmp_path, endpoint, clock)

    async def main() -> None:
        assert await tokens.bearer() == "ya29.1"
        clock.pass_(days=-2)
        assert {await tokens.bearer() for _ in range(10)} == {"ya29.2"}
        clock.pass_(days=2)
        assert {await tokens.bearer() for _ in range(10)} == {"ya29.2"}
        assert endpoint.asked == 2
        await tokens.aclose()

    asyncio.run(main())


def test_an_expired_token_is_waited_for(tmp_path: Path, endpoint: TokenServer) -> None:
    clock = Clock(datetime.now(UTC))
    tokens = oauth(tmp_path, endpoint, clock)

    async def main() -> None:
        assert await tokens.bearer() == "ya29.1"
        clock.pass_(hours=2)
        assert await tokens.bearer() == "ya29.2"
        await tokens.aclose()

    asyncio.run(main())


def test_a_cancelled_caller_takes_the_token_from_nobody(tmp_path: Path, endpoint: TokenServer) -> None:
    tokens = oauth(tmp_path, endpoint, Clock(datetime.now(UTC)))

    async def main() -> None:
        endpoint.hold = threading.Event()
        first, second = asyncio.create_task(tokens.bearer()), asyncio.create_task(tokens.bearer())
        while not endpoint.asked:
            await asyncio.sleep(0.01)
        first.cancel()
        endpoint.hold.set()
        assert await second == "ya29.1"
        assert first.cancelled()
        assert endpoint.asked == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}', "token_refused"),
        (401, b"no", "token_refused"),
        (200, b"{}", "token_refused"),
        (200, b"not json", "token_endpoint"),
        (200, b'["a"]', "token_endpoint"),
        (200, b'{"access_token": "ya29.x"}', "token_endpoint"),
        (200, b'{"access_token": "ya29.x", "expires_in": "soon"}', "token_endpoint"),
    ],
)
def test_a_refusal_is_remembered_for_a_while(
    tmp_path: Path,
    endpoint: TokenServer,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
    code: str,
) -> None:
    clock = Clock(datetime.now(UTC))
    tokens = oauth(tmp_path, endpoint, clock)
    endpoint.status, endpoint.body = status, body

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(CredentialsRejected) as caught:
                await tokens.bearer()
            assert caught.value.code == code
        asked = endpoint.asked
        endpoint.status, endpoint.body = 200, b""
        with pytest.raises(CredentialsRejected):
            await tokens.bearer()
        assert endpoint.asked == asked, "a failing endpoint must not be hammered"
        clock.pass_(seconds=10)
        assert (await tokens.bearer()).startswith("ya29.")
        await tokens.aclose()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert len([record for record in caplog.records if "no FCM access token" in record.message]) == 1


def test_an_endpoint_that_is_not_there_is_a_matter_of_credentials(tmp_path: Path, endpoint: TokenServer) -> None:
    ca, _ = make_certificates(tmp_path)
    tokens = OAuthTokens(account(tmp_path, "http://127.0.0.1:1/token"), ca=ca, clock=Clock(datetime.now(UTC)))

    async def main() -> None:
        with pytest.raises(CredentialsRejected) as caught:
            await tokens.bearer()
        assert caught.value.code == "token_endpoint"

    asyncio.run(main())


def test_a_refused_token_is_renewed_unless_it_is_new(tmp_path: Path, endpoint: TokenServer) -> None:
    clock = Clock(datetime.now(UTC))
    tokens = oauth(tmp_path, endpoint, clock)

    async def main() -> None:
        first = await tokens.bearer()
        with pytest.raises(CredentialsRejected):
            await tokens.renew(first)
        clock.pass_(minutes=1)
        assert await tokens.renew(first) == "ya29.2"
        assert await tokens.renew(first) == "ya29.2"
        assert endpoint.asked == 2
        await tokens.aclose()

    asyncio.run(main())


def test_a_file_that_is_no_service_account_is_refused_without_showing_it(tmp_path: Path) -> None:
    for text in ('{"type": "authorized_user", "secret": "hush"}', "hush", '{"type": "service_account"}'):
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(CredentialsRejected) as caught:
            OAuthTokens(path, ca=path, clock=Clock())
        assert "hush" not in str(caught.value)
    with pytest.raises(CredentialsRejected):
        OAuthTokens(tmp_path / "none.json", ca=tmp_path, clock=Clock())

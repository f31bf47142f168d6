"""Signatures, against botocore's."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core import sigv4
from notify_pipeline.core.sigv4 import BadSignature, Credentials

OURS = Credentials("GWKEY", "secret/with+signs=", "us-east-1", "execute-api")
# Not of dots alone: a path with those is resolved first, and no connection has such an id.
PATHS = st.from_regex("[abcXYZ019_.~%=@ é-]*[a-z0-9]", fullmatch=True).map(
    lambda text: "/@connections/" + text.replace("%", "%25")
)


def theirs(method: str, path: str, body: bytes, query: str = "") -> Mapping[str, str]:
    """Return the headers of a request that botocore signed now."""
    from urllib.parse import quote

    url = f"http://gateway.test:8081{quote(path, safe='/@%')}{query}"
    request = AWSRequest(method, url, data=body, headers={"Content-Type": "application/octet-stream"})
    SigV4Auth(TheirCredentials(OURS.access_key, OURS.secret_key), OURS.service, "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in {**request.headers, "host": "gateway.test:8081"}.items()}


def checked(headers: Mapping[str, str], method: str, target: str, body: bytes, now: datetime | None = None) -> None:
    sigv4.check(OURS, method, target, headers.get, body, now or datetime.now(UTC))


@given(path=PATHS, body=st.binary(max_size=50), query=st.sampled_from(["", "?b=2&a=x%20y", "?a="]))
def test_what_botocore_signs_is_good(path: str, body: bytes, query: str) -> None:
    from urllib.parse import quote

    headers = theirs("POST", path, body, query)
    checked(headers, "POST", quote(path, safe="/@%") + query, body)


def test_what_we_sign_is_what_botocore_signs() -> None:
    now = datetime(2026, 11, 21, 12, 0, 1, tzinfo=UTC)
    made = sigv4.sign(OURS, "POST", "/@connections/x", "h:1", b"{}", now, notify_sequence="2 1")
    request = AWSRequest("POST", "http://h:1/@connections/x", data=b"{}", headers={"Notify-Sequence": "2 1"})
    signer = SigV4Auth(TheirCredentials(OURS.access_key, OURS.secret_key), OURS.service, OURS.region)
    request.context["timestamp"] = made["X-Amz-Date"]
    request.headers["X-Amz-Date"] = made["X-Amz-Date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert made["Authorization"].endswith(signer.signature(text, request))


def signed(now: datetime, body: bytes = b"{}") -> dict[str, str]:
    made = sigv4.sign(OURS, "POST", "/@connections/x", "h:1", body, now)
    return {name.lower(): value for name, value in made.items()} | {"host": "h:1"}


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_ours_is_good_for_five_minutes() -> None:
    for late in (timedelta(minutes=-5), timedelta(0), timedelta(minutes=5)):
        checked(signed(NOW), "POST", "/@connections/x", b"{}", NOW + late)
    for late in (timedelta(minutes=-5, seconds=-1), timedelta(minutes=5, seconds=1)):
        with pytest.raises(BadSignature, match="clock"):
            checked(signed(NOW), "POST", "/@connections/x", b"{}", NOW + late)


@pytest.mark.parametrize(
    ("method", "target", "body", "change"),
    [
        ("DELETE", "/@connections/x", b"{}", {}),
        ("POST", "/@connections/y", b"{}", {}),
        ("POST", "/@connections/x?a=1", b"{}", {}),
        ("POST", "/@connections/x", b"{} ", {}),
        ("POST", "/@connections/x", b"{}", {"host": "other:1"}),
        ("POST", "/@connections/x", b"{}", {"x-amz-date": "20261121T120001Z"}),
        ("POST", "/@connections/x", b"{}", {"x-amz-date": "yesterday"}),
        ("POST", "/@connections/x", b"{}", {"authorization": ""}),
        ("POST", "/@connections/x", b"{}", {"authorization": "Bearer x"}),
    ],
)
def test_nothing_else_is(method: str, target: str, body: bytes, change: Mapping[str, str]) -> None:
    with pytest.raises(BadSignature):
        checked(signed(NOW) | change, method, target, body, NOW)


def test_others_secrets_and_unsigned_hosts_are_refused() -> None:
    for other in (Credentials("GWKEY", "x", "us-east-1", "execute-api"), Credentials("X", "x", "y", "execute-api")):
        made = sigv4.sign(other, "POST", "/@connections/x", "h:1", b"{}", NOW)
        with pytest.raises(BadSignature):
            checked({k.lower(): v for k, v in made.items()} | {"host": "h:1"}, "POST", "/@connections/x", b"{}", NOW)
    good = signed(NOW)
    for names in ("x-amz-date", "host", "host;x-amz-date;missing"):
        with pytest.raises(BadSignature):
            changed = good["authorization"].replace("host;x-amz-date", names)
            checked(good | {"authorization": changed}, "POST", "/@connections/x", b"{}", NOW)
    assert "secret" not in repr(OURS)

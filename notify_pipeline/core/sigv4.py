"""AWS Signature Version 4 of a request with its body in memory: making and checking it.

Belongs here: the arithmetic. Does not belong here: whose credentials they are (``core.gateway``), HTTP.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. As for every service but
S3, the path is encoded once more than it was for the request. Checked against botocore's signer in the tests; this one
exists to be checked with, which botocore cannot; it keeps the day's key, and takes 10 µs where botocore's takes 45.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"
# How far the signer's clock may be off, as with AWS's own services.
SKEW = timedelta(minutes=5)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM}\s+Credential=([^/,\s]+)/(\d{{8}})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request\s*,"
    r"\s*SignedHeaders=([a-z0-9;-]+)\s*,\s*Signature=([0-9a-f]{64})"
)
# Without these a signature could be moved to another request or another time.
_NEEDED = {"host", "x-amz-date"}
_TIME = "%Y%m%dT%H%M%SZ"


class BadSignature(Exception):
    """The request was not signed with the secret, or not lately; the message says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is signed with; ``repr`` shows no secret."""

    access_key: str
    secret_key: str
    region: str
    service: str

    def __repr__(self) -> str:
        return f"Credentials({self.access_key})"


def sign(
    credentials: Credentials, method: str, path: str, host: str, body: bytes, now: datetime, **signed: str
) -> dict[str, str]:
    """Return the headers to be added to a request without a query.

    Args:
        credentials: Whose.
        method: GET, POST, ….
        path: As it is sent, percent-encoded.
        host: The Host header.
        body: The body.
        now: Aware.
        signed: Further headers to be signed and sent, in lower case with underscores for dashes.
    """
    at = now.astimezone(UTC).strftime(_TIME)
    extra = {name.replace("_", "-"): value for name, value in signed.items()}
    headers = {"host": host, "x-amz-date": at, **extra}
    names = ";".join(sorted(headers))
    found = _signature(credentials, method, path, "", headers, names, body, at)
    scope = f"{at[:8]}/{credentials.region}/{credentials.service}/aws4_request"
    authorization = f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={found}"
    return {"X-Amz-Date": at, "Authorization": authorization, **extra}


def check(
    credentials: Credentials,
    method: str,
    target: str,
    header: Callable[[str], str | None],
    body: bytes,
    now: datetime,
) -> None:
    """Check a request; its region may be any, as nobody but us is meant.

    Args:
        credentials: Whose it must be.
        method: GET, POST, ….
        target: Path and query as they were sent.
        header: Returns a header by its name, whatever its case; None where there is none.
        body: The body.
        now: Aware.

    Raises:
        BadSignature: It is not good.
    """
    match = _AUTHORIZATION.fullmatch(header("authorization") or "")
    if match is None:
        raise BadSignature("the Authorization header is missing or malformed")
    access_key, day, region, service, names, given = match.groups()
    if not hmac.compare_digest(access_key, credentials.access_key) or service != credentials.service:
        raise BadSignature("the access key or the service is not ours")
    at = header("x-amz-date") or ""
    _check_time(at, day, now)
    headers = {name: header(name) for name in names.split(";")}
    present = {name: value for name, value in headers.items() if value is not None}
    if len(present) != len(headers) or not headers.keys() >= _NEEDED:
        raise BadSignature("a signed header is missing, or one that must be signed is not")
    path, _, query = target.partition("?")
    owner = Credentials(access_key, credentials.secret_key, region, service)
    wanted = _signature(owner, method, path, query, present, names, body, at)
    if not hmac.compare_digest(wanted, given):
        raise BadSignature("the signature does not match")


def _check_time(at: str, day: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(at, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise BadSignature("X-Amz-Date is missing or malformed") from None
    if at[:8] != day or abs(now - signed_at) > SKEW:
        raise BadSignature("it was signed too long ago, or by a clock that is off")


def _signature(
    credentials: Credentials,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    names: str,
    body: bytes,
    at: str,
) -> str:
    canonical = "\n".join(
        (
            method,
            quote(path or "/", safe="/~"),
            _canonical_query(query),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{at[:8]}/{credentials.region}/{credentials.service}/aws4_request"
    text = f"{ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _key(credentials.secret_key, at[:8], credentials.region, credentials.service)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs))


# A day's key is the same for all of its requests.
@lru_cache(maxsize=16)
def _key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret_key.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key

"""Requests as CDNs and web servers log them, for tests: each rendered in every format."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import orjson

from notify_pipeline.receipts.w3c import LEGACY
from tests.receipts.samples import HOUR, query

AGENT = 'News/1 "beta" (iOS; \\ é)'
# What CloudFront encodes in its columns, beside controls, blanks and what is not ASCII.
_ENCODED = "<>\"#%{}|\\^~[]`'"


@dataclass(frozen=True)
class Request:
    """A request as a client made it; the query as it was sent."""

    path: str = "/notification/received"
    query: str = ""
    at: datetime = HOUR + timedelta(minutes=5, seconds=1)
    method: str = "GET"
    status: int = 204
    agent: str = AGENT
    n: int = 0


def beacon(path: str = "/notification/received", **more: object) -> Request:
    """A beacon of ours."""
    return replace(Request(path, query()), **more)  # type: ignore[arg-type]


def fastly(request: Request) -> bytes:
    """A line of JSON."""
    return orjson.dumps(
        {
            "datetime": request.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "event": request.path,
            "querystring": request.query,
            "method": request.method,
            "status": request.status,
            "user_agent": request.agent,
            "n": request.n,
        }
    )


def columns(request: Request) -> dict[str, str]:
    """A request as CloudFront's columns."""
    at = request.at.astimezone(UTC)
    more = {
        "date": f"{at:%Y-%m-%d}",
        "time": f"{at:%H:%M:%S}",
        "timestamp(ms)": str(int(at.timestamp()) * 1000),
        "cs-method": request.method,
        "cs-uri-stem": encoded(request.path),
        "sc-status": f"{request.status:03d}",
        "cs-uri-query": encoded(request.query) or "-",
        "cs(User-Agent)": encoded(request.agent),
        "x-edge-request-id": f"id-{request.n}==",
    }
    return dict.fromkeys(LEGACY.split(), "-") | more


def cloudfront(request: Request, names: str = LEGACY) -> bytes:
    """A line of a standard log."""
    values = columns(request)
    return "\t".join(values[name] for name in names.split()).encode()


def cloudfront_json(request: Request) -> bytes:
    """A line of a standard log in JSON."""
    return orjson.dumps(columns(request))


def header(names: str = LEGACY) -> bytes:
    """The two lines that a standard log begins with."""
    return b"#Version: 1.0\n#Fields: " + names.encode()


def combined(request: Request, hours: int = 0, *, common: bool = False, apache: bool = False) -> bytes:
    """A line of the combined or common format, in a server's zone."""
    stamp = request.at.astimezone(timezone(timedelta(hours=hours))).strftime("%d/%b/%Y:%H:%M:%S %z")
    target = f"{request.path}?{request.query}" if request.query else request.path
    escape = _apache if apache else _nginx
    tail = "" if common else f' "-" "{escape(request.agent)}"'
    line = f'"{request.method} {escape(target)} HTTP/2.0" {request.status} 0{tail}'
    return f"203.0.113.{request.n % 256} - - [{stamp}] {line}".encode()


def encoded(text: str) -> str:
    """Encode as CloudFront does: the percent sign too."""
    return "".join(
        quote(char, safe="") if char in _ENCODED or not 32 < ord(char) < 127 else char for char in text
    ).replace("~", "%7E")


def _nginx(text: str) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02X}" for byte in text.encode())


def _apache(text: str) -> str:
    return "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
        for byte in text.encode()
    )

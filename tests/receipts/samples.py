"""Log lines and files for tests."""

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import orjson

HOUR = datetime(2026, 11, 21, 6, tzinfo=UTC)


def delivery_id(name: str) -> str:
    """Return a well-formed delivery id."""
    return hashlib.blake2b(name.encode(), digest_size=20).hexdigest()


def query(notification: str = "n1", who: str = "a", platform: str = "ios", provider: str = "apns") -> str:
    """Return a beacon's query string."""
    fields = {"notificationId": notification, "platform": platform, "provider": provider, "d": delivery_id(who)}
    return urlencode(fields)


def line(
    querystring: str | None = None,
    event: str = "/notification/received",
    at: datetime = HOUR + timedelta(minutes=5, seconds=1, milliseconds=25),
    **more: object,
) -> bytes:
    """Return a log line."""
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"datetime": stamp, "event": event, "querystring": querystring or query(), **more})


def log(*lines: bytes, compress: bool = True) -> bytes:
    """Return a log file."""
    content = b"".join(one + b"\n" for one in lines)
    return gzip.compress(content, mtime=0) if compress else content

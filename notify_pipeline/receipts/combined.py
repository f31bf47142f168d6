r"""Apache's and NGINX' combined and common log formats, parsed exactly.

Belongs here: what a line means. Does not belong here: what a request means (``lines``), anything vectorised.

A line is ``host ident user [21/Nov/2026:06:33:00 +0100] "GET /path?query HTTP/1.1" 204 0``, with whatever else before
the time or after the size: referer and user agent make it the combined format. What a client sent is escaped within its
quotes: NGINX writes ``\x22``, Apache ``\"``. https://nginx.org/en/docs/http/ngx_http_log_module.html,
https://httpd.apache.org/docs/2.4/mod/mod_log_config.html
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from notify_pipeline.core.ids import to_micros
from notify_pipeline.receipts.lines import (
    EVENTS,
    OTHER,
    Event,
    LineRefusedError,
    Other,
    Reason,
    as_text,
    event_of,
    is_beacon,
    is_blank,
    parse_time,
)

STAMP_OPENS: Final = " ["
STAMP_CLOSES: Final = "] "
# Behind the quote that opens the request: the request, its status and the bytes sent, and anything after a blank.
_REST = re.compile(r'((?:[^"\\]|\\.)*)" ([0-9]{3}|-) (?:[0-9]+|-)(?: .*)?', re.DOTALL)
_CLF = re.compile(r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})")
_MONTHS: Final = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)  # noqa: SIM905
}
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_LETTERS: Final = {b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f"}
# A proxy is asked with the whole address.
_ORIGIN = re.compile(r"\Ahttps?://[^/?]*")
_MINUTES_PER_HOUR: Final = 60
_MAX_OFFSET: Final = timedelta(hours=24)


def parse_combined(raw: bytes, latest: int) -> Event | Other:
    """Parse one line, as ``lines.parse_line`` does.

    Args:
        raw: The line without its newline.
        latest: The last moment that its file can hold, microseconds since the epoch.

    Returns:
        The event, or ``OTHER`` for other traffic, what is no HTTP request at all, and a blank line.

    Raises:
        LineRefusedError: The line belongs in quarantine.
    """
    if is_blank(raw):
        return OTHER
    before, _, rest = as_text(raw).partition('"')
    match = _REST.fullmatch(rest)
    opens = before.rfind(STAMP_OPENS)
    if match is None or opens < 0 or not before.endswith(STAMP_CLOSES):
        raise LineRefusedError(Reason.BROKEN_LINE)
    method, path, query = _request(match[1])
    event = EVENTS.get(path)
    if event is None or not is_beacon(method, match[2]):
        return OTHER
    if query is None:
        raise LineRefusedError(Reason.BAD_ENCODING)
    stamp = before[opens + len(STAMP_OPENS) : -len(STAMP_CLOSES)]
    return event_of(event, query, stamp, parse_stamp(stamp), latest)


def parse_stamp(stamp: str) -> int | None:
    """Return microseconds since the epoch of a time as these logs have it, or in ISO 8601."""
    match = _CLF.fullmatch(stamp)
    if match is None:
        return parse_time(stamp)
    day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if month not in _MONTHS or int(minutes) >= _MINUTES_PER_HOUR or offset >= _MAX_OFFSET:
        return None
    try:
        local = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return to_micros(local) + (-1 if sign == "+" else 1) * int(offset.total_seconds()) * 1_000_000


def _request(quoted: str) -> tuple[str, str, str | None]:
    """Return method, path and query string of a request line; an empty path when it is none."""
    sent = _ESCAPE.sub(_unescape, quoted.encode())
    words = sent.decode("utf-8", "replace").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        return "", "", None
    path, _, query = _ORIGIN.sub("", words[1]).partition("?")
    return words[0], path, None if _is_broken(sent) else query


def _is_broken(sent: bytes) -> bool:
    try:
        sent.decode()
    except UnicodeDecodeError:
        return True
    return False


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return _LETTERS.get(match[2], match[2])

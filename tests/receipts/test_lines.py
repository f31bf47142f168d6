"""What one line means, and why a line is refused."""

import contextlib
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.ids import to_micros
from notify_pipeline.receipts.lines import OTHER, Event, LineRefusedError, Reason, parse_line, parse_time
from tests.receipts.samples import HOUR, delivery_id, line, query

LATEST = to_micros(HOUR + timedelta(hours=2)) - 1


@pytest.mark.parametrize("kind", ["received", "opened", "clicked"])
def test_a_beacon(kind: str) -> None:
    event = parse_line(line(event=f"/notification/{kind}"), LATEST)
    assert isinstance(event, Event)
    assert (event.event, event.notification_id, event.platform, event.provider) == (kind, "n1", "ios", "apns")
    assert event.delivery_id == delivery_id("a")
    assert event.at == to_micros(HOUR + timedelta(minutes=5, seconds=1, milliseconds=25))


@pytest.mark.parametrize(
    ("added", "action"),
    [
        ("action=read.Later_1-2", "read.Later_1-2"),
        ("action=%72ead", "read"),
        ("", None),
        ("action=", None),
        ("action", None),
        ("action=a%20b", None),
        ("action=%ff", None),
        ("action=a%00", None),
        ("action=a%0A", None),
        (f"action={'x' * 65}", None),
        ("action=a&action=a", None),
    ],
)
def test_a_click_counts_whatever_it_says_was_clicked(added: str, action: str | None) -> None:
    event = parse_line(line(f"{added}&{query()}", "/notification/clicked"), LATEST)
    assert isinstance(event, Event)
    assert (event.event, event.delivery_id, event.action) == ("clicked", delivery_id("a"), action)
    other = parse_line(line(f"{added}&{query()}", "/notification/opened"), LATEST)
    assert isinstance(other, Event)
    assert (other.event, other.action) == ("opened", None)


@pytest.mark.parametrize(
    "querystring",
    [
        "?" + query("a/b c"),
        f"d={delivery_id('a')}&provider=apns&platform=ios&notificationId=a%2fb%20c",
        f"x=1&notificationId=a%2Fb+c&platform=i%6Fs&utm=%ff&provider=apns&d={delivery_id('a')}&flag",
    ],
)
def test_order_encoding_and_strangers_in_the_query_do_not_matter(querystring: str) -> None:
    event = parse_line(line(querystring), LATEST)
    assert isinstance(event, Event)
    assert (event.notification_id, event.platform, event.delivery_id) == ("a/b c", "ios", delivery_id("a"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  \r",
        line(event="/"),
        line(event="/notification/receivedx"),
        line(event="/notification/received/"),
        orjson.dumps({"event": "/health"}),
        line("d=nonsense", event="/other"),
    ],
)
def test_other_traffic_is_no_fault(raw: bytes) -> None:
    assert parse_line(raw, LATEST) is OTHER


BAD_LINES = [
    (b"\xff\xfe", Reason.BAD_UTF8),
    (line().replace(b"n1", b"n\xff"), Reason.BAD_UTF8),
    (line().replace(b"n1", b"n\0"), Reason.NUL),
    (b"\0" * 64, Reason.NUL),
    (line(query("a") + "%00").replace(b"%00", b"").replace(b"notificationId=a", b"notificationId=%00"), Reason.NUL),
    (line(pad="x" * 3_000_000), Reason.TOO_LONG),
    (line()[:-1], Reason.BROKEN_JSON),
    (line() + line(), Reason.BROKEN_JSON),
    (b"null", Reason.BROKEN_JSON),
    (b"[]", Reason.BROKEN_JSON),
    (b"<134>syslog", Reason.BROKEN_JSON),
    (b"{}", Reason.MISSING_FIELD),
    (orjson.dumps({"event": 5}), Reason.MISSING_FIELD),
    (orjson.dumps({"event": "/notification/received", "querystring": query()}), Reason.MISSING_FIELD),
    (orjson.dumps({"event": "/notification/received", "datetime": "2026-11-21T06:00:00Z"}), Reason.MISSING_FIELD),
    (line("platform=ios&provider=apns&d=" + delivery_id("a")), Reason.MISSING_FIELD),
    (line("notificationId=&platform=ios&provider=apns&d=" + delivery_id("a")), Reason.MISSING_FIELD),
    (line("notificationId=n1&platform=ios&provider=apns"), Reason.MISSING_FIELD),
    (line(query() + "&platform=android"), Reason.REPEATED_FIELD),
    (line(query().replace("n1", "%ff")), Reason.BAD_ENCODING),
    (line(query(platform="windows")), Reason.UNKNOWN_PLATFORM),
    (line(query(platform="iOS")), Reason.UNKNOWN_PLATFORM),
    (line(query() + "0"), Reason.BAD_DELIVERY_ID),
    (line(query()[:-1]), Reason.BAD_DELIVERY_ID),
    (line(query()[:-1] + "g"), Reason.BAD_DELIVERY_ID),
    (line(query().replace(delivery_id("a"), delivery_id("a").upper())), Reason.BAD_DELIVERY_ID),
    (line(at=HOUR + timedelta(hours=2)), Reason.FUTURE_TIME),
    (line(at=datetime(2099, 1, 1, tzinfo=UTC)), Reason.FUTURE_TIME),
    (line().replace(b"T06:05", b"T06:65"), Reason.BAD_TIME),
    (line().replace(b"2026-11-21", b"2026-02-30"), Reason.BAD_TIME),
    (
        orjson.dumps({"datetime": "yesterday", "event": "/notification/received", "querystring": query()}),
        Reason.BAD_TIME,
    ),
]


@pytest.mark.parametrize(("raw", "reason"), BAD_LINES, ids=lambda value: str(value)[:40])
def test_bad_lines(raw: bytes, reason: Reason) -> None:
    with pytest.raises(LineRefusedError) as refused:
        parse_line(raw, LATEST)
    assert refused.value.reason is reason


@given(st.datetimes(timezones=st.timezones()), st.sampled_from(["T", " "]), st.integers(0, 6))
def test_times_are_exact(moment: datetime, separator: str, digits: int) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    if offset.total_seconds() % 60:  # zones before 1900 had seconds; logs have none
        moment = moment.astimezone(UTC)
    moment = moment.replace(microsecond=moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    text = moment.replace(microsecond=0).isoformat(separator)
    stamp, zone = text[:19], text[19:]
    fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
    assert parse_time(f"{stamp}{fraction}{zone}") == to_micros(moment)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2026-11-21T06:00:00", "2026-11-21T06:00:00Z"),
        ("2026-11-21 06:00:00 UTC", "2026-11-21T06:00:00Z"),
        ("2026-11-21T07:30:00+0130", "2026-11-21T06:00:00Z"),
        ("2026-11-21T06:00:00.1234567Z", "2026-11-21T06:00:00.123456Z"),
    ],
)
def test_forms_of_time(text: str, same_as: str) -> None:
    assert parse_time(text) == parse_time(same_as) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T06:00",
        "2026-11-21T24:00:00Z",
        "2026-11-21T06:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-21T06:00:00Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert parse_time(text) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_other_or_refused(raw: bytes) -> None:
    with contextlib.suppress(LineRefusedError):
        parse_line(raw, LATEST)

"""Every format says the same of the same requests, and is parsed in vectors exactly as line by line."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.vocabulary import LogFormat
from notify_pipeline.receipts import vectors
from notify_pipeline.receipts.combined import parse_combined, parse_stamp
from notify_pipeline.receipts.files import parse_file
from notify_pipeline.receipts.formats import Parsers, detect
from notify_pipeline.receipts.lines import OTHER, Event, LineRefusedError, Other, parse_line
from notify_pipeline.receipts.w3c import LEGACY, LEGACY_COLUMNS, Columns, columns_of, parse_cloudfront_json, parse_w3c
from tests.examples import examples
from tests.receipts import requests
from tests.receipts.requests import Request, beacon, cloudfront, cloudfront_json, combined, fastly, header
from tests.receipts.samples import HOUR, delivery_id, query
from tests.receipts.test_fast import queries

LATEST = to_micros(HOUR + timedelta(hours=2)) - 1
V2 = "sc-status cs-uri-query c-ip cs-method cs-uri-stem cs(User-Agent) time date"
MILLIS = "timestamp(ms) cs-uri-stem cs-uri-query"


def said(parse: Callable[[], Event | Other]) -> Any:
    """Return what a line says of a beacon, None for other traffic, or why it is refused."""
    try:
        event = parse()
    except LineRefusedError as refused:
        return refused.reason.value
    return tuple(getattr(event, name) for name in vectors.EVENT_COLUMNS) if isinstance(event, Event) else None


EVERY_FORMAT: dict[str, Callable[[Request], Event | Other]] = {
    "fastly": lambda request: parse_line(fastly(request), LATEST),
    "cloudfront": lambda request: parse_w3c(cloudfront(request), LEGACY_COLUMNS, LATEST),
    "cloudfront v2": lambda request: parse_w3c(cloudfront(request, V2), Columns.of(V2.split()), LATEST),
    "cloudfront json": lambda request: parse_cloudfront_json(cloudfront_json(request), LATEST),
    "nginx": lambda request: parse_combined(combined(request, 2), LATEST),
    "common": lambda request: parse_combined(combined(request, common=True), LATEST),
    "apache": lambda request: parse_combined(combined(request, -3, apache=True), LATEST),
}


@st.composite
def any_requests(draw: st.DrawFn) -> Request:
    """Requests of ours and of others, as clients may make them."""
    kind = draw(st.sampled_from(["received", "opened", "clicked", "clicked", "receivedx"]))
    path = draw(st.sampled_from([f"/notification/{kind}"] * 8 + ["/", "/a%20b", "/notification%2Freceived"]))
    return Request(
        path,
        draw(queries()).removeprefix("?") if draw(st.integers(0, 19)) else "",
        HOUR + timedelta(seconds=draw(st.integers(-3_600, 7_300))),
        draw(st.sampled_from(["GET"] * 6 + ["POST", "HEAD", "OPTIONS"])),
        draw(st.sampled_from([204] * 6 + [200, 304, 0, 403, 404, 499, 503])),
        draw(st.sampled_from([requests.AGENT, "App/1", "a b", "-"])),
        draw(st.integers(0, 300)),
    )


@settings(max_examples=examples(200), deadline=None)
@given(any_requests())
def test_every_format_says_the_same_of_a_request(request: Request) -> None:
    if not request.query.isascii() or not request.status >= 100:
        request = replace(request, status=204)
    told = {name: said(lambda parse=parse: parse(request)) for name, parse in EVERY_FORMAT.items()}  # type: ignore[misc]
    assert len(set(told.values())) == 1, told


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_a_beacon_is_a_request_that_was_answered(name: str) -> None:
    parse = EVERY_FORMAT[name]
    for kind in ("received", "opened", "clicked"):
        event = parse(beacon(f"/notification/{kind}", query=f"{query('a~b')}&action=read"))
        assert isinstance(event, Event)
        assert (event.event, event.notification_id, event.delivery_id) == (kind, "a~b", delivery_id("a"))
        assert (event.at, event.action) == (to_micros(beacon().at), "read" if kind == "clicked" else None)
    assert isinstance(parse(beacon(method="POST", status=200)), Event)
    assert isinstance(parse(beacon(status=499)), Event), "the client did not wait for the answer"
    for change in ({"status": 403}, {"status": 503}, {"method": "HEAD"}, {"method": "OPTIONS"}, {"path": "/x"}):
        assert parse(beacon(**change)) is OTHER


def test_cloudfront_encodes_what_was_encoded_already() -> None:
    raw = cloudfront(beacon(query=query("a/b c%&=ü")))
    assert b"notificationId=a%252Fb" in raw
    event = parse_w3c(raw, LEGACY_COLUMNS, LATEST)
    assert isinstance(event, Event)
    assert event.notification_id == "a/b c%&=ü"
    assert isinstance(parse_w3c(cloudfront(beacon()).replace(b"\t204\t", b"\t000\t"), LEGACY_COLUMNS, LATEST), Event)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (cloudfront(beacon())[:200], "broken_line"),
        (cloudfront(beacon()) + b"\tmore", "broken_line"),
        (cloudfront(beacon(query="")), "missing_field"),
        (cloudfront(beacon()).replace(b"06:05:01", b"06:65:01"), "bad_time"),
        (cloudfront(beacon(query="")).replace(b"GET\t-\t/notification/received\t204\t-\t", b"\0"), "nul"),
        (cloudfront(beacon(query="notificationId=%ff")), "bad_encoding"),
        (cloudfront(beacon()).replace(b"notificationId=n1", b"notificationId=%FF"), "bad_encoding"),
        (cloudfront(beacon()) + b"\xff", "bad_utf8"),
        (b"#Fields: whatever", None),
        (b"", None),
    ],
)
def test_lines_of_cloudfront_that_say_nothing(raw: bytes, reason: str | None) -> None:
    assert said(lambda: parse_w3c(raw, LEGACY_COLUMNS, LATEST)) == reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (combined(beacon())[:100], "broken_line"),
        (b'203.0.113.1 - - "GET / HTTP/1.1" 200 0', "broken_line"),
        (combined(beacon()).replace(b"/Nov/", b"/Nov-"), "bad_time"),
        (combined(beacon()).replace(b"+0000", b"+0060"), "bad_time"),
        (combined(beacon()).replace(b"21/Nov", b"31/Nov"), "bad_time"),
        (b'203.0.113.1 - - [21/Nov/2026:06:05:01 +0000] "-" 400 0 "-" "-"', None),
        (b'203.0.113.1 - - [21/Nov/2026:06:05:01 +0000] "\\x16\\x03\\x01" 400 157 "-" "-"', None),
        (
            b'203.0.113.1 - - [21/Nov/2026:06:05:01 +0000] "GET /notification/received?\\xFF HTTP/1.1" 204 -',
            "bad_encoding",
        ),
    ],
)
def test_lines_of_the_combined_format_that_say_nothing(raw: bytes, reason: str | None) -> None:
    assert said(lambda: parse_combined(raw, LATEST)) == reason


def test_a_name_in_front_cannot_pass_for_a_time() -> None:
    raw = combined(beacon()).replace(b"- - [", b"- [01/Jan/2020:00:00:00 +0000] \\x22GET [")
    event = parse_combined(raw, LATEST)
    assert isinstance(event, Event)
    assert event.at == to_micros(beacon().at)
    assert parse_stamp("21/Nov/2026:07:05:01 +0100") == parse_stamp("2026-11-21T06:05:01Z") == event.at


def expected(lines: list[bytes], log_format: LogFormat) -> tuple[list[Any], list[tuple[int, str]], int]:
    """Parse line by line."""
    columns, told = LEGACY_COLUMNS, []
    for raw in lines:
        columns = columns_of(raw) or columns
        rule = {
            LogFormat.CLOUDFRONT: lambda raw=raw, columns=columns: parse_w3c(raw, columns, LATEST),
            LogFormat.CLOUDFRONT_JSON: lambda raw=raw: parse_cloudfront_json(raw, LATEST),
            LogFormat.COMBINED: lambda raw=raw: parse_combined(raw, LATEST),
        }[log_format]
        told.append(said(rule))  # type: ignore[arg-type]
    refused = [(number, one) for number, one in enumerate(told) if isinstance(one, str)]
    return [one for one in told if isinstance(one, tuple)], refused, told.count(None)


def check(lines: list[bytes], log_format: LogFormat, parsers: Parsers | None = None) -> None:
    """Compare the two ways."""
    parsed = (parsers or Parsers()).of(log_format).parse(b"".join(raw + b"\n" for raw in lines), LATEST)
    got = (parsed.events.rows(), [(one.line, one.reason.value) for one in parsed.refused], parsed.other)
    assert got == expected(lines, log_format)
    assert parsed.lines == len(lines)


@pytest.fixture
def always_vectorised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few lines are otherwise not worth it."""
    monkeypatch.setattr(vectors, "FEW", 0)


GARBAGE = st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"")) | st.sampled_from(
    [
        b"",
        b"\x1f\x8b\x08",
        b"null",
        b'"""',
        b"#",
        b"#Fields: date time",
        b"\t" * 32,
        b'[] "" 204 0',
        b"\x01\x02&d=",
        b"\r\r",
    ]
)


@st.composite
def logs(draw: st.DrawFn, log_format: LogFormat) -> list[bytes]:
    """Logs of a format with garbage, damaged and odd lines among them."""
    found = []
    for request in draw(st.lists(any_requests(), max_size=25)):
        if log_format is LogFormat.CLOUDFRONT:
            raw = cloudfront(request, draw(st.sampled_from([LEGACY] * 6 + [V2, MILLIS])))
        elif log_format is LogFormat.COMBINED:
            common, apache = draw(st.integers(0, 9)) == 0, draw(st.integers(0, 9)) == 0
            raw = combined(request, draw(st.sampled_from([0, 0, 0, 1, -12])), common=common, apache=apache)
        else:
            raw = cloudfront_json(request)
        kind = draw(st.integers(0, 19))
        if kind == 0:
            raw = raw[: draw(st.integers(0, len(raw)))]
        elif kind == 1:
            raw = raw.replace(b"n1", draw(st.sampled_from([b"\x01", b"\x02", b"%02", b"\xc3\xbc", b"\\", b'"', b"\t"])))
        elif kind == 2:
            raw = draw(GARBAGE)
        elif kind == 3 and log_format is LogFormat.CLOUDFRONT:
            raw = header(draw(st.sampled_from([LEGACY, V2, MILLIS, "date time", f"{MILLIS} {LEGACY}"])))
        found.append(raw.rstrip(b"\r"))
    lines = b"\n".join(found).split(b"\n") if found else []
    return [line.rstrip(b"\r") for line in lines] * draw(st.integers(1, 4))


@pytest.mark.usefixtures("always_vectorised")
@pytest.mark.parametrize("log_format", [LogFormat.CLOUDFRONT, LogFormat.COMBINED, LogFormat.CLOUDFRONT_JSON])
def test_both_ways_agree(log_format: LogFormat) -> None:
    parsers = Parsers()

    @settings(max_examples=examples(150), deadline=None)
    @given(logs(log_format))
    def agree(lines: list[bytes]) -> None:
        check(lines, log_format, parsers)

    agree()


@pytest.mark.usefixtures("always_vectorised")
@pytest.mark.parametrize("crowd", [3, 1000])
def test_a_usual_log_leaves_nothing_to_the_slow_way(monkeypatch: pytest.MonkeyPatch, crowd: int) -> None:
    rest: list[int] = []
    one_by_one = vectors.one_by_one
    monkeypatch.setattr(
        "notify_pipeline.receipts.vectors.one_by_one",
        lambda frame, rule: rest.append(frame.height) or one_by_one(frame, rule),
    )
    made = []
    for n in range(400):
        kind = ("received", "opened", "clicked")[n % 7 % 3]
        action = f"&action=button-{n % 2}" if kind == "clicked" and n % 5 else ""
        made.append(
            beacon(f"/notification/{kind}", query=query(f"n{n % crowd}", str(n)) + action, n=n, agent=f"App {n}")
        )
        made.append(Request("/article", f"x={n}", n=n, agent="App"))
        made.append(beacon(status=403 if n % 2 else 204, method="GET" if n % 2 else "OPTIONS", agent="App", n=n))
    counted = [one for one in made if one.path != "/article" and one.status < 400 and one.method == "GET"]
    for log_format, lines in (
        (LogFormat.CLOUDFRONT, [*header().split(b"\n"), *map(cloudfront, counted)]),
        (LogFormat.CLOUDFRONT, [*header(V2).split(b"\n"), *(cloudfront(one, V2) for one in counted)]),
        (LogFormat.CLOUDFRONT, [*header(MILLIS).split(b"\n"), *(cloudfront(one, MILLIS) for one in counted)]),
        (LogFormat.COMBINED, [combined(one, 1) for one in counted + made[1::3]]),
        (LogFormat.COMBINED, [combined(one, common=True) for one in counted]),
    ):
        check(lines, log_format)
    assert sum(rest) <= 6, "but for headers"


def test_a_files_first_lines_tell_its_format() -> None:
    assert detect([b"", *header().split(b"\n")]) is LogFormat.CLOUDFRONT
    assert detect([cloudfront(beacon())]) is LogFormat.CLOUDFRONT
    assert detect([b"\xff garbage", combined(beacon())]) is LogFormat.COMBINED
    assert detect([combined(beacon(), common=True)]) is LogFormat.COMBINED
    assert detect([fastly(beacon())]) is LogFormat.FASTLY
    assert detect([cloudfront_json(beacon())]) is LogFormat.CLOUDFRONT_JSON
    assert detect([b"{torn"]) is LogFormat.FASTLY
    assert detect([b"garbage"] * 500) is LogFormat.FASTLY
    assert detect([]) is LogFormat.FASTLY


def test_a_file_is_of_the_format_that_is_set_and_its_header_holds_for_its_later_blocks() -> None:
    lines = b"\n".join([*header(V2).split(b"\n"), *(cloudfront(beacon(n=n), V2) for n in range(50))])
    assert parse_file("a.log", lines, HOUR).events.num_rows == 50
    wrong = parse_file("a.log", lines, HOUR, log_format=LogFormat.COMBINED)
    assert (wrong.events.num_rows, wrong.quarantine.num_rows) == (0, 52)
    parsers = Parsers()
    assert parse_file("a.log", lines, HOUR, parsers).events.num_rows == 50
    headless = b"\n".join(cloudfront(beacon(n=n)) for n in range(50))
    assert parse_file("b.log", headless, HOUR, parsers).events.num_rows == 50, "another file's header is not its own"
    parser = parsers.of(LogFormat.CLOUDFRONT)
    parser.parse(header(V2), LATEST)
    assert parser.parse(cloudfront(beacon(), V2), LATEST).events.height == 1

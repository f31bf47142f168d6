"""The vectorised parse gives exactly what the line-by-line parse gives, for any mix of lines."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.ids import to_micros
from notify_pipeline.receipts import vectors
from notify_pipeline.receipts.fast import BlockParser
from notify_pipeline.receipts.lines import Event, LineRefusedError, parse_line
from tests.examples import examples
from tests.receipts.samples import HOUR, delivery_id, line, query
from tests.receipts.test_lines import BAD_LINES, LATEST


def expected(lines: list[bytes]) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]], int]:
    """Parse line by line."""
    events, refused, other = [], [], 0
    for number, raw in enumerate(lines):
        try:
            event = parse_line(raw, LATEST)
        except LineRefusedError as error:
            refused.append((number, error.reason.value))
            continue
        if isinstance(event, Event):
            events.append(tuple(getattr(event, name) for name in vectors.EVENT_COLUMNS))
        else:
            other += 1
    return events, refused, other


def check(lines: list[bytes], parser: BlockParser | None = None) -> None:
    """Compare the two ways."""
    data = b"".join(raw + b"\n" for raw in lines)
    parsed = (parser or BlockParser()).parse(data, LATEST)
    got = (parsed.events.rows(), [(r.line, r.reason.value) for r in parsed.refused], parsed.other)
    assert got == expected(lines)
    assert parsed.lines == len(lines)


@pytest.fixture(autouse=True)
def always_vectorised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few lines are otherwise not worth a layout."""
    monkeypatch.setattr(vectors, "FEW", 0)


ids = st.integers(0, 5).map(lambda n: delivery_id(str(n)))
notifications = st.sampled_from(["n1", "N-2_.~", "a/b c", "ü", "a&b=c", 'q"q', "back\\slash", "0", "sample", "other"])
# Names of actions, things that are none, and names that look like what is taken out of lines.
actions = (
    st.sampled_from(
        ["read", "Read.later-2_", "", "a b", "ü", "a/b", "x" * 65, "notificationId=n1", "%zz", "2001-02-03T04:05:06Z"]
    )
    | ids
)
EVENTS = ("received", "opened", "clicked", "clicked", "x")
moments = st.integers(-3_600_000, 7_300_000).map(lambda ms: HOUR + timedelta(milliseconds=ms))


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Query strings of ours, mostly well formed."""
    fields = [
        ("notificationId", draw(notifications)),
        ("platform", draw(st.sampled_from(["ios", "android", "web", "mars"]))),
        ("provider", draw(st.sampled_from(["apns", "fcm"]))),
        ("d", draw(ids)),
    ]
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    if draw(st.integers(0, 9)) == 0:
        fields.append(
            draw(st.sampled_from([("x", delivery_id("x")), ("d", delivery_id("y")), ("xnotificationId", "n1")]))
        )
    if draw(st.integers(0, 2)) == 0:
        fields.insert(draw(st.integers(0, len(fields))), ("action", draw(actions)))
    if draw(st.integers(0, 19)) == 0:
        fields.append(("action", draw(actions)))
    if draw(st.integers(0, 9)) == 0:
        fields = fields[1:]
    return draw(st.sampled_from(["", "?"])) + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Log lines of ours in all forms, and of other traffic."""
    timespec = draw(st.sampled_from(["seconds", "milliseconds", "microseconds"]))
    stamp = draw(moments).isoformat(timespec=timespec)
    fields: list[tuple[str, Any]] = [
        ("datetime", draw(st.sampled_from([stamp, stamp.replace("+00:00", "Z"), stamp[:-6], "never"]))),
        ("event", draw(st.sampled_from([f"/notification/{e}" for e in EVENTS] + ["/", "/é"]))),
        ("querystring", draw(queries())),
    ]
    tails: list[tuple[str, Any]] = [
        ("status", draw(st.sampled_from([204, "204", 404, "503", 499, None, 0, 204.5, True, "ok"]))),
        ("response_status", draw(st.sampled_from([200, 500, "04"]))),
        (draw(st.sampled_from(["method", "request_method"])), draw(st.sampled_from(["GET", "POST", "HEAD", None, 1]))),
        ("user_agent", draw(st.text(max_size=5))),
        ("event", "/notification/opened"),
        ("datetime", "2026-11-21T06:00:00Z"),
        ("ip", "10.0.0.0"),
        ("deep", {"event": "/notification/received"}),
        ("ratio", 0.25),
        ("id", delivery_id("tail")),
    ]
    if draw(st.booleans()):
        fields += draw(st.lists(st.sampled_from(tails), max_size=3))
    if draw(st.integers(0, 9)) == 0:
        fields = draw(st.permutations(fields))
    colon, comma = draw(st.sampled_from([(b":", b","), (b": ", b", "), (b":", b",")]))
    members = comma.join(orjson.dumps(name) + colon + orjson.dumps(value) for name, value in fields)
    raw = b"{" + members + b"}"
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 19)) == 0 else raw


garbage = st.sampled_from([raw for raw, _ in BAD_LINES]) | st.binary(max_size=60).map(
    lambda raw: raw.replace(b"\n", b"")
)
# A trailing \r belongs to the line's end, to whichever way reads it.
any_line = (records() | records() | records() | garbage).map(lambda raw: raw.rstrip(b"\r"))


@pytest.mark.parametrize(
    "magic", [b"\x1f\x8b\x08", b"(\xb5/\xfd", b"x^", b"x\x01", b"x\x9c", b"x\xda", b"BZh9", b"\xfd7zXZ\x00"], ids=repr
)
def test_a_line_that_begins_like_a_compressed_file_is_a_line(magic: bytes) -> None:
    check([magic, line(query())])
    check([magic + b"rest"] * 3)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(any_line, max_size=30), st.integers(1, 10))
def test_both_ways_agree(lines: list[bytes], times: int) -> None:
    check(lines * times)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(any_line, max_size=10), max_size=6))
def test_what_was_learnt_changes_nothing(blocks: list[list[bytes]]) -> None:
    parser = BlockParser()
    for lines in blocks:
        check(lines, parser)


def test_texts_that_look_like_slots() -> None:
    trick = [
        line(
            f"notificationId=n&platform=ios&provider=apns&d=0123456789abcdef0123456789abcdef01234567&x={delivery_id('a')}"
        ),
        line(f"xnotificationId=evil&notificationId=sample&platform=ios&provider=apns&d={delivery_id('a')}"),
        line(query(), note=delivery_id("b")),
        line(query() + "&d"),
        line(query() + f"&action={delivery_id('a')}", "/notification/clicked"),
        line(f"action={delivery_id('a')}&{query()}", "/notification/clicked"),
        line(f"{query('sample')}&action=sample", "/notification/clicked"),
        line(f"{query()}&action=0123456789abcdef0123456789abcdef01234567", "/notification/clicked"),
        b"\x01" + line(),
        line().replace(b"n1", b"n\x01"),
        line().replace(b"n1", b"n\x02"),
    ]
    plain = [line(query(f"n{n}", str(n))) for n in range(40)]
    check(plain + trick * 20)
    check(trick * 20 + plain)
    for one in trick:
        check([one] * 30)


AGENT: dict[str, Any] = {"status": 204, "user_agent": "App/1", "client_ip": "10.0.0.0", "pop": "LCY"}
# Each is good JSON, has the keys of AGENT in another sense than it, or is nearly JSON.
TAILS = [
    b',"status":204,"user_agent":","client_ip":"a","pop":"b"}',
    b',"status":204,"user_agent":"","client_ip":","pop":"b"}',
    b',"status":204,"user_agent":",","client_ip":",","pop":":"}',
    b',"status":204,"user_agent":"a","client_ip":"b","pop":"}',
    b',"status":204,"user_agent":"a","client_ip":"b","pop":""}',
    b',"status":204,"user_agent":"a","b","client_ip":"b","pop":"c"}',
    b',"status":204,"user_agent":"a"b","client_ip":"b","pop":"c"}',
    b',"status":204,"user_agent":"a","pop":"b","client_ip":"c"}',
    b',"status":204,"user_agent":"a","client_ip":"b","pop":"c","pop":"d"}',
    b',"status":204,"user_agent":"a","client_ip":"b","pop":"c","status":"404"}',
    b',"status":204,"user_agent":"a","client_ip":"b","pop":"c","event":"/"}',
    b',"status":204,"user_agent":"a","client_ip":"b"}',
    b',"status":204,"user_agent":"a","client_ip":"b","pop":"c"}}',
    b',"status":204,"user_agent":"a\\","client_ip":"b","pop":"c"}',
    b',"status":204,"user_agent":"a\\"","client_ip":"b","pop":"c"}',
    b',"status":204,"user_agent":"a\tb","client_ip":"b","pop":"c"}',
    b',"status":204,"user_agent":"a\rb","client_ip":"b","pop":"c"}',
    b',"status":404,"user_agent":"a","client_ip":"b","pop":"c"}',
    b',"client_ip":"b","pop":"c","status":204,"user_agent":"a"}',
    b',"client_ip":"b","status":204,"user_agent":"a","pop":"c"}',
    b',"client_ip":"b","pop":"c","status":204,"user_agent":"a","x":"}',
    b',"status":204,"user_agent":"a","status":204,"user_agent":"a","client_ip":"b","pop":"c"}',
]
USUAL = [line(query(f"n{n % 3}", str(n)), **{**AGENT, "user_agent": f"App/{n}"}) for n in range(40)]


def test_lines_may_end_as_windows_writes_them() -> None:
    unix, windows = (BlockParser().parse(b"".join(raw + end for raw in USUAL), LATEST) for end in (b"\n", b"\r\n"))
    assert windows.events.equals(unix.events)
    assert (windows.lines, windows.refused) == (len(USUAL), [])


def test_texts_are_looked_for_instead_of_a_form() -> None:
    parser = BlockParser()
    check(USUAL, parser)
    assert parser._layouts[0].texts == (b'","client_ip":"', b'","pop":"')


@pytest.mark.parametrize("tail", [*TAILS, b"".join(TAILS)], ids=range(len(TAILS) + 1))
def test_a_tail_with_the_same_texts_is_read_exactly(tail: bytes) -> None:
    trick = (line()[:-1] + tail).rstrip(b"\r")
    check([*USUAL, trick])
    # Lines whose quotes together are as many as they should be.
    check([trick, *USUAL, USUAL[0].replace(b"App/0", b'App"0'), USUAL[1].replace(b'"pop":"', b'"pop":')])
    check([trick, *USUAL, *(line()[:-1] + other for other in TAILS)])


def test_texts_before_the_query_are_not_those_behind_it() -> None:
    front = line().replace(b',"event"', b',"client_ip":"b","pop":"c","event"', 1)[:-1]
    check([front + b',"status":204,"user_agent":"a' + b'"' * 8 + b'b"}', *USUAL])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A usual line in which something was put in, taken away or doubled."""
    raw = draw(st.sampled_from(USUAL))
    for _ in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(0, len(raw)))
        end = min(len(raw), begin + draw(st.integers(0, 20)))
        put = draw(
            st.sampled_from(
                ['"', '","', '":"', "\\", "\0", "\t", "\r", "{", "}", ",", "é", "\x01", "\x02", "", "x" * 70_000]
            )
        )
        raw = raw[:begin] + (raw[begin:end] * 2 if draw(st.booleans()) else put.encode()) + raw[end:]
    return raw


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(spoilt().map(lambda raw: raw.rstrip(b"\r")), max_size=12))
def test_spoilt_lines_among_usual_ones_are_read_exactly(lines: list[bytes]) -> None:
    check([*USUAL, *lines])


def test_every_notification_of_its_own_takes_the_third_slot() -> None:
    check([line(query(f"single-{n}", str(n)), status=204, user_agent=f"agent {n}") for n in range(500)])


def test_a_usual_log_leaves_nothing_to_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rest: list[int] = []
    one_by_one = vectors.one_by_one
    monkeypatch.setattr(vectors, "one_by_one", lambda frame, rule: rest.append(frame.height) or one_by_one(frame, rule))
    for more in ({}, {"status": 204, "user_agent": "App/1 (iOS; 1)", "client_ip": "10.0.0.0", "pop": "LCY"}):
        lines = []
        for n in range(300):
            platform, provider = ("ios", "apns") if n % 3 else ("android", "fcm")
            kind = ("received", "opened", "clicked")[n % 7 % 3]
            event = f"/notification/{kind}"
            action = f"&action=button-{n % 2}" if kind == "clicked" and n % 5 else ""
            tail = {key: f"{value}{n % 11}" for key, value in more.items()}
            moment = HOUR + timedelta(milliseconds=n)
            lines.append(line(query(f"n{n % 5}", str(n), platform, provider) + action, event, moment, **tail))
            lines.append(line(f"x={n}", "/article", moment, **tail))
        check(lines)
    assert rest == [0, 0]


def test_lines_beyond_the_files_hour_are_refused_in_both_ways() -> None:
    latest = to_micros(HOUR)
    data = b"".join(line(query("n1", str(n)), at=HOUR + timedelta(seconds=n - 20)) + b"\n" for n in range(40))
    parsed = BlockParser().parse(data, latest)
    assert parsed.events.height == 21
    assert [r.reason.value for r in parsed.refused] == ["future_time"] * 19

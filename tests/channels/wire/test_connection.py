"""One connection on bytes: every awkward sequence that a peer may send, and what each request's end is called."""

import struct

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from notify_pipeline.channels.transport import End, NotProcessed, Unknown
from notify_pipeline.channels.wire import frames
from notify_pipeline.channels.wire.connection import Connection
from notify_pipeline.channels.wire.frames import ErrorCode, frame
from notify_pipeline.channels.wire.heads import MAX_HEADER_LIST
from notify_pipeline.channels.wire.replies import CONNECTION_WINDOW, MAX_ANSWER_BYTES, STREAM_WINDOW
from tests.channels.wire.script import (
    HEADERS,
    OK,
    answer,
    block,
    connected,
    data,
    ends,
    goaway,
    head,
    more,
    reset,
    settings,
    taken,
    window,
)


def test_answers_with_and_without_a_body() -> None:
    connection = connected(3)
    connection.receive(head(1, end=True) + head(3, block(("retry-after", " 7 "), status=429)) + head(5))
    connection.receive(data(5, b"b" * 10, end=False) + data(3, b"slow down") + data(5, b"c"))
    assert ends(connection) == {
        1: answer(),
        3: answer(b"slow down", 429, retry_after="7"),
        5: answer(b"b" * 10 + b"c"),
    }
    assert not connection.streams


def test_our_requests_are_what_another_implementation_reads() -> None:
    """``h2`` checks the order of frames, the header blocks and its windows, and raises."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()
    connection: Connection[int] = Connection("peer.example")
    seen: dict[int, tuple[dict[str, str], bytes]] = {}
    for _ in range(5):
        connection.receive(server.data_to_send())
        for _ in range(40):
            number = connection.next_stream
            connection.open(number, f"/r/{number}", HEADERS, b"%05d" % number)
        for event in server.receive_data(connection.take()):
            if isinstance(event, h2.events.RequestReceived):
                seen[event.stream_id] = dict(event.headers), b""  # type: ignore[arg-type]
            elif isinstance(event, h2.events.DataReceived):
                seen[event.stream_id] = seen[event.stream_id][0], event.data
                server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                server.send_headers(event.stream_id, [(":status", "200"), ("n", str(event.stream_id))], end_stream=True)
    connection.receive(server.data_to_send())
    assert sorted(seen) == list(range(1, 400, 2))
    for number, (headers, body) in seen.items():
        assert headers == {
            ":method": "POST",
            ":scheme": "https",
            ":authority": "peer.example",
            ":path": f"/r/{number}",
            **dict(HEADERS),
        }
        assert body == b"%05d" % number
    assert ends(connection) == {number: answer(n=str(number)) for number in seen}


def test_a_request_that_cannot_be_sent_changes_nothing() -> None:
    connection = connected()
    connection.take()
    bad_headers = [(("Upper", "x"),), (("a", "x\r\ny"),), (("connection", "close"),), ((":path", "/"),), (("a", "ä→"),)]
    for path in ("", "r", "/a b", "/ä", "/a\n"):
        with pytest.raises(ValueError, match="path"):
            connection.open(0, path, HEADERS, b"{}")
    for headers in bad_headers:
        with pytest.raises(ValueError, match=r"header|codec"):
            connection.open(0, "/", headers, b"{}")
    with pytest.raises(ValueError, match="body"):
        connection.open(0, "/", HEADERS, b"")
    assert connection.take() == b""
    assert connection.next_stream == 1
    assert not connection.streams


def test_settings_are_acknowledged_and_ping_is_answered() -> None:
    connection = connected()
    taken(connection)
    connection.receive(settings() + frame(frames.PING, 0, 0, b"12345678") + frame(frames.SETTINGS, frames.ACK, 0))
    assert taken(connection) == [
        (frames.SETTINGS, frames.ACK, 0, b""),
        (frames.PING, frames.ACK, 0, b"12345678"),
    ]
    connection.ping()
    assert taken(connection) == [(frames.PING, 0, 0, bytes(8))]
    connection.receive(frame(frames.PING, frames.ACK, 0, bytes(8)))
    assert connection.pongs == 1


def test_we_begin_by_asking_for_no_table_and_no_pushes() -> None:
    connection: Connection[int] = Connection("peer.example")
    assert connection.room == 0, "the peer's settings are not known"
    opening, update = taken(connection)
    values = dict(struct.iter_unpack(">HL", opening[3]))
    assert values == {
        frames.HEADER_TABLE_SIZE: 0,
        frames.ENABLE_PUSH: 0,
        frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
    }
    assert update == (frames.WINDOW_UPDATE, 0, 0, struct.pack(">L", CONNECTION_WINDOW - 65_535))


def test_the_peers_limit_of_streams_is_followed_up_and_down() -> None:
    connection = connected(MAX_CONCURRENT_STREAMS=1)
    assert connection.room == 1
    connection.open(1, "/", HEADERS, b"{}")
    assert connection.room == 0
    connection.receive(settings(MAX_CONCURRENT_STREAMS=100))
    assert connection.room == 99
    for number in range(3, 23, 2):
        connection.open(number, "/", HEADERS, b"{}")
    connection.receive(settings(MAX_CONCURRENT_STREAMS=1))
    assert connection.room == -10
    connection.receive(b"".join(head(number, end=True) for number in range(1, 21, 2)))
    assert connection.room == 0
    connection.receive(head(21, end=True) + settings(MAX_CONCURRENT_STREAMS=0))
    assert connection.room == 0
    assert len(ends(connection)) == 11


def test_header_blocks_in_pieces_padded_and_with_priority() -> None:
    connection = connected(4)
    encoded = block(("x", "1"), ("y", "2"), status=503)
    connection.receive(head(1, encoded[:1], done=False) + more(1, encoded[1:5], done=False) + more(1, encoded[5:]))
    connection.receive(data(1, b"later"))
    connection.receive(head(3, b"", done=False, end=True) + more(3, b"", done=False) + more(3, OK))
    connection.receive(head(5, b"\x03" + OK + b"\0" * 3, end=True, flags=frames.PADDED))
    both = frames.PADDED | frames.HAS_PRIORITY
    connection.receive(head(7, b"\x02" + b"\x80\0\0\x01\x10" + OK + b"\0\0", flags=both))
    connection.receive(frame(frames.PRIORITY, 0, 7, b"\0\0\0\0\x10") + data(7, b"padded", padding=200))
    assert ends(connection) == {1: answer(b"later", 503, x="1", y="2"), 3: answer(), 5: answer(), 7: answer(b"padded")}


def test_informational_answers_and_trailers_are_not_the_answer() -> None:
    connection = connected(2)
    early = block(("link", "</x>"), status=103)
    connection.receive(head(1, block(status=100)) + head(1, early) + head(3, early) + head(1, block(("a", "b"))))
    connection.receive(data(1, b"body", end=False) + head(1, block(("grpc-status", "0"), status=None), end=True))
    connection.receive(head(3, end=True))
    assert ends(connection) == {1: answer(b"body", a="b"), 3: answer()}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (head(1, block(status=100), end=True), Unknown),
        (head(1, block(status=101)), Unknown),
        (head(1, block(status=100)) * 17, Unknown),
        (head(1, block(status=None), end=True), Unknown),
        (head(1, block((":status", "200"))), Unknown),
        (head(1, block((":path", "/"))), Unknown),
        (head(1, block(("a", "b"), (":status", "200"), status=None)), Unknown),
        (head(1, block((":status", "999"), status=None)), Unknown),
        (head(1, block(("Upper", "case")), end=True), Unknown),
        (head(1, block(("content-length", "x"))), Unknown),
        (data(1, b"{}"), Unknown),
        # The verdict is known, and what follows it makes no sense: a success stays one, a refusal had no effect.
        (head(1, block(("content-length", "3"))) + data(1, b"{}"), None),
        (head(1, block(("content-length", "3"), status=500), end=True), NotProcessed),
        (head(1) + head(1, block(status=None)), None),
        (head(1) + head(1, block(), end=True), None),
        (head(1, block(status=404)) + head(1, block(), end=True), NotProcessed),
    ],
)
def test_a_malformed_answer_ends_its_stream_only(sent: bytes, expected: type[End] | None) -> None:
    connection = connected(2)
    taken(connection)
    connection.receive(sent + head(3, end=True))
    found = ends(connection)
    assert found[3] == answer()
    if expected is None:
        assert found[1][0] == 200
    else:
        assert isinstance(found[1], expected), found[1]
    assert taken(connection) == [(frames.RST_STREAM, 0, 1, struct.pack(">L", ErrorCode.PROTOCOL_ERROR))]
    assert not connection.closed


def test_a_reset_is_called_what_it_is() -> None:
    connection = connected(6)
    connection.receive(reset(1, ErrorCode.REFUSED_STREAM) + reset(3, ErrorCode.INTERNAL_ERROR) + reset(5, 0x77))
    connection.receive(head(7) + reset(7, ErrorCode.REFUSED_STREAM) + head(9, end=True) + reset(9, ErrorCode.NO_ERROR))
    connection.receive(head(11, block(status=503)) + data(11, b"tor", end=False) + reset(11, ErrorCode.CANCEL))
    found = ends(connection)
    assert found[1] == NotProcessed("refused", "the peer refused the stream")
    assert found[3] == Unknown("reset", "the peer reset the stream: INTERNAL_ERROR")
    assert found[5] == Unknown("reset", "the peer reset the stream: 0x77")
    assert found[7] == answer()
    assert found[9] == answer()
    assert found[11] == NotProcessed("torn_answer", "status 503, then reset")
    assert not connection.closed


def test_goaway_spares_what_came_before_it() -> None:
    connection = connected(5)
    connection.receive(goaway(frames.LARGEST_STREAM))
    assert connection.draining
    assert connection.room == 0
    assert not connection.ends
    connection.receive(head(1, end=True) + goaway(5, ErrorCode.ENHANCE_YOUR_CALM, b'{"reason":"Shutdown"}'))
    found = ends(connection)
    assert sorted(found) == [1, 7, 9]
    assert found[9] == NotProcessed("goaway", 'the peer said goodbye: ENHANCE_YOUR_CALM \'{"reason":"Shutdown"}\'')
    connection.receive(goaway(7) + head(3, end=True))
    connection.lost("connection_lost", "")
    found = ends(connection)
    assert found[3] == answer()
    assert found[5] == Unknown("connection_lost")


def test_frames_of_streams_that_are_over_pass_and_keep_the_table_right() -> None:
    """A block of a stream given up may insert what later blocks refer to, and its DATA counts for our window."""
    connection = connected(2)
    connection.expire(2)
    inserting = b"\x88\x40\x01a\x01b"  # literal with incremental indexing: a: b
    connection.receive(head(1, inserting) + data(1, b"x" * 16_000) + reset(1, ErrorCode.CANCEL) + window(1, 5))
    connection.receive(head(3, b"\x88\xbe", end=True))  # indexed: entry 62, the first of the dynamic table
    assert ends(connection) == {1: Unknown("timeout", "no answer in time"), 3: answer(a="b")}


def test_a_body_waits_for_the_connections_window() -> None:
    connection = connected(3, body=b"x" * 30_000)
    written = taken(connection)
    assert sum(len(payload) for kind, _, _, payload in written if kind == frames.DATA) == 65_535
    assert connection.room <= 0
    connection.receive(window(0, 10_000))
    assert [(flags, stream, len(payload)) for _, flags, stream, payload in taken(connection)] == [(0, 5, 10_000)]
    connection.receive(window(0, 100_000))
    (rest,) = taken(connection)
    assert rest[:3] == (frames.DATA, frames.END_STREAM, 5)
    assert len(rest[3]) == 90_000 - 75_535
    assert connection.bodies.window == 110_000 - (90_000 - 65_535)
    connection.receive(window(5, 1) + head(1, end=True) + head(3, end=True) + head(5, end=True))
    assert len(ends(connection)) == 3


def test_a_body_waits_for_its_streams_window() -> None:
    connection = connected(1, body=b"0123456789", INITIAL_WINDOW_SIZE=4)
    taken(connection)
    connection.receive(window(1, 1))
    assert taken(connection) == [(frames.DATA, 0, 1, b"4")]
    connection.receive(settings(INITIAL_WINDOW_SIZE=1))  # two below what was sent
    connection.receive(window(1, 3))
    assert [entry for entry in taken(connection) if entry[0] == frames.DATA] == []
    connection.receive(window(1, 1))
    assert taken(connection) == [(frames.DATA, 0, 1, b"5")]
    connection.receive(settings(INITIAL_WINDOW_SIZE=100))
    assert taken(connection)[1:] == [(frames.DATA, frames.END_STREAM, 1, b"6789")]
    connection.open(3, "/", HEADERS, b"x" * 50)
    assert taken(connection)[-1] == (frames.DATA, frames.END_STREAM, 3, b"x" * 50)


def test_an_early_answer_ends_a_body_that_is_still_waiting() -> None:
    connection = connected(1, body=b"x" * 100, INITIAL_WINDOW_SIZE=10)
    taken(connection)
    connection.receive(head(1, block(status=413), end=True) + reset(1, ErrorCode.NO_ERROR) + window(1, 1000))
    assert ends(connection) == {1: answer(status=413)}
    assert taken(connection) == [(frames.RST_STREAM, 0, 1, struct.pack(">L", ErrorCode.CANCEL))]


def test_a_header_block_longer_than_a_frame_is_continued() -> None:
    connection = connected(INITIAL_WINDOW_SIZE=1000)
    taken(connection)
    connection.open(1, "/", (("long", "~" * 40_000),), b"body")
    written = taken(connection)
    assert [(kind, flags) for kind, flags, _, _ in written] == [
        (frames.HEADERS, 0),
        *[(frames.CONTINUATION, 0)] * (len(written) - 3),
        (frames.CONTINUATION, frames.END_HEADERS),
        (frames.DATA, frames.END_STREAM),
    ]
    assert all(len(payload) <= 16_384 for _, _, _, payload in written)


def test_received_data_is_acknowledged_error_bodies_too() -> None:
    connection = connected()
    taken(connection)
    given = {0: 0}
    got = 0
    for number in range(1, 1001, 2):
        connection.open(number, "/", HEADERS, b"{}")
        got += 16_000
        connection.receive(head(number, block(status=404)) + data(number, b"e" * 16_000))
        for kind, _, stream, payload in taken(connection):
            if kind == frames.WINDOW_UPDATE:
                given[stream] += int.from_bytes(payload, "big")
    assert len(ends(connection)) == 500
    assert got - given[0] <= CONNECTION_WINDOW // 4


def test_a_streams_window_is_given_back_padding_included() -> None:
    connection = connected(1)
    taken(connection)
    connection.receive(head(1))
    got = 0
    for _ in range(1000):
        connection.receive(data(1, b"x", end=False, padding=255))
        got += 257
    given = sum(int.from_bytes(payload, "big") for kind, _, stream, payload in taken(connection) if stream == 1)
    assert got - STREAM_WINDOW // 2 <= given <= got
    connection.receive(data(1, b"y"))
    assert ends(connection) == {1: answer(b"x" * 1000 + b"y")}


def test_an_endless_answer_is_cut_off() -> None:
    connection = connected(1)
    taken(connection)
    connection.receive(head(1, block(status=404)))
    for _ in range(MAX_ANSWER_BYTES // 16_000 + 1):
        connection.receive(data(1, b"x" * 16_000, end=False))
    (end,) = ends(connection).values()
    assert end == answer(b"x" * MAX_ANSWER_BYTES, 404)
    assert (frames.RST_STREAM, 0, 1, struct.pack(">L", ErrorCode.CANCEL)) in taken(connection)
    connection.receive(data(1, b"x" * 16_000))
    assert not connection.closed


def test_stream_ids_run_out() -> None:
    connection: Connection[int] = Connection("peer.example", first_stream=frames.LARGEST_STREAM - 2)
    connection.receive(settings())
    connection.open(1, "/", HEADERS, b"{}")
    assert connection.room > 0
    connection.open(2, "/", HEADERS, b"{}")
    assert connection.room == 0
    assert connection.draining
    connection.receive(head(frames.LARGEST_STREAM - 2, end=True) + head(frames.LARGEST_STREAM, end=True))
    assert ends(connection) == {1: answer(), 2: answer()}


def test_giving_up_by_age_and_by_tag() -> None:
    connection = connected(5)
    taken(connection)
    assert connection.expire(5) == 2
    connection.abandon(lambda tag: tag == 9, "cancelled")
    assert ends(connection) == {
        1: Unknown("timeout", "no answer in time"),
        3: Unknown("timeout", "no answer in time"),
        9: Unknown("cancelled"),
    }
    cancel = struct.pack(">L", ErrorCode.CANCEL)
    assert taken(connection) == [(frames.RST_STREAM, 0, number, cancel) for number in (1, 3, 9)]
    connection.close("closed", "")
    assert ends(connection)[5] == Unknown("closed")
    assert taken(connection) == [(frames.GOAWAY, 0, 0, struct.pack(">LL", 0, 0))]


FLOOD = 2_001
CALM = ErrorCode.ENHANCE_YOUR_CALM
BROKEN = {
    "HTTP/1.1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorCode.FRAME_SIZE_ERROR),
    "a frame too large": (struct.pack(">BHBBL", 0, 16_385, 0, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "a push": (frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\x02" + OK), ErrorCode.PROTOCOL_ERROR),
    "a stream that never was": (head(3), ErrorCode.PROTOCOL_ERROR),
    "an even stream": (data(2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "stream 0 with data": (data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a reset of a stream that never was": (reset(7, 0), ErrorCode.PROTOCOL_ERROR),
    "a continuation of nothing": (more(1, OK), ErrorCode.PROTOCOL_ERROR),
    "a frame within a block": (head(1, OK, done=False) + data(1), ErrorCode.PROTOCOL_ERROR),
    "another stream's continuation": (head(1, OK, done=False) + more(3, b""), ErrorCode.PROTOCOL_ERROR),
    "endless empty continuations": (head(1, OK, done=False) + more(1, b"", done=False) * 40, CALM),
    "endless continuations": (head(1, OK, done=False) + more(1, b"a" * 16_000, done=False) * 5, CALM),
    "a block that is none": (head(1, b"\xff\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a block that refers to nothing": (head(1, b"\xc5"), ErrorCode.COMPRESSION_ERROR),
    "too many headers": (head(1, OK + b"\x8f" * 900), ErrorCode.COMPRESSION_ERROR),
    "a window of nothing": (window(0, 0), ErrorCode.FLOW_CONTROL_ERROR),
    "a window too large": (window(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "an initial window too large": (settings(INITIAL_WINDOW_SIZE=2**31), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame limit too small": (settings(MAX_FRAME_SIZE=100), ErrorCode.PROTOCOL_ERROR),
    "a server that lets itself push": (settings(ENABLE_PUSH=1), ErrorCode.PROTOCOL_ERROR),
    "settings of odd size": (frame(frames.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(frames.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "an acknowledgement that says more": (frame(frames.SETTINGS, 1, 0, b"123456"), ErrorCode.PROTOCOL_ERROR),
    "a short ping": (frame(frames.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "a short reset": (frame(frames.RST_STREAM, 0, 1, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "a short goaway": (frame(frames.GOAWAY, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "more padding than frame": (head(1) + frame(frames.DATA, frames.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "padding without a length": (head(1) + frame(frames.DATA, frames.PADDED, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
    "a flood of pings": (frame(frames.PING, 0, 0, b"12345678") * FLOOD, CALM),
    "a flood of settings": (settings() * FLOOD, CALM),
    "a flood of unknown frames": (frame(0xEE, 0xFF, 77, b"?") * FLOOD, CALM),
    "a flood of empty data": (head(1) + data(1, end=False) * FLOOD, CALM),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "code"), BROKEN.values(), ids=list(BROKEN))
def test_a_peer_that_breaks_the_protocol_is_left(sent: bytes, code: ErrorCode) -> None:
    connection: Connection[int] = Connection("peer.example")
    if not sent.startswith(b"HTTP"):
        connection.receive(settings())
        connection.open(1, "/", HEADERS, b"{}")
    taken(connection)
    connection.receive(sent)
    assert connection.closed
    kind, _, _, payload = taken(connection)[-1]
    assert kind == frames.GOAWAY
    assert struct.unpack_from(">LL", payload) == (0, code)
    assert connection.room == 0
    for end in ends(connection).values():
        assert isinstance(end, Unknown) or end[0] == 200
    assert not connection.streams
    connection.receive(head(1, end=True))
    assert taken(connection) == []


@pytest.mark.parametrize("sent", [head(1), frame(frames.PING, 0, 0, bytes(8)), frame(frames.SETTINGS, frames.ACK, 0)])
def test_a_peer_must_begin_with_its_settings(sent: bytes) -> None:
    connection: Connection[int] = Connection("peer.example")
    connection.receive(sent)
    assert connection.closed


def test_frames_that_bring_nothing_are_counted_anew_when_time_passes() -> None:
    connection = connected(1)
    for _ in range(5):
        connection.receive(frame(frames.PING, 0, 0, b"12345678") * 1500)
        connection.relax()
    assert not connection.closed
    connection.receive(frame(0xEE, 0xFF, 77, b"?") + head(1, end=True))
    assert ends(connection) == {1: answer()}

"""Header blocks used again: whatever is remembered, another decoder and a fresh one must agree."""

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.channels.transport import Headers
from notify_pipeline.channels.wire.blocks import Blocks
from notify_pipeline.channels.wire.frames import ErrorCode, Violation
from notify_pipeline.channels.wire.heads import AnswerHeads, RequestHeads, path_field

SETS: list[Headers] = [
    (),
    (("content-type", "application/json"),),
    (("content-type", "application/json"), ("authorization", "bearer " + "t" * 900)),
    (("content-type", "application/json"), ("authorization", "bearer " + "u" * 900), ("apns-topic", "com.example")),
    (("apns-collapse-id", "c" * 64), ("apns-priority", "10"), ("apns-expiration", "1700000000")),
    *(((f"name-{number}", "v" * 1500), ("shared", "s" * 700)) for number in range(4)),
    (("huge", "h" * 5000),),
]
PATHS = ["/", "/v1/projects/p/messages:send", "/3/device/" + "a" * 64, "/" + "x" * 126, "/" + "x" * 5000]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(range(len(SETS))), st.sampled_from(PATHS)),
            st.sampled_from([0, 1, 100, 1000, 4096, 65_536]),
        ),
        max_size=60,
    ),
    st.sampled_from([(), ("authorization",)]),
    st.integers(1, 2000),
)
def test_the_peer_reads_what_was_meant(
    steps: list[tuple[int, str] | int], unindexed: tuple[str, ...], streams_between: int
) -> None:
    """Over any order of header sets, and with the peer's table changing under way."""
    heads = RequestHeads("peer.example", unindexed)
    peer = hpack.Decoder(max_header_list_size=100_000)
    stream = 1
    for step in steps:
        if isinstance(step, int):
            heads.limit_table(step)
            peer.max_allowed_table_size = max(step, 0)
            continue
        which, path = step
        before, after = heads.around_path(SETS[which], stream)
        stream += 2 * streams_between
        fields = [tuple(field) for field in peer.decode(before + path_field(path) + after)]
        assert fields == [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "peer.example"),
            (":path", path),
            *SETS[which],
        ]
        if unindexed:
            assert all(name != b"authorization" for name, _ in peer.header_table.dynamic_entries)


def test_a_header_set_is_bytes_once_and_an_index_from_then_on() -> None:
    heads = RequestHeads("peer.example")
    sizes = [len(b"".join(heads.around_path(SETS[3], stream))) for stream in (1, 3, 5)]
    assert sizes[0] > 600
    assert sizes[1] == sizes[2] <= 8
    assert heads.around_path(SETS[3], 7) is not None


def test_header_sets_that_do_not_fit_together_do_not_push_each_other_out() -> None:
    heads = RequestHeads("peer.example")
    peer = hpack.Decoder()
    tables = set()
    for stream in range(1, 401, 2):
        peer.decode(b"".join(heads.around_path(SETS[5 + stream // 2 % 4], stream)))
        tables.add(tuple(peer.header_table.dynamic_entries))
    assert len(tables) <= 4, "the peer's table changes now and then, not at every request"


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["date", "retry-after", "apns-id", "content-type", "x"]),
        st.sampled_from(["", "1", "7", "application/json", "v" * 40, "w" * 200]),
        st.booleans(),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(st.lists(st.one_of(FIELDS, st.sampled_from([0, 50, 200, 4096])), max_size=40), st.integers(200, 599))
def test_an_answer_remembered_is_the_answer_decoded(
    steps: list[list[tuple[str, str, bool]] | int], status: int
) -> None:
    """Peers index or not, and change their table's size, as they like: a decoder that forgets nothing must agree."""
    encoder = hpack.Encoder()
    heads = AnswerHeads()
    plain = hpack.Decoder()
    size = encoder.header_table_size
    for step in steps:
        if isinstance(step, int):
            size = step
            continue
        # hpack's encoder forgets to tell of a change when the same size is set again before the next block.
        if size != encoder.header_table_size:
            encoder.header_table_size = size
        block = encoder.encode([(":status", str(status), False), *step])
        expected: dict[str, str] = {}
        for name, value in list(plain.decode(block))[1:]:
            expected[name] = f"{expected[name]}, {value}" if name in expected else value
        head = heads.read(block)
        assert (head.status, dict(head.answer.headers), head.fault) == (status, expected, "")


def test_the_same_block_is_read_once_while_the_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    read = Blocks.read

    def counted(self: Blocks[object], block: bytes) -> list[object]:
        nonlocal calls
        calls += 1
        return read(self, block)

    monkeypatch.setattr(Blocks, "read", counted)
    heads = AnswerHeads()
    still = b"\x88\x0f\x0d\x012"  # :status 200, content-length: 2 without indexing
    assert [heads.read(still).length for _ in range(5)] == [2] * 5
    assert calls == 2, "at the first time its field was new"
    heads.read(b"\x88\x40\x01a\x01b")  # inserts a: b
    refers = b"\x88\xbe"
    assert [dict(heads.read(refers).answer.headers) for _ in range(3)] == [{"a": "b"}] * 3
    assert calls == 4
    heads.read(b"\x88\x40\x01a\x01c")  # another a, which is now the first in the table
    assert [dict(heads.read(refers).answer.headers) for _ in range(3)] == [{"a": "c"}] * 3
    assert calls == 6
    heads.read(b"\x20\x88")  # the table's size becomes 0
    with pytest.raises(Violation):
        heads.read(refers)


def test_blocks_that_do_not_repeat_do_not_fill_the_memory() -> None:
    heads = AnswerHeads()
    for number in range(5000):
        heads.read(b"\x88\x00\x07apns-id\x04%04d" % number)
        heads.read(b"\x88\x00\x07apns-id\x04%04d" % number)
    assert 0 < len(heads._memo) <= 256


@pytest.mark.parametrize(
    "block", [b"\x80", b"\x3f\xe2\x1f", b"\x3f\xff\xff\xff\xff\xff\xff", b"\x00\x05ab", b"\x40", b"\x00\x81\xff"]
)
def test_what_cannot_be_decoded_is_a_violation(block: bytes) -> None:
    with pytest.raises(Violation) as caught:
        AnswerHeads().read(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR

"""Header blocks read field by field: whatever a peer sends, hpack's own decoder reads the same, or fails as well."""

from collections.abc import Callable, Sequence

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.channels.wire.blocks import Blocks, huffman
from tests.channels.wire.fields import HUFFMAN, integer, literal
from tests.examples import examples

MAX_LIST = 2_000
TABLE = 4_096

TEXTS = st.one_of(
    st.sampled_from(
        [b"", b"date", b"apns-id", b":status", b"200", b"nginx/1.22.1", b"v" * 126, b"v" * 127, b"w" * 700]
    ),
    st.binary(max_size=20),
)

INDEXES = st.one_of(st.integers(0, 70), st.sampled_from([14, 15, 16, 61, 62, 63, 64, 127, 128, 300, 2**40]))
LITERALS = st.builds(
    literal,
    st.sampled_from([(4, 0x00), (4, 0x10), (6, 0x40)]),
    st.one_of(st.just(0), st.integers(1, 64), INDEXES),
    TEXTS,
    TEXTS,
    st.tuples(st.booleans(), st.booleans()),
)
# Mostly what has a meaning, or every block would end at its first field.
FIELDS = st.one_of(LITERALS, LITERALS, st.builds(integer, st.integers(1, 66), st.just(7), st.just(0x80)))
ODD = st.one_of(
    st.builds(integer, INDEXES, st.just(7), st.just(0x80)),
    st.builds(integer, st.integers(0, 5000), st.just(5), st.just(0x20)),
    st.binary(max_size=12),
)
SIZES = st.builds(integer, st.sampled_from([0, 0, 31, 32, 100, 4096]), st.just(5), st.just(0x20))
BLOCKS = st.builds(
    lambda sizes, fields, tail, cut: b"".join([*sizes, *fields, tail])[:cut],
    st.lists(SIZES, max_size=2),
    st.lists(FIELDS, max_size=6),
    st.one_of(st.just(b""), st.just(b""), st.just(b""), ODD),
    st.one_of(st.none(), st.none(), st.none(), st.integers(0, 40)),
)


def both_read_the_same(blocks: Sequence[bytes]) -> int:
    """Return how many could be read; a connection ends with the first that could not."""
    mine = Blocks(lambda name, value: (name, value), MAX_LIST, TABLE)
    theirs = hpack.Decoder(max_header_list_size=MAX_LIST)
    for count, block in enumerate(blocks):
        try:
            expected = [tuple(field) for field in theirs.decode(block, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(hpack.HPACKError):
                mine.read(block)
            return count
        entries, size = list(mine._table.dynamic_entries), mine._table.maxsize
        changes = mine.changes
        assert mine.read(block) == expected
        assert mine._table.dynamic_entries == theirs.header_table.dynamic_entries
        assert mine._table.maxsize == theirs.header_table.maxsize
        if mine.changes == changes:
            assert (entries, size) == (list(mine._table.dynamic_entries), mine._table.maxsize)
            assert mine.read(block) == expected, "what changed nothing means the same again"
    return len(blocks)


@settings(deadline=None, max_examples=examples(200))
@given(st.lists(BLOCKS, max_size=8))
def test_blocks_as_a_peer_may_make_them(blocks: list[bytes]) -> None:
    both_read_the_same(blocks)


@pytest.mark.long
@settings(deadline=None, max_examples=3_000)
@given(st.lists(BLOCKS, max_size=20))
def test_blocks_at_length(blocks: list[bytes]) -> None:
    both_read_the_same(blocks)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), max_size=5),
            st.booleans(),
            st.sampled_from([None, None, 0, 100, 4096]),
        ),
        max_size=10,
    )
)
def test_blocks_of_another_encoder(steps: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]]) -> None:
    encoder = hpack.Encoder()
    blocks = []
    for fields, coded, size in steps:
        if size is not None and size != encoder.header_table_size:
            encoder.header_table_size = size
        blocks.append(encoder.encode(fields, huffman=coded))
    both_read_the_same(blocks)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_blocks_of_any_bytes(blocks: list[bytes]) -> None:
    both_read_the_same(blocks)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(HUFFMAN.encode)))
def test_strings(encoded: bytes) -> None:
    decode: Callable[[bytes], bytes] = hpack.huffman_table.decode_huffman
    try:
        expected = decode(encoded)
    except hpack.HPACKError:
        with pytest.raises(hpack.HPACKError):
            huffman(encoded)
    else:
        assert huffman(encoded).encode("latin-1") == expected


def made(blocks: Blocks[bytes], calls: list[bytes], block: bytes) -> int:
    """How many fields were made of a block anew."""
    before = len(calls)
    blocks.read(block)
    return len(calls) - before


@pytest.mark.parametrize("kind", [(4, 0x00), (4, 0x10), (6, 0x40)])
@pytest.mark.parametrize("resized", [False, True])
def test_a_field_is_made_once_unless_it_goes_into_the_table(kind: tuple[int, int], resized: bool) -> None:
    """An insertion is none where the peer keeps no table: nginx inserts all the same, after it set the size to 0."""
    calls: list[bytes] = []

    def make(name: bytes, value: bytes) -> bytes:
        calls.append(name)
        return name

    blocks = Blocks(make, MAX_LIST, TABLE)
    if resized:
        blocks.read(b"\x20")
    field = literal(kind, 33, b"", b"today", (False, True))  # date
    counts = [
        made(blocks, calls, b"\x88" + field + literal((4, 0), 0, b"n", b"%d" % n, (True, True))) for n in range(4)
    ]
    inserted = kind == (6, 0x40) and not resized
    assert counts == ([2] * 4 if inserted else [2, 1, 1, 1])
    assert blocks.changes == int(resized) + (4 if inserted else 0)


def test_fields_that_do_not_repeat_do_not_fill_the_memory() -> None:
    blocks = Blocks(lambda name, value: (name, value), MAX_LIST, TABLE)
    for number in range(3000):
        blocks.read(literal((4, 0), 0, b"n", b"%d" % number, (True, True)))
        blocks.read(literal((6, 0x40), 0, b"n", b"%d" % number, (True, True)) + b"\xbe")
    assert len(blocks._literals) <= 128
    assert len(blocks._entries) <= 128

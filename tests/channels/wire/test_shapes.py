"""Blocks that differ in one value: whatever was remembered of others, each says what hpack's decoder reads in it."""

from typing import TypeAlias
from uuid import UUID

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.channels.wire import heads
from notify_pipeline.channels.wire.blocks import Blocks
from notify_pipeline.channels.wire.frames import ErrorCode, Violation
from notify_pipeline.channels.wire.heads import MAX_HEADER_LIST, AnswerHeads
from tests.channels.wire.fields import HUFFMAN, INSERTED, NEVER, PLAIN, integer, literal, string
from tests.examples import examples

OK = b"\x88"
NAMES = st.sampled_from([b"apns-id", b"apns-id", b"date", b"content-length", b":status", b"Bad"])
# Of few lengths, so that shapes meet.
DIGITS = st.text("0123456789", min_size=3, max_size=3).map(str.encode)
VALUES = st.one_of(
    DIGITS,
    DIGITS,
    st.text("0123456789abcdef-", min_size=12, max_size=12).map(str.encode),
    st.sampled_from([b"", b" a ", b"\xe9\xff", b"v" * 126, b"v" * 127, b"w" * 127, b"v" * 300, b"w" * 300]),
)
# Literals, the index of :status and of a date, one that is in the table at times.
FIXED = st.one_of(
    st.builds(literal, st.sampled_from([PLAIN, NEVER]), st.just(0), NAMES, DIGITS, st.just((True, False))),
    st.builds(literal, st.just(INSERTED), st.sampled_from([0, 33]), NAMES, DIGITS, st.just((False, True))),
    st.sampled_from([b"\x88", b"\xa1", b"\xbe"]),
)
# What comes before the value: mostly nothing that changes the table or is an error, or every shape would be its own.
BEFORE = st.builds(
    lambda size, status, fixed, kind, index, name: (
        size + status + fixed + integer(index, *kind) + (b"" if index else string(name, True))
    ),
    st.sampled_from([b"", b"", b"", b"", b"\x20", b"\x3f\xe1\x1f"]),
    st.sampled_from([OK, OK, b""]),
    st.one_of(st.just(b""), st.just(b""), FIXED),
    st.sampled_from([PLAIN, PLAIN, PLAIN, NEVER, INSERTED]),
    st.sampled_from([0, 0, 0, 8, 28, 33, 62]),  # 8 is :status, 28 content-length, 62 in the table at times
    NAMES,
)
AFTER = st.one_of(st.just(b""), FIXED, st.builds(lambda one, two: one + two, FIXED, FIXED))
INSIDE = st.one_of(
    st.builds(string, VALUES, st.booleans()),
    st.builds(string, VALUES, st.just(True)),
    st.binary(min_size=3, max_size=3).map(lambda raw: b"\x83" + raw),  # often no Huffman code
)
STEP = st.tuples(st.integers(0, 1), st.integers(0, 1), INSIDE, st.integers(1, 3))
STEPS = st.tuples(
    st.lists(BEFORE, min_size=2, max_size=2), st.lists(AFTER, min_size=2, max_size=2), st.lists(STEP, max_size=12)
)
Step: TypeAlias = tuple[int, int, bytes, int]


def head_of(fields: list[tuple[bytes, bytes]]) -> heads.Head:
    return heads._read_fields([heads._field(name, value) for name, value in fields])


def check(before: list[bytes], after: list[bytes], steps: list[Step]) -> None:
    """Read blocks of some shapes in turn; a connection ends with the first that cannot be read."""
    mine, theirs = AnswerHeads(), hpack.Decoder(max_header_list_size=MAX_HEADER_LIST)
    first = [(0, 0, string(b"%d" % number, True), 2) for number in (100, 200)]  # so that the first shape is known
    for left, right, inside, times in first + steps:
        block = before[left] + inside + after[right]
        for _ in range(times):
            try:
                fields = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
            except hpack.HPACKError:
                with pytest.raises(Violation) as caught:
                    mine.read(block)
                assert caught.value.code is ErrorCode.COMPRESSION_ERROR
                return
            assert mine.read(block) == head_of(fields)


@settings(deadline=None, max_examples=examples(300))
@given(STEPS)
def test_blocks_of_some_shapes(steps: tuple[list[bytes], list[bytes], list[Step]]) -> None:
    check(*steps)


@pytest.mark.long
@settings(deadline=None, max_examples=6_000)
@given(STEPS)
def test_blocks_of_some_shapes_at_length(steps: tuple[list[bytes], list[bytes], list[Step]]) -> None:
    check(*steps)


def apns(value: bytes, *, size: bytes = b"", after: bytes = b"") -> bytes:
    return size + OK + literal(PLAIN, 0, b"apns-id", value, (True, True)) + after


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The blocks that were read field by field."""
    found: list[bytes] = []
    read = Blocks.read

    def noting(self: Blocks[object], block: bytes) -> list[object]:
        found.append(block)
        return read(self, block)

    monkeypatch.setattr(Blocks, "read", noting)
    return found


def test_ids_of_their_own_cost_one_reading_for_each_length(reads: list[bytes]) -> None:
    answers = AnswerHeads()
    answers.read(b"\x20" + OK)
    ids = [str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for number in range(2_000)]
    for own in ids:
        assert answers.read(apns(own.encode())).answer.headers == {"apns-id": own}
    assert len(reads) == 1 + len({len(HUFFMAN.encode(own.encode())) for own in ids})


def test_a_change_of_the_table_ends_what_was_known(reads: list[bytes]) -> None:
    answers = AnswerHeads()
    own = b"\x88\xbe" + literal(PLAIN, 0, b"n", b"%02d", (False, False))
    for first, inserted in ((0, b"one"), (5, b"two")):
        answers.read(OK + literal(INSERTED, 0, b"name", inserted, (False, False)))
        for number in range(first, first + 5):
            head = answers.read(own.replace(b"%02d", b"%04d" % number))
            assert head.answer.headers == {"name": inserted.decode(), "n": f"{number:04d}"}
    assert len(reads) == 4


def test_a_block_that_comes_again_and_again_is_remembered_whole(reads: list[bytes]) -> None:
    """Such are FCM's, which differ in their date once a second."""
    answers = AnswerHeads()
    for second in (b"10", b"11", b"12"):
        for _ in range(100):
            answers.read(OK + literal(PLAIN, 33, b"", second, (False, True)) + b"\x0f\x0d\x012")
    assert len(reads) <= 3 * 3
    assert len(answers._memo) == 3


@pytest.mark.parametrize(
    ("name", "values", "after"),
    [
        (b":status", (b"204", b"500", b"999"), b""),
        (b"content-length", (b"100", b"200", b"1a0"), b""),
        (b"date", (b"100", b"200", b"300"), literal(NEVER, 33, b"", b"x", (False, False))),
        (b"x", (b"v" * 127, b"w" * 127, b"x" * 127), b""),
    ],
)
def test_a_value_that_decides_more_is_read_each_time(name: bytes, values: tuple[bytes, ...], after: bytes) -> None:
    """A status, a length, one of several with its name; and one whose length has two bytes."""
    answers, theirs = AnswerHeads(), hpack.Decoder()
    before = b"" if name == b":status" else OK
    for value in (*values, *values):
        block = before + literal(PLAIN, 0, name, value, (False, False)) + after
        fields = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        assert answers.read(block) == head_of(fields)


@pytest.mark.parametrize("wrong", [b"\xff\xff\xff", b"\x00\x00\x00", b"\x08\x42\x1e"])
def test_a_value_that_is_no_huffman_code_is_found_in_a_known_shape(wrong: bytes, reads: list[bytes]) -> None:
    """RFC 7541 section 5.2: the end-of-string code, padding of zeros."""
    answers = AnswerHeads()
    before = OK + b"\x00" + string(b"apns-id", True) + b"\x83"
    answers.read(before + HUFFMAN.encode(b"1234"))
    answers.read(before + HUFFMAN.encode(b"5678"))
    assert len(reads) == 1
    with pytest.raises(Violation) as caught:
        answers.read(before + wrong)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_value_that_makes_the_list_too_large_is_found_in_a_known_shape() -> None:
    """Twenty bytes are 20 characters or 32."""
    room = MAX_HEADER_LIST - sum(len(text) + 32 for text in (":status200", "apns-id", "x")) - 20
    answers = AnswerHeads()
    large = literal(PLAIN, 0, b"x", b"v" * room, (False, False))
    assert len(HUFFMAN.encode(b"&" * 20)) == len(HUFFMAN.encode(b"0" * 32)) == 20
    for _ in range(2):
        answers.read(apns(b"&" * 20, after=large))
        answers.read(apns(b"," * 20, after=large))
    with pytest.raises(Violation):
        answers.read(apns(b"0" * 32, after=large))


def test_shapes_do_not_fill_the_memory() -> None:
    answers = AnswerHeads()
    for number in range(400):
        value = b"v" * (number % 120 + 1)
        answers.read(OK + literal(PLAIN, 0, b"n%d" % number, value, (False, False)))
    known = answers._shapes._by_length
    assert 0 < len(known) <= 64
    assert max(map(len, known.values())) <= 4

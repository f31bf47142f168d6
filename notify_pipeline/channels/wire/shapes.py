"""Header blocks of answers that differ in one value only, as APNs' do in their ``apns-id``.

Belongs here: telling such blocks from others, and the one value that they do not share. Does not belong here: what the
rest of them says (``heads``), reading a block field by field (``blocks``).

The bytes up to the value, its length among them, and those after it decide everything else that a block says, as long
as the table is the same: so a block with the same bytes around a value of the same length says the same but for that
value. What the value itself must be is checked in each: a string that is no Huffman code is found here too.
"""

from typing import Generic, NamedTuple, TypeVar

from notify_pipeline.channels.wire.blocks import Literal, huffman

T = TypeVar("T")

# Of blocks of one length: with or without some other header, of this second and of the one before.
_REMEMBERED_PER_LENGTH = 4
# An id's Huffman code has one of some ten lengths; statuses and headers beside it make a few of each.
_REMEMBERED_LENGTHS = 64
# The shortest Huffman code has five bits (RFC 7541 appendix B).
_MOST_PER_CODED_BYTE = 8 / 5
# In the first byte of a string (RFC 7541 section 5.2).
_CODED = 0x80
_LONG = 0x7F


class Shape(NamedTuple, Generic[T]):
    """Blocks that differ in one value.

    Attributes:
        before: All bytes up to the value, its length included.
        after: All bytes behind it.
        start: Where the value starts.
        end: Where it ends.
        coded: Whether it is a Huffman code.
        rest: What is known of these blocks, whatever the value.
    """

    before: bytes
    after: bytes
    start: int
    end: int
    coded: bool
    rest: T


class Shapes(Generic[T]):
    """The shapes of one connection's blocks. They are good until the peer's table changes."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[Shape[T]]] = {}

    def find(self, block: bytes) -> tuple[T, str] | None:
        """Return what is known of a block's shape, and its own value as Latin-1; None where the shape is not known.

        Raises:
            HPACKDecodingError: The value cannot be read.
        """
        for before, after, start, end, coded, rest in self._by_length.get(len(block), ()):
            if block.startswith(before) and block.endswith(after):
                raw = block[start:end]
                return rest, huffman(raw) if coded else raw.decode("latin-1")
        return None

    def learn(self, block: bytes, literal: Literal, rest: T) -> None:
        """Remember a block's shape.

        Args:
            block: One that left the table as it was.
            literal: The field whose value others have otherwise.
            rest: What holds of all of them.
        """
        known = self._by_length.setdefault(len(block), [])
        start, end = literal.value + 1, literal.end
        shape = Shape(block[:start], block[end:], start, end, bool(block[literal.value] & _CODED), rest)
        if all((other.before, other.after) != (shape.before, shape.after) for other in known):
            known.insert(0, shape)
            del known[_REMEMBERED_PER_LENGTH:]
        if len(self._by_length) > _REMEMBERED_LENGTHS:
            self._by_length.clear()

    def clear(self) -> None:
        """Forget all: the table has changed."""
        self._by_length.clear()


def longest(block: bytes, literal: Literal) -> int | None:
    """Return how long a literal's value may be at most with the bytes it has; None where its length has more bytes."""
    length = block[literal.value] & _LONG
    return None if length == _LONG else int(length * _MOST_PER_CODED_BYTE)

"""Reading header blocks (RFC 7541 section 6) field by field, cheaply where fields repeat.

Belongs here: what the bytes of a block say, and the peer's dynamic table. Does not belong here: what a field means
(``heads``), frames that carry blocks (``frames``).

The table, its rules and the Huffman code are ``hpack``'s. Its decoder takes 10-15 µs and more for the block of an
answer, most of them for values that it has seen a thousand times; here a field seen before is one look into a
dictionary. A test holds that both read the same, or both fail.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from hpack import HPACKDecodingError
from hpack.exceptions import InvalidTableSizeError, OversizedHeaderListError
from hpack.hpack import decode_integer
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable, table_entry_size

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

# Fields worth remembering repeat; what does not repeat must not fill the memory.
_REMEMBERED_FIELDS = 128
# No entry is smaller (RFC 7541 section 4.1): a smaller table stays empty, whatever is to be inserted.
_SMALLEST_ENTRY = 32
# hpack reads an integer from six bytes at most.
_MAX_INTEGER_BYTES = 6


# Steps of the Huffman automaton by a whole byte: the node it leads to, what is put out, whether a string may end there.
_Node: TypeAlias = "list[tuple[_Node, str, int]]"
# hpack's nodes by half bytes, and one for what is no code. Each is filled when a string first comes there: the 65,536
# steps of all together would take a tenth of a second.
_DEAD = 256
_NODES: list[_Node] = [[] for _ in range(_DEAD + 1)]


def _fill(node: _Node) -> None:
    origin = next(number for number, other in enumerate(_NODES) if other is node)
    for byte in range(256):
        state, flags, out = origin, 0, ""
        for half in (byte >> 4, byte & 15):
            if state == _DEAD:
                break
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
            if flags & HUFFMAN_FAIL:
                state, flags = _DEAD, 0
            elif flags & HUFFMAN_EMIT_SYMBOL:
                out += chr(symbol)
        node.append((_NODES[state], out, flags & HUFFMAN_COMPLETE))


def huffman(encoded: bytes) -> str:
    """Decode a string (RFC 7541 section 5.2); return its bytes as Latin-1.

    Raises:
        HPACKDecodingError: It is none.
    """
    while True:
        node, complete = _NODES[0], HUFFMAN_COMPLETE
        text = ""
        try:
            for byte in encoded:
                node, piece, complete = node[byte]
                text += piece
            break
        except IndexError:
            _fill(node)  # and begin again
    if not complete:
        raise HPACKDecodingError("not a Huffman code, or not the whole of one")
    return text


class Literal(NamedTuple):
    """Where in its block a literal field is.

    Attributes:
        name: Its name.
        value: Where the length of its value starts.
        end: Where the field ends.
    """

    name: bytes
    value: int
    end: int


class Blocks(Generic[T]):
    """Reads the blocks of one connection. Every block that arrives must pass through it, in order.

    Attributes:
        changes: How often the table has changed. While it has not, a block that changes nothing means the same again.
        unknown: Literal fields so far that were not remembered. A block without any may well come again.
        latest: The last of these.
        size: Of the last block's fields, as ``max_list`` is counted.
    """

    def __init__(self, make: Callable[[bytes, bytes], T], max_list: int, table_size: int) -> None:
        """Prepare.

        Args:
            make: What to make of a field's name and value; called once for fields that repeat.
            max_list: Of a block's fields as RFC 9113 section 6.5.2 counts them, in bytes.
            table_size: The largest table that the peer may use.
        """
        self.changes = 0
        self.unknown = 0
        self.latest = Literal(b"", 0, 0)
        self.size = 0
        self._make = make
        self._max_list = max_list
        self._table_size = table_size
        self._table = HeaderTable()
        self._literals: dict[bytes, tuple[T, int]] = {}
        self._entries: dict[tuple[bytes, bytes], tuple[T, int]] = {}
        self._indexed: list[tuple[T, int]] = [
            (make(name, value), table_entry_size(name, value)) for name, value in HeaderTable.STATIC_TABLE
        ]

    def read(self, block: bytes) -> list[T]:
        """Return what a block's fields were made into.

        Raises:
            HPACKError: It cannot be read, or is too large; the connection is of no use any more.
        """
        at, size, total = 0, len(block), 0
        while at < size and block[at] & 0xE0 == 0x20:
            at = self._resize(block, at)
        found: list[T] = []
        known, indexed = self._literals, self._indexed
        while at < size:
            first = block[at]
            if 0x80 < first < 0x80 + 62:
                made, length = indexed[first - 0x81]
                at += 1
            elif first & 0x80:
                made, length, at = self._from_table(block, at)
            elif first & 0xE0 == 0x20:
                raise HPACKDecodingError("a change of the table's size after a field")
            else:
                end = _end(block, at)
                field = block[at:end]
                made, length = known.get(field) or self._literal(field, end)
                at = end
            found.append(made)
            total += length
            if total > self._max_list:
                raise OversizedHeaderListError(f"a header list larger than {self._max_list}")
        self.size = total
        return found

    def _resize(self, block: bytes, at: int) -> int:
        size, at = _integer(block, at, 5)
        if size > self._table_size:
            raise InvalidTableSizeError(f"a table of {size}")
        if size != self._table.maxsize:
            self._table.maxsize = size
            self._literals.clear()
            self.changes += 1
        return at

    def _from_table(self, block: bytes, at: int) -> tuple[T, int, int]:
        index, at = _integer(block, at, 7)
        entry = self._table.get_by_index(index)
        known = self._entries.get(entry)
        if known is None:
            known = self._make(*entry), table_entry_size(*entry)
            _remember(self._entries, entry, known)
        return *known, at

    def _literal(self, field: bytes, end: int) -> tuple[T, int]:
        """Decode a literal that is whole and ends there in its block, and do to the table what it asks."""
        self.unknown += 1
        insert = bool(field[0] & 0x40)
        index, at = _integer(field, 0, 6 if insert else 4)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            name, at = _string(field, at)
        self.latest = Literal(name, end - len(field) + at, end)
        value, _ = _string(field, at)
        length = table_entry_size(name, value)
        entry = self._make(name, value), length
        if insert and self._table.maxsize >= _SMALLEST_ENTRY:
            self._table.add(name, value)
            self.changes += 1
        elif index <= HeaderTable.STATIC_TABLE_LENGTH:
            _remember(self._literals, field, entry)
        return entry


def _end(block: bytes, at: int) -> int:
    """Return where the literal that starts here ends.

    Raises:
        HPACKDecodingError: Not in this block.
    """
    first = block[at]
    prefix = 0x3F if first & 0x40 else 0x0F
    index = first & prefix
    try:
        if index == prefix:
            _, at = _integer(block, at, prefix.bit_length())
        else:
            at += 1
        if not index:
            length = block[at] & 0x7F
            at = at + 1 + length if length < 0x7F else sum(_integer(block, at, 7))
        length = block[at] & 0x7F
        at = at + 1 + length if length < 0x7F else sum(_integer(block, at, 7))
    except IndexError as error:
        raise HPACKDecodingError("a field without its length") from error
    if at > len(block):
        raise HPACKDecodingError("a field without its end")
    return at


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= _REMEMBERED_FIELDS:
        known.clear()
    known[key] = value


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return an integer (RFC 7541 section 5.1) and where it ends."""
    most = (1 << bits) - 1
    if at < len(data) and (number := data[at] & most) < most:
        return number, at + 1
    number, used = decode_integer(data[at : at + _MAX_INTEGER_BYTES], bits)
    return number, at + used


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    length, start = _integer(data, at, 7)
    end = start + length
    raw = data[start:end]
    return (huffman(raw).encode("latin-1") if data[at] & 0x80 else raw), end

"""Header fields byte by byte, in each representation that RFC 7541 section 6 has, also those no encoder chooses."""

from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
# Of literals: bits of the index, and the bits before it. Inserted into the table, not inserted, never to be.
INSERTED, PLAIN, NEVER = (6, 0x40), (4, 0x00), (4, 0x10)


def integer(number: int, bits: int, high: int) -> bytes:
    encoded = encode_integer(number, bits)
    encoded[0] |= high
    return bytes(encoded)


def string(text: bytes, coded: bool) -> bytes:
    raw = HUFFMAN.encode(text) if coded else text
    return integer(len(raw), 7, 0x80 if coded else 0) + raw


def literal(kind: tuple[int, int], index: int, name: bytes, value: bytes, coded: tuple[bool, bool]) -> bytes:
    bits, high = kind
    return integer(index, bits, high) + (b"" if index else string(name, coded[0])) + string(value, coded[1])

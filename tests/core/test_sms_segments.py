"""Segments of short messages, against the standard's tables and a counting that packs real octets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.sms_segments import Encoding, Segments, measured

# TS 23.038 §6.2.1 by its own rows: b7 b6 b5 down, b4 b3 b2 b1 across. The second column's 0x1B is the escape.
_ROWS = (
    "@£$¥èéùìòÇ\nØø\rÅå",
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ",
    " !\"#¤%&'()*+,-./",
    "0123456789:;<=>?",
    "¡ABCDEFGHIJKLMNO",
    "PQRSTUVWXYZÄÖÑÜ§",
    "¿abcdefghijklmno",
    "pqrstuvwxyzäöñüà",
)
_SEPTETS = {c: bytes([16 * r + n]) for r, row in enumerate(_ROWS) for n, c in enumerate(row) if c != "\x1b"}
_ESCAPED = {
    "\f": 0x0A,
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}
_GSM = st.text(alphabet="".join([*_SEPTETS, *_ESCAPED]), max_size=700)


def by_octets(text: str) -> Segments:
    """Count by writing the messages: each character's code, then as many whole ones as fit beside the header."""
    table = _SEPTETS | {c: bytes([0x1B, code]) for c, code in _ESCAPED.items()}
    if all(c in table for c in text):
        encoding, codes, per_octet = Encoding.GSM_7, [table[c] for c in text], 8 / 7
    else:
        encoding, codes, per_octet = Encoding.UCS_2, [c.encode("utf-16-be", "surrogatepass") for c in text], 1
    unit = 1 if encoding is Encoding.GSM_7 else 2
    whole = sum(map(len, codes))
    if whole <= math.floor(140 * per_octet):
        return Segments(encoding, whole // unit, 1)
    messages = [b""]
    for code in codes:
        if len(messages[-1]) + len(code) > math.floor(134 * per_octet):
            messages.append(b"")
        messages[-1] += code
    return Segments(encoding, whole // unit, len(messages))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (Encoding.GSM_7, 0, 1)),
        ("a" * 160, (Encoding.GSM_7, 160, 1)),
        ("a" * 161, (Encoding.GSM_7, 161, 2)),
        ("a" * 306, (Encoding.GSM_7, 306, 2)),
        ("a" * 307, (Encoding.GSM_7, 307, 3)),
        ("€" * 80, (Encoding.GSM_7, 160, 1)),
        ("a" * 152 + "€" + "a" * 152, (Encoding.GSM_7, 306, 3)),  # an escape is not parted from its character
        ("ж" * 70, (Encoding.UCS_2, 70, 1)),
        ("ж" * 71, (Encoding.UCS_2, 71, 2)),
        ("👍" * 35, (Encoding.UCS_2, 70, 1)),
        ("👍" * 67, (Encoding.UCS_2, 134, 3)),  # 33 whole pairs in 67 units
        ("a\tb", (Encoding.UCS_2, 3, 1)),  # no tabulator in the default alphabet
        ("`", (Encoding.UCS_2, 1, 1)),
        ("ç", (Encoding.UCS_2, 1, 1)),  # only the capital is in it
    ],
)
def test_what_a_text_takes(text: str, expected: tuple[Encoding, int, int]) -> None:
    assert measured(text) == expected


@given(_GSM | st.text(max_size=400) | st.text(alphabet="a€ж👍", max_size=400))
def test_the_count_is_that_of_the_messages_written_out(text: str) -> None:
    assert measured(text) == by_octets(text)


@given(_GSM, _GSM)
def test_a_longer_text_never_takes_less(text: str, more: str) -> None:
    assert measured(text + more).number >= measured(text).number


@pytest.mark.parametrize("character", [*_SEPTETS, *_ESCAPED])
def test_the_default_alphabet_is_the_standards(character: str) -> None:
    found = measured(character)
    assert (found.encoding, found.units) == (Encoding.GSM_7, 2 if character in _ESCAPED else 1)

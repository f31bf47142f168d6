"""How many short messages a text takes: it is what the sender pays for.

Belongs here: the alphabets, and cutting a text into segments as networks do. Does not belong here: what the text is
(``sms_text``), how many are allowed (``settings``).

3GPP TS 23.038 §6.2.1 is the default alphabet of 7 bits, §6.2.1.1 its extension, whose characters take an escape and a
septet. A text with any other character goes out in 16-bit units. One message holds 140 octets; each segment of a longer
text gives 6 of them to a header, and no character is cut in two (TS 23.040 §9.2.3.24.1).
"""

from enum import StrEnum
from typing import NamedTuple

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
_GSM_7 = _BASIC | _EXTENDED
_LAST_OF_ONE_UNIT = "\uffff"


class Encoding(StrEnum):
    """How a text travels."""

    GSM_7 = "gsm7"
    UCS_2 = "ucs2"

    @property
    def one(self) -> int:
        """Units that a text of a single message may have: septets, or 16-bit units."""
        return 160 if self is Encoding.GSM_7 else 70

    @property
    def each(self) -> int:
        """Units that each segment of a longer text has."""
        return 153 if self is Encoding.GSM_7 else 67


class Segments(NamedTuple):
    """What a text takes.

    Attributes:
        encoding: How it travels.
        units: Septets, or 16-bit units.
        number: Messages that are sent and paid for; at least 1.
    """

    encoding: Encoding
    units: int
    number: int


def measured(text: str) -> Segments:
    """Return what a text takes."""
    if _GSM_7.issuperset(text):
        encoding, wide = Encoding.GSM_7, [c in _EXTENDED for c in text]
    else:
        encoding, wide = Encoding.UCS_2, [c > _LAST_OF_ONE_UNIT for c in text]
    units = len(text) + sum(wide)
    return Segments(encoding, units, 1 if units <= encoding.one else _cut(wide, encoding.each))


def _cut(wide: list[bool], each: int) -> int:
    """Return how many segments characters of one or two units take, none of them cut."""
    count, room = 1, each
    for is_wide in wide:
        room -= 1 + is_wide
        if room < 0:
            count, room = count + 1, each - 1 - is_wide
    return count

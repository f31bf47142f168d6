"""Personal fields: what a sender may leave open in a text, to be filled with what is known of each recipient.

Belongs here: the names, finding them, and writing brackets that are none. Does not belong here: filling them
(``channels.splice``), refusing unknown ones (``ingest_api``).

Some fields every recipient has, as their registration knows them (``PERSONAL_FIELDS``). In sends to visitors of a
domain there are others beside them: the sender's own, whose names are the same in any case.
"""

import re
from collections.abc import Iterable, Iterator

# Attributes of ``records.Recipient``.
PERSONAL_FIELDS = ("user_id", "locale", "timezone", "app_version")
# A field that everybody gets the same for: the three brackets themselves.
BRACKETS = "brackets"
# A name only: nested lists in somebody's JSON are no field.
FIELD = re.compile(r"\[\[\[([A-Za-z_][A-Za-z0-9_]{0,63})\]\]\]")


def unknown_in(text: str) -> Iterator[str]:
    """Yield each name in a text's ``[[[name]]]`` that is none of ours."""
    if "[[[" in text:
        for found in FIELD.finditer(text):
            if found[1] not in PERSONAL_FIELDS and found[1] != BRACKETS:
                yield found[1]


def fields_in(text: str) -> list[str]:
    """Return the names of a text's fields as own fields are read: in small letters, each once, as they come first.

    ``brackets`` is not among them: nobody gives it.
    """
    if "[[[" not in text:
        return []
    return [name for name in dict.fromkeys(found[1].lower() for found in FIELD.finditer(text)) if name != BRACKETS]


def missing_fields(texts: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the names of fields that texts have and a recipient lacks: in small letters, each once.

    Args:
        texts: Such as title and body of a send to visitors.
        names: Those that the recipient has, in any case. What registrations know is never missing.
    """
    wanted = dict.fromkeys(name for text in texts for name in fields_in(text))
    return lacking([name for name in wanted if name not in PERSONAL_FIELDS], names)


def lacking(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return which fields a recipient lacks of those that texts were found to want, in small letters.

    For many recipients of the same texts, which are then looked through once.
    """
    given = {name.lower() for name in names}
    return [name for name in wanted if name not in given]


def literal(text: str) -> str:
    """Return what recipients read as this very text, whatever looks like a field in it."""
    return FIELD.sub(rf"[[[{BRACKETS}]]]\1]]]", text) if "[[[" in text else text

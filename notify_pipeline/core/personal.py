"""Personal fields: what a sender may leave open in a text, to be filled with what each recipient's registration knows.

Belongs here: the names, finding them, and writing brackets that are none. Does not belong here: filling them
(``channels.splice``), refusing unknown ones (``ingest_api``).
"""

import re
from collections.abc import Iterator

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


def literal(text: str) -> str:
    """Return what recipients read as this very text, whatever looks like a field in it."""
    return FIELD.sub(rf"[[[{BRACKETS}]]]\1]]]", text) if "[[[" in text else text

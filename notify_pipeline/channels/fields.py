"""Personal fields of a message: which names are fields in its texts, and what a recipient has for each.

Belongs here: one answer for every channel. Does not belong here: names and brackets (``core.personal``), how a
channel's format takes a text that is put into it (``splice``, ``email.texts``).

Most sends may use what registrations know (``PERSONAL_FIELDS``), spelled exactly; other names stay as they were
written. A send to visitors came with fields of their own: there every name is a field, in any case, and what was given
goes before what a registration knows.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from operator import attrgetter

import orjson

from notify_pipeline.core.personal import BRACKETS, FIELD, PERSONAL_FIELDS
from notify_pipeline.core.records import Notification, Recipient

_KNOWN = attrgetter(*PERSONAL_FIELDS)


class Fields:
    """The personal fields of one message, each with a place among a recipient's texts.

    Attributes:
        texts: Returns what a recipient has for each place; nothing, empty or None, where there is nothing. It must be
            called after all of the message's texts were read.
    """

    __slots__ = ("_has_own", "_places", "texts")

    def __init__(self, notification: Notification) -> None:
        """Args: notification: the send that the message is of."""
        self._has_own = notification.has_own_fields
        self._places = {name: place for place, name in enumerate(PERSONAL_FIELDS)}
        # Chosen once: a million recipients of a message without own fields pay nothing for those that have some.
        self.texts: Callable[[Recipient], Sequence[str | None]] = self._own_texts if self._has_own else _KNOWN

    def __len__(self) -> int:
        """Return how many places there are."""
        return len(self._places)

    def read(self, name: str) -> int | str:
        """Return the place of what stands in three brackets, or the text that everybody gets for it."""
        own = name.lower() if self._has_own else name
        if own == BRACKETS:
            return "[[["
        if own in self._places:
            return self._places[own]
        return self._places.setdefault(own, len(self._places)) if self._has_own else f"[[[{name}]]]"

    def filled(self, text: str, recipient: Recipient) -> str:
        """Return a text with its fields filled; those that the recipient lacks are left empty."""
        # What was written between fields, and their names, in turn.
        parts = FIELD.split(text)
        places = [self.read(name) for name in parts[1::2]]
        texts = self.texts(recipient)
        parts[1::2] = [place if isinstance(place, str) else texts[place] or "" for place in places]
        return "".join(parts)

    def _own_texts(self, recipient: Recipient) -> list[str | None]:
        known = _KNOWN(recipient)
        given: dict[str, str] = {}
        if recipient.fields is not None:
            given = {name.lower(): text for name, text in orjson.loads(recipient.fields).items()}
        return [given.get(name, text) for name, text in zip_longest(self._places, known)]

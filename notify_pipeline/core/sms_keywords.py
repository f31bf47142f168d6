"""What a person asks for with one word by SMS.

Belongs here: the words. Does not belong here: what follows from them (``ledger.suppressions``, ``ingest_api``).

The words are those that Twilio acts on itself, and that US carriers ask senders to honour; a word counts only when it
is the whole message. https://help.twilio.com/articles/223134027
"""

from enum import StrEnum

_STOP = frozenset(
    {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "OPTOUT", "OPT-OUT", "REVOKE", "ARRET", "ARRÊT"}
)
_START = frozenset({"START", "UNSTOP", "YES"})


class Wish(StrEnum):
    """What is asked for; in Twilio's words, which it sends as ``OptOutType``."""

    STOP = "STOP"
    START = "START"


def wish_of(text: str) -> Wish | None:
    """Return what a message asks for; None for any other message."""
    # Phones add what people do not see, and people a full stop.
    word = text.strip(" \t\r\n\u00a0\u200b.!\"'").upper()
    return Wish.STOP if word in _STOP else Wish.START if word in _START else None

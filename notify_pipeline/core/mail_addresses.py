"""E-mail addresses: what one looks like here, and when two are the same mailbox.

Belongs here: the form, and the spelling that addresses are compared by. Does not belong here: whether a mailbox exists
(its mail server says so), who may not be written to (``ledger.suppressions``).

ASCII only: a relay that does not offer SMTPUTF8 (RFC 6531), and most do not, Amazon SES among them, takes no other
local part; of domains the ASCII form is what DNS has anyway (RFC 5891), and what browsers make of the other.
"""

import re

# RFC 5322 section 3.4.1: a dot-atom, without quoted forms, which hardly anybody has and many forms refuse; and without
# the slash, which a path could not carry.
_ATOM = r"[A-Za-z0-9!#$%&'*+\-=?^_`{|}~]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?"
MAIL_PATTERN = rf"^{_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*$"
# RFC 5321 section 4.5.3.1.3: a path has 256 octets with its brackets; and a local part has 64 (section 4.5.3.1.1).
MAX_LENGTH = 254
MAX_LOCAL = 64

_FORM = re.compile(MAIL_PATTERN)


def is_mail_address(text: str) -> bool:
    """Tell whether mail could be sent to this address at all."""
    return len(text) <= MAX_LENGTH and text.find("@") <= MAX_LOCAL and _FORM.fullmatch(text) is not None


def folded(address: str) -> str:
    """Return the spelling that all spellings of a mailbox share: lower case.

    Domains know no case. Of local parts only the receiving server may say that they do not (RFC 5321 section 2.4), but
    none of the large ones tells them apart: whoever complained as Ada@ is not to be written to as ada@. Dots and tags
    after a plus stay, as their meaning differs from server to server.
    """
    return address.lower()


def masked(address: str) -> str:
    """Return what a log line may hold of an address: enough to recognize one that is known."""
    name, at, domain = address.rpartition("@")
    return f"{name[:1]}…{at}{domain}" if at else "…"

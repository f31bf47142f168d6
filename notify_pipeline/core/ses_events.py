"""What Amazon SES says became of a message.

Belongs here: reading its records, of both kinds that it publishes: notifications of an identity, and events of a
configuration set. Does not belong here: the envelope of the topic (``sns_messages``), what follows.

https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html. Fields are added to
records without notice, so unknown ones are let go.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any

import orjson

from notify_pipeline.core import mail_origin
from notify_pipeline.core.mail_addresses import is_mail_address
from notify_pipeline.core.vocabulary import SuppressionReason

_MAX_WORD = 60


@dataclass(frozen=True, slots=True)
class Affected:
    """One recipient. ``reason`` is why they are not to be written to again; None where that may pass."""

    address: str
    kind: str
    reason: SuppressionReason | None
    detail: str


@dataclass(frozen=True, slots=True)
class SesEvent:
    """A bounce or a complaint. ``mark`` is our header of the message, None where SES does not tell headers."""

    mark: str | None
    affected: tuple[Affected, ...]


def read(text: str) -> SesEvent | None:
    """Return the bounce or complaint that a record tells; None for any other record.

    Raises:
        ValueError: It is no record of SES's.
    """
    record = orjson.loads(text)
    if not isinstance(record, dict):
        raise ValueError("must be a JSON object")
    kind = record.get("eventType", record.get("notificationType"))
    if kind == "Bounce":
        return SesEvent(_mark(record), tuple(_bounced(_object(record, "bounce"))))
    if kind == "Complaint":
        return SesEvent(_mark(record), tuple(_complained(_object(record, "complaint"))))
    if not isinstance(kind, str):
        raise ValueError("must say what it is about")
    return None


def _bounced(bounce: Mapping[str, Any]) -> Iterator[Affected]:
    # "Undetermined" and "Transient" may pass. The receiving server's own words hold the address, and come last.
    kind, sub = _word(bounce, "bounceType"), _word(bounce, "bounceSubType")
    reason = SuppressionReason.HARD_BOUNCE if kind == "Permanent" else None
    for each in _objects(bounce, "bouncedRecipients"):
        said = " ".join(part for part in (f"{kind}/{sub}", _word(each, "status")) if part)
        yield from _affected(each, f"bounce:{kind}", reason, said)


def _complained(complaint: Mapping[str, Any]) -> Iterator[Affected]:
    kind = _word(complaint, "complaintFeedbackType") or "complaint"
    # Somebody took the message out of the spam folder. https://www.iana.org/assignments/marf-parameters
    reason = None if kind == "not-spam" else SuppressionReason.COMPLAINT
    for each in _objects(complaint, "complainedRecipients"):
        yield from _affected(each, f"complaint:{kind}", reason, kind)


def _affected(
    recipient: Mapping[str, Any], kind: str, reason: SuppressionReason | None, said: str
) -> Iterator[Affected]:
    given = recipient.get("emailAddress")
    address = parseaddr(given)[1] if isinstance(given, str) else ""
    if is_mail_address(address):
        yield Affected(address, kind, reason, f"SES: {said}")


def _mark(record: Mapping[str, Any]) -> str | None:
    for header in _objects(_object(record, "mail"), "headers"):
        if str(header.get("name")).lower() == mail_origin.HEADER.lower():
            return str(header.get("value"))
    return None


def _object(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _objects(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    found = record.get(name)
    yield from (each for each in (found if isinstance(found, list) else ()) if isinstance(each, dict))


def _word(record: Mapping[str, Any], name: str) -> str:
    found = record.get(name)
    return found[:_MAX_WORD] if isinstance(found, str) else ""

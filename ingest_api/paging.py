"""Cursors: opaque to callers, a position in an order to us.

Belongs here: packing and unpacking positions. Does not belong here: what the order is (the routes).
"""

import base64
import binascii
import re
from datetime import datetime

import orjson

from ingest_api.errors import ApiError, FieldError, unprocessable
from notify_pipeline.core.ids import from_micros

# Far beyond any position; stops a hostile cursor before it is parsed.
_MAX_LENGTH = 400
# Ids as we make them and tenants choose them; nothing that a store could choke on.
_TEXT = re.compile(r"[ -~]{1,200}\Z")


def pack(*position: str | int) -> str:
    """Return the cursor of a position."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def unpack(cursor: str | None, *kinds: type) -> tuple[object, ...] | None:
    """Return the position that a cursor stands for, its parts of these types; None for None.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none of ours.
    """
    if cursor is None:
        return None
    fault = _foreign()
    if len(cursor) > _MAX_LENGTH:
        raise fault
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise fault from error
    if not isinstance(position, list) or [type(part) for part in position] != list(kinds):
        raise fault
    if any(isinstance(part, str) and not _TEXT.match(part) for part in position):
        raise fault
    return tuple(position)


def moment(micros: object) -> datetime:
    """Return the time that a position names, in microseconds since the epoch.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none that a list of ours could have had.
    """
    try:
        return from_micros(int(str(micros)))
    except (ValueError, OverflowError, OSError) as error:
        raise _foreign() from error


def _foreign() -> ApiError:
    return unprocessable(FieldError("cursor", "is not a cursor of this list"))

"""Pages and their cursors: opaque to callers, a position in an order to us.

Belongs here: packing and unpacking positions, cutting a page off. Does not belong here: what the order is (the routes).
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson

from ingest_api.errors import ApiError, FieldError, unprocessable
from notify_pipeline.core.ids import from_micros

# Far beyond any position; stops a hostile cursor before it is parsed.
_MAX_LENGTH = 400
# Ids as we make them and tenants choose them, addresses, tokens; nothing that a store could choke on.
_TEXT = re.compile(r"[ -~]+\Z")

Row = TypeVar("Row")


def pack(*position: str | float) -> str:
    """Return the cursor of a position."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def unpack(cursor: str | None, *kinds: type, longest: int = _MAX_LENGTH) -> tuple[object, ...] | None:
    """Return the position that a cursor stands for, its parts of these types; None for None.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none of ours.
    """
    if cursor is None:
        return None
    fault = foreign()
    if len(cursor) > longest:
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


def unpack_text(cursor: str | None) -> str | None:
    """Return the position that a cursor of one text stands for; None for None.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none of ours.
    """
    position = unpack(cursor, str)
    return None if position is None else str(position[0])


def unpack_key(cursor: str | None, longest: int = _MAX_LENGTH) -> tuple[int, str] | None:
    """Return the position in a list by time that a cursor stands for, in microseconds since the epoch, and an id.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none that a list of ours could have had.
    """
    position = unpack(cursor, int, str, longest=longest)
    if position is None:
        return None
    micros = int(str(position[0]))
    try:
        from_micros(micros)
    except (ValueError, OverflowError, OSError) as error:
        raise foreign() from error
    return micros, str(position[1])


def following(position: tuple[str | int, ...] | None) -> str | None:
    """Return the ``next_cursor`` of a page whose rows go on after this position; None where it was the last."""
    return None if position is None else pack(*position)


def cut(
    rows: Sequence[Row], limit: int, position: Callable[[Row], tuple[str | int, ...]]
) -> tuple[Sequence[Row], str | None]:
    """Return a page of ``limit`` rows and its ``next_cursor``, from rows of which one more was asked for."""
    page = rows[:limit]
    return page, pack(*position(page[-1])) if len(rows) > limit else None


def foreign() -> ApiError:
    """Return the 422 of a cursor that is none of the list's."""
    return unprocessable(FieldError("cursor", "is not a cursor of this list"))

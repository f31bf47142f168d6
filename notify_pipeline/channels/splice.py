"""One JSON body for many recipients: encoded once, with holes that take an address and a delivery id.

Belongs here: making the holes and filling them. Does not belong here: what a provider's payload contains.

Encoding a message costs 15 microseconds and filling a hole a tenth of one. What goes into a hole goes in unescaped, so
it must be text that JSON strings and URLs carry as it is: the patterns here are what make that safe.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any

import orjson

from notify_pipeline.channels.base import ContentRejected
from notify_pipeline.core.ids import DELIVERY_ID_LENGTH

# Unreserved characters of RFC 3986: they mean themselves in JSON strings and in query strings.
DELIVERY_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{DELIVERY_ID_LENGTH}}}")


class Hole:
    """A place in a JSON text that is filled later. Its mark is random, so content cannot contain it by accident."""

    __slots__ = ("mark",)

    def __init__(self) -> None:
        # As long as a delivery id, so that sizes measured with marks in place are the sizes that will be sent.
        self.mark = secrets.token_hex(DELIVERY_ID_LENGTH // 2)


def encode(value: Mapping[str, Any]) -> bytes:
    """Return compact JSON in UTF-8.

    Raises:
        ContentRejected: It holds text that is not Unicode (a lone surrogate).
    """
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
        raise ContentRejected("invalid_text", f"the content cannot be written as JSON: {error}") from None


def template(raw: bytes, holes: Mapping[str, Hole]) -> bytes:
    """Return a bytes format string with the holes as ``%(name)b``; everything else stays as it is.

    Fill it with ``template % {b"name": value, …}``.
    """
    raw = raw.replace(b"%", b"%%")
    for name, hole in holes.items():
        raw = raw.replace(hole.mark.encode(), b"%%(%s)b" % name.encode())
    return raw

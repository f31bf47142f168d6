"""What clients say, and what they are answered.

Belongs here: the language of client messages. Does not belong here: the connection they come by (``connection``).

``{"action": "ping"}`` is answered with a pong: for browsers, which can neither send nor see WebSocket pings.
``{"action": "ack", "cursor": n}`` says how far the client has got; where to go on is always the client's to say, so
nothing depends on it but that the connection is not idle. Whatever else is told so, and harms nobody.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from ingest_api.gateway.connection import Client

# Messages of one client in a second; it has no reason to say more than a few in a minute.
MOST_SAID = 50
_MOST_CURSOR = 2**63 - 1


def greeting(client: Client, cursor: int, ping_s: float) -> str:
    """Return the first message to a client."""
    return _text(
        {
            "type": "hello",
            "connection_id": client.connection_id,
            "user_id": client.user_id,
            "cursor": cursor,
            "token_expires_at": client.token_expires_at,
            "ping_s": ping_s,
        }
    )


def answer(said: str | bytes, last: int) -> str | None:
    """Return what to answer a client's message; None: nothing.

    Args:
        said: What it sent.
        last: The number of the last message that it was sent.
    """
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        return _error("bad_message", "the message is not JSON")
    action = value.get("action") if isinstance(value, dict) else None
    if action == "ping":
        return _text({"type": "pong"})
    if action == "ack":
        return next((_error("bad_cursor", fault) for fault in _cursor_faults(value.get("cursor"), last)), None)
    return _error("unknown_action", 'the message must be {"action": "ping"} or {"action": "ack", "cursor": n}')


def cursor_of(text: str | None) -> int | None:
    """Return a cursor from a query string; None where there is none.

    Raises:
        ValueError: It is no cursor.
    """
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > len(str(_MOST_CURSOR)):
        raise ValueError("cursor must be a whole number, as the messages and the greeting have it")
    return min(int(text), _MOST_CURSOR)


def _cursor_faults(cursor: Any, last: int) -> Iterator[str]:
    if not isinstance(cursor, int) or isinstance(cursor, bool) or cursor < 0:
        yield "cursor must be a whole number"
    elif cursor > last:
        yield "cursor is larger than that of any message that was sent"


def _error(code: str, message: str) -> str:
    return _text({"type": "error", "code": code, "message": message})


def _text(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()

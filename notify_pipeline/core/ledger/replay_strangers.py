"""Dead letters whose addresses are somebody else's by now: no replay takes them along.

Belongs here: who that is. Does not belong here: replays themselves (``replays``), devices that are gone, which planning
skips.

What was meant for one person must not reach the next one who signs in there. The same holds for a subscribed e-mail
address, which moreover is not written to once its subscription is gone, and for a browser that is no contact any more
of the domain that its message is for, or is another visitor's; other addresses are nobody's registration.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, select

from notify_pipeline.core.ledger import progress
from notify_pipeline.core.ledger.letters import Letter
from notify_pipeline.core.ledger.tables import DEVICES, REQUESTS
from notify_pipeline.core.vocabulary import Channel, RegistrationOp

# Channels whose addresses are registered and yet reach somebody without: replays look whether they still are.
_SUBSCRIBED = frozenset({Channel.EMAIL.value})
# Channels whose addresses are never registered.
_UNREGISTERED = frozenset({Channel.SMS.value, Channel.WEBSOCKET.value})
_LOOKED_AT = tuple(DEVICES.c[name] for name in ("token", "user_id", "op", "domain", "visitor_guid"))
# What fills a message's fields, by visitor; None where it is for all contacts of its domain.
_Whose = Mapping[str, str | None] | None


def among(conn: Connection, tenant: str, fresh: Sequence[Letter], originals: Mapping[str, RowMapping]) -> list[Letter]:
    """Return those of these letters that nobody gets any more.

    Args:
        conn: The transaction.
        tenant: Whose letters.
        fresh: Letters.
        originals: Their requests' ``body``, ``domain`` and ``replay_of``, by id.
    """
    asked = [letter for letter in fresh if letter.channel not in _UNREGISTERED]
    whose = {name: (row["domain"], _whose(conn, row)) for name, row in originals.items() if row["domain"] is not None}
    wanted = [
        each for each in asked if each.user_id is not None or each.channel in _SUBSCRIBED or each.request_id in whose
    ]
    tokens = sorted({letter.address for letter in wanted})
    now: dict[str, RowMapping] = {}
    for start in range(0, len(tokens), progress.PIECE):
        mine = (DEVICES.c.tenant == tenant, DEVICES.c.token.in_(tokens[start : start + progress.PIECE]))
        now.update((row["token"], row) for row in conn.execute(select(*_LOOKED_AT).where(*mine)).mappings())
    return [
        each
        for each in wanted
        if (device := now.get(each.address)) is not None
        and (
            _is_of_other(each, device["user_id"], device["op"])
            or (each.request_id in whose and _is_no_contact(each, device, *whose[each.request_id]))
        )
    ]


def _is_of_other(letter: Letter, user_id: str | None, op: str) -> bool:
    if letter.channel in _SUBSCRIBED:
        return op != RegistrationOp.UPSERT or (letter.user_id is not None and user_id not in (None, letter.user_id))
    return letter.user_id is not None and user_id != letter.user_id


def _is_no_contact(letter: Letter, device: RowMapping, domain: str, whose: _Whose) -> bool:
    """Tell whether a registered browser is none that a message to a domain was for."""
    if device["op"] != RegistrationOp.UPSERT:
        return False
    if device["domain"] != domain:
        return True
    if whose is None:
        return False
    guid = device["visitor_guid"]
    return guid not in whose or whose[guid] != letter.fields


def _whose(conn: Connection, original: RowMapping) -> _Whose:
    """Return the visitors of a message, or of the one that it replays: a replay names devices."""
    body: dict[str, Any] = orjson.loads(original["body"])
    before = original["replay_of"]
    while before is not None:
        query = select(REQUESTS.c.body, REQUESTS.c.replay_of).where(REQUESTS.c.request_id == before)
        row = conn.execute(query).first()
        if row is None:
            return None
        body, before = orjson.loads(row.body), row.replay_of
    if "visitors" not in body:
        return None
    # As recipients have them.
    return {
        each["visitor_guid"]: orjson.dumps(each["fields"]).decode() if each.get("fields") else None
        for each in body["visitors"]
    }

"""What a replay is made of: which letters go together, its notification id, its body.

Belongs here: pure rules from dead letters and the original request to the new one. Does not belong here: the
transaction (``replays``).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from itertools import groupby
from typing import Any

from notify_pipeline.core.ids import own_collapse_key
from notify_pipeline.core.ledger.letters import Letter
from notify_pipeline.core.records import Audience
from notify_pipeline.core.vocabulary import Channel

# As the ingress limits the ids that callers choose.
ID_LENGTH = 128
# 64 bits: among a million replays of one notification two have the same id with a chance of 3e-8, and the second is
# refused.
_DIGEST_CHARS = 16
_SUFFIX = re.compile(rf"~r[0-9a-f]{{{_DIGEST_CHARS}}}\Z")
# What says who and when; the rest is the original's, and whose domain's contacts it is for.
_NOT_KEPT = frozenset({"send_at", "send_at_local", *(each.name for each in dataclass_fields(Audience))} - {"domain"})
# How a body names a channel's addresses, where they are no device tokens.
_NAMED_AS = {Channel.EMAIL: "emails", Channel.SMS: "phones", Channel.WEBSOCKET: "users"}
# What a new content takes the place of.
_CONTENT = frozenset({"content", "overrides", "template", "fields"})


def grouped(letters: Iterable[Letter], most: int) -> list[list[Letter]]:
    """Return the letters of each new request: of one original request, on one channel, at most ``most``.

    Every letter is in exactly one group, and the groups do not depend on the letters' order.
    """
    groups: list[list[Letter]] = []
    for _, together in groupby(sorted(letters, key=_order), lambda each: _order(each)[:2]):
        mine = list(together)
        groups.extend(mine[start : start + most] for start in range(0, len(mine), most))
    return groups


def replay_id(notification_id: str, delivery_ids: Iterable[str]) -> str:
    """Return the notification id of a replay: the original's, shortened where it must be, ``~r`` and a digest.

    The digest is of the deliveries, and a delivery is replayed once: so no two replays have the same id, and nobody has
    to count. The replay of a replay is named after the first original.
    """
    digest = hashlib.sha256(" ".join(sorted(delivery_ids)).encode()).hexdigest()[:_DIGEST_CHARS]
    root = _SUFFIX.sub("", notification_id)
    return f"{root[: ID_LENGTH - 2 - _DIGEST_CHARS]}~r{digest}"


def replay_body(
    original: Mapping[str, Any],
    tenant: str,
    notification_id: str,
    letters: Sequence[Letter],
    content: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the body of a replay: the original's, for exactly these addresses on this channel, at once.

    It has the collapse key that the original's pushes carried, so that a device where the first one arrived after all
    shows the notification once.

    Args:
        original: The original's stored body.
        tenant: Whose.
        notification_id: The original's.
        letters: Who gets it: dead letters of the original on one channel.
        content: Takes the place of the original's content and of what was derived for channels; None keeps both.
    """
    changed = _NOT_KEPT if content is None else _NOT_KEPT | _CONTENT
    channel, fields = letters[0].channel, dict[str, str | None]()
    if original.get("visitors") or original.get("device_fields"):
        # Of everybody, so that the replay knows what a field is where nobody was given one.
        fields = {each.address: each.fields for each in letters}
    return {
        **{name: value for name, value in original.items() if name not in changed},
        **({} if content is None else {"content": content}),
        _NAMED_AS.get(Channel(channel), "devices"): [each.address for each in letters],
        **({"device_fields": fields} if fields else {}),
        "channels": [channel],
        "collapse_key": original.get("collapse_key") or own_collapse_key(tenant, notification_id),
    }


def _order(letter: Letter) -> tuple[str, str, str]:
    return letter.request_id, letter.channel, letter.delivery_id

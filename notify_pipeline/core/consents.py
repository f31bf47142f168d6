"""Consent: whether somebody may be sent something, and on whose word.

Belongs here: the pure rule, and how recipients are named to it. Does not belong here: storing what users said
(``ledger.preferences``) and what tenants set (``ledger.policies``), addresses that nobody may write to whatever anybody
said (``ledger.suppressions``), looking all that up for a send (``delivery.consenting``).

What is said of something in particular goes before what is said of more. In this order: a category that the tenant
made mandatory; the user of this category on this channel, of this category, of this channel, of everything; the tenant
of this category on this channel, of this category, of this channel, of everything. Where nobody said anything it is
allowed: an app asked its user for pushes, and an address was given to the tenant by its owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import Channel

# As a category: all of them, and what has none. As a channel: all of them.
ALL = ""
# The provider_code of the attempt of somebody who does not want it.
UNSUBSCRIBED = "unsubscribed"
# Likewise, before the reason, of somebody at an address that is not to be written to.
SUPPRESSED = "suppressed:"
_MANDATORY, _POLICY, _DEFAULT = "mandatory", "policy", "default"

Pair = tuple[str, str]  # category, channel; either may be ``ALL``


class Said(NamedTuple):
    """What a user said: ``at`` in microseconds since the epoch; ``source`` is where."""

    enabled: bool
    source: str
    at: int


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a tenant set for one category: by channel, and whether nobody can refuse it."""

    channels: Mapping[str, bool] = field(default_factory=dict)
    mandatory: bool = False

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Defaults":
        """Return what a stored policy says."""
        channels = {spelled(name): bool(enabled) for name, enabled in value["channels"].items()}
        return cls(channels, bool(value.get("mandatory", False)))


class Consent(NamedTuple):
    """Whether, and on whose word: ``mandatory``, ``user:<source>:<date>``, ``policy`` or ``default``."""

    allowed: bool
    word: str


def recipient(user_id: str | None, channel: Channel, address: str) -> str:
    """Return who it is that says something: a user, or an address that belongs to nobody.

    The names are those of frequency caps (``ledger.caps.recipient``), every spelling of a mailbox the same.
    """
    if user_id is not None:
        return f"user:{user_id}"
    return f"device:{folded(address) if channel is Channel.EMAIL else address}"


def spelled(name: str) -> str:
    """Return a category or channel as it is stored: ``*`` is how people write that they mean all."""
    return ALL if name == "*" else name


def pairs(category: str | None, channel: Channel) -> tuple[Pair, ...]:
    """Return what a user may have said that matters to a send, the most particular first."""
    mine = category or ALL
    return tuple(dict.fromkeys(((mine, channel.value), (mine, ALL), (ALL, channel.value), (ALL, ALL))))


def newest(one: Mapping[Pair, Said], other: Mapping[Pair, Said]) -> dict[Pair, Said]:
    """Return what two names of one recipient said together: of the same thing the later word, and no before yes."""
    return {
        pair: max((said[pair] for said in (one, other) if pair in said), key=lambda said: (said.at, not said.enabled))
        for pair in {**one, **other}
    }


def refusing_all(channel: Channel, before: Mapping[Pair, Said]) -> dict[Pair, bool | None]:
    """Return what to say for nothing to come by a channel any more, whatever was said of categories before."""
    said: dict[Pair, bool | None] = {(ALL, channel.value): False}
    for category, on in before:
        if category and on in (channel.value, ALL):
            # A category that was wanted on all channels is so on the others.
            said[category, channel.value] = None if (category, ALL) not in before else False
    return said


def decide(
    category: str | None, channel: Channel, said: Mapping[Pair, Said], defaults: Mapping[str, Defaults]
) -> Consent:
    """Decide for one recipient.

    Args:
        category: The send's; None and empty are the same.
        channel: That it would go by.
        said: What the recipient said.
        defaults: What the tenant set, by category.
    """
    of_category = defaults.get(category) if category else None
    if of_category is not None and of_category.mandatory:
        return Consent(True, _MANDATORY)
    for pair in pairs(category, channel):
        if (found := said.get(pair)) is not None:
            return Consent(found.enabled, f"user:{found.source}:{from_micros(found.at).date().isoformat()}")
    for each in (of_category, defaults.get(ALL)):
        for name in (channel.value, ALL):
            if each is not None and name in each.channels:
                return Consent(each.channels[name], _POLICY)
    return Consent(True, _DEFAULT)

"""Who of a send's recipients gets it: what they said, what their tenant set, which addresses are not to be written to.

Belongs here: looking that up for many sends at a time. Does not belong here: the rule (``core.consents``), what becomes
of those who get nothing (``planning``, ``claims``, ``late``).

It is looked up when a send is planned, and again right before each call: somebody may have unsubscribed while the send
waited for its time, or for a provider. Where nobody in the installation said anything, that is one look.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, TypeAlias

from sqlalchemy import Connection, bindparam, exists, select

from notify_pipeline.core import consents, mail_addresses
from notify_pipeline.core.consents import Defaults, Pair, Said
from notify_pipeline.core.erasure import ERASED, PLACEHOLDER
from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import erasure_standing, policies, preferences, suppressions, users
from notify_pipeline.core.ledger.erasure_standing import Gone
from notify_pipeline.core.ledger.erasure_tables import ERASURES
from notify_pipeline.core.ledger.people_tables import PREFERENCES, SUPPRESSIONS
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tenant_tables import POLICIES
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.vocabulary import Channel, Platform, PolicyKind, SuppressionReason

_ANYTHING = Prepared(
    lambda _: select(
        exists(select(PREFERENCES.c.tenant)),
        exists(select(SUPPRESSIONS.c.tenant)),
        exists(select(POLICIES.c.kind).where(POLICIES.c.kind == bindparam("kind"))),
        exists(select(ERASURES.c.tenant).where(ERASURES.c.verified_at.is_(None))),
    ),
    ("kind",),
)


@dataclass(frozen=True, slots=True)
class TenantConsents:
    """What there is of one tenant.

    Attributes:
        said: Whether any of its recipients said anything.
        suppressed: Channels on which any address is suppressed.
        defaults: What the tenant set, by category.
        gone: Who is being erased: what was accepted before may have been planned for them.
    """

    said: bool = False
    suppressed: frozenset[Channel] = frozenset()
    defaults: Mapping[str, Defaults] = field(default_factory=dict)
    gone: Sequence[Gone] = ()

    def concerns(self, recipients: Sequence[Recipient]) -> bool:
        """Tell whether any of it can matter to any of these: one STOP by SMS is no reason to look at pushes."""
        if self.said or self.defaults or self.gone:
            return True
        return any(platform.channel in self.suppressed for platform in {each.platform for each in recipients})


class Ruling(NamedTuple):
    """What becomes of one recipient: on whose ``word``; ``skip`` is the provider_code where it is not sent to."""

    skip: str | None
    word: str


# Platforms whose addresses say something for themselves, whoever's they are.
_ADDRESSED = frozenset(platform for platform in Platform if platform.channel in suppressions.CHANNELS)
# A send and its recipients.
Asked: TypeAlias = tuple[Notification, Sequence[Recipient]]


def read(conn: Connection, tenants: Collection[str]) -> dict[str, TenantConsents]:
    """Return what there is of each of these tenants; those of whom there is nothing are left out."""
    found = _ANYTHING.run_values(conn, (PolicyKind.PREFERENCES.value,)).one()
    if not any(found):
        return {}
    said = preferences.any_of(conn, tenants) if found[0] else frozenset[str]()
    suppressed = suppressions.any_of(conn, tenants) if found[1] else {}
    stored = policies.of_tenants(conn, tenants, (PolicyKind.PREFERENCES,)) if found[2] else {}
    gone = {tenant: erasure_standing.gone(conn, tenant) for tenant in tenants} if found[3] else {}
    return {
        tenant: TenantConsents(
            tenant in said,
            suppressed.get(tenant, frozenset()),
            {policy.name: Defaults.of(policy.value) for policy in stored.get(tenant, ())},
            gone.get(tenant, ()),
        )
        for tenant in tenants
        if tenant in said or tenant in suppressed or tenant in stored or gone.get(tenant)
    }


def rule(
    conn: Connection, asked: Sequence[Asked], of_tenants: Mapping[str, TenantConsents]
) -> list[Sequence[Ruling] | None]:
    """Rule on each recipient of each of some sends; None for a send for which there is nothing to go by."""
    concerned = [send.tenant in of_tenants and of_tenants[send.tenant].concerns(theirs) for send, theirs in asked]
    by_tenant: dict[str, list[Asked]] = {}
    for each, is_concerned in zip(asked, concerned, strict=True):
        if is_concerned:
            by_tenant.setdefault(each[0].tenant, []).append(each)
    books = {tenant: _Book.read(conn, of_tenants[tenant], theirs) for tenant, theirs in by_tenant.items()}
    return [
        books[send.tenant].rulings(send, recipients) if is_concerned else None
        for (send, recipients), is_concerned in zip(asked, concerned, strict=True)
    ]


def who(recipient: Recipient) -> str:
    """Return a recipient as ``consents`` names them."""
    return consents.recipient(recipient.user_id, recipient.platform.channel, recipient.address)


@dataclass(frozen=True, slots=True)
class _Names:
    """What some recipients are called: each by one name, and some by others.

    A user is also a mailbox or a number, and one of these that a send names is also whoever's profile has it.
    """

    one: Sequence[str]
    other: Sequence[tuple[int, str]]

    @classmethod
    def of(cls, recipients: Sequence[Recipient], owners: "_Owners") -> "_Names":
        other: list[tuple[int, str]] = []
        for at, each in enumerate(recipients):
            if each.platform not in _ADDRESSED:
                continue
            channel = each.platform.channel
            if each.user_id is not None:
                other.append((at, consents.recipient(None, channel, each.address)))
            else:
                users_there = owners.get((channel, suppressions.key_of(channel, each.address)), ())
                other += [(at, consents.recipient(user_id, channel, each.address)) for user_id in users_there]
        return cls([who(each) for each in recipients], other)

    def said(self, said: Mapping[str, Mapping[Pair, Said]]) -> dict[int, Mapping[Pair, Said]]:
        """Return what each said, by position; who said nothing is left out."""
        found = {at: said[name] for at, name in enumerate(self.one) if name in said}
        for at, name in self.other:
            if name in said:
                found[at] = consents.newest(found.get(at, {}), said[name])
        return found


_NOBODY = _Names((), ())
# Users by where their profiles say that they are.
_Owners: TypeAlias = Mapping[tuple[Channel, str], Sequence[str]]


def _owners(conn: Connection, tenant: str, asked: Sequence[Asked]) -> _Owners:
    """Return whose the mailboxes and numbers are that are named by themselves."""
    named: dict[Channel, set[str]] = {}
    for each in chain.from_iterable(recipients for _, recipients in asked):
        if each.user_id is None and each.platform in _ADDRESSED:
            channel = each.platform.channel
            named.setdefault(channel, set()).add(suppressions.key_of(channel, each.address))
    found: dict[tuple[Channel, str], list[str]] = {}
    for channel, addresses in named.items():
        for address, user_id in users.at_addresses(conn, tenant, channel, addresses):
            found.setdefault((channel, address), []).append(user_id)
    return found


@dataclass(frozen=True, slots=True)
class _Book:
    """What there is of some recipients of one tenant; ``names`` by the identity of each send's."""

    rules: TenantConsents
    names: Mapping[int, _Names]
    said: Mapping[str, Mapping[Pair, Said]]
    suppressed: Mapping[Channel, Mapping[str, SuppressionReason]]

    @classmethod
    def read(cls, conn: Connection, rules: TenantConsents, asked: Sequence[Asked]) -> "_Book":
        tenant = asked[0][0].tenant
        names: dict[int, _Names] = {}
        said: Mapping[str, Mapping[Pair, Said]] = {}
        if rules.said:
            owners = _owners(conn, tenant, asked)
            names = {id(recipients): _Names.of(recipients, owners) for _, recipients in asked}
            all_names = (name for each in names.values() for name in chain(each.one, (name for _, name in each.other)))
            said = preferences.find(conn, tenant, all_names)
        suppressed = {}
        for channel in rules.suppressed:
            everybody = chain.from_iterable(recipients for _, recipients in asked)
            if addresses := {each.address for each in everybody if each.platform.channel is channel}:
                suppressed[channel] = suppressions.find(conn, tenant, channel, addresses)
        return cls(rules, names, said, suppressed)

    def rulings(self, send: Notification, recipients: Sequence[Recipient]) -> list[Ruling]:
        # Hardly anybody has said anything, and of all others on a channel the same is true.
        silent = {name: self._ruling(send.category, name.channel, {}, None) for name in Platform}
        found = [silent[each.platform] for each in recipients]
        said = self.names.get(id(recipients), _NOBODY).said(self.said) if self.said else {}
        for at, mine in said.items():
            found[at] = self._ruling(send.category, recipients[at].platform.channel, mine, None)
        for channel, reasons in self.suppressed.items():
            for at, each in enumerate(recipients) if reasons else ():
                if each.address in reasons and each.platform.channel is channel:
                    found[at] = self._ruling(send.category, channel, said.get(at, {}), reasons[each.address])
        if gone := [each for each in self.rules.gone if to_micros(send.accepted_at) <= each.since]:
            for at, each in enumerate(recipients):
                if _is_gone(each, gone):
                    found[at] = Ruling(ERASED, found[at].word)
        return found

    def _ruling(
        self, category: str | None, channel: Channel, said: Mapping[Pair, Said], reason: SuppressionReason | None
    ) -> Ruling:
        consent = consents.decide(category, channel, said, self.rules.defaults)
        if reason is not None:
            return Ruling(f"{consents.SUPPRESSED}{reason}", consent.word)
        return Ruling(None if consent.allowed else consents.UNSUBSCRIBED, consent.word)


def _is_gone(recipient: Recipient, gone: Sequence[Gone]) -> bool:
    """Tell whether a recipient was erased: the queue's have lost their addresses, a broadcast's have them still."""
    address = recipient.address
    if address.startswith(PLACEHOLDER):
        return True
    if recipient.platform is Platform.EMAIL:
        address = mail_addresses.folded(address)
    return any(
        address in each.addresses or (recipient.user_id is not None and recipient.user_id == each.user_id)
        for each in gone
    )

"""Frequency caps: how often a recipient may be addressed, counted once per send.

Belongs here: taking and counting uses, forgetting old ones. Does not belong here: who the recipients of a send are and
what becomes of those who are over (``plans``, ``delivery``).

A tenant's cap allows a recipient ``count`` sends in any ``period_s``; the policy named by a category counts sends of
that category, the one without a name all of them, and both hold. A use is dated by when its send was to go out, so that
it does not matter when it was planned. A send that would be one too many before or after it takes none.

Whoever takes uses holds the tenant's policies until the transaction ends, so two sends cannot both take the last one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, or_, select, tuple_

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.ledger import policies
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.policies import Policy
from notify_pipeline.core.ledger.statements import Prepared
from notify_pipeline.core.ledger.tenant_tables import CAP_USES, POLICIES
from notify_pipeline.core.mail_addresses import folded
from notify_pipeline.core.vocabulary import PolicyKind

# The provider_code of the attempt of somebody who is over a cap.
FREQUENCY_CAP = "frequency_cap"
# The name of the cap on all sends together.
ALL = ""
# Recipients looked up, and uses forgotten, in one statement.
_PIECE = 1_000
# Uses forgotten in one transaction: some 20 ms.
_FORGOTTEN = 5_000

_KEY = (CAP_USES.c.tenant, CAP_USES.c.category, CAP_USES.c.recipient, CAP_USES.c.request_id)
_USE = ("tenant", "category", "recipient", "request_id", "at")
_TAKE = Prepared(
    lambda insert: (
        insert(CAP_USES)
        .values({name: bindparam(name) for name in _USE})
        .on_conflict_do_nothing(index_elements=["tenant", "category", "recipient", "request_id"])
    ),
    _USE,
)


@dataclass(frozen=True, slots=True)
class Cap:
    """At most ``count`` sends in any ``period`` (microseconds)."""

    count: int
    period: int

    @classmethod
    def of(cls, policy: Policy) -> "Cap":
        """Return the cap that a policy describes."""
        return cls(int(policy.value["count"]), round(policy.value["period_s"] * 1e6))


@dataclass(frozen=True, slots=True)
class Uses:
    """What one send would use.

    Attributes:
        tenant: Whose send.
        request_id: Which.
        category: Its category.
        at: When it was to go out, microseconds since the epoch; the same however often it is asked.
        recipients: Who, as ``user`` and ``device`` name them.
    """

    tenant: str
    request_id: str
    category: str | None
    at: int
    recipients: frozenset[str]


def recipient(user_id: str | None, address: str) -> str:
    """Return who is counted: a user over all their devices, a device or mailbox that belongs to nobody by itself."""
    if user_id is not None:
        return f"user:{user_id}"
    # No other address has an @. A mailbox is one however it is spelled.
    return f"device:{folded(address) if '@' in address else address}"


def applying(found: Mapping[str, Policy], category: str | None) -> dict[str, Cap]:
    """Return the caps, of a tenant's policies by name, that a send of this category goes by."""
    return {name: Cap.of(found[name]) for name in (category, ALL) if name is not None and name in found}


def take(ledger: Ledger, uses: Uses) -> frozenset[str]:
    """Take a use of each recipient, in one transaction; return those who have none left, of whom none was taken.

    A recipient of whom the send took a use before is not over, and none is taken again.
    """
    return ledger.write(take_all, uses)


def take_all(conn: Connection, items: Sequence[Uses]) -> list[frozenset[str]]:
    """Like ``take``, for several sends, inside the caller's transaction."""
    policies.lock(conn, sorted({item.tenant for item in items}), PolicyKind.FREQUENCY_CAP)
    return [_take(conn, item) for item in items]


def forget(ledger: Ledger, now: datetime) -> int:
    """Forget uses that no cap counts any more; return how many."""
    with ledger.read() as conn:
        query = select(POLICIES).where(POLICIES.c.kind == str(PolicyKind.FREQUENCY_CAP))
        longest = max((Cap.of(policies.to_policy(row)).period for row in conn.execute(query)), default=0)
    gone = 0
    while part := ledger.write(_forget, to_micros(now) - longest):
        gone += part
    return gone


def _take(conn: Connection, item: Uses) -> frozenset[str]:
    caps = applying(policies.find_in(conn, item.tenant, PolicyKind.FREQUENCY_CAP), item.category)
    if not caps:
        return frozenset()
    over: set[str] = set()
    for piece in _pieces(sorted(item.recipients)):
        used, mine = _used(conn, item, caps, piece)
        for who in piece:
            if who not in mine and any(used[name, who] >= cap.count for name, cap in caps.items()):
                over.add(who)
        taken = [who for who in piece if who not in over]
        _TAKE.run_many(conn, [(item.tenant, name, who, item.request_id, item.at) for name in caps for who in taken])
    return frozenset(over)


def _used(
    conn: Connection, item: Uses, caps: Mapping[str, Cap], piece: Sequence[str]
) -> tuple[Counter[tuple[str, str]], set[str]]:
    """Return the uses of other sends by cap and recipient, and of whom this send took one."""
    near = or_(*(_near(name, cap, item.at) for name, cap in caps.items()))
    mine = CAP_USES.c.request_id == item.request_id
    query = (
        select(CAP_USES.c.category, CAP_USES.c.recipient, mine, func.count())
        .where(CAP_USES.c.tenant == item.tenant, CAP_USES.c.recipient.in_(piece), near)
        .group_by(CAP_USES.c.category, CAP_USES.c.recipient, mine)
    )
    used: Counter[tuple[str, str]] = Counter()
    own: set[str] = set()
    for name, who, is_mine, number in conn.execute(query):
        if is_mine:
            own.add(who)
        else:
            used[name, who] = number
    return used, own


def _near(name: str, cap: Cap, at: int) -> ColumnElement[bool]:
    """Uses that share a period with one at ``at``."""
    return and_(CAP_USES.c.category == name, CAP_USES.c.at > at - cap.period, CAP_USES.c.at < at + cap.period)


def _pieces(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + _PIECE] for start in range(0, len(items), _PIECE))


def _forget(conn: Connection, items: Sequence[int]) -> list[int]:
    return [_forget_one(conn, before) for before in items]


def _forget_one(conn: Connection, before: int) -> int:
    old: Iterable[tuple[str, ...]] = (
        conn.execute(select(*_KEY).where(CAP_USES.c.at <= before).limit(_FORGOTTEN)).tuples().all()
    )
    keys = sorted(tuple(key) for key in old)
    for start in range(0, len(keys), _PIECE):
        conn.execute(delete(CAP_USES).where(tuple_(*_KEY).in_(keys[start : start + _PIECE])))
    return len(keys)

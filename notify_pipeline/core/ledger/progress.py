"""How far a request has come: its counts, and the move to its end when nobody is left to send to.

Belongs here: adding to counts inside a transaction, and which end state they mean. Does not belong here: what is
counted (``deliveries``, ``broadcasts``).

Counts are {channel: {"audience": n, "pending": n, outcome: n, …}}; ``audience`` is always ``pending`` plus the
outcomes. Recipients that no channel was found for are counted under ``none``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, select, update

from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger import audit, moves
from notify_pipeline.core.ledger.moves import Move
from notify_pipeline.core.ledger.tables import DELIVERIES, REQUESTS
from notify_pipeline.core.vocabulary import Outcome, RequestState

Counts = dict[str, dict[str, int]]
NO_CHANNEL = "none"
AUDIENCE, PENDING = "audience", "pending"
# What the audit says of a request's attempts at its end: {channel: {"attempts": n, "retries": n}}.
AttemptTotals = dict[str, dict[str, int]]
ATTEMPTS, RETRIES = "attempts", "retries"
# Requests asked for in one statement; SQLite takes 32,766 parameters.
PIECE = 1_000

# Somebody got it, or may have.
_REACHED = (Outcome.ACCEPTED, Outcome.DRY_RUN, Outcome.AMBIGUOUS)
# In the order in which they name a failure: what an operator can act on first.
_FAILURES = (Outcome.PERMANENT, Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.INVALID_RECIPIENT)
_SET_COUNTS = (
    update(REQUESTS)
    .where(REQUESTS.c.request_id == bindparam("of_request"))
    .values(counts=bindparam("counts"), updated_at=bindparam("updated_at"))
)
_FINISH = (
    update(REQUESTS)
    .where(REQUESTS.c.request_id == bindparam("of_request"))
    .values(
        state=bindparam("state"),
        reason=bindparam("reason"),
        updated_at=bindparam("updated_at"),
        lease_owner=None,
        lease_until=None,
    )
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One request as a transaction found it, locked."""

    request_id: str
    tenant: str
    notification_id: str
    state: str
    lease_owner: str | None
    revision: int
    counts: Counts

    def move(
        self,
        from_state: RequestState,
        to_state: RequestState,
        now: int,
        actor: str,
        detail: Mapping[str, Any] | None = None,
    ) -> Move:
        """Return a move of it, to be recorded."""
        return Move(self.tenant, self.request_id, self.notification_id, from_state, to_state, actor, now, detail)


def standing(conn: Connection, request_ids: Sequence[str]) -> dict[str, Standing]:
    """Lock these requests, always in one order so that nobody waits in a circle, and return how they stand."""
    found: dict[str, Standing] = {}
    ordered = sorted(set(request_ids))
    names = ("request_id", "tenant", "notification_id", "state", "lease_owner", "revision", "counts")
    query = select(*(REQUESTS.c[name] for name in names)).order_by(REQUESTS.c.request_id).with_for_update()
    for start in range(0, len(ordered), PIECE):
        for row in conn.execute(query.where(REQUESTS.c.request_id.in_(ordered[start : start + PIECE]))):
            found[row[0]] = Standing(row[0], row[1], row[2], row[3], row[4], row[5] or 0, orjson.loads(row[6]))
    return found


def add(counts: Counts, changes: Mapping[str, Mapping[str, int]]) -> Counts:
    """Return counts with changes added."""
    result = {channel: dict(values) for channel, values in counts.items()}
    for channel, values in changes.items():
        mine = result.setdefault(channel, {})
        for name, number in values.items():
            mine[name] = mine.get(name, 0) + number
    return result


def pending(counts: Counts) -> int:
    """Return how many recipients are still to be finished."""
    return sum(values.get(PENDING, 0) for values in counts.values())


def final_state(counts: Counts) -> tuple[RequestState, str | None]:
    """Return the end state of a request whose recipients are all finished, and why if it is not ``done``.

    Done: at least one got it, may have got it, or there was nobody to send to or nothing but skips. Expired: all that
    were not skipped expired. Failed: the rest.
    """
    # Once per send: names that no channel counts are never looked at.
    seen = {name for values in counts.values() for name, number in values.items() if number}
    if not seen.isdisjoint(_REACHED):
        return RequestState.DONE, None
    for outcome in _FAILURES:
        if outcome in seen:
            return RequestState.FAILED, f"nobody was reached: {outcome.value}"
    if Outcome.EXPIRED in seen:
        return RequestState.EXPIRED, "expired before anybody was reached"
    return RequestState.DONE, None


def apply(
    conn: Connection, found: Mapping[str, Standing], changes: Mapping[str, Counts], now: int
) -> dict[str, Counts]:
    """Add finished recipients to their requests' counts, ``pending`` going down by as many; return the new counts."""
    result: dict[str, Counts] = {}
    for request_id, by_channel in changes.items():
        done = {channel: {**values, PENDING: -sum(values.values())} for channel, values in by_channel.items() if values}
        if done:
            result[request_id] = add(found[request_id].counts, done)
    rows = [
        {"of_request": request_id, "counts": orjson.dumps(counts).decode(), "updated_at": now}
        for request_id, counts in result.items()
    ]
    if rows:
        conn.execute(_SET_COUNTS, rows)
    return result


def end(
    conn: Connection,
    ended: Sequence[tuple[Standing, Counts]],
    now: int,
    actor: str,
    attempts: Mapping[str, AttemptTotals] | None = None,
) -> None:
    """Move requests whose recipients are all finished to their end, and forget their deliveries.

    Args:
        conn: The connection.
        ended: The requests, and their last counts.
        now: Microseconds since the epoch.
        actor: Who moves them.
        attempts: By request, how often was tried on each channel, where the queue does not know.
    """
    if not ended:
        return
    made: list[Move] = []
    rows: list[dict[str, Any]] = []
    tried = {**_forget(conn, [request.request_id for request, _ in ended]), **(attempts or {})}
    for request, counts in ended:
        state, reason = final_state(counts)
        rows.append({"of_request": request.request_id, "state": str(state), "reason": reason, "updated_at": now})
        detail: dict[str, Any] = {"counts": counts} if reason is None else {"counts": counts, "reason": reason}
        detail["attempts"] = tried.get(request.request_id, {})
        made.append(request.move(RequestState(request.state), state, now, actor, detail))
    conn.execute(_FINISH, rows)
    moves.record(conn, made, from_micros(now))


def _forget(conn: Connection, request_ids: Sequence[str]) -> dict[str, AttemptTotals]:
    """Delete the deliveries of requests; return how often was tried, by request and channel."""
    found: dict[str, AttemptTotals] = {}
    told = (DELIVERIES.c.request_id, DELIVERIES.c.channel, DELIVERIES.c.attempt_no)
    for start in range(0, len(request_ids), PIECE):
        mine = DELIVERIES.c.request_id.in_(request_ids[start : start + PIECE])
        for request_id, channel, attempt_no in conn.execute(delete(DELIVERIES).where(mine).returning(*told)):
            totals = found.setdefault(request_id, {}).setdefault(channel, {ATTEMPTS: 0, RETRIES: 0})
            totals[ATTEMPTS] += attempt_no
            totals[RETRIES] += max(0, attempt_no - 1)
    return found


def gave_up_entry(request: Standing, channel: str, reasons: Mapping[str, int], now: int, actor: str) -> audit.Entry:
    """Return the audit entry of recipients that will not be attempted again although their outcome would allow it."""
    return audit.Entry(
        event="deliveries.gave_up",
        actor=actor,
        at=now,
        tenant=request.tenant,
        request_id=request.request_id,
        notification_id=request.notification_id,
        detail={"channel": channel, "reasons": dict(reasons)},
    )

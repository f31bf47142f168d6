"""What the audit trail says of requests, held against what the state machine allows."""

from itertools import pairwise

from sqlalchemy import select

from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.tables import AUDIT, REQUESTS
from notify_pipeline.core.vocabulary import FINAL_STATES, RequestState

_NEXT = {
    None: {RequestState.ACCEPTED},
    RequestState.ACCEPTED: {RequestState.ROUTED, *FINAL_STATES},
    RequestState.ROUTED: {RequestState.SENDING, RequestState.EXPIRED, RequestState.FAILED, RequestState.CANCELLED},
    RequestState.SENDING: {RequestState.DONE, RequestState.FAILED, RequestState.EXPIRED},
}


def histories(ledger: Ledger) -> dict[str, list[RequestState]]:
    """Return the states that each request went through, after checking that its moves are an unbroken legal chain.

    Each move is there once, none is skipped, and the last one is where the request stands.
    """
    moved = select(AUDIT).where(AUDIT.c.to_state.isnot(None)).order_by(AUDIT.c.audit_id)
    with ledger.read() as conn:
        states = dict(conn.execute(select(REQUESTS.c.request_id, REQUESTS.c.state)).tuples().all())
        rows = conn.execute(moved).all()
    found: dict[str, list[RequestState]] = {request_id: [] for request_id in states}
    for row in rows:
        path = found[row.request_id]
        before = path[-1] if path else None
        assert (None if row.from_state is None else RequestState(row.from_state)) == before, (row, path)
        assert RequestState(row.to_state) in _NEXT[before], (row, path)
        assert row.event == f"request.{row.to_state}"
        path.append(RequestState(row.to_state))
    for request_id, path in found.items():
        assert path and path[-1] == states[request_id], (request_id, path, states[request_id])
        assert all(a != b for a, b in pairwise(path))
    return found

"""Storing a send, and what its sender is told where it is refused.

Belongs here: the one call that every route stores a single send with. Does not belong here: what is stored of it
(``making``), the transaction (``core.ledger.accepting``).
"""

from datetime import datetime

from flask import Request

from ingest_api.endpoint import Call
from ingest_api.errors import ApiError, conflict
from ingest_api.inputs import read_idempotency_key
from ingest_api.limits.keeping import quota_exceeded
from notify_pipeline.core.ids import new_id
from notify_pipeline.core.ledger import requests
from notify_pipeline.core.ledger.accepting import Accepted, NewRequest
from notify_pipeline.core.ledger.usage import QuotaExceeded

REPLAYED = ("Idempotent-Replayed", "true")
REPLAYED_HEADER = {"Idempotent-Replayed": "`true` when this id was accepted before."}


def accepted(call: Call, new: NewRequest, id_field: str = "id") -> Accepted:
    """Store a send durably, or find the one that used its id first.

    Args:
        call: Of the route.
        new: What is stored of it.
        id_field: Where its sender names the id.

    Raises:
        ApiError: 409 when the first one had another body, 429 when a day's quota is used up.
    """
    try:
        return requests.accept(call.services.ledger, new)
    except (requests.IdReused, QuotaExceeded) as error:
        raise refused(error, new.accepted_at, id_field) from error


def refused(error: Exception, now: datetime, id_field: str = "id") -> ApiError:
    """Return what the caller is told of a send that was not accepted; what is none of their doing is raised."""
    if isinstance(error, requests.IdReused):
        return conflict("id_reused", "This id was used before, with another body.", id_field)
    if isinstance(error, QuotaExceeded):
        return quota_exceeded(error, now)
    raise error


def id_of(request: Request) -> str:
    """Return the id that the Idempotency-Key header gives a send, or a new one.

    Raises:
        ApiError: 422 naming the header.
    """
    return read_idempotency_key(request) or new_id()

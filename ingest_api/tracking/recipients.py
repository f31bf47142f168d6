"""A page of a send's recipients as the routes that show one ask for it.

Belongs here: from a query to that page. Does not belong here: the routes, what each shows of a recipient, reading it
(``reports.reading_recipients``).
"""

from ingest_api.endpoint import Call
from ingest_api.paging import unpack
from ingest_api.tracking.models import RecipientOutcome
from notify_pipeline.core.vocabulary import Channel, Outcome
from notify_pipeline.reports import reading_recipients
from notify_pipeline.reports.reading_attempts import RecipientFilter
from notify_pipeline.reports.reading_recipients import RecipientPage


def page(
    call: Call,
    request_id: str,
    limit: int,
    cursor: str | None,
    outcome: RecipientOutcome | None,
    channel: Channel | None = None,
) -> RecipientPage:
    """Return a page of a request's recipients.

    Raises:
        ApiError: 422 when the cursor is none of its own.
    """
    after = unpack(cursor, int, int, str)
    is_pending = outcome is RecipientOutcome.PENDING
    where = RecipientFilter(
        outcome=None if outcome is None or is_pending else Outcome(outcome), pending=is_pending, channel=channel
    )
    place = None if after is None else (int(str(after[0])), int(str(after[1])), str(after[2]))
    services = call.services
    return reading_recipients.page(services.ledger, services.lake, request_id, where, limit, place, services.clock())

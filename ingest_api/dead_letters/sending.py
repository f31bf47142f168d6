"""Sending dead letters again, for whoever asks: a route, or a page of the dashboard.

Belongs here: checking what is asked for, and saying what is wrong with it. Does not belong here: the replay itself
(``core.ledger.replays``), who may ask.
"""

from ingest_api import replaying
from ingest_api.dead_letters.models import NewReplay
from ingest_api.errors import conflict, unprocessable
from ingest_api.limits import keeping
from ingest_api.limits.keeping import quota_exceeded
from ingest_api.services import Services
from notify_pipeline.core.ledger import replays
from notify_pipeline.core.ledger.replay_keys import KeyReused
from notify_pipeline.core.ledger.replays import Replayed
from notify_pipeline.core.ledger.requests import IdReused
from notify_pipeline.core.ledger.usage import QuotaExceeded

_UNKNOWN = "There are no dead letters of some of these deliveries; nothing was replayed."


def send_again(services: Services, tenant: str, actor: str, body: NewReplay, key: str | None = None) -> Replayed:
    """Send a tenant's dead letters again.

    Args:
        services: The process's handles.
        tenant: Whose.
        actor: Who asks, for the audit.
        body: Which, and how.
        key: Asking again under the same one gives the same answer.

    Raises:
        ApiError: 404, 409, 422 or 429: nothing was replayed.
    """
    limits = services.limits.of(tenant)
    content = None if body.content is None else body.content.model_dump(exclude_unset=True, exclude_none=True)
    if faults := [*body.faults(), *keeping.faults(limits, {} if content is None else {"content": content})]:
        raise unprocessable(*faults)
    asked = replays.Replay(
        tenant=tenant,
        actor=actor,
        now=services.clock(),
        ids=tuple(dict.fromkeys(body.ids)) or None,
        wanted=body.filter.wanted(),
        limit=body.limit,
        most=min(services.settings.max_audience_list, limits.max_audience or services.settings.max_audience_list),
        content=content,
        key=key,
        quotas=limits.request_quotas,
    )
    try:
        return replays.replay(services.ledger, asked)
    except replays.UnknownLetters as error:
        raise replaying.unknown(body.ids, error.delivery_ids, _UNKNOWN, "has no dead letter") from error
    except KeyReused as error:
        raise replaying.key_reused() from error
    except IdReused as error:
        raise conflict("id_reused", "A notification id that a replay would get was used before.", "ids") from error
    except QuotaExceeded as error:
        raise quota_exceeded(error, asked.now) from error

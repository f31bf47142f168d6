"""One receipt as a line of the raw log, as the CDN would write it.

Belongs here: what the line holds. Does not belong here: whether the receipt is genuine (``routes``, ``sms.webhooks``),
the log's files (``core.receipt_log``).
"""

import logging

from flask import Request

from ingest_api.errors import unavailable
from ingest_api.services import Services
from notify_pipeline.core.receipt_log import receipt_line

_logger = logging.getLogger(__name__)
_MAX_USER_AGENT = 256


def append(services: Services, path: str, request: Request) -> None:
    """Log a receipt with the request's query string, and return once it is durable.

    Args:
        services: This process's.
        path: The beacon's, whatever path the request came by.
        request: What brought it.

    Raises:
        ApiError: 503 when it could not be stored.
    """
    moment = services.clock()
    # The address is left out on purpose: nothing downstream needs it, and it is personal data.
    line = receipt_line(
        path,
        request.environ.get("QUERY_STRING", ""),
        moment,
        method=request.method,
        status=204,
        user_agent=request.environ.get("HTTP_USER_AGENT", "")[:_MAX_USER_AGENT],
    )
    try:
        services.receipts.append(line, moment)
    except OSError as error:
        _logger.error("a receipt could not be logged", exc_info=error)
        raise unavailable("log_unavailable", "The log could not take this now. Ask again.") from error

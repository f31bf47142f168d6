"""The beacons that devices send: stands in for the CDN, and writes the same log lines.

Belongs here: the receipt routes. Does not belong here: the log's files (``core.receipt_log``), parsing (``receipts``).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, empty
from ingest_api.errors import ApiError, bad_request
from ingest_api.keys import Access
from ingest_api.receipts.logging import append
from ingest_api.receipts.models import Beacon, Click
from notify_pipeline.core.ids import is_genuine

GROUP = Group("receipts", "Beacons of devices: received, opened, clicked.")
_LOGGED = {204: Answer("It is durable in the raw log.")}
_FORGED = {400: "`forged`: `d` was not made by this installation."}


@GROUP.endpoint("GET", "/notification/received", access=Access.PUBLIC, answers=_LOGGED, errors=_FORGED)
@GROUP.endpoint(
    "POST", "/notification/received", access=Access.PUBLIC, answers=_LOGGED, errors=_FORGED, name="log_received_by_post"
)
def log_received(call: Call, query: Beacon) -> Response:
    """Record that a device received a notification."""
    return _log(call, query)


@GROUP.endpoint("GET", "/notification/opened", access=Access.PUBLIC, answers=_LOGGED, errors=_FORGED)
@GROUP.endpoint(
    "POST", "/notification/opened", access=Access.PUBLIC, answers=_LOGGED, errors=_FORGED, name="log_opened_by_post"
)
def log_opened(call: Call, query: Beacon) -> Response:
    """Record that a user opened a notification."""
    return _log(call, query)


@GROUP.endpoint("GET", "/notification/clicked", access=Access.PUBLIC, answers=_LOGGED, errors=_FORGED)
@GROUP.endpoint(
    "POST", "/notification/clicked", access=Access.PUBLIC, answers=_LOGGED, errors=_FORGED, name="log_clicked_by_post"
)
def log_clicked(call: Call, query: Click) -> Response:
    """Record that a user clicked a notification, or one of its actions."""
    return _log(call, query)


def _log(call: Call, query: Beacon) -> Response:
    request, services = call.request, call.services
    if request.method == "HEAD":
        # Werkzeug answers HEAD wherever there is a GET; a preview shall not count as a receipt.
        raise ApiError(405, "method_not_allowed", "Method Not Allowed.", headers={"Allow": "GET, POST"})
    if not is_genuine(services.delivery_secret, query.d):
        raise bad_request("d was not made by this installation.", "d", "forged")
    append(services, request.path, request)
    return empty()

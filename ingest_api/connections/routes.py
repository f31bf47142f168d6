"""WebSocket connections that API Gateway holds: told by the tenant's own $connect and $disconnect integrations.

Belongs here: the routes, their models, and where such a connection may be. Does not belong here: our own gateways'
connections, which they store themselves (``gateway``), posting (``channels.websocket``).
"""

import re
from collections.abc import Collection
from typing import Annotated
from urllib.parse import urlsplit

from flask import Response
from pydantic import ConfigDict, Field

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import FieldError, conflict, not_found, unprocessable
from ingest_api.fields import Shown, Strict, UserId
from ingest_api.keys import Access
from notify_pipeline.core.ledger import connections
from notify_pipeline.core.ledger.connections import FOREIGN, Held

GROUP = Group("connections", "WebSocket connections that Amazon API Gateway holds, instead of our own gateway.")
_EXAMPLE = "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/production"
# Whoever tells us of a connection makes us post there, signed with our credentials: so nowhere but to API Gateway.
_AWS_HOST = re.compile(r"[a-z0-9-]{1,63}\.execute-api\.[a-z0-9-]{1,63}\.amazonaws\.com(?:\.cn)?")
# API Gateway's ids are base64: letters, digits and what pads them.
ConnectionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_=+\-]{1,128}$", examples=["L0SM9cOFvHcCIhw="])]


class Connection(Strict):
    """Who is connected, and where the connection is posted to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "user-42", "endpoint": _EXAMPLE}]})

    user_id: UserId
    endpoint: Annotated[
        str,
        Field(
            pattern=r"^https://[a-z0-9.\-]{1,253}(/[A-Za-z0-9_\-]{0,128})?$",
            description="The stage's management endpoint: https://{api}.execute-api.{region}.amazonaws.com/{stage}.",
            examples=[_EXAMPLE],
        ),
    ]


class ConnectionShown(Shown):
    """A connection as it is stored."""

    connection_id: str
    user_id: str
    endpoint: str


@GROUP.endpoint(
    "PUT",
    "/connections/{connection_id}",
    access=Access.SECRET,
    answers={200: Answer("The stored connection.", ConnectionShown)},
    errors={409: "One of our own gateways holds a connection of this id."},
)
def put_connection(call: Call, connection_id: ConnectionId, body: Connection) -> Response:
    """Tell of a connection that API Gateway holds.

    For the `$connect` route's integration; telling again replaces what was told. The connection is forgotten when
    API Gateway says that it is gone, when it is deleted here, and after two hours, which is as long as API Gateway
    keeps one. Only hosts of API Gateway are taken, and those that the installation allows
    (`NOTIFY_GATEWAY_FOREIGN_HOSTS`).
    """
    services = call.services
    if not _may_be(body.endpoint, services.settings.gateway_foreign_hosts):
        message = "must be on *.execute-api.*.amazonaws.com, or on a host that this installation allows"
        raise unprocessable(FieldError("endpoint", message))
    held = Held(call.tenant, body.user_id, connection_id, body.endpoint.rstrip("/"), FOREIGN)
    if not connections.put(services.ledger, held, services.clock()):
        raise conflict("connection_exists", "One of our own gateways holds a connection of this id.", "connection_id")
    return answer(200, ConnectionShown(connection_id=connection_id, user_id=held.user_id, endpoint=held.endpoint))


@GROUP.endpoint(
    "DELETE",
    "/connections/{connection_id}",
    access=Access.SECRET,
    answers={204: Answer("Forgotten.")},
    errors={404: "This tenant told of no such connection, or it is forgotten already."},
)
def delete_connection(call: Call, connection_id: ConnectionId) -> Response:
    """Forget a connection that API Gateway held: for the `$disconnect` route's integration."""
    if not connections.remove_foreign(call.services.ledger, call.tenant, connection_id):
        raise not_found("There is no such connection.")
    return empty()


def _may_be(endpoint: str, allowed: Collection[str]) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return _AWS_HOST.fullmatch(host) is not None or host in allowed

"""Making user tokens.

Belongs here: the route and its models. Does not belong here: the token's form (``core.user_tokens``), who is let in
with one (``tokens``, ``gateway``).
"""

from datetime import datetime, timedelta
from typing import Annotated

from flask import Response
from pydantic import ConfigDict, Field

from ingest_api.endpoint import NO_STORE, Answer, Call, Group, answer
from ingest_api.fields import Shown, Strict, UserInPath
from ingest_api.keys import Access
from notify_pipeline.core import user_tokens

GROUP = Group("user tokens", "What lets one user's app connect to the WebSocket and read the inbox, without a key.")


class NewToken(Strict):
    """How long the token is to be good for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ttl": 900}]})

    ttl: Annotated[int, Field(ge=1, le=user_tokens.MAX_TTL_S, description="Seconds.")] = user_tokens.DEFAULT_TTL_S


class TokenMade(Shown):
    """A token, shown once."""

    token: str
    expires_at: datetime


@GROUP.endpoint(
    "POST",
    "/users/{user_id}/token",
    access=Access.SECRET,
    answers={201: Answer("Made. It is not stored and cannot be read again.", TokenMade)},
)
def create_user_token(call: Call, user_id: UserInPath, body: NewToken) -> Response:
    """Make a user token.

    It speaks for this one user: on the WebSocket, and on the routes that take one. It cannot be revoked, so it is
    short-lived; it counts no more once its tenant is deactivated. The user need not have been told of before.
    """
    services, now = call.services, call.services.clock()
    token = user_tokens.mint(services.ledger.secret(user_tokens.SECRET), call.tenant, user_id, now, body.ttl)
    # As the token says it: whole seconds (RFC 7519 section 2, NumericDate as PyJWT writes it).
    expires_at = (now + timedelta(seconds=body.ttl)).replace(microsecond=0)
    return answer(201, TokenMade(token=token, expires_at=expires_at), NO_STORE)

"""What the WebSocket gateway and whoever posts to it agree on.

Belongs here: their credentials, limits, header and the form of messages. Does not belong here: the gateway
(``ingest_api.gateway``), the channel (``channels.websocket``), signatures (``core.sigv4``).
"""

import base64
import hashlib

from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.sigv4 import Credentials

# API Gateway's limit for a message, which is ours too.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
MAX_MESSAGE_BYTES = 128 * 1024
# The service that API Gateway's management interface belongs to.
SERVICE = "execute-api"
# Signers must name a region; ours is nowhere.
REGION = "us-east-1"
# Of a posted message that is one of the user's numbered ones: its number and the one before it, with a space between.
SEQUENCE_HEADER = "Notify-Sequence"
# The installation's secret that the credentials are derived from.
_SECRET = "gateway"  # noqa: S105 - its name


def credentials(settings: Settings, ledger: Ledger) -> Credentials:
    """Return what posts to our gateways are signed with: as set, else derived from the installation's secret."""
    if settings.gateway_access_key is not None and settings.gateway_secret_key is not None:
        return Credentials(settings.gateway_access_key, settings.gateway_secret_key.get_secret_value(), REGION, SERVICE)
    secret = ledger.secret(_SECRET)
    name = hashlib.blake2b(key=secret, digest_size=8, person=b"gateway-name").hexdigest()
    key = hashlib.blake2b(key=secret, digest_size=30, person=b"gateway-key").digest()
    return Credentials(f"GW{name.upper()}", base64.b64encode(key).decode(), REGION, SERVICE)


def management_path(connection_id: str) -> str:
    """Return the path of a connection below a management endpoint. Our ids need no encoding."""
    return f"/@connections/{connection_id}"


def message(seq: int, payload: str) -> str:
    """Return what a client gets of a numbered message.

    Args:
        seq: Its number: the client's cursor once it has seen it.
        payload: A JSON object that is not empty, as text.
    """
    return f'{{"cursor":{seq},{payload[1:]}'

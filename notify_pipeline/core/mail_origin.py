"""Whose an e-mail was: a mark that it carries, by which a bounce of it is brought home.

Belongs here: making and reading the mark. Does not belong here: headers (``channels.email``), who reports bounces
(``ingest_api.email``).

Relays give messages ids of their own, Amazon SES in the place of ours, and report by those; headers that they do not
know come back as they went. The mark's proof keeps anybody else's mail from being reported as a tenant's.
"""

import hashlib
import hmac
from typing import NamedTuple

# The name of the installation's secret that proves them.
SECRET = "mail-origin"  # noqa: S105 - its name
HEADER = "X-Notify-Delivery"
# 64 bits: a forged mark would suppress one address of one tenant, and whoever tries must get past the relay.
_PROOF_DIGITS = 16


class Origin(NamedTuple):
    """Whose mail it was, and to which delivery it belongs."""

    tenant: str
    delivery_id: str


def mint(secret: bytes, origin: Origin) -> str:
    """Return the mark: text of letters, digits, dots, ``-`` and ``_``."""
    said = f"{origin.tenant}.{origin.delivery_id}"
    return f"{said}.{_proof(secret, said)}"


def read(secret: bytes, mark: str) -> Origin | None:
    """Return what a mark says; None when it is none of this installation's."""
    said, _, proof = mark.strip().rpartition(".")
    tenant, dot, delivery_id = said.rpartition(".")
    if not dot or not hmac.compare_digest(proof.encode(), _proof(secret, said).encode()):
        return None
    return Origin(tenant, delivery_id)


def _proof(secret: bytes, said: str) -> str:
    return hmac.digest(secret, said.encode(), hashlib.sha256).hex()[:_PROOF_DIGITS]

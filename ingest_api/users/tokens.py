"""User tokens as keys: what lets one user's app speak for that user.

Belongs here: turning a presented token into what the routes know of a caller. Does not belong here: the token's form
(``core.user_tokens``), which routes take one (``keys.Access.USER``).
"""

from datetime import datetime

from notify_pipeline.core import user_tokens
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.keys import KeyInfo
from notify_pipeline.core.vocabulary import KeyScope

# How the base64url form of a JWT's header begins ('{"'), and how many dots the whole has (RFC 7515 section 7.1).
_BEGINNING, _DOTS = "eyJ", 2


def find(ledger: Ledger, presented: str, now: datetime) -> KeyInfo | None:
    """Return what a user token stands for; None when this is none, or its time is over. Any text is allowed."""
    if not presented.startswith(_BEGINNING) or presented.count(".") != _DOTS:
        return None
    try:
        found = user_tokens.check(ledger.secret(user_tokens.SECRET), presented, now)
    except user_tokens.InvalidUserToken:
        return None
    standing = tenants.standing(ledger, found.tenant)
    return KeyInfo(
        # Names the user's share of the tenant's rate: each user has one, as each key has.
        key_id=f"user:{found.tenant}:{found.user_id}",
        tenant=found.tenant,
        parent=None if standing is None else standing.parent,
        scope=KeyScope.USER,
        active=standing is not None and standing.counts,
        revoked=False,
        expires_at=found.expires_at,
        user_id=found.user_id,
    )

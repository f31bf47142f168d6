"""Routes that every tenant has until it sets one of its own by the same name.

Belongs here: their rules, as JSON (``route_rules`` says what that means). Does not belong here: the events that they
are about (``ledger.likes``), storing a tenant's own (``ledger.routes``).
"""

from collections.abc import Mapping
from typing import Any

# The source of likes' events, the name of the route for them, and the category of what is sent.
LIKES = "likes"
LIKE_CREATED = "like.created"
LIKE_TITLE = "Someone liked your look!"

_LIKES_RULE: Mapping[str, Any] = {
    "match": {"source": LIKES, "type": LIKE_CREATED},
    "type": "like",
    "category": LIKES,
    "content": {
        "title": LIKE_TITLE,
        # Empty texts are left out.
        "link": "{{ detail.deep_link|d('') }}",
        "image_url": "{{ detail.media_urls|first|d('') }}",
        "data": {"look_id": "{{ detail.look_id }}", "customer_id": "{{ detail.customer_id }}"},
    },
    # Which of them somebody gets, preferences and addresses say. The inbox has its item already.
    "channels": ["fcm", "apns", "webpush", "email", "sms", "websocket"],
}

RULES: Mapping[str, Mapping[str, Any]] = {LIKES: _LIKES_RULE}

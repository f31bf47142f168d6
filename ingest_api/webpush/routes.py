"""What a page needs to subscribe its browser.

Belongs here: the key. Does not belong here: registering the subscription (``devices``), what the key is made of
(``core.vapid``).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.keys import Access
from ingest_api.webpush.models import WebPushKey

GROUP = Group("webpush", "Subscribing browsers.")


@GROUP.endpoint(
    "GET", "/webpush/key", access=Access.DEVICE, answers={200: Answer("The installation's public key.", WebPushKey)}
)
def show_key(call: Call) -> Response:
    """Show the key to subscribe with.

    It is the same for all tenants, and stays: a browser's subscription takes messages that are signed with the key
    that it was made with, and no others.
    """
    return answer(200, {"applicationServerKey": call.services.application_server_key})

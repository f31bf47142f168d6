"""Every channel's harness for the outcomes suite.

What a harness's provider has no word for goes to ``CANNOT``, with the reason. ``test_outcomes`` fails while a channel
has neither.
"""

from notify_pipeline.core.vocabulary import Channel
from tests.channels import harness as push
from tests.channels import sms_harness, websocket_harness
from tests.channels.email.harness import open_email
from tests.channels.outcomes import Case, Open, push_harness
from tests.channels.webpush.outcomes import open_webpush

HARNESSES: dict[str, tuple[Channel, Open]] = {
    "fcm": (Channel.FCM, push_harness(push.FCM_ANDROID)),
    "apns": (Channel.APNS, push_harness(push.APNS_IOS)),
    "email": (Channel.EMAIL, open_email),
    **sms_harness.HARNESSES,
    "webpush": (Channel.WEBPUSH, open_webpush),
    **websocket_harness.HARNESSES,
}

# What a harness's provider cannot do, and why. A name with no harness is a channel that has no sender at all.
_IN_A_TRANSACTION = "the inbox has no provider: its rows are written in the transaction that routes the send"
CANNOT: dict[tuple[str, Case], str] = {("inbox", case): _IN_A_TRANSACTION for case in Case}
CANNOT |= websocket_harness.CANNOT

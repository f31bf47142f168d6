"""What push services' answers mean.

Belongs here: classification. Does not belong here: what is done about it (``carrier``, ``delivery``).

Sources: RFC 8030 sections 5, 7.3 and 8.4, RFC 8292 section 4.2, and where services differ from them
https://autopush.readthedocs.io/en/latest/http.html#error-codes,
https://developer.apple.com/documentation/usernotifications/sending-web-push-notifications-in-web-apps-and-browsers
"""

from notify_pipeline.channels.base import Verdict
from notify_pipeline.core.vocabulary import Outcome

_GONE = (404, 410)  # "404 ... if an application server attempts to send to an expired subscription"; 410: likewise
# What all our messages have in common is at fault: the VAPID token, or a header. Services use all three for either, and
# 403 also for a subscription that was made with another key, which is no word about the browser.
_REFUSED = (400, 401, 403)
_LATER = (408, 425)


def classify(status: int, message_id: str | None, retry_after_s: float | None) -> Verdict:
    """Say what an answer means.

    Args:
        status: HTTP's.
        message_id: The Location header: the message's URL at the push service.
        retry_after_s: From the header of that name.
    """
    if 200 <= status < 300:
        return Verdict(Outcome.ACCEPTED, message_id=message_id)
    code = f"http_{status}"
    if status in _GONE:
        return Verdict(Outcome.INVALID_RECIPIENT, code, drop_token=True)
    if status == 429:
        return Verdict(Outcome.THROTTLED, code, retry_after_s=retry_after_s)
    if status in _REFUSED:
        return Verdict(Outcome.TRANSIENT, code, credentials=True)
    # A redirection is for the service to mend, or for us to follow one day: RFC 8030 asks for none.
    if status >= 500 or status < 400 or status in _LATER:
        return Verdict(Outcome.TRANSIENT, code, retry_after_s=retry_after_s)
    return Verdict(Outcome.PERMANENT, code)

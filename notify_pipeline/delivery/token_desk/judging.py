"""What the end of a dry run says of the token that it was for.

Belongs here: the rule, pure. Does not belong here: asking (``desk``), what an answer means to a delivery (the channel).
"""

from notify_pipeline.core.records import AttemptResult
from notify_pipeline.core.token_desk import TokenState
from notify_pipeline.core.vocabulary import Outcome

_GOOD = frozenset({Outcome.DRY_RUN, Outcome.ACCEPTED})
# Words that a delivery fails for without its token being dead, and that yet are about the token: this one belongs to
# another Firebase project, so nothing that we send reaches it.
# https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
_OF_THE_TOKEN = frozenset({"SENDER_ID_MISMATCH"})


def judge(result: AttemptResult) -> TokenState:
    """Return what is known of a token after this.

    It is good if the provider would have taken the message; bad if the provider says so of the token, or no token has
    such a form. Everything else (throttling, no answer, credentials, a fault of the message) leaves it unknown.
    """
    if result.outcome in _GOOD:
        return TokenState(True)
    is_bad = result.outcome is Outcome.INVALID_RECIPIENT or (
        result.outcome is Outcome.PERMANENT and result.provider_code in _OF_THE_TOKEN
    )
    return TokenState(False if is_bad else None, result.provider_code or result.outcome.value)

"""Why an enricher found nothing, in two kinds: what may pass, and what will not.

Belongs here: those errors. Does not belong here: what follows from one (``stage``).

Their words are shown to the tenant beside the event. They name fields and hosts, never a field's value or a whole URL.
"""

import traceback


class MayPass(Exception):
    """It may be there later; ``after_s``: but not before, seconds from now."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class ForGood(Exception):
    """Trying again would find the same."""


def place_of(error: BaseException) -> str:
    """Return where an error came up, for the log. Its words stay out of it: they may hold what an event is about."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"

"""What went wrong in one send beyond a recipient's own failure.

Belongs here: counting it by kind, and saying it once per kind. Does not belong here: what follows for the recipient
(``sending``, ``each``).
"""

import logging
import traceback
from collections import Counter

from notify_pipeline.channels.base import CREDENTIALS

log = logging.getLogger(__name__)

# Something was raised that nobody expects: the log says where.
ERROR = "error"


class Troubles:
    """The troubles of one send.

    Args:
        provider: Whose.
        recipients: Of how many.
    """

    def __init__(self, provider: str, recipients: int) -> None:
        self._provider = provider
        self._recipients = recipients
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def met(self, code: str, detail: str = "") -> str:
        """Count a trouble; return its code. The detail is for people, and holds no secret and no address."""
        self._counts[code] += 1
        self._examples.setdefault(code, detail or "no detail")
        return code

    def unexpected(self, error: Exception) -> str:
        """Count an exception that should not be. Its words may hold an address: only its kind and its way are kept."""
        if ERROR in self._counts:
            return self.met(ERROR)
        return self.met(ERROR, f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}")

    def log(self) -> None:
        """Say once per kind what went wrong."""
        for code, count in self._counts.most_common():
            level = logging.ERROR if code == ERROR or code.startswith(CREDENTIALS) else logging.WARNING
            log.log(level, "%s: %s, %d of %d, %s", self._provider, code, count, self._recipients, self._examples[code])

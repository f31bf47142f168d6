"""Asking the token desk whether a device token is good.

Belongs here: the client: connections that are kept, how long and how many at once it may take, and what is said when
nobody answers. Does not belong here: the desk (``notify_pipeline.delivery.token_desk``), what is agreed on
(``core.token_desk``), what a route does with the answer.

No route depends on it: whatever becomes of the desk, the answer is that nothing is known, and soon.
"""

import http.client
import logging
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from notify_pipeline.core import token_desk
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.token_desk import UNKNOWN, TokenState
from notify_pipeline.core.vocabulary import Platform

log = logging.getLogger(__name__)

# After a failure it is not asked for so long, and then by one caller at a time until it answers: a desk that hangs
# costs each process a thread, and no more.
_PAUSE_S = 1.0


class _Unusable(Exception):
    """The desk gave no answer; the message says why, and holds no token."""


class TokenDesk:
    """The token desk, as one process of the ingress sees it. Used from any thread."""

    def __init__(
        self,
        url: str | None,
        bearer: Callable[[], str],
        timeout_s: float,
        at_once: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts; nothing is opened yet.

        Args:
            url: Where it is asked; None: there is none.
            bearer: Gives what proves who asks.
            timeout_s: How long an answer may take.
            at_once: How many callers may wait for it together; others are told at once that nothing is known. Fewer
                than the process has threads, so that a slow provider holds up no other route.
            monotonic: Tells seconds that pass.
        """
        self._url = url
        self._bearer = bearer
        self._timeout_s = timeout_s
        self._turns = threading.BoundedSemaphore(at_once)
        self._alone = threading.BoundedSemaphore(1)
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._kept: list[http.client.HTTPConnection] = []
        self._again_at = 0.0
        self._is_silent = False

    def check(self, platform: Platform, token: str, anew: bool = False) -> TokenState:
        """Return what the platform's provider says of a token; never raises, and takes the time-out at most.

        Nothing is known of a platform whose provider cannot be asked without showing a message to somebody (ios,
        webpush), where the desk is down, busy or not set up, and where the provider does not answer or says nothing of
        the token. ``anew``: it was found dead lately, and that it was good before does not count.
        """
        if self._url is None or not token_desk.is_checked(platform) or self._monotonic() < self._again_at:
            return UNKNOWN
        turns = self._alone if self._is_silent else self._turns
        if not turns.acquire(blocking=False):
            return UNKNOWN
        try:
            state = self._ask(token_desk.question(platform, token, anew))
        except _Unusable as trouble:
            self._fell_silent(str(trouble))
            return UNKNOWN
        finally:
            turns.release()
        self._answered()
        return state

    def close(self) -> None:
        """Close what is kept open."""
        with self._guard:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _ask(self, body: bytes) -> TokenState:
        with self._guard:
            kept = self._kept.pop() if self._kept else None
        if kept is not None:
            try:
                return self._post(kept, body)
            except (http.client.HTTPException, ConnectionError):
                kept.close()  # the desk ended it meanwhile, or was started anew; to check twice does no harm
            except TimeoutError as error:
                kept.close()
                raise _Unusable("it takes too long") from error
        fresh = self._connection()
        try:
            return self._post(fresh, body)
        except (http.client.HTTPException, OSError) as error:
            fresh.close()
            raise _Unusable("it takes too long" if isinstance(error, TimeoutError) else type(error).__name__) from error

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._url or "")
        of = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return of(parts.hostname or "", parts.port, timeout=self._timeout_s)

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> TokenState:
        try:
            proof = self._bearer()
        except (LedgerError, SQLAlchemyError) as error:
            raise _Unusable("the ledger does not answer") from error
        headers = {"Authorization": f"Bearer {proof}", "Content-Type": "application/json"}
        connection.request("POST", token_desk.CHECK_PATH, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        with self._guard:
            self._kept.append(connection)
        if answer.status != http.HTTPStatus.OK:
            raise _Unusable(f"it answers {answer.status}")
        try:
            return token_desk.read_answer(said)
        except ValueError as error:
            raise _Unusable("it answers nonsense") from error

    def _fell_silent(self, why: str) -> None:
        self._again_at = self._monotonic() + _PAUSE_S
        with self._guard:
            is_new, self._is_silent = not self._is_silent, True
        if is_new:
            log.warning("the token desk at %s cannot be asked (%s): device tokens are taken unchecked", self._url, why)

    def _answered(self) -> None:
        if self._is_silent:
            with self._guard:
                was, self._is_silent = self._is_silent, False
            if was:
                log.warning("the token desk answers again")  # of the level of what it takes back

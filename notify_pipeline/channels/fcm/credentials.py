"""OAuth access tokens for FCM, from a service account.

Belongs here: when a token is fetched and who waits for it. Does not belong here: what a refused one means for a
delivery (``push``).
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google.auth.exceptions
import google.auth.transport.requests
import requests
from firebase_admin import credentials

from notify_pipeline.channels.base import Clock, CredentialsRejected

log = logging.getLogger(__name__)

# Tokens live an hour. Fetching the next one this early leaves several tries before anybody has to wait for it.
_EARLY = timedelta(minutes=5)
# After a failure, or a refusal of a token just fetched, how long the same answer is given without asking again.
_PAUSE = timedelta(seconds=10)
_TIMEOUT_S = 10.0


class OAuthTokens:
    """Keeps one access token fresh (a ``push.Credentials``). Fetching happens in a thread, never per request."""

    def __init__(self, service_account: Path, *, ca: Path, clock: Clock) -> None:
        """Read the service account file.

        Args:
            service_account: The JSON key file.
            ca: CA bundle for the token endpoint.
            clock: Tells the time.

        Raises:
            CredentialsRejected: The file cannot be read or is no service account.
        """
        try:
            account = credentials.Certificate(str(service_account))
        except (OSError, ValueError) as error:
            raise CredentialsRejected("service_account", f"{service_account.name}: {type(error).__name__}") from None
        self.project: str = account.project_id
        self._credential = account.get_credential()
        self._ca = ca
        self._clock = clock
        self._token: str | None = None
        self._fetched_at = datetime.min.replace(tzinfo=UTC)
        self._expires_at = self._fetched_at
        self._fetching: asyncio.Task[str] | None = None
        self._failed: tuple[datetime, CredentialsRejected] | None = None

    async def bearer(self) -> str:
        """Return a token that is good for minutes. Waits only when there is none.

        Raises:
            CredentialsRejected: None could be had.
        """
        now = self._clock()
        if self._token is None or now >= self._expires_at or now < self._fetched_at:
            return await self._fetch()
        if now >= self._expires_at - _EARLY and not self._failed_lately():
            self._start()
        return self._token

    async def renew(self, refused: str) -> str:
        """Return a newer token than one that was refused.

        Raises:
            CredentialsRejected: None could be had, or the refused one is so new that another would not help.
        """
        if self._token is not None and self._token != refused:
            return self._token
        if timedelta(0) <= self._clock() - self._fetched_at < _PAUSE:
            raise CredentialsRejected("UNAUTHENTICATED", "an access token was refused right after it was issued")
        return await self._fetch()

    async def aclose(self) -> None:
        """Wait for a fetch under way; its thread cannot be stopped."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    def _failed_lately(self) -> bool:
        return self._failed is not None and timedelta(0) <= self._clock() - self._failed[0] < _PAUSE

    async def _fetch(self) -> str:
        if self._failed is not None and self._failed_lately():
            raise self._failed[1]
        # Shielded: whoever else waits for it must not suffer from this caller's cancellation.
        return await asyncio.shield(self._start())

    def _start(self) -> "asyncio.Task[str]":
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._run())
            self._fetching.add_done_callback(self._settled)
        return self._fetching

    def _settled(self, task: "asyncio.Task[str]") -> None:
        self._fetching = None
        error = None if task.cancelled() else task.exception()  # reading it also marks it as seen
        if error is not None:
            log.error("no FCM access token: %s", error)

    async def _run(self) -> str:
        try:
            token, expires_at = await asyncio.to_thread(self._refresh)
        except CredentialsRejected as error:
            self._failed = (self._clock(), error)
            raise
        self._failed = None
        self._token, self._expires_at, self._fetched_at = token, expires_at, self._clock()
        return token

    def _refresh(self) -> tuple[str, datetime]:
        with requests.Session() as session:
            session.verify = str(self._ca)
            session.trust_env = False
            transport = google.auth.transport.requests.Request(session=session)

            def ask(*args: object, **kwargs: object) -> object:
                return transport(*args, **{**kwargs, "timeout": _TIMEOUT_S})

            try:
                self._credential.refresh(ask)
            except google.auth.exceptions.RefreshError:
                # The library's text repeats the endpoint's answer, which may repeat what it was sent.
                raise CredentialsRejected("token_refused", "the token endpoint refused the service account") from None
            except (google.auth.exceptions.GoogleAuthError, requests.RequestException) as error:
                kind = type(error).__name__
                raise CredentialsRejected("token_endpoint", f"cannot be asked: {kind}") from None
            except (TypeError, ValueError, AttributeError):
                # What the library does with a good status and a body that is not what it expects.
                raise CredentialsRejected("token_endpoint", "it answered nonsense") from None
        expiry: datetime | None = self._credential.expiry  # naive UTC, says google-auth
        if not self._credential.token or expiry is None:
            raise CredentialsRejected("token_endpoint", "it answered without a token or without its lifetime")
        return str(self._credential.token), expiry.replace(tzinfo=UTC)

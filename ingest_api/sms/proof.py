"""Whether a request comes from Twilio, or from the sandbox that stands in for it.

Belongs here: where the token comes from, and which URL was signed. Does not belong here: the signature
(``core.twilio_signature``), routes (``webhooks``).
"""

import threading
from collections.abc import Iterable
from pathlib import Path

import requests
from flask import Request

from ingest_api.errors import ApiError, not_found, unavailable
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.twilio_signature import HEADER, is_signed

_SANDBOX_TIMEOUT_S = 5.0


class TwilioProof:
    """Checks signatures. Used from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._sandboxs: str | None = None

    def check(self, request: Request, form: Iterable[tuple[str, str]]) -> None:
        """Return when a request was signed with our account's token.

        Raises:
            ApiError: 403 when it was not; 404 when SMS are not sent through Twilio; 503 when the sandbox is not there.
        """
        environ = request.environ
        query = environ.get("QUERY_STRING", "")
        # Twilio signs the URL that it was told, which proxies between it and us may not know.
        url = f"{self._settings.public}{request.path}{'?' if query else ''}{query}"
        if not is_signed(self._token(), url, form, request.headers.get(HEADER, "")):
            raise ApiError(403, "forged", f"{HEADER} is not the signature of this request at {self._settings.public}.")

    def _token(self) -> str:
        settings = self._settings
        if settings.sms_provider == "twilio" and settings.twilio_auth_token is not None:
            return settings.twilio_auth_token.get_secret_value()
        if settings.sms_provider is not None or settings.provider_mode != "sandbox":
            raise not_found("SMS are not sent through Twilio here.")
        with self._guard:
            if self._sandboxs is None:
                self._sandboxs = self._ask_sandbox()
            return self._sandboxs

    def _ask_sandbox(self) -> str:
        url = self._settings.sandbox_url or f"http://127.0.0.1:{self._settings.sandbox_port}"
        try:
            with requests.Session() as session:
                session.trust_env = False  # a proxy knows no way to a sandbox on this machine
                answer = session.get(f"{url}/", timeout=_SANDBOX_TIMEOUT_S)
                answer.raise_for_status()
                return Path(answer.json()["sms_auth_token"]).read_text()
        except (requests.RequestException, ValueError, KeyError, OSError) as error:
            raise unavailable(
                "sandbox_unavailable", "The sandbox that stands in for Twilio does not answer."
            ) from error

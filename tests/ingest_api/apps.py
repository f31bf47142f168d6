"""One application for many tests: putting a hundred and fifty routes together takes longer than most tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from ingest_api.app import create_app
from ingest_api.services import Services


class _Current:
    """Stands for the services of whoever has the application."""

    def __init__(self) -> None:
        self.it: Services | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.it, name)


_CURRENT = _Current()


@cache
def _shared() -> Flask:
    return create_app(services=_CURRENT)  # type: ignore[arg-type]


@contextmanager
def client_of(services: Services) -> Iterator[FlaskClient]:
    """Yield a client of the application over these services, and close them: the shared one, unless it is taken."""
    try:
        if _CURRENT.it is not None:
            yield create_app(services=services).test_client()
            return
        _CURRENT.it = services
        try:
            app = _shared()
            app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
            yield app.test_client()
        finally:
            _CURRENT.it = None
    finally:
        services.close()

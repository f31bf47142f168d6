"""Asks whether a started process does its work yet.

Belongs here: one quick question per kind of process; every answer but a clear yes is no. Does not belong here: what to
do about it (``supervisor``).
"""

import http.client
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

# A probe runs in the supervisor's only loop; a peer on the same machine that takes longer is not ready.
_TIMEOUT_S = 2.0
_GRAPHQL = """
{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError {
    __typename ... on PythonError { message } } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }
"""


def http_answers(url: str) -> Callable[[], bool]:
    """A probe: a GET of this URL is answered with 200."""
    return lambda: get(url) is not None


def accepts(path: Path) -> Callable[[], bool]:
    """A probe: something accepts connections on this UNIX socket."""

    def probe() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_TIMEOUT_S)
            return client.connect_ex(str(path)) == 0

    return probe


def output_grows(path: Path) -> Callable[[], bool]:
    """A probe: more has been written to this file than there was when the probe was made."""
    before = path.stat().st_size if path.exists() else 0
    return lambda: path.exists() and path.stat().st_size > before


def get(url: str) -> bytes | None:
    """The body of a 200 answer, else None."""
    return _request("GET", url, None)


def dagster_state(url: str) -> dict[str, Any] | None:
    """What the Dagster webserver at this URL says of its code location and daemons; None when it does not answer."""
    body = _request("POST", f"{url}/graphql", orjson.dumps({"query": _GRAPHQL}))
    return None if body is None else orjson.loads(body).get("data")


def code_loaded(state: dict[str, Any]) -> bool:
    """Tell whether the code location is loaded, without error."""
    entries = state["workspaceOrError"].get("locationEntries", ())
    return bool(entries) and all(
        (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation" for entry in entries
    )


def daemons_healthy(state: dict[str, Any]) -> bool:
    """Tell whether every daemon that the instance needs has sent a heartbeat lately."""
    statuses = state["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] for status in statuses if status["required"])


def _request(method: str, url: str, body: bytes | None) -> bytes | None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, parts.path or "/", body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read()
        return content if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

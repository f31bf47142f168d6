"""FCM through firebase-admin's ``messaging.send_each_async``: the reference that our own transport is compared with.

Belongs here: what the library is given, and what its results mean as ends of requests. Does not belong here: the
payload (``fcm.message``, whose requests these are), what an answer means (``fcm.errors``), numbers and time-outs
(``pool``).

The library has no public setting for a certificate authority, for its address, or against sending 500 and 503 again by
itself, and on a 401 it fetches an access token in the event loop's thread. So its HTTP client is replaced by one of the
same kind, with ours. What it hides: the status and body of a good answer that is not JSON or names no message (the
request counts as unknown), and which stream a reset or a GOAWAY was about (unknown too, though it may have been
refused). Not more than 100 requests are under way: that many streams httpx opens on its one connection.
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import firebase_admin
import google.auth.credentials
import httpx
import orjson
from firebase_admin import credentials, exceptions, messaging

from notify_pipeline.channels.library.pool import CONNECT_SHARE, UNREACHABLE, LibraryTransport
from notify_pipeline.channels.transport import Answer, End, NotProcessed, Request, Unknown

# httpx announces this as the limit of its own streams and keeps it as that of the peer's, and opens one connection per
# host. What waits in it for a stream would wait on its time-out.
_MAX_STREAMS = 100

# The authorization of the request that the current task carries. The library has one credential per app, and a
# request keeps the token that it was made with.
_AUTHORIZATION: ContextVar[str] = ContextVar("authorization")


class FirebaseTransport(LibraryTransport):
    """Carries ``FcmCodec``'s requests for one Firebase project (a ``Transport``)."""

    def __init__(self, base_url: str, project: str, *, ca: Path, max_in_flight: int, timeout_s: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            base_url: Scheme, host and port, without a trailing slash; https only.
            project: Firebase project id.
            ca: The bundle that the peer's certificate must chain to.
            max_in_flight: Requests under way at once, over all callers; 100 at most.
            timeout_s: From handing a request to the library to the end of its answer.
        """
        if not base_url.startswith("https://"):
            raise ValueError(f"a provider's address must be https, not {base_url}")
        super().__init__(max_in_flight=min(max_in_flight, _MAX_STREAMS), timeout_s=timeout_s)
        timeout = httpx.Timeout(timeout_s, connect=timeout_s * CONNECT_SHARE)
        options = {"projectId": project, "httpTimeout": timeout}
        self._app = firebase_admin.initialize_app(_NoCredential(), options, name=f"notify-{uuid4()}")
        self._path = f"/v1/projects/{project}/messages:send"
        self._client = _client(ca, timeout)
        service = messaging._get_messaging_service(self._app)
        service._fcm_url = base_url + self._path
        self._client.headers.update(service._async_client._headers)
        service._async_client._async_client = self._client

    async def _post(self, request: Request) -> End:
        if request.path != self._path:
            raise ValueError("not a request of this Firebase project")
        _AUTHORIZATION.set(dict(request.headers)["authorization"])
        message, dry_run = read_message(request.body)
        try:
            batch = await messaging.send_each_async([message], dry_run, self._app)
        except exceptions.UnknownError as error:
            # What the library did not foresee, such as a good answer that is not JSON.
            return Unknown("library", type(error.cause).__name__)
        (response,) = batch.responses
        if response.exception is not None:
            return _end(response.exception)
        return Answer(200, {}, orjson.dumps({"name": response.message_id}))

    async def _close(self) -> None:
        await self._client.aclose()
        # It runs an event loop to close the client once more.
        await asyncio.to_thread(firebase_admin.delete_app, self._app)


class _NoCredential(credentials.Base):  # type: ignore[misc] # the library has no types
    """What the library needs to be given; no request of ours uses it."""

    def get_credential(self) -> google.auth.credentials.Credentials:
        return google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]


class _Bearer(httpx.Auth):
    """Puts a request's own authorization in."""

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override] # sends nothing
        request.headers["authorization"] = _AUTHORIZATION.get()
        yield request


def _client(ca: Path, timeout: httpx.Timeout) -> httpx.AsyncClient:
    """Return a client as the library makes it, but for the certificates, the token, proxies and sending again."""
    context = ssl.create_default_context(cafile=str(ca))
    return httpx.AsyncClient(http2=True, timeout=timeout, auth=_Bearer(), verify=context, trust_env=False)


def read_message(body: bytes) -> tuple[messaging.Message, bool]:
    """Return the library's message for a request body of ``FcmCodec``, and whether it is a dry run.

    Raises:
        TypeError: It has fields that are not known here.
        ValueError: It is not such a body.
    """
    whole: dict[str, Any] = orjson.loads(body)
    fields: dict[str, Any] = whole["message"]
    token = fields.pop("token")
    if "android" in fields:
        android = fields["android"]
        ttl = timedelta(seconds=int(android.pop("ttl").removesuffix("s")))
        fields["android"] = messaging.AndroidConfig(**android, ttl=ttl)
    if "webpush" in fields:
        webpush = fields["webpush"]
        if "notification" in webpush:
            shown = webpush["notification"]
            if "actions" in shown:
                shown["actions"] = [messaging.WebpushNotificationAction(**action) for action in shown["actions"]]
            webpush["notification"] = messaging.WebpushNotification(**shown)
        if "fcm_options" in webpush:
            webpush["fcm_options"] = messaging.WebpushFCMOptions(**webpush["fcm_options"])
        fields["webpush"] = messaging.WebpushConfig(**webpush)
    message = messaging.Message(**fields)
    # Set later: as an argument it is deprecated, though it is what devices have.
    message.token = token
    return message, whole.get("validate_only", False)


def _end(error: exceptions.FirebaseError) -> End:
    if error.http_response is not None:
        answer = error.http_response
        return Answer(answer.status_code, dict(answer.headers), answer.content)
    cause = error.cause
    kind = type(cause).__name__  # its text repeats what the peer sent
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
        return NotProcessed(UNREACHABLE, kind)
    if isinstance(cause, httpx.TimeoutException):
        return Unknown("timeout", kind)
    return Unknown("connection_lost", kind)

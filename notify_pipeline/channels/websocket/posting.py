"""Posting to one connection through API Gateway's management interface, ours or AWS's.

Belongs here: the HTTP calls and what their failures mean. Does not belong here: which connections (``desk``), what an
answer means for the delivery (``carrier``).

Posts to AWS are boto3's. Posts to our own gateways are signed alike but made by aiohttp: boto3 takes four times as long
for each, see docs/decisions/websocket.md.
"""

import asyncio
import importlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from notify_pipeline.channels.base import Clock, CredentialsRejected
from notify_pipeline.channels.each import NoAnswer, NotCalled
from notify_pipeline.core import sigv4
from notify_pipeline.core.gateway import REGION, SEQUENCE_HEADER, management_path
from notify_pipeline.core.ledger.connections import Held
from notify_pipeline.core.ledger.user_messages import Stored
from notify_pipeline.core.sigv4 import Credentials

if TYPE_CHECKING:
    import aiohttp

# Connections to each gateway, so that one that is stuck takes none of another's; and threads that wait for AWS.
_CONNECTIONS = 64
_THREADS = 32
_CONNECT_S = 3.0
# A client of boto3's takes most of a megabyte, and tenants name the endpoints: so many are kept, the others made anew.
_MOST_CLIENTS = 32
# A gateway whose machine is gone is not waited for by each of its users while other gateways' wait behind them.
_DOWN_S = 1.0
_AWS_REGION = re.compile(r"\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\Z")


class Poster(Protocol):
    """Posts to connections."""

    async def post(self, held: Held, text: str, stored: Stored) -> int:
        """Return the answer's status.

        Raises:
            NotCalled, NoAnswer, CredentialsRejected: There is none.
        """
        ...

    async def aclose(self) -> None:
        """Close what is held open."""
        ...


class OwnPoster:
    """Posts to our own gateways."""

    def __init__(self, credentials: Credentials, clock: Clock, timeout_s: float) -> None:
        """Args: credentials: of the gateways. clock: tells the time. timeout_s: how long an answer may take."""
        self._credentials = credentials
        self._clock = clock
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._down: dict[str, float] = {}

    async def post(self, held: Held, text: str, stored: Stored) -> int:
        """See ``Poster``."""
        session = self._session or await self._opened()
        import aiohttp

        if time.monotonic() < self._down.get(held.endpoint, 0.0):
            raise NotCalled("connect", "the gateway could not be reached a moment ago")
        path, body = management_path(held.connection_id), text.encode()
        parts = urlsplit(held.endpoint)
        numbers = {SEQUENCE_HEADER.lower().replace("-", "_"): f"{stored.seq} {stored.previous}"}
        headers = sigv4.sign(self._credentials, "POST", parts.path + path, parts.netloc, body, self._clock(), **numbers)
        try:
            async with session.post(held.endpoint + path, data=body, headers=headers) as answer:
                return answer.status
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
            self._down[held.endpoint] = time.monotonic() + _DOWN_S
            raise NotCalled("connect", "the gateway cannot be reached") from None
        except TimeoutError:
            raise NoAnswer("timeout", "the gateway took too long") from None
        except aiohttp.ClientError as error:
            raise NoAnswer("connection_lost", type(error).__name__) from None

    async def _opened(self) -> "aiohttp.ClientSession":
        # Loading it takes a third of a second, for which no other channel shall wait.
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self._timeout_s),
            )
        return self._session

    async def aclose(self) -> None:
        """See ``Poster``."""
        if self._session is not None:
            await self._session.close()


class AwsPoster:
    """Posts to API Gateway with boto3 and its own way to find credentials."""

    def __init__(self, timeout_s: float) -> None:
        """Args: timeout_s: how long an answer may take."""
        self._timeout_s = timeout_s
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()
        # Its own: a slow AWS takes none of the threads that the ledger is called in.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws")

    async def post(self, held: Held, text: str, stored: Stored) -> int:
        """See ``Poster``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._post, held, text)

    def _post(self, held: Held, text: str) -> int:
        from botocore import exceptions

        try:
            api = self._client(held.endpoint)
            answer = api.post_to_connection(ConnectionId=held.connection_id, Data=text.encode())
        except exceptions.ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise CredentialsRejected("no_credentials", str(error)) from None
        except (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError, exceptions.SSLError):
            raise NotCalled("connect", "API Gateway cannot be reached") from None
        except exceptions.ReadTimeoutError:
            raise NoAnswer("timeout", "API Gateway took too long") from None
        except exceptions.BotoCoreError as error:
            raise NoAnswer("connection_lost", type(error).__name__) from None
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    def _client(self, endpoint: str) -> Any:
        # Making one takes milliseconds, and boto3 makes one at a time.
        with self._making:
            if endpoint not in self._clients:
                if len(self._clients) >= _MOST_CLIENTS:
                    # The oldest. Whoever uses it still has it.
                    del self._clients[next(iter(self._clients))]
                import boto3
                from botocore.config import Config

                found = _AWS_REGION.search(urlsplit(endpoint).hostname or "")
                config = Config(
                    # Whether to try again is the engine's to decide, as everywhere.
                    retries={"total_max_attempts": 1},
                    connect_timeout=_CONNECT_S,
                    read_timeout=self._timeout_s,
                    max_pool_connections=_THREADS,
                )
                region = found[1] if found else REGION
                # One session: what it has read and the credentials that it has found serve all clients.
                self._session = self._session or boto3.session.Session()
                self._clients[endpoint] = self._session.client(
                    "apigatewaymanagementapi", region_name=region, endpoint_url=endpoint, config=config
                )
            return self._clients[endpoint]

    async def aclose(self) -> None:
        """See ``Poster``. Waits for the calls that are under way."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for client in self._clients.values():
            client.close()

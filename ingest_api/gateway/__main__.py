"""``python -m ingest_api.gateway``: the WebSocket gateway's process.

Belongs here: opening and closing, signals, the listening socket. Does not belong here: what the gateway does
(``server``).
"""

import asyncio
import logging
import resource
import signal
import socket
import sys

from aiohttp import web

from ingest_api.gateway.connection import CLOSE_S
from ingest_api.gateway.server import Gateway
from ingest_api.gateway.silence import KEEP_ALIVE_S, Silence
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.settings import Settings

log = logging.getLogger(__name__)

# Clients that all come back at once wait here for a moment instead of being refused.
_BACKLOG = 4_096


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    settings = Settings()
    _allow_connections()
    with Ledger.open(settings.ledger_dsn) as ledger:
        asyncio.run(_serve(settings, ledger))


async def _serve(settings: Settings, ledger: Ledger) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    listening = socket.create_server((settings.gateway_host, settings.gateway_port), backlog=_BACKLOG)
    port = listening.getsockname()[1]
    settings = settings.model_copy(update={"gateway_port": port})
    name = settings.gateway_name or f"{socket.gethostname()}:{port}"
    gateway = Gateway(settings, ledger, settings.own_gateway_endpoint, name)
    # No access log: it would hold the tokens of those who connect with one in the URL.
    app, silence = gateway.app(), Silence()
    silence.listen(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2 * CLOSE_S, keepalive_timeout=KEEP_ALIVE_S)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - as it is set up
    watching = asyncio.create_task(silence.watch(runner.server))
    await gateway.start()
    await web.SockSite(runner, listening, backlog=_BACKLOG).start()
    log.info("gateway %s listens at %s", name, settings.own_gateway_endpoint)
    await stopped.wait()
    log.info("stopping")
    watching.cancel()
    for site in list(runner.sites):
        await site.stop()
    await gateway.stop()
    await runner.cleanup()


def _allow_connections() -> None:
    """Raise the limit of open files, which is often 1,024, as far as it may be: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

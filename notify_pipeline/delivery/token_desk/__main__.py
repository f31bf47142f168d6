"""``python -m notify_pipeline.delivery.token_desk``: the token desk's process.

Belongs here: opening and closing, signals, the listening socket. Does not belong here: HTTP (``server``), finding out
(``desk``).

It listens before its channel is open, and goes on trying to open it: a provider that cannot be had leaves tokens
unchecked and stops nothing.
"""

import asyncio
import logging
import signal
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from notify_pipeline.channels.base import CredentialsRejected
from notify_pipeline.channels.registry import ChannelsMisconfigured, open_channel
from notify_pipeline.core import event_loop, token_desk
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.vocabulary import Channel
from notify_pipeline.delivery.token_desk.desk import AT_ONCE, Desk
from notify_pipeline.delivery.token_desk.server import app

log = logging.getLogger(__name__)

# Of the time that the ingress waits: the rest is for the way to us and back, so that it hears why nothing is known.
_OURS = 0.8
# ... and of that, what the provider may take. The rest is for the gate and credentials.
_PROVIDERS = 0.9
_OPEN_EVERY_S = 10.0
# Longer than the ingress leaves a connection unused at ordinary times.
_KEEP_ALIVE_S = 300.0


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    settings = Settings()
    with Ledger.open(settings.ledger_dsn) as ledger:
        event_loop.run(_serve(settings, ledger))


async def _serve(settings: Settings, ledger: Ledger) -> None:
    loop, stopped, tried = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    limit_s = _OURS * settings.token_desk_timeout_s
    desk = Desk(limit_s, lambda: datetime.now(UTC))
    listening = socket.create_server((settings.token_desk_host, settings.token_desk_port))
    # No access log: there is a line for each registration of a browser in it, and nothing else.
    runner = web.AppRunner(
        app(desk, token_desk.bearer(ledger), tried),
        access_log=None,
        shutdown_timeout=settings.token_desk_timeout_s,
        keepalive_timeout=_KEEP_ALIVE_S,
    )
    await runner.setup()
    await web.SockSite(runner, listening).start()
    log.info("the token desk listens at %s:%s", *listening.getsockname()[:2])
    changes = {"max_in_flight": AT_ONCE, "request_timeout_s": _PROVIDERS * limit_s}
    opening = asyncio.create_task(_keep_open(desk, settings.model_copy(update=changes), ledger, tried))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping")
    stopping.cancel()
    await runner.cleanup()
    await desk.ended()
    opening.cancel()
    with suppress(asyncio.CancelledError):
        await opening


async def _keep_open(desk: Desk, settings: Settings, ledger: Ledger, tried: asyncio.Event) -> None:
    """Open the channel, try again while it cannot be opened, and close it when cancelled."""
    while True:
        try:
            async with open_channel(Channel.FCM, settings, ledger) as desk.sender:
                tried.set()
                await asyncio.Event().wait()
        except (ChannelsMisconfigured, CredentialsRejected, LedgerError, SQLAlchemyError) as error:
            log.error("tokens are not checked: %s", error)
        finally:
            desk.sender = None
        tried.set()
        await asyncio.sleep(_OPEN_EVERY_S)


if __name__ == "__main__":
    main()

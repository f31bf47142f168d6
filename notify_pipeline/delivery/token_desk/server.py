"""The token desk's HTTP: ``POST /check`` and ``GET /readyz``.

Belongs here: who may ask, and the form of it. Does not belong here: finding out (``desk``), the process (``__main__``).
"""

import asyncio
import hmac
from collections.abc import Callable

from aiohttp import web

from notify_pipeline.core import token_desk
from notify_pipeline.delivery.token_desk.desk import Desk

# A token of the greatest length, all of it escaped, has six times its 4,096 characters.
_MAX_BYTES = 32_768


def app(desk: Desk, bearer: str, ready: asyncio.Event) -> web.Application:
    """Return the application.

    Args:
        desk: Finds out.
        bearer: What proves that it is the installation that asks.
        ready: Set once it was tried to open the channel.
    """

    async def check(request: web.Request) -> web.Response:
        if not is_ours(request.headers.get("Authorization", "")):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            platform, token, anew = token_desk.read_question(await request.read())
        except ValueError:
            return web.Response(status=400)
        return _json(token_desk.answer(await desk.check(platform, token, anew)))

    async def is_ready(_: web.Request) -> web.Response:
        return web.Response(text="ready") if ready.is_set() else web.Response(status=503)

    is_ours = _comparing(f"Bearer {bearer}")
    made = web.Application(client_max_size=_MAX_BYTES)
    made.add_routes([web.post(token_desk.CHECK_PATH, check), web.get("/readyz", is_ready, allow_head=False)])
    return made


def _comparing(expected: str) -> Callable[[str], bool]:
    wanted = expected.encode()
    return lambda header: hmac.compare_digest(header.encode("utf-8", "surrogateescape"), wanted)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")

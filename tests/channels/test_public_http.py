"""Connections to whatever hosts strangers name: few are kept, however many hosts there are."""

import asyncio
import socket
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from notify_pipeline.channels import public_http
from notify_pipeline.channels.public_http import PublicSession, empty


def test_many_hosts_leave_few_connections_open(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1", *rest, **more)

    async def main() -> None:
        open_: set[Any] = set()

        async def taken(request: web.Request) -> web.Response:
            open_.add(request.transport)
            return web.Response(status=201)

        app = web.Application()
        app.add_routes([web.post("/", taken)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        public = PublicSession(True, aiohttp.ClientTimeout(total=10), {})

        async def post(host: str) -> None:
            async with public.session.post(f"http://{host}.example:{port}/", headers=public.parting) as answer:
                assert answer.status == 201
                await empty(answer)

        for number in range(30):
            await post(f"host{number}")
        assert len(open_) == 30
        assert sum(not each.is_closing() for each in open_) <= 5
        # One that is kept is used again.
        await post("host0")
        assert len(open_) == 30
        await public.aclose()
        await runner.cleanup()

    monkeypatch.setattr(socket, "getaddrinfo", here)
    monkeypatch.setattr(public_http, "_MOST_KEPT", 4)
    asyncio.run(main())

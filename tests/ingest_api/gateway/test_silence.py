"""Connections that ask for nothing are cut off; those that asked once stay."""

import asyncio
import contextlib

from aiohttp import web

from ingest_api.gateway.silence import Silence
from tests.waiting import PATIENCE_S


def test_who_asks_for_nothing_is_cut_off() -> None:
    async def main() -> None:
        async def ready(_: web.Request) -> web.Response:
            return web.Response(text="ready")

        app, silence = web.Application(), Silence()
        app.add_routes([web.get("/", ready)])
        silence.listen(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        assert runner.server is not None
        port = runner.addresses[0][1]
        mute, half, asks = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        half[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        asks[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asks[0].readline()).startswith(b"HTTP/1.1 200")
        watching = asyncio.create_task(silence.watch(runner.server, 0.05))
        async with asyncio.timeout(PATIENCE_S):
            for reader, _ in (mute, half):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            await asks[0].readuntil(b"ready")
            asks[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asks[0].readline()).startswith(b"HTTP/1.1 200")
        watching.cancel()
        for _, writer in (mute, half, asks):
            writer.close()
        await runner.cleanup()

    asyncio.run(main())

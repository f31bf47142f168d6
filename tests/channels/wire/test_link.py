"""When a link waits for more answers before it reads on."""

import asyncio
from typing import Any

from notify_pipeline.channels.wire import link
from notify_pipeline.channels.wire.link import Link
from tests.channels.wire.script import HEADERS, head, settings, window


class Owner:
    def on_progress(self, link: Link) -> None:
        pass

    def on_gone(self, link: Link) -> None:
        pass


class Socket(asyncio.Transport):
    """Notes whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.pauses = 0
        self.written = b""

    def pause_reading(self) -> None:
        self.is_read = False
        self.pauses += 1

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "ssl_object" else default

    def selected_alpn_protocol(self) -> str:
        return "h2"


def opened(streams: int) -> tuple[Link, Socket]:
    """A link with so many open streams, and the socket that it is on."""
    made, socket = Link(Owner(), "peer.example", (), 5.0), Socket()
    made.carry(socket, socket)
    made.data_received(settings())
    for number in range(streams):
        made.connection.open((None, number), "/r", HEADERS, b"{}")  # type: ignore[arg-type]
    return made, socket


def answers(first: int, count: int) -> bytes:
    return b"".join(head(2 * number + 1, end=True) for number in range(first, first + count))


def test_an_answer_that_comes_alone_among_many_makes_the_next_ones_gather() -> None:
    async def main() -> None:
        made, socket = opened(200)
        made.data_received(answers(0, 1))
        assert not socket.is_read
        assert len(made.connection.ends) == 1, "what has come is not held back"
        await asyncio.sleep(10 * link._GATHER_S)
        assert socket.is_read
        made.data_received(window(0, 10))
        assert not socket.is_read, "frames that are no answers are not worth a turn either"

    asyncio.run(main())


def test_a_read_with_many_answers_is_followed_by_the_next_at_once() -> None:
    async def main() -> None:
        made, socket = opened(200)
        made.data_received(answers(0, link._FEW_ANSWERS))
        assert socket.pauses == 0

    asyncio.run(main())


def test_few_requests_wait_for_nothing() -> None:
    async def main() -> None:
        made, socket = opened(link._MANY_OPEN)
        made.data_received(answers(0, 1))
        assert socket.pauses == 0

    asyncio.run(main())


def test_what_the_peer_says_before_tls_is_handed_over_is_answered_then() -> None:
    async def main() -> None:
        made, socket = Link(Owner(), "peer.example", (), 5.0), Socket()
        made.data_received(settings())
        assert made.ready.done()
        made.carry(socket, socket)
        assert socket.written.startswith(b"PRI * HTTP/2.0")
        assert socket.written.endswith(b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"), "an acknowledgement of the settings"

    asyncio.run(main())

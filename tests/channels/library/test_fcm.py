"""firebase-admin where it is led by us: whose token a request carries, what is not ours to hand it."""

import asyncio
from collections import Counter
from pathlib import Path

import orjson
import pytest

from notify_pipeline.channels.library.fcm import FirebaseTransport, read_message
from notify_pipeline.channels.transport import End, Request
from tests.channels.peer import Reply, running_peer
from tests.waiting import PATIENCE_S

PATH = "/v1/projects/p/messages:send"
BODY = orjson.dumps({"message": {"token": "t", "data": {"k": "v"}}})


def test_each_request_carries_its_own_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path, lambda _: Reply(200, b'{"name": "n"}', delay_s=0.01)) as peer:
            transport = FirebaseTransport(peer.url, "p", ca=peer.ca, max_in_flight=8, timeout_s=PATIENCE_S)
            ends: list[End] = []

            async def post(token: str) -> None:
                headers = (("authorization", f"Bearer {token}"),)
                some = [Request(number, PATH, headers, BODY) for number in range(10)]
                await transport.post_many(some, lambda _, end: ends.append(end))

            await asyncio.gather(post("old"), post("new"))
            await transport.aclose()
            assert len(ends) == 20
            assert Counter(seen.headers["authorization"] for seen in peer.seen) == {"Bearer old": 10, "Bearer new": 10}

    asyncio.run(main())


def test_a_request_of_another_project_is_a_mistake(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_peer(tmp_path) as peer:
            transport = FirebaseTransport(peer.url, "q", ca=peer.ca, max_in_flight=8, timeout_s=PATIENCE_S)
            request = Request(0, PATH, (("authorization", "Bearer x"),), BODY)
            with pytest.raises(ValueError, match="project"):
                await transport.post_many([request], lambda _, end: None)
            await transport.aclose()
            assert peer.seen == []

    asyncio.run(main())


@pytest.mark.parametrize("fields", [{"live": 1}, {"android": {"ttl": "1s", "sound": "x"}}, {"webpush": {"link": "x"}}])
def test_a_field_that_would_be_lost_is_a_mistake(fields: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        read_message(orjson.dumps({"message": {"token": "t", **fields}}))


def test_the_address_must_be_https(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        FirebaseTransport(
            "http://fcm.googleapis.com", "p", ca=tmp_path / "ca.pem", max_in_flight=1, timeout_s=PATIENCE_S
        )

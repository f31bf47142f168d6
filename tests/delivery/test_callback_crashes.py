"""kill -9 of the drain while it tells callbacks: every end is told at least once, and always under one id."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from notify_pipeline.core.ledger import devices, tenants
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger, utc_now
from notify_pipeline.core.vocabulary import Platform
from tests.delivery.receiver import Received, Receiver
from tests.delivery.test_callbacks import messages, register, send
from tests.waiting import wait_for


@contextmanager
def worker(folder: Path, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-m", "tests.delivery.callback_worker", str(folder), url]) as process:
        try:
            yield process
        finally:
            process.kill()


def tenant_of(ledger: Ledger) -> str:
    made = tenants.create_product(ledger, "P", [], utc_now()).tenant
    devices.register(ledger, made, Registration("d1", Platform.ANDROID, user_id="u1"), utc_now())
    return made


def test_killed_between_the_post_and_the_record(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    tenant = tenant_of(ledger)
    with Receiver() as receiver:
        callback_id, _ = register(ledger, tenant, receiver.url)
        send(ledger, tenant, "n-1")
        with worker(tmp_path, ledger_url) as process:

            def kill(_: Received) -> int:
                process.kill()
                process.wait()
                return 200

            receiver.reply = kill
            wait_for(lambda: process.poll() is not None)
        (message,) = messages(ledger, callback_id)
        assert (message.state, message.attempts) == ("sending", 1)
        receiver.reply = lambda _: 200
        with worker(tmp_path, ledger_url):
            wait_for(lambda: messages(ledger, callback_id)[0].state == "delivered")
    (message,) = messages(ledger, callback_id)
    assert message.attempts == 2
    first, second = receiver.received
    assert first.id == second.id == message.message_id and first.body == second.body


@pytest.mark.parametrize("rounds", [2, pytest.param(6, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_killed_at_random_moments(ledger: Ledger, ledger_url: str, tmp_path: Path, rounds: int) -> None:
    tenant = tenant_of(ledger)
    sent = set()
    with Receiver(lambda _: random.choice([200] * 9 + [503])) as receiver:
        callback_id, _ = register(ledger, tenant, receiver.url)
        for number in range(rounds):
            ids = [f"n-{number}-{each}" for each in range(30)]
            sent.update(send(ledger, tenant, each) for each in ids)
            before = len(receiver.received)
            with worker(tmp_path, ledger_url):
                wait_for(lambda: len(receiver.received) > before)  # noqa: B023 - waited for within the round
                time.sleep(random.uniform(0, 0.2))
        with worker(tmp_path, ledger_url):

            def all_told() -> bool:
                found = messages(ledger, callback_id)
                return len(found) == len(sent) and all(each.state == "delivered" for each in found)

            wait_for(all_told)
    told: dict[str, set[str]] = {}
    for each in receiver.received:
        told.setdefault(each.json["data"]["request_id"], set()).add(each.id)
    # Nobody was left out, and no end was told under two ids.
    assert set(told) == sent
    assert {len(ids) for ids in told.values()} == {1}

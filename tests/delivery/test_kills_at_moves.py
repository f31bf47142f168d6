"""kill -9 in and after every transaction that moves a request: no state is skipped, and each move is audited once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import devices
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.vocabulary import Platform, RequestState
from tests.delivery import mover
from tests.delivery.fakes import TENANT, accept, land, rows_of
from tests.delivery.histories import histories
from tests.delivery.lakes import Landing, row
from tests.forked import exit_code_of

SIGKILLED = -9
A, R, S = RequestState.ACCEPTED, RequestState.ROUTED, RequestState.SENDING
TO_THE_END = [A, R, S, RequestState.DONE]


def live(when: str, folder: Path, url: str) -> int:
    return exit_code_of(mover.main, when, str(folder), url)


def sends(ledger: Ledger, number: int) -> dict[str, list[RequestState]]:
    """Accept one send for each way through the state machine; return the states that each must go through."""
    expected = {
        accept(ledger, users=["ada"]): TO_THE_END,
        accept(ledger, users=["refused"]): [A, R, S, RequestState.FAILED],
        accept(ledger, users=["nobody"]): [A, RequestState.DONE],
        accept(ledger, users=["ada"], ttl_s=-1): [A, RequestState.EXPIRED],
        accept(ledger, users=["ada"], channels=["apns"]): [A, RequestState.UNROUTED],
        accept(ledger, topics=["t"]): TO_THE_END,
    }
    for _ in range(number):
        expected[accept(ledger, users=["ada", "grace"])] = TO_THE_END
    return expected


@pytest.mark.parametrize("number", [0, pytest.param(12, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_a_process_dies_around_each_move(ledger: Ledger, ledger_url: str, tmp_path: Path, number: int) -> None:
    for user in ("ada", "grace", "refused"):
        devices.register(ledger, TENANT, Registration(f"d-{user}", Platform.ANDROID, user_id=user), datetime.now(UTC))
    lake = Lake(str(tmp_path / "lake"))
    land(ledger, lake)
    Landing(lake, ledger).land(*(row(f"t{number:03d}", 1, ["t"]) for number in range(70)))
    expected = sends(ledger, number)
    killed = 0
    for life in range(100):
        # In turn: what was undone by the one must be done by the next, and its traces with it.
        code = live(("before", "after")[life % 2], tmp_path, ledger_url)
        assert code in (0, SIGKILLED)
        killed += code == SIGKILLED
        if code == 0:
            break
        # What later sends begin with meanwhile must not disturb those that are half-way. They come faster than half of
        # the lives can do their moves, so at some time there are enough.
        if number and life % 3 == 2 and life < 36:
            expected[accept(ledger, users=["grace"])] = TO_THE_END
    assert live("never", tmp_path, ledger_url) == 0
    assert killed >= 6
    assert histories(ledger) == expected
    land(ledger, lake)
    landed = [each for each in rows_of(lake, "audit") if each["to_state"] is not None]
    assert len({each["audit_id"] for each in landed}) == len(landed) == sum(map(len, expected.values()))

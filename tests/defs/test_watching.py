"""How long a sensor's tick waits for its reason."""

import threading
import time
from itertools import count

from notify_pipeline.defs.watching import Patience
from tests.waiting import PATIENCE_S


def test_a_tick_looks_once_where_nobody_lets_it_wait() -> None:
    looks = count()
    assert Patience().wait_for(lambda: next(looks) or None, every_s=0.001) is None
    assert next(looks) == 1


def test_a_patient_tick_returns_as_soon_as_there_is_something() -> None:
    patience = Patience()
    patience.begin(60)
    answers = iter([None, None, "due"])
    began = time.monotonic()
    assert patience.wait_for(lambda: next(answers), every_s=0.01) == "due"
    assert time.monotonic() - began < 30


def test_a_tick_gives_up_before_the_next_one_is_due() -> None:
    patience = Patience()
    patience.begin(0.2)
    looks = count()
    began = time.monotonic()
    assert patience.wait_for(lambda: next(looks) < 0 or None, every_s=0.05) is None
    assert time.monotonic() - began <= 0.2 + 0.1
    assert 2 <= next(looks) <= 5


def test_looks_that_cost_much_are_rare() -> None:
    patience = Patience()
    patience.begin(1)
    looks = count()

    def look() -> None:
        next(looks)
        time.sleep(0.02)

    patience.wait_for(look, every_s=0.001)
    assert next(looks) <= 4  # a twentieth of the time


def test_stopping_ends_a_tick_that_waits_and_lets_none_wait_any_more() -> None:
    patience = Patience()
    patience.begin(60)
    looked = threading.Event()
    waiting = threading.Thread(target=patience.wait_for, args=(looked.set, 50))
    waiting.start()
    assert looked.wait(PATIENCE_S)
    patience.end()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    looks = count()
    assert patience.wait_for(lambda: next(looks) < 0 or None, every_s=0.001) is None
    assert next(looks) == 1

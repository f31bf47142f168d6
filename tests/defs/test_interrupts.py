"""A long op ends in an orderly way when its run is interrupted."""

import os
import signal
import threading

import dagster as dg
import pytest
from dagster._core.errors import raise_execution_interrupts
from dagster._utils.interrupts import capture_interrupts

from notify_pipeline.defs.interrupts import run_stoppable
from tests.waiting import PATIENCE_S


def test_returns_what_the_work_returns() -> None:
    assert run_stoppable(lambda stop: stop.is_set()) is False


def test_raises_what_the_work_raises_time_outs_included() -> None:
    def work(stop: threading.Event) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        run_stoppable(work)


def test_an_interrupt_lets_the_work_end_itself_and_is_raised_after_that() -> None:
    ended = []

    def work(stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(PATIENCE_S), "nobody set the event"
        ended.append("in an orderly way")

    with pytest.raises(dg.DagsterExecutionInterruptedError), capture_interrupts(), raise_execution_interrupts():
        run_stoppable(work)
    assert ended == ["in an orderly way"]


def test_an_interrupt_may_be_a_good_end() -> None:
    def work(stop: threading.Event) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(PATIENCE_S), "nobody set the event"
        return "stopped"

    with capture_interrupts(), raise_execution_interrupts():
        assert run_stoppable(work, lambda: True) == "stopped"


def test_work_that_fails_when_interrupted_says_so() -> None:
    def work(stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.wait(PATIENCE_S)
        raise OSError("could not record the rest")

    with pytest.raises(OSError, match="the rest"), capture_interrupts(), raise_execution_interrupts():
        run_stoppable(work, lambda: True)

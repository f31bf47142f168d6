"""What the fork server's tests run in processes of its own."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from notify_pipeline.defs import warm
from notify_pipeline.delivery.context import DeliveryContext


def tell_parents(answer: Connection, kill_server: bool) -> None:
    """Say who forked this process, and who forks one that it starts."""
    mine = os.getppid()
    if kill_server:
        os.kill(mine, signal.SIGKILL)
        while os.getppid() == mine:  # until it is gone
            time.sleep(0.01)
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=tell_parent, args=(writer,))
    child.start()
    answer.send((mine, reader.recv()))
    child.join()


def tell_parent(answer: Connection) -> None:
    """Say who forked this process."""
    answer.send(os.getppid())


def ask(kill_server: bool) -> tuple[int, int]:
    """Fork a process from a code server's server; return its parent and the parent of the one that it starts."""
    warm.PRELOAD = warm.PRELOAD[-1:]  # the rest takes seconds
    warm.start()
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    context.Process(target=tell_parents, args=(writer, kill_server)).start()
    parents: tuple[int, int] = reader.recv()
    return parents


def ask_twice() -> list[tuple[int, str]]:
    """Fork a process, kill the server it came from, and fork another; return each one's parent and its kernel name."""
    warm.PRELOAD = warm.PRELOAD[-1:]
    warm.start()
    context = multiprocessing.get_context("forkserver")
    parents = []
    for _ in range(2):
        reader, writer = context.Pipe(duplex=False)
        context.Process(target=tell_parent, args=(writer,)).start()
        parent = reader.recv()
        parents.append((parent, Path(f"/proc/{parent}/comm").read_text().strip()))
        os.kill(parent, signal.SIGKILL)
        os.waitid(os.P_PID, parent, os.WEXITED | os.WNOWAIT)  # until it is gone; multiprocessing collects it
    return parents


def tell_jitter(answer: Connection) -> None:
    """Say how a context draws."""
    answer.send(DeliveryContext.draw())


def ask_jitter() -> list[float]:
    """Fork two processes from a server that has the context imported; return what each draws."""
    multiprocessing.set_forkserver_preload(["notify_pipeline.delivery.context"])
    context = multiprocessing.get_context("forkserver")
    drawn = []
    for _ in range(2):
        reader, writer = context.Pipe(duplex=False)
        context.Process(target=tell_jitter, args=(writer,)).start()
        drawn.append(reader.recv())
    return drawn

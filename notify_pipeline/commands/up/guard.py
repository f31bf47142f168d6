"""Ends what a supervisor left behind when it died without a word. Run as a script, standard library only.

Belongs here: reading which process groups live, and ending them. Does not belong here: starting anything.

The supervisor holds the other end of standard input and writes ``+<group>`` and ``-<group>`` lines. When it goes away,
however it dies, the kernel closes the pipe: whatever group is still listed gets SIGTERM, and SIGKILL if it is still
there after a while. ``PR_SET_PDEATHSIG`` would not do: it reaches children, not their children.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

# Dagster's run workers end an attempt in flight on SIGTERM: a provider request may take ten seconds.
_GRACE_S = 12.0
# SIGKILL is not refused, but a process in an uninterruptible call ends only after it.
_KILL_S = 5.0
_POLL_S = 0.05


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False when it has no member any more."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # the id was reused by somebody else's group: not ours to end
        return False
    return True


def reap(group: int) -> None:
    """Collect what ended in a group, as far as it is ours to collect; a zombie would count as alive for ever."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def end_groups(groups: set[int], grace_s: float = _GRACE_S, hurry: Callable[[], bool] = lambda: False) -> set[int]:
    """End every group: SIGTERM, then SIGKILL for what outlives the grace period.

    Args:
        groups: Process group ids.
        grace_s: How long they may take in all.
        hurry: Asked again and again; True ends the grace period now.

    Returns:
        The groups that had to be killed.
    """
    for group in groups:
        signal_group(group, signal.SIGTERM)
    late = _wait(groups, grace_s, hurry)
    for group in late:
        signal_group(group, signal.SIGKILL)
    _wait(late, _KILL_S, lambda: False)
    return late


def _wait(groups: set[int], seconds: float, hurry: Callable[[], bool]) -> set[int]:
    deadline = time.monotonic() + seconds
    while True:
        for group in groups:
            reap(group)
        groups = {group for group in groups if signal_group(group, 0)}
        if not groups or hurry() or time.monotonic() > deadline:
            return groups
        time.sleep(_POLL_S)


def main() -> None:
    """Keep the list that standard input gives, and end what is on it when the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    end_groups(groups)


if __name__ == "__main__":
    main()

"""What becomes of an answer that cannot be recorded: it is known that there was a call, and nobody is called again.

Belongs here: telling such an answer from a store that is away, finding it among others, and what is recorded instead.
Does not belong here: what is recorded otherwise (``attempts``), waiting for a store (``patience``), storing.

A call whose record fails for good would otherwise look like one of a dead process: ambiguous, and made again. What
makes it fail is in the answer, and the next one may have it, too; so the first failure ends the delivery.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import exc

from notify_pipeline.core.ledger.deliveries import Ended, Settlement
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.leases import LeaseLost
from notify_pipeline.core.records import AttemptResult
from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.delivery import attempts, dead_letters
from notify_pipeline.delivery.attempts import RECORD_FAILED, Results
from notify_pipeline.delivery.retry import Final, GaveUp

log = logging.getLogger(__name__)

# A database, a disk, a network or a machine that has no memory left: the same would be taken at another time. Whatever
# else fails (ValueError, TypeError, Arrow's and polars' errors, a value that a column does not take) fails again.
_PASSING = (
    LedgerError,
    LeaseLost,
    OSError,
    MemoryError,
    exc.OperationalError,
    exc.InterfaceError,
    exc.InternalError,
    exc.TimeoutError,
)
# The clients of object stores raise errors of their own besides OSError; each is about the way there.
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "urllib3")


def is_passing(error: BaseException) -> bool:
    """Tell whether the same may be stored at another time: the store, not what is stored, is the reason."""
    return isinstance(error, _PASSING) or type(error).__module__.partition(".")[0] in _CLIENTS


def unknown(sent_at: int) -> AttemptResult:
    """Return what is recorded instead of an answer: that somebody may have been called; microseconds."""
    return AttemptResult(Outcome.AMBIGUOUS, RECORD_FAILED, sent_at, None)


def settle_apart(settle: Callable[[Sequence[Ended]], Settlement], ended: Sequence[Ended]) -> Settlement:
    """Store outcomes together, or, where one of them cannot be stored, all others and of that one that it is unknown.

    Args:
        settle: Stores them, all or none; what was stored before changes nothing.
        ended: The outcomes.

    Raises:
        Exception: The store is away (``is_passing``). What was stored until then stays stored.
    """
    try:
        return settle(ended)
    except Exception as error:
        if is_passing(error):
            raise
        if len(ended) > 1:
            halves = (ended[: len(ended) // 2], ended[len(ended) // 2 :])
            first, second = (settle_apart(settle, half) for half in halves)
            return Settlement(first.late + second.late, first.finished + second.finished)
        return _settle_unknown(settle, ended[0], error)


def _settle_unknown(settle: Callable[[Sequence[Ended]], Settlement], ended: Ended, error: Exception) -> Settlement:
    what = ended.claimed.delivery_id
    if ended.gave_up != GaveUp.RECORD_FAILED:
        log.error("the outcome of delivery %s cannot be recorded; it is not sent again", what, exc_info=error)
        return settle_apart(settle, [without_outcome(ended)])
    if ended.dead is not None:
        return settle_apart(settle, [replace(ended, dead=None)])
    # Nothing can be said of it. It stays claimed, is never sent again, and this line comes with every look at it.
    log.critical("nothing can be recorded of delivery %s: it stays as it is", what, exc_info=error)
    return Settlement((what,))


def without_outcome(ended: Ended) -> Ended:
    """Return the end of a delivery of whose last attempt nothing can be said but that it may have been made."""
    claimed = ended.claimed
    result, final = unknown(claimed.intended_at), Final(GaveUp.RECORD_FAILED)
    row = {**ended.attempt, **attempts.of_result(result), "consent": None}
    dead = dead_letters.of_claim(claimed, result, final)
    return Ended(claimed, result.outcome, None, row, GaveUp.RECORD_FAILED.value, dead)


def without_unfit(results: Results, words: Sequence[str] | None) -> tuple[Results, Sequence[str] | None, int]:
    """Return a chunk's results and words with those replaced that no attempts file takes, and how many those are."""
    unfit = _unfit(results, words, 0, len(results.outcome))
    if not unfit:
        return results, words, 0
    rows = [results.row(at) for at in range(len(results.outcome))]
    said = None if words is None else list(words)
    for at in unfit:
        rows[at] = unknown(_time(rows[at].sent_at))
        if said is not None:
            said[at] = None  # type: ignore[call-overload]
    return attempts.by_column(rows), said, len(unfit)


def _unfit(results: Results, words: Sequence[str] | None, start: int, end: int) -> list[int]:
    some = Results(*(column[start:end] for column in results))  # type: ignore[arg-type]
    if attempts.fits(some, None if words is None else words[start:end]):
        return []
    if end - start == 1:
        return [start]
    middle = (start + end) // 2
    return [*_unfit(results, words, start, middle), *_unfit(results, words, middle, end)]


def _time(given: object) -> int:
    """Return a time if it is one that can be stored; else the epoch, which nobody takes for one."""
    return given if isinstance(given, int) and 0 <= given < 1 << 62 else 0


def all_unknown(results: Results) -> Results:
    """Return a chunk's results where nothing can be said of any."""
    return attempts.by_column([unknown(_time(sent_at)) for sent_at in results.sent_at])

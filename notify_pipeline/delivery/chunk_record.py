"""The attempts file of a chunk: written once, whatever is in the way of it.

Belongs here: building and writing it, reading what another process wrote, another name where one is refused. Does not
belong here: what an outcome means (``shard_state``), the ledger's part of the record (``chunk_sender``).

The file is written once by whoever comes first: the one that sent the chunk, or its successor that calls it ambiguous.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.chunk_rows import NewChunk
from notify_pipeline.core.records import Notification
from notify_pipeline.core.schemas import ATTEMPTS
from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.delivery import attempts, recording
from notify_pipeline.delivery.attempts import Results
from notify_pipeline.delivery.recipients import Recipients

log = logging.getLogger(__name__)

# A store that is away refuses every file, for seconds or hours. One that has refused a file so often, and takes it
# under another name, refuses that name.
REFUSALS = 5


@dataclass(frozen=True, slots=True)
class Written:
    """What a file says of its chunk.

    Attributes:
        path: Where it is.
        is_mine: False when another process wrote it, with outcomes of its own.
        outcomes: Of each recipient, in the chunk's order.
        codes: The provider's word for each, or ours.
        waits: The provider's Retry-After of each, seconds, where that is known.
    """

    path: str
    is_mine: bool
    outcomes: Sequence[Outcome]
    codes: Sequence[str | None]
    waits: Sequence[float | None]


class ChunkRecord:
    """Writes the files of one shard's chunks. One thread at a time uses it.

    Args:
        lake: The lake.
        notification: The send.
        channel: The shard's.
        provider: The channel's; None when it is not configured.
    """

    def __init__(self, lake: Lake, notification: Notification, channel: str, provider: str | None) -> None:
        self._lake = lake
        self._notification = notification
        self._channel = channel
        self._provider = provider
        self._refused: Counter[str] = Counter()

    def write(
        self, new: NewChunk, recipients: Recipients, results: Results, words: Sequence[str] | None = None
    ) -> Written:
        """Write a chunk's file, or read what another process has written.

        What no file takes is recorded as ``record_failed``: only those recipients, where it is theirs alone.

        Raises:
            Exception: The lake is away (``recording.is_passing``); or nothing at all can be written of any chunk.
        """
        try:
            return self._written(new, recipients, results, words)
        except Exception as error:
            if recording.is_passing(error):
                raise
            fit, said, unfit = recording.without_unfit(results, words)
            what, number = f"chunk {new.chunk} of shard {new.shard} of request {new.request_id}", len(results.outcome)
            log.error("%s: %d of %d outcomes cannot be recorded", what, unfit or number, number, exc_info=error)
        if unfit:
            try:
                return self._written(new, recipients, fit, said)
            except Exception as error:
                if recording.is_passing(error):
                    raise
                log.exception("%s: none of its outcomes can be recorded", what)
        return self._written(new, recipients, recording.all_unknown(results), None)

    def found(self, new: NewChunk) -> Written | None:
        """Return what is written of a chunk under the name that it has where its own was refused; None: nothing."""
        other = _other_name(new.path)
        return self._read(other) if self._lake.exists(other) else None

    def _written(self, new: NewChunk, recipients: Recipients, results: Results, words: Sequence[str] | None) -> Written:
        table = attempts.of_chunk(self._notification, self._channel, self._provider, new, recipients, results, words)
        path = new.path if self._refused[new.path] < REFUSALS else _other_name(new.path)
        try:
            is_mine = self._put(path, table)
        except Exception as error:
            self._refused[new.path] += recording.is_passing(error)
            if path != new.path:
                # The store takes nothing under any name: it is away, and all begins anew.
                del self._refused[new.path]
            raise
        if path != new.path:
            log.error("%s was refused %d times; its attempts are at %s", new.path, REFUSALS, path)
        mine = Written(path, True, results.outcome, results.provider_code, results.retry_after_s)
        return mine if is_mine else self._read(path)

    def _put(self, path: str, table: pa.Table) -> bool:
        """Write a file once; an equal one that is there is ours, from a put whose answer was lost."""
        if self._lake.write_once(path, table, unique=attempts.UNIQUE_COLUMNS):
            return True
        return bool(self._lake.read(path).equals(table.cast(ATTEMPTS.schema)))

    def _read(self, path: str) -> Written:
        written = self._lake.read(path, ["outcome", "provider_code"])
        outcomes = [Outcome(name) for name in written["outcome"].to_pylist()]
        return Written(path, False, outcomes, written["provider_code"].to_pylist(), [None] * len(outcomes))


def _other_name(path: str) -> str:
    return f"{path.removesuffix('.parquet')}-again.parquet"

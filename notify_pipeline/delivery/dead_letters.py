"""Dead letters of the deliveries that an attempt has ended.

Belongs here: building them, from the drain's claims and from a broadcast's chunks. Does not belong here: which
deliveries die (``retry``), storing them (``core.ledger.dead_letters``).
"""

from collections.abc import Sequence

from notify_pipeline.core.ledger.dead_letters import DeadLetter
from notify_pipeline.core.ledger.deliveries import Claimed
from notify_pipeline.core.records import AttemptResult
from notify_pipeline.core.vocabulary import Outcome
from notify_pipeline.delivery.planning import recipient_of
from notify_pipeline.delivery.recipients import Recipients
from notify_pipeline.delivery.retry import Final
from notify_pipeline.delivery.shard_state import Chunk, Settled


def of_claim(claimed: Claimed, result: AttemptResult, decision: Final) -> DeadLetter | None:
    """Return the dead letter that a claimed delivery has become; None where it is none."""
    why = decision.died_of(result.outcome, claimed.attempt_no)
    if why is None:
        return None
    recipient = recipient_of(claimed.address, claimed.platform, claimed.recipient)
    return DeadLetter(
        claimed.delivery_id,
        claimed.platform,
        claimed.address,
        recipient.user_id,
        result.outcome,
        _stored(result.provider_code),
        why,
        claimed.attempt_no,
        recipient.fields,
    )


def of_chunk(
    chunk: Chunk,
    recipients: Recipients,
    outcomes: Sequence[Outcome],
    codes: Sequence[str | None],
    settled: Settled,
) -> list[DeadLetter]:
    """Return the dead letters of a chunk.

    Args:
        chunk: The chunk.
        recipients: Its recipients.
        outcomes: The outcome of each.
        codes: The provider's word in each.
        settled: What the outcomes mean.
    """
    if not settled.dead:
        return []
    rows = recipients.rows.take([at for at, _ in settled.dead])
    fields = rows["fields"].to_pylist() if "fields" in rows.column_names else [None] * len(rows)
    people = zip(settled.dead, rows["platform"].to_pylist(), rows["user_id"].to_pylist(), fields, strict=True)
    return [
        DeadLetter(
            recipients.delivery_ids[at],
            platform,
            recipients.addresses[at],
            user_id,
            outcomes[at],
            _stored(codes[at]),
            why,
            chunk.attempts[at],
            own,
        )
        for (at, why), platform, user_id, own in people
    ]


def _stored(code: str | None) -> str | None:
    """Return a provider's word as every store takes it: without NUL, and without halves of surrogate pairs."""
    return None if code is None else code.encode(errors="replace").decode().replace("\x00", "")

"""Dead letters: looking at them, and sending them again.

Belongs here: those routes. Does not belong here: which deliveries become one (``delivery.retry``), what a replay may be
refused for (``sending``).
"""

from typing import Any

from flask import Response

from ingest_api import replaying
from ingest_api.dead_letters import sending
from ingest_api.dead_letters.models import (
    DeliveryId,
    LetterPage,
    LetterShown,
    ListQuery,
    NewReplay,
    ReplayAnswer,
)
from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.errors import not_found
from ingest_api.fields import fields_of
from ingest_api.inputs import check_order, read_idempotency_key
from ingest_api.keys import Access
from ingest_api.paging import following, unpack_key
from notify_pipeline.core.ledger import letters
from notify_pipeline.core.ledger.letters import Letter

GROUP = Group("dead letters", "Deliveries that reached nobody through no fault of the recipient's.")


@GROUP.endpoint(
    "GET", "/dead-letters", access=Access.SECRET, answers={200: Answer("A page, newest first.", LetterPage)}
)
def list_dead_letters(call: Call, query: ListQuery) -> Response:
    """List dead letters.

    A filter that hardly anything fits can give a page that is short, or empty, and yet has a `next_cursor`.
    """
    check_order(query.since, query.until)
    page = letters.page(
        call.services.ledger,
        call.reads(query.include_organizations),
        query.wanted(query.replayed),
        query.limit,
        unpack_key(query.cursor),
    )
    return answer(200, {"items": [_shown(letter) for letter in page.rows], "next_cursor": following(page.following)})


@GROUP.endpoint(
    "GET",
    "/dead-letters/{delivery_id}",
    access=Access.SECRET,
    answers={200: Answer("The dead letter.", LetterShown)},
    errors={404: "Neither this tenant nor an organization of it has such a dead letter."},
)
def show_dead_letter(call: Call, delivery_id: DeliveryId) -> Response:
    """Show a dead letter.

    A product's key also sees its organizations'.
    """
    found = letters.get(call.services.ledger, call.reads(True), delivery_id)
    if found is None:
        raise not_found("There is no such dead letter.")
    return answer(200, _shown(found))


@GROUP.endpoint(
    "POST",
    "/dead-letters/replay",
    access=Access.SECRET,
    headers=replaying.KEY_HEADER,
    answers={
        202: Answer(
            "The new requests are durable and will be sent.",
            ReplayAnswer,
            replaying.ANSWER_HEADERS,
        )
    },
    errors={
        404: "This tenant has no dead letters of some of the deliveries; nothing was replayed.",
        409: "`key_reused`: the key was used before, for another replay. `id_reused`: a notification id that a replay"
        " would get was used before.",
    },
)
def replay_dead_letters(call: Call, body: NewReplay) -> Response:
    """Send dead letters again.

    Each dead letter is sent again once, however often and by whomever this is asked for; what dies again makes a new
    one. The letters of one request on one channel become one new request (several where they are many), to exactly
    those recipients, with the original's content, options and length of life, at once. A device where the first one
    arrived after all shows the notification once.
    """
    check_order(body.filter.since, body.filter.until, "filter.until")
    key = read_idempotency_key(call.request)
    done = sending.send_again(call.services, call.tenant, call.actor, body, key)
    return answer(202, done.answer, [replaying.REPEATED] if done.repeated else ())


def _shown(letter: Letter) -> dict[str, Any]:
    return {**fields_of(LetterShown, letter, "recipient"), "recipient": letter.address}

"""Erasing people, and following how far it is.

Belongs here: the erasure routes. Does not belong here: what an erasure does (``core.ledger.erasures``), the lake's part
of it, which a job does (``core.erasing``).
"""

from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.erasures.models import ErasureAccepted, ErasurePage, ErasureQuery, ErasureShown, NewErasure
from ingest_api.errors import not_found
from ingest_api.fields import RequestId, UserInPath, fields_of
from ingest_api.keys import Access
from ingest_api.paging import following, unpack_key
from notify_pipeline.core.ledger import erasures
from notify_pipeline.core.ledger.erasure_names import Named
from notify_pipeline.core.ledger.erasures import Erasure
from notify_pipeline.core.vocabulary import ErasureKind

GROUP = Group("erasures", "Erasing a person, from everything that names them (GDPR Art. 17).")
_ACCEPTED = {202: Answer("Erased from the ledger; the lake follows.", ErasureAccepted)}


@GROUP.endpoint("DELETE", "/users/{user_id}", access=Access.SECRET, answers=_ACCEPTED)
def erase_user(call: Call, user_id: UserInPath) -> Response:
    """Erase a user.

    Profile, devices, preferences, inbox and everything else that names the user are gone when this answers; the files
    of the lake are rewritten within minutes. Nobody need have been told of the user: bodies may name whom no row does.
    While an erasure of the same user is under way, this answers with that one.
    """
    return _erase(call, Named(call.tenant, ErasureKind.USER, user_id))


@GROUP.endpoint("POST", "/erasures", access=Access.SECRET, answers=_ACCEPTED)
def erase(call: Call, body: NewErasure) -> Response:
    """Erase whoever has a name: a user, an address, a device, or a visitor of a domain.

    An address, a device or a visitor is erased as that: a user who has the address loses it and nothing else.
    """
    return _erase(call, body.named(call.tenant))


@GROUP.endpoint("GET", "/erasures", access=Access.SECRET, answers={200: Answer("A page, newest first.", ErasurePage)})
def list_erasures(call: Call, query: ErasureQuery) -> Response:
    """List erasures."""
    rows, after = erasures.page(call.services.ledger, call.tenant, query.state, query.limit, unpack_key(query.cursor))
    return answer(200, {"items": [_shown(row) for row in rows], "next_cursor": following(after)})


@GROUP.endpoint(
    "GET",
    "/erasures/{erasure_id}",
    access=Access.SECRET,
    answers={200: Answer("The erasure and how far it is.", ErasureShown)},
    errors={404: "This tenant has no such erasure."},
)
def show_erasure(call: Call, erasure_id: RequestId) -> Response:
    """Show an erasure."""
    found = erasures.get(call.services.ledger, call.tenant, erasure_id)
    if found is None:
        raise not_found("There is no such erasure.")
    return answer(200, _shown(found))


def _erase(call: Call, named: Named) -> Response:
    services = call.services
    made = erasures.start(services.ledger, named, call.actor, services.clock())
    return answer(202, {"erasure_id": made.erasure_id, "status_url": f"/erasures/{made.erasure_id}"})


def _shown(row: Erasure) -> dict[str, Any]:
    return {**fields_of(ErasureShown, row, "subject", "removed"), "subject": row.subject_hash, "removed": row.counts}

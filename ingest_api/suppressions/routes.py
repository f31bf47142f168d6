"""Addresses that are not written to: listing, adding and removing them by hand.

Belongs here: the suppression routes. Does not belong here: storing (``core.ledger.suppressions``), reports of providers
(``email``), leaving recipients out of sends (``delivery``).
"""

from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import not_found
from ingest_api.fields import fields_of
from ingest_api.keys import Access
from ingest_api.paging import following, unpack_key
from ingest_api.suppressions.models import (
    Address,
    NewSuppression,
    SuppressibleChannel,
    SuppressionPage,
    SuppressionQuery,
    SuppressionShown,
)
from notify_pipeline.core.ledger import suppressions
from notify_pipeline.core.ledger.suppressions import Suppression, SuppressionFilter
from notify_pipeline.core.vocabulary import Channel, SuppressionReason

GROUP = Group("suppressions", "Addresses that no e-mail or SMS goes to: they bounced, complained or asked for it.")


@GROUP.endpoint(
    "GET", "/suppressions", access=Access.SECRET, answers={200: Answer("A page, newest first.", SuppressionPage)}
)
def list_suppressions(call: Call, query: SuppressionQuery) -> Response:
    """List suppressed addresses.

    A filter that hardly anything fits can give a page that is short, or empty, and yet has a `next_cursor`.
    """
    where = SuppressionFilter(query.channel, query.reason, query.address)
    rows, after = suppressions.page(call.services.ledger, call.tenant, where, query.limit, unpack_key(query.cursor))
    return answer(200, {"items": [_shown(row) for row in rows], "next_cursor": following(after)})


@GROUP.endpoint(
    "POST",
    "/suppressions",
    access=Access.SECRET,
    answers={201: Answer("What is stored of the address.", SuppressionShown)},
)
def add_suppression(call: Call, body: NewSuppression) -> Response:
    """Suppress an address by hand.

    Nothing more is sent to it on this channel. Where it is suppressed already, the stronger reason stays: a complaint
    or a STOP before this one, and this one before a bounce.
    """
    new = suppressions.NewSuppression(
        tenant=call.tenant,
        channel=body.channel,
        address=body.stored_address,
        reason=SuppressionReason.MANUAL,
        detail=body.detail,
        actor=call.actor,
    )
    return answer(201, _shown(suppressions.add(call.services.ledger, new, call.services.clock())))


@GROUP.endpoint(
    "DELETE",
    "/suppressions/{channel}/{address}",
    access=Access.SECRET,
    answers={204: Answer("It may be written to again.")},
    errors={404: "The address is not suppressed on this channel."},
)
def remove_suppression(call: Call, channel: SuppressibleChannel, address: Address) -> Response:
    """Take an address off the list.

    Do so only when its owner asks for it, or a bounce was a mistake: the next bounce or complaint puts it back.
    """
    ledger, now = call.services.ledger, call.services.clock()
    if not suppressions.remove(ledger, call.tenant, Channel(channel), address, call.actor, now):
        raise not_found("The address is not suppressed on this channel.")
    return empty()


def _shown(row: Suppression) -> dict[str, Any]:
    return fields_of(SuppressionShown, row)

"""From what a caller asks to what the reports are asked: whose, which version, which filter, where a list goes on.

Belongs here: that translation, and what is wrong with a question. Does not belong here: models, routes, queries.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from ingest_api.endpoint import Call
from ingest_api.errors import ApiError, FieldError, not_found, unprocessable
from ingest_api.inputs import check_order
from ingest_api.paging import foreign, pack, unpack
from ingest_api.reports.questions import FilterQuery, OneQuery
from notify_pipeline.core.ids import from_micros
from notify_pipeline.reports.reading import VersionGoneError
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_lists import ListEndedError, Place, Sort, Version

_LIST = (int, int, str, float, int, str, str)
_DETAIL = (int, int, int)
# As the paging of other lists has it: an id of 128 letters, and all else that a place has.
_LONGEST = 400


def tenants_of(call: Call, query: OneQuery) -> tuple[str, ...]:
    """Return whose reports are asked for.

    Raises:
        ApiError: 404 naming ``organization`` unless the key sees it; 422 when all and one are asked for.
    """
    everybody = isinstance(query, FilterQuery) and query.include_organizations
    if query.organization is None:
        return call.reads(everybody)
    if everybody:
        raise unprocessable(FieldError("organization", "must not be given beside include_organizations"))
    if query.organization != call.tenant and query.organization not in call.reads(True):
        raise not_found("There is no such organization.", "organization")
    return (query.organization,)


def filter_of(query: FilterQuery, tenants: tuple[str, ...]) -> ListFilter:
    """Return the filter of a list.

    Raises:
        ApiError: 422 when it ends before it begins.
    """
    check_order(query.since, query.until)
    return ListFilter(
        tenants=tenants,
        since=query.since,
        until=query.until,
        type=query.type,
        platform=query.platform,
        channel=query.channel,
        topic=query.topic,
        state=query.state,
        title=query.q,
        include_dry_run=query.include_dry_run,
    )


@contextmanager
def kept() -> Iterator[None]:
    """Turn the absence of a version into the answer that names who asked for it.

    Raises:
        ApiError: 404 naming ``as_of``, 422 naming ``cursor``.
    """
    try:
        yield
    except VersionGoneError as error:
        raise not_found("No version is kept that was published by then.", "as_of") from error
    except ListEndedError as error:
        raise _ended() from error


def version_of(call: Call, as_of: datetime | None) -> Version | None:
    """Return the version to answer from; None before the first.

    Raises:
        ApiError: 404 naming ``as_of``.
    """
    with kept():
        return call.services.reports.version(as_of)


def place_of(cursor: str | None, sort: Sort) -> Place | None:
    """Return where a list goes on.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none of a list in this order.
    """
    position = unpack(cursor, *_LIST, longest=_LONGEST)
    if position is None:
        return None
    version, published_us, order, key, accepted_us, tenant, notification_id = position
    _moment(published_us)
    _moment(accepted_us)
    if order != sort:
        raise foreign()
    return Place(
        int(str(version)),
        int(str(published_us)),
        sort,
        float(str(key)),
        int(str(accepted_us)),
        str(tenant),
        str(notification_id),
    )


def cursor_of(place: Place | None) -> str | None:
    """Return the cursor of a place."""
    if place is None:
        return None
    return pack(
        place.version,
        place.published_us,
        place.sort.value,
        place.key,
        place.accepted_us,
        place.tenant,
        place.notification_id,
    )


def offset_of(call: Call, cursor: str | None, as_of: datetime | None) -> tuple[Version | None, int]:
    """Return from which version a page of details is read, and how many rows came before.

    Raises:
        ApiError: 422 naming ``cursor`` when it is none of ours, or its version is no longer kept; 404 naming ``as_of``.
    """
    position = unpack(cursor, *_DETAIL)
    if position is None:
        return version_of(call, as_of), 0
    number, published_us, offset = (int(str(each)) for each in position)
    if not 0 <= offset < 2**53:
        raise foreign()
    try:
        version = call.services.reports.version(_moment(published_us))
    except VersionGoneError as error:
        raise _ended() from error
    if version is None or version.number != number:
        raise _ended()
    return version, offset


def _moment(micros: object) -> datetime:
    try:
        return from_micros(int(str(micros)))
    except (ValueError, OverflowError, OSError) as error:
        raise foreign() from error


def _ended() -> ApiError:
    message = "is of a version that is no longer kept: begin the list anew"
    return unprocessable(FieldError("cursor", message))

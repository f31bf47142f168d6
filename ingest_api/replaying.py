"""What routes that replay something ask for and answer alike.

Belongs here: choosing by ids or by a filter, and the idempotency of it. Does not belong here: what is replayed
(``dead_letters``, ``events``).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ingest_api.errors import ApiError, FieldError, conflict
from ingest_api.fields import NotificationId
from ingest_api.inputs import MAX_DETAILS

# Of the endpoint, and of its answer.
KEY_HEADER: Mapping[str, tuple[Any, str]] = {
    "Idempotency-Key": (NotificationId, "Asking again with the same key gives the same answer.")
}
ANSWER_HEADERS = {"Idempotent-Replayed": "`true` when this was answered before, under the same key."}
REPEATED = ("Idempotent-Replayed", "true")
# Of the body's JSON schema.
ONE_CHOICE: list[Any] = [{"required": ["ids"]}, {"required": ["filter"]}]


def choice_faults(fields: Collection[str]) -> Iterator[FieldError]:
    """Yield what is wrong with the choice of what to replay, by the names of the fields that were given."""
    given = {"ids", "filter"} & set(fields)
    if len(given) != 1:
        yield FieldError("ids" if not given else "filter", "exactly one of ids, filter is required")
    if "ids" in given and "limit" in fields:
        yield FieldError("limit", "must not be given beside ids")


def unknown(ids: Sequence[str], missing: Collection[str], message: str, fault: str) -> ApiError:
    """Return the 404 that names those of the ids that are missing, by their places."""
    where = [number for number, each in enumerate(ids) if each in missing][:MAX_DETAILS]
    return ApiError(404, "not_found", message, [FieldError(f"ids.{number}", fault) for number in where])


def key_reused() -> ApiError:
    """Return the 409 of a key that was used for another replay."""
    return conflict("key_reused", "This key was used before, for another replay.", "Idempotency-Key")

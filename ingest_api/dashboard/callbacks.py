"""What comes in at Dash's own door.

Belongs here: refusing calls of callbacks that no page of ours makes. Does not belong here: what callbacks do
(``pages``).

Dash takes a call's form for granted, and fails on another. Whoever calls without a page is told what is wrong instead.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from dash import Dash
from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest_api.errors import ApiError, FieldError, bad_request, not_found, unprocessable

_UPDATE = "/dashboard/_dash-update-component"
# Outputs of a callback are named in one text; ours have a handful.
_MAX_TEXT = 4_096


class _Part(BaseModel):
    """A property of a component, as a callback's input, state or output."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: Annotated[str, Field(max_length=_MAX_TEXT)] | dict[str, str | int]
    property: str = Field(max_length=_MAX_TEXT)


class _Call(BaseModel):
    """A call of a callback."""

    model_config = ConfigDict(extra="ignore", strict=True)

    output: str = Field(max_length=_MAX_TEXT)
    outputs: _Part | list[_Part]
    inputs: list[_Part | list[_Part]]
    state: list[_Part | list[_Part]] = []
    changedPropIds: list[str] = []  # noqa: N815 - as Dash writes it


def check(request: Request, dash: Dash) -> None:
    """Refuse a call that is not one of a callback of ours. A hook before every request.

    Raises:
        ApiError: 400, 404 or 422.
    """
    if request.method != "POST":
        return
    if request.path != _UPDATE:
        raise not_found("There is no such route.")
    if not request.is_json:
        raise ApiError(415, "unsupported_media_type", "The body must be JSON.", [FieldError("body", "must be JSON")])
    call = _read(request)
    known = dash.callback_map.get(call.output)
    if known is None:
        raise not_found("There is no such callback.")
    for name, parts in (("inputs", call.inputs), ("state", call.state)):
        if not _are(parts, known[name]):
            raise unprocessable(FieldError(name, "must be those of the callback"))
    given = {f"{part.id}.{part.property}" for part in call.inputs if isinstance(part, _Part)}
    if not given.issuperset(call.changedPropIds):
        raise unprocessable(FieldError("changedPropIds", "must be inputs of the callback"))
    # As Dash names several: "..one.children...another.children..".
    outputs = call.outputs if isinstance(call.outputs, list) else [call.outputs]
    if isinstance(call.outputs, list) != call.output.startswith("..") or len(outputs) != call.output.count("...") + 1:
        raise unprocessable(FieldError("outputs", "must be those of the callback"))


def _read(request: Request) -> _Call:
    try:
        # Not by Flask, as Dash does after us: this one takes neither half of a surrogate pair nor endless nesting.
        return _Call.model_validate(orjson.loads(request.get_data()))
    except orjson.JSONDecodeError as error:
        raise bad_request("The body is not JSON.", "body") from error
    except ValidationError as error:
        raise unprocessable(*(_named(each) for each in error.errors())) from error


def _are(parts: Sequence[_Part | list[_Part]], expected: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a call's parts are a callback's; those of a pattern are whatever components a page has."""
    if len(parts) != len(expected):
        return False
    plain = [(part, each) for part, each in zip(parts, expected, strict=True) if not each["id"].startswith("{")]
    return all(
        not isinstance(part, list) and (part.id, part.property) == (each["id"], each["property"])
        for part, each in plain
    )


def _named(error: Any) -> FieldError:
    return FieldError(".".join(map(str, error["loc"])) or "body", error["msg"])

"""What a route may say of the enrichers that its events go through.

Belongs here: those models, and what is wrong with what they say. Does not belong here: the route around them
(``models``), what an enricher does (``delivery.enrichment``).
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, ConfigDict, Field

from ingest_api.errors import FieldError
from ingest_api.fields import NO_NUL_PATTERN, Strict
from notify_pipeline.core import enrichers, expressions, url_templates
from notify_pipeline.core.addresses import MAX_URL_LENGTH
from notify_pipeline.core.enrichers import MAX_TIMEOUT_S, MAX_TTL_S
from notify_pipeline.core.settings import Settings

# Each is a look-up per event.
MAX_ENRICHERS = 10
# Of what a function is told beside the event, as JSON.
MAX_OPTIONS = 4_096
# What each enricher must be told one of, and what else it may be told.
_NEEDED = {enrichers.CONTENT: ("look", "notification"), enrichers.HTTP: ("url",), enrichers.PYTHON: ("function",)}
_TAKEN = {
    enrichers.USER: ("user", "attributes"),
    enrichers.CONTENT: (),
    enrichers.HTTP: ("method", "body", "select", "ttl_s", "timeout_s"),
    enrichers.PYTHON: ("options", "timeout_s"),
}
_EXPRESSIONS = ("user", "look", "notification", "body", "select")

_Expression = Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=expressions.MAX_LENGTH)]
_AttributeName = Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=200)]
_FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,100}$")]


def _small(options: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(options))
    except TypeError as error:
        raise ValueError("must not be that deep, and have whole numbers of at most 64 bits") from error
    if size > MAX_OPTIONS:
        raise ValueError(f"must not be longer than {MAX_OPTIONS} bytes as JSON")
    return options


class EnricherConfig(Strict):
    """What an enricher is told. Expressions see the event, and as `enrichment` what earlier ones of the route found."""

    user: _Expression | None = Field(
        default=None, description="Of `user`: finds the id of the user who is meant; by default the recipients are."
    )
    attributes: Annotated[list[_AttributeName], Field(max_length=100)] | None = Field(
        default=None, description="Of `user`: which of their attributes; by default all."
    )
    look: _Expression | None = Field(default=None, description="Of `content`: finds a look's id.")
    notification: _Expression | None = Field(
        default=None, description="Of `content`: finds the notification id of an earlier send."
    )
    url: Annotated[str, Field(pattern=NO_NUL_PATTERN, min_length=1, max_length=MAX_URL_LENGTH)] | None = Field(
        default=None,
        description="Of `http`: a URL of a listed host, with expressions in braces; each value is percent-encoded.",
        examples=["https://api.example.com/orders/{detail.order_id}"],
    )
    method: Literal["GET", "POST"] | None = Field(default=None, description="Of `http`: GET by default.")
    body: _Expression | None = Field(
        default=None, description="Of `http`: finds what is posted; by default all that expressions see."
    )
    select: _Expression | None = Field(default=None, description="Of `http`: what is kept of the answer.")
    ttl_s: Annotated[float, Field(ge=0, le=MAX_TTL_S, allow_inf_nan=False)] | None = Field(
        default=None, description="Of `http`: for how long an answer is good; by default 60 for GET and 0 for POST."
    )
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)] | None = Field(
        default=None, description="Of `http` and `python`: how long it may take; 5 by default."
    )
    function: _FunctionName | None = Field(
        default=None, description="Of `python`: a function that is installed with the pipeline."
    )
    options: Annotated[dict[str, Any], AfterValidator(_small)] | None = Field(
        default=None, description="Of `python`: what it is told beside the event; at most 4 KB as JSON."
    )
    optional: bool | None = Field(
        default=None,
        description="Where it fails it finds nothing, at once; otherwise it is tried again, and the event dies of it.",
    )


class EnricherUse(Strict):
    """One enricher of a route."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "order",
                    "enricher": "http",
                    "config": {"url": "https://api.example.com/orders/{detail.order_id}", "select": "order"},
                }
            ]
        }
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,49}$", examples=["user"])] = Field(
        description="What it finds is the template's field of this name, and `enrichment.<name>` in expressions."
    )
    enricher: Literal["user", "content", "http", "python"] = Field(description="Which one.")
    config: EnricherConfig = Field(default_factory=EnricherConfig, description="What it is told.")


def faults(uses: Sequence[EnricherUse]) -> Iterator[FieldError]:
    """Yield what is wrong between a route's enrichers, and with what each is told."""
    seen: set[str] = set()
    for number, use in enumerate(uses):
        where = f"enrichment.{number}"
        if use.name in seen:
            yield FieldError(f"{where}.name", "is used by another enricher of this route")
        seen.add(use.name)
        yield from _told_faults(f"{where}.config", use)


def unavailable(uses: Sequence[EnricherUse], settings: Settings) -> Iterator[FieldError]:
    """Yield what this installation does not let a route's enrichers ask."""
    for number, use in enumerate(uses):
        where = f"enrichment.{number}.config"
        if use.enricher == enrichers.HTTP and use.config.url is not None:
            try:
                template = url_templates.read(use.config.url, settings.enrichment_allow_private)
            except url_templates.BadTemplate as error:
                yield FieldError(f"{where}.url", str(error))
                continue
            if not url_templates.is_listed(template, settings.enrichment_hosts):
                yield FieldError(f"{where}.url", "has a host that is not listed; the operator lists those to be asked")
        elif use.enricher == enrichers.PYTHON and use.config.function not in (known := enrichers.installed()):
            said = f"installed are {', '.join(sorted(known))}" if known else "none is installed"
            yield FieldError(f"{where}.function", f"is not installed; {said}")


def _told_faults(where: str, use: EnricherUse) -> Iterator[FieldError]:
    told = {name for name, value in use.config if value is not None}
    needed = _NEEDED.get(use.enricher, ())
    for name in sorted(told - {*needed, *_TAKEN[use.enricher], "optional"}):
        yield FieldError(f"{where}.{name}", f"is nothing that the enricher {use.enricher} takes")
    if needed and not told & set(needed):
        yield FieldError(f"{where}.{needed[0]}", "is required" + "".join(f", or {other}" for other in needed[1:]))
    for name in sorted(told & set(needed))[1:]:
        yield FieldError(f"{where}.{name}", f"must not be given beside {needed[0]}")
    if use.config.body is not None and use.config.method != "POST":
        yield FieldError(f"{where}.body", "must not be given without method POST")
    for name in _EXPRESSIONS:
        if (text := getattr(use.config, name)) is not None:
            try:
                expressions.compiled(text)
            except expressions.BadExpression as error:
                yield FieldError(f"{where}.{name}", str(error))

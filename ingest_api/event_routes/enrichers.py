"""What a route may say of the enrichers that its events go through.

Belongs here: those models. Does not belong here: the route around them (``models``), what an enricher does
(``delivery.enrichment``).
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from ingest_api.errors import FieldError
from ingest_api.fields import Strict

# Each is a look-up per event.
MAX_ENRICHERS = 10


class EnricherUse(Strict):
    """One enricher of a route."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,49}$", examples=["user"])] = Field(
        description="What it finds is the template's field of this name, and `enrichment.<name>` in expressions."
    )
    enricher: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$", examples=["users"])] = Field(
        description="Which one."
    )
    config: dict[str, Any] = Field(default_factory=dict, description="What it is told.")


def faults(uses: list[EnricherUse]) -> Iterator[FieldError]:
    """Yield what is wrong between a route's enrichers."""
    seen: set[str] = set()
    for number, use in enumerate(uses):
        if use.name in seen:
            yield FieldError(f"enrichment.{number}.name", "is used by another enricher of this route")
        seen.add(use.name)

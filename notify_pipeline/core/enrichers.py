"""What a route says of the enrichers that its events go through: their names and what each is told.

Belongs here: that record, shared by whoever checks a route, matches events and enriches them. Does not belong here:
what an enricher does (``delivery.enrichment``), HTTP models (``ingest_api``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EnricherSpec:
    """One enricher of a route.

    Attributes:
        name: What it finds is the template's field of this name, and ``enrichment.<name>`` in the route's expressions;
            unique in a route.
        enricher: Which one it is.
        config: What it is told, JSON values, as the API checked it.
    """

    name: str
    enricher: str
    config: Mapping[str, Any] = field(default_factory=dict)

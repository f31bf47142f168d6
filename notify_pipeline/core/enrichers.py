"""What a route says of the enrichers that its events go through: their names and what each is told.

Belongs here: that record and its reading, shared by whoever checks a route, matches events and enriches them. Does not
belong here: what an enricher does (``delivery.enrichment``), HTTP models (``ingest_api``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

# The enrichers there are.
USER, CONTENT, HTTP, PYTHON = "user", "content", "http", "python"
# Installed packages offer functions to the enricher ``python`` in this group of entry points.
# https://packaging.python.org/en/latest/specifications/entry-points/
ENTRY_POINTS = "notify_pipeline.enrichers"
# Of an HTTP enricher, seconds: how long an answer to a GET is good for, and how long it may take.
DEFAULT_TTL_S, MAX_TTL_S = 60.0, 86_400.0
DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S = 5.0, 30.0


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


class TryLater(Exception):
    """An enricher's function raises this for what may pass; ``after_s``: not before so many seconds."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


def installed() -> dict[str, EntryPoint]:
    """Return the functions that the enricher ``python`` may call, by name."""
    return {each.name: each for each in entry_points(group=ENTRY_POINTS)}

"""What enrichers ask of an event, and what they may answer.

Belongs here: evaluating a config's expressions, holding an answer to its limits. Does not belong here: any enricher.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from notify_pipeline.core.expressions import BadExpression, NotEvaluated, compiled
from notify_pipeline.delivery.enrichment.base import Need
from notify_pipeline.delivery.enrichment.failures import ForGood

# Of one answer as JSON: all that the fields of a rendering may be together (``core.template_values``).
MAX_ANSWER_BYTES = 65_536


def scope(need: Need, so_far: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config's expressions see: the event, and what earlier enrichers found."""
    return {**need.event, "enrichment": so_far}


def search(expression: str, seen: Any) -> Any:
    """Return what an expression finds.

    Raises:
        ForGood: It does not suit the event.
    """
    try:
        return compiled(expression).search(seen)
    except (BadExpression, NotEvaluated) as error:
        raise ForGood(f"{expression}: {error}") from error


def one_id(expression: str, seen: Any) -> str | None:
    """Return the id that an expression finds; None where it finds nothing.

    Raises:
        ForGood: It finds something else than a text or a whole number.
    """
    found = search(expression, seen)
    if found is None or found == "":
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise ForGood(f"{expression} is no id")
    return str(found)


def checked(answer: Any) -> Any:
    """Return an answer that can be kept.

    Raises:
        ForGood: It is not JSON, or more than a template could take.
    """
    try:
        size = len(orjson.dumps(answer))
    except TypeError as error:
        raise ForGood("the answer has no JSON form") from error
    if size > MAX_ANSWER_BYTES:
        raise ForGood(f"the answer has {size} bytes as JSON; {MAX_ANSWER_BYTES} are allowed")
    return answer

"""Reports of the pipeline's functions as Dagster metadata.

Belongs here: that conversion. Does not belong here: what is reported.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import dagster as dg


def of(report: Any) -> dict[str, dg.MetadataValue[Any]]:
    """Turn a dataclass instance into metadata: a value per field, empty ones left out."""
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    return {name: _value(value) for name, value in values.items() if value is not None}


def _value(value: Any) -> dg.MetadataValue[Any]:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, datetime):
        return dg.MetadataValue.timestamp(value)
    if isinstance(value, Mapping):
        return dg.MetadataValue.json(dict(value))
    return dg.MetadataValue.text(str(value))

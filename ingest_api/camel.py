"""Bases of models whose names on the wire are in camel case: those of browser contacts and domains.

Belongs here: those bases. Does not belong here: models (beside their routes), the other bases (``fields``).
"""

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from ingest_api.fields import Loose, PageQuery, Shown, Strict


class CamelStrict(Strict):
    """``fields.Strict``, in camel case only."""

    model_config = ConfigDict(alias_generator=to_camel)


class CamelLoose(Loose):
    """``fields.Loose``, in camel case only."""

    model_config = ConfigDict(alias_generator=to_camel)


class CamelPage(PageQuery):
    """``fields.PageQuery``, in camel case only."""

    model_config = ConfigDict(alias_generator=to_camel)


class CamelShown(Shown):
    """``fields.Shown``, in camel case; made by the names of its fields, and answered as a model, not as a mapping."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)

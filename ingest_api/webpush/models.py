"""Bodies of the Web push routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from pydantic import ConfigDict, Field

from ingest_api.fields import Shown


class WebPushKey(Shown):
    """Give it to `PushManager.subscribe()` as it is."""

    model_config = ConfigDict(validate_by_name=True)

    application_server_key: str = Field(
        alias="applicationServerKey",
        description="A P-256 public key in base64url.",
        examples=["BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"],
    )

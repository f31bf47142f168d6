"""The token desk's part of the settings.

Belongs here: names, defaults, limits and what they mean. Does not belong here: the model that reads them
(``settings``).
"""

from pydantic import Field
from pydantic_settings import BaseSettings


class TokenDeskSettings(BaseSettings):
    """What ``Settings`` has of the token desk."""

    token_desk_port: int = Field(default=8082, ge=0, le=65535, description="Token desk port; 0 = any free one.")
    token_desk_host: str = Field(default="127.0.0.1", description="Address that the token desk listens at.")
    token_desk_url: str | None = Field(
        default=None,
        pattern=r"^(https?://([A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?)?$",
        description="Where the ingress asks the token desk; default: http://host:port; empty: nowhere.",
    )
    token_desk_timeout_s: float = Field(
        default=2.0, gt=0, le=30, description="A token whose check takes longer is of unknown worth."
    )

    @property
    def token_desk(self) -> str | None:
        """Where the token desk is asked, without a trailing slash; None where there is none to ask."""
        if self.token_desk_url is not None:
            return self.token_desk_url.rstrip("/") or None
        return f"http://{self.token_desk_host}:{self.token_desk_port}" if self.token_desk_port else None

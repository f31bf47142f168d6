"""The WebSocket gateway's part of the settings.

Belongs here: names, defaults, limits and what they mean. Does not belong here: the model that reads them
(``settings``).
"""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class GatewaySettings(BaseSettings):
    """What ``Settings`` has of the gateway."""

    gateway_port: int = Field(default=8081, ge=0, le=65535, description="WebSocket gateway port; 0 = any free one.")
    gateway_host: str = Field(default="127.0.0.1", description="Address that the WebSocket gateway listens at.")
    gateway_name: str | None = Field(
        default=None, description="This gateway among several, the same after a restart; default: host name and port."
    )
    gateway_url: str | None = Field(default=None, description="Where clients connect; default: ws://host:port/ws.")
    gateway_endpoint: str | None = Field(
        default=None,
        description="Where the channel reaches this gateway from whatever host; default: http://host:port.",
    )
    gateway_access_key: str | None = Field(
        default=None, description="Signs posts to gateways; default, with its secret: derived from the installation's."
    )
    gateway_secret_key: SecretStr | None = Field(default=None, description="... the secret that goes with it.")
    gateway_user_connections: int = Field(
        default=20, ge=1, description="Connections of one user at one gateway; a further one ends the oldest."
    )
    gateway_queue: int = Field(
        default=64, ge=1, description="Messages that may wait for one connection; more are refused (429)."
    )
    gateway_ping_s: float = Field(default=20.0, gt=0, description="How often a connection is pinged.")
    gateway_idle_s: float = Field(
        default=600.0, gt=0, description="A connection without a message either way for so long is ended, as AWS does."
    )
    gateway_lifetime_s: float = Field(default=7_200.0, gt=0, description="... and one of this age, likewise.")
    gateway_foreign_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts beside *.execute-api.*.amazonaws.com that tenants' connections may be at (JSON list): "
        "custom domain names of API Gateway.",
    )

    @property
    def own_gateway_endpoint(self) -> str:
        """Where this process's gateway is posted to, with the default spelled out."""
        return (self.gateway_endpoint or f"http://{self.gateway_host}:{self.gateway_port}").rstrip("/")

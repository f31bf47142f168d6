"""Every setting of a running system, from ``NOTIFY_*`` environment variables through one model.

Belongs here: names, defaults, limits and what they mean. Does not belong here: what is said of providers, reports,
the gateway and the token desk (``provider_settings`` and so on: parts of the same model), reading a setting anywhere
else, anything that opens a file or a connection.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from notify_pipeline.core.gateway_settings import GatewaySettings
from notify_pipeline.core.log_settings import LogSettings
from notify_pipeline.core.provider_settings import ProviderSettings
from notify_pipeline.core.report_settings import ReportSettings
from notify_pipeline.core.token_desk_settings import TokenDeskSettings


class _Environment(EnvSettingsSource):
    """Reads nothing where no variable has the prefix: to ask for each by its type takes some milliseconds."""

    def __call__(self) -> dict[str, Any]:
        """Return what variables say."""
        prefix = self.env_prefix.lower()
        return super().__call__() if any(name.startswith(prefix) for name in self.env_vars) else {}


class Settings(GatewaySettings, LogSettings, TokenDeskSettings, ReportSettings, ProviderSettings):
    """One process's view of the configuration. Make it once at start and hand it down."""

    # An error must not show what it is about: it may be a password.
    model_config = SettingsConfigDict(env_prefix="NOTIFY_", frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the caller says and what the environment says: there is no file of settings."""
        return init_settings, _Environment(settings_cls)

    home: Path = Field(default=Path("data"), description="Holds everything a running system writes.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="Ingress port; 0 = any free one.")
    http_host: str = Field(default="127.0.0.1", description="Address that the ingress listens at.")
    http_workers: int = Field(default=2, ge=1, description="Ingress processes.")
    http_threads: int = Field(
        default=16, ge=1, description="Threads per ingress process: requests that wait for their commit together."
    )
    http_pin_workers: bool = Field(default=True, description="Hold each ingress process to one core.")
    dagster_port: int = Field(default=3000, ge=0, le=65535, description="Dagster UI port; 0 = any free one.")
    sandbox_port: int = Field(default=8090, ge=0, le=65535, description="Sandbox control port; 0 = any free one.")

    sandbox_faults: str = Field(
        default="{}", description="Faults that the sandbox begins with, as in the body of its `PUT /faults`."
    )
    sandbox_cdn_flush_s: float = Field(default=2.0, gt=0, description="How often the sandbox's CDN writes log files.")

    ledger_url: str | None = Field(default=None, description="SQLAlchemy URL; default: SQLite below home.")
    lake_root: str | None = Field(default=None, description="Folder or s3:// URL; default: below home.")
    logs_root: str | None = Field(
        default=None, description="Where CDN logs arrive; folder or s3:// URL; default: below home."
    )
    reports_root: Path | None = Field(default=None, description="Published report versions; default: below home.")
    s3_endpoint_url: str | None = Field(default=None, description="For S3-compatible servers other than AWS.")

    dagster_storage_url: SecretStr | None = Field(
        default=None, description="PostgreSQL for Dagster's own storage; default: SQLite below home."
    )

    run_history_hours: float = Field(
        default=24.0,
        gt=0,
        description="Finished runs of the routine (drains, receipts, reports) leave Dagster after this.",
    )

    public_url: str | None = Field(
        default=None,
        description="Where the ingress is reached from outside, for links and callbacks that others follow; default: "
        "its own address.",
    )
    admin_key: SecretStr | None = Field(default=None, description="Fixes the admin key instead of making one.")
    # A devices list of the greatest length, with FCM's tokens of some 163 characters, has 1.7 MB.
    max_body_bytes: int = Field(default=4_194_304, description="Larger request bodies are 413.")
    requests_per_s: float | None = Field(
        default=None,
        gt=0,
        description="Requests per second of each key of a tenant that has no limit of its own. Default: none, as a "
        "limit costs ledger writes, and nobody should meet one that nobody decided on.",
    )
    burst: int | None = Field(default=None, ge=1, description="... that may come at once; by default a second's worth.")
    anonymous_per_minute: int = Field(
        default=120, ge=1, description="Calls without a key per minute from each address, on routes for browsers."
    )
    anonymous_burst: int = Field(default=60, ge=1, description="... that may come at once.")
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description="How many proxies of ours are in front of the ingress. The address is then the one that the first "
        "of them was called from, by X-Forwarded-For; without any, the peer's.",
    )
    max_audience_list: int = Field(default=10_000, description="Longest users or devices list in one send.")

    receipt_url: str | None = Field(
        default=None, description="Base URL that devices call: the CDN's. Default: sandbox or ingress."
    )

    inline_limit: int = Field(default=2_000, description="A send to more recipients than this is a broadcast.")
    shard_min: int = Field(
        default=50_000,
        ge=1,
        description="A broadcast is cut into a part per process, unless a part would have fewer recipients than this: "
        "a part is a mapped step, which costs about a second.",
    )
    shard_max: int = Field(default=500_000, ge=1, description="... or more than this: then there are more parts.")
    chunk_size: int = Field(
        default=5_000,
        ge=1,
        description="Recipients per durable intent and attempts file, at most: chunks are smaller while a provider is "
        "slow. A process that dies leaves at most chunks_in_flight of them per channel ambiguous.",
    )
    chunks_in_flight: int = Field(
        default=3,
        ge=1,
        description="Chunks of a shard in work at once; one fewer are sent, while another is read or recorded.",
    )
    drain_batch: int = Field(
        default=512, ge=1, description="Deliveries per channel that a drain has claimed and not recorded, at most."
    )
    priority_reserve: float = Field(
        default=0.125,
        ge=0,
        le=0.4,
        description="What part each priority leaves to those above it: of drain_batch, and of what a planner holds.",
    )
    poll_seconds: float = Field(default=0.05, gt=0, description="How often an idle drain looks for work.")
    landing_wait_s: float = Field(
        default=30.0, description="A topic send waits this long for registrations accepted before it to land."
    )
    token_drop_share: float = Field(
        default=0.25, description="When more than this share of answers says that a token is dead, dropping stops."
    )
    token_drop_sample: int = Field(default=200, ge=1, description="... judged on at least this many answers.")
    transport: Literal["wire", "library"] = Field(
        default="wire",
        description="Who carries push requests: our own HTTP/2 transport, or firebase-admin and aioapns.",
    )
    max_in_flight: int = Field(
        default=512,
        description="Concurrent requests per provider and process: two processes then send 10,000 a second, FCM's "
        "quota, to a provider that takes 100 ms.",
    )
    broadcast_processes: int = Field(default=2, ge=1, description="Shards of one broadcast that are sent side by side.")
    drain_seconds: float = Field(default=600.0, description="A drain run ends after this long.")
    drain_idle_seconds: float = Field(default=300.0, description="... or after this long without work.")
    lease_seconds: float = Field(default=6.0, description="A dead worker's work is taken over after this long.")
    retry_attempts: int = Field(
        default=20,
        description="Attempts per recipient, the first included: with the waits below they outlast an outage of "
        "minutes (six and a half on average, thirteen at most).",
    )
    retry_base_s: float = Field(default=0.5, description="Upper bound of the first back-off (full jitter).")
    retry_cap_s: float = Field(default=60.0, description="Upper bound of any back-off.")
    dead_letter_days: int = Field(default=90, ge=1, description="Dead letters are kept for so long.")
    event_days: int = Field(default=90, ge=1, description="Events and their ids are remembered for so long.")
    inbox_days: int = Field(default=90, ge=1, description="Items are kept in inboxes for so long.")
    request_timeout_s: float = Field(
        default=10.0, description="A provider request without an answer by then is ambiguous."
    )

    enrichment_timeout_s: float = Field(
        default=10.0, gt=0, description="An event whose enrichment takes longer has failed this time."
    )
    enrichment_hosts: str = Field(
        default="",
        description="Hosts that enrichment may ask over HTTP, separated by commas: api.example.com, "
        "api.example.com:8443, *.example.com. Default: none.",
    )
    enrichment_allow_private: bool = Field(
        default=False, description="Let these have private addresses, any port and plain HTTP."
    )
    # With these, an event waits some 40 minutes for a service that is down.
    enrichment_attempts: int = Field(default=15, ge=1, description="How often an event's enrichment is tried.")
    enrichment_retry_base_s: float = Field(default=1.0, gt=0, description="Upper bound of the first wait in between.")
    enrichment_retry_cap_s: float = Field(default=300.0, gt=0, description="Upper bound of any.")
    callback_allow_private: bool = Field(
        default=False,
        description="Let callbacks go to private addresses, any port and plain HTTP: for tests, and one's own machine.",
    )
    callback_timeout_s: float = Field(default=10.0, gt=0, description="A callback that takes longer has failed.")
    callback_retry_base_s: float = Field(
        default=5.0, gt=0, description="Wait before a callback's second attempt; the later waits grow with it."
    )
    callback_history_days: float = Field(
        default=30.0, gt=0, description="Callback messages that are over are forgotten after this."
    )

    lander_interval_s: float = Field(default=0.5, description="How often the lander looks for outbox rows.")

    @property
    def public(self) -> str:
        """The ingress as others reach it, without a trailing slash."""
        return (self.public_url or f"http://{self.http_host}:{self.http_port}").rstrip("/")

    @property
    def ledger_dsn(self) -> str:
        """The ledger URL, with the default spelled out."""
        return self.ledger_url or f"sqlite:///{self.home.resolve() / 'ledger' / 'ledger.db'}"

    @property
    def lake(self) -> str:
        """The lake root, with the default spelled out."""
        return self.lake_root or str(self.home.resolve() / "lake")

    @property
    def logs(self) -> str:
        """The raw log root, with the default spelled out."""
        return self.logs_root or str(self.home.resolve() / "logs")

    @property
    def reports(self) -> Path:
        """The folder of published report versions, with the default spelled out."""
        return self.reports_root or self.home.resolve() / "reports"

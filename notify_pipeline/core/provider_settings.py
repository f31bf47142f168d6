"""The part of the settings that is about providers: which ones, with which credentials, how much at once.

Belongs here: names, defaults, limits and what they mean, channel by channel. Does not belong here: everything else
that can be set (``settings``, which this is a part of).
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class ProviderSettings(BaseSettings):
    """What every channel's opener reads. Not used by itself: see ``Settings``."""

    provider_mode: Literal["sandbox", "real"] = Field(
        default="sandbox", description="With no credentials, every channel speaks to the sandbox and says so."
    )
    sandbox_url: str | None = Field(
        default=None, description="Set by `notify up` for its children: sandbox control URL."
    )
    fcm_credentials: Path | None = Field(
        default=None, description="Service account JSON; sets FCM to the real service."
    )
    fcm_url: str | None = Field(default=None, description="Overrides https://fcm.googleapis.com.")
    fcm_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Most FCM requests per minute and project, of all processes together. Default: 600,000, FCM's own "
        "quota, when speaking to FCM itself; none for the sandbox or another address.",
    )
    apns_key: Path | None = Field(default=None, description="The .p8 signing key; sets APNs to the real service.")
    apns_key_id: str | None = None
    apns_team_id: str | None = None
    apns_topic: str | None = Field(default=None, description="The app's bundle id.")
    apns_url: str | None = Field(default=None, description="Overrides https://api.push.apple.com.")
    apns_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Most APNs requests per minute, of all processes together. Default: none, as Apple publishes none.",
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="The mail relay: smtp://user:password@host:587 (STARTTLS) or smtps://… (TLS); sets e-mail to it.",
    )
    smtp_from: str | None = Field(
        default=None, description="Whom e-mail is from, and where bounces go: address, or Name <address>."
    )
    smtp_per_minute: float | None = Field(
        default=None, gt=0, description="Most e-mails per minute, of all processes together. Default: no limit of ours."
    )
    smtp_connections: int = Field(
        default=16, ge=1, le=1_000, description="Connections to the relay at once in one process."
    )
    smtp_answer_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="How long the relay may take to say that it has taken a message over; beyond that it is ambiguous. "
        "Other answers have request_timeout_s.",
    )
    ses_configuration_set: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_\-]{1,64}$", description="Amazon SES's, named in every e-mail."
    )
    ses_topic_arns: tuple[str, ...] = Field(
        default=(),
        description="JSON list of the Amazon SNS topics that SES reports to; messages of others are refused.",
    )
    sms_provider: Literal["twilio", "sns"] | None = Field(
        default=None, description="Who sends SMS; sets SMS to the real service."
    )
    twilio_url: str | None = Field(
        default=None, description="Overrides https://api.twilio.com, for services that speak like Twilio."
    )
    twilio_account_sid: str | None = Field(default=None, description="The account at Twilio, AC….")
    twilio_auth_token: SecretStr | None = Field(
        default=None, description="Also proves that what is posted to /sms comes from Twilio."
    )
    twilio_from: str | None = Field(
        default=None, description="The number, sender id or messaging service (MG…) that SMS come from."
    )
    sns_region: str | None = Field(default=None, description="Default: as AWS's tools find it, like the credentials.")
    sns_endpoint_url: str | None = Field(default=None, description="Overrides the region's address.")
    sns_sender_id: str | None = Field(default=None, description="Shown as the sender where a country allows it.")
    sns_max_price: Decimal | None = Field(default=None, gt=0, description="US dollars that one SMS may cost at most.")
    sms_per_minute: float | None = Field(
        default=None, gt=0, description="Most SMS per minute, of all processes together. Default: no limit of ours."
    )
    sms_connections: int = Field(
        default=32, ge=1, le=1_000, description="SMS requests under way at once in one process, and its connections."
    )
    sms_max_segments: int = Field(
        default=10, ge=1, le=255, description="A text that takes more messages than this is refused: each is paid for."
    )
    vapid_subject: str | None = Field(
        default=None,
        pattern=r"^(mailto:.+@.+|https://.+)$",
        description="Who answers for what is sent to browsers, mailto:… or https://…; sets Web push to real services.",
    )
    vapid_private_key: SecretStr | None = Field(
        default=None,
        description="VAPID key, 32 bytes in base64url, of an installation whose subscriptions are taken over. Default: "
        "one that this installation makes for itself and keeps.",
    )
    webpush_per_minute: int | None = Field(
        default=None, ge=1, description="Most Web push requests per minute, of all processes together. Default: none."
    )
    webpush_connections: int = Field(
        default=64, ge=1, description="Web push requests under way at once, and so connections, in each process."
    )
    webpush_allow_private: bool = Field(
        default=False,
        description="Let subscriptions lead to private addresses, any port and plain HTTP: for tests, and one's own "
        "push service.",
    )
    webpush_services: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.\-]{1,253}$")], ...] = Field(
        default=(),
        description="JSON list of the hosts that subscriptions may lead to, each with all below it; by default any.",
    )
    provider_ca: Path | None = Field(default=None, description="CA bundle for provider stand-ins.")

    @field_validator("vapid_private_key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from notify_pipeline.core.vapid import read_key  # what it needs is loaded only where a key is set

            read_key(value.get_secret_value())
        return value

    @property
    def needs_sandbox(self) -> bool:
        """Whether some channel has no provider and speaks to the sandbox instead."""
        return self.provider_mode == "sandbox" and bool(self.without_provider)

    @property
    def without_provider(self) -> tuple[str, ...]:
        """The channels that have no credentials, of those that need some, as people call them."""
        return tuple(name for name, credentials in self._providers.items() if credentials is None)

    @property
    def has_provider(self) -> bool:
        """Whether any channel has credentials."""
        return len(self.without_provider) < len(self._providers)

    @property
    def _providers(self) -> dict[str, object]:
        return {
            "FCM": self.fcm_credentials,
            "APNs": self.apns_key,
            "e-mail": self.smtp_url,
            "SMS": self.sms_provider,
            "Web push": self.vapid_subject,
        }

    @property
    def registers_private_browsers(self) -> bool:
        """Whether a browser's push service may have a private address: the sandbox's has."""
        return self.webpush_allow_private or (self.provider_mode == "sandbox" and self.vapid_subject is None)

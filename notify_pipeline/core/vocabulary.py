"""The closed sets of words that the API, the code, the tables and the docs share.

Belongs here: enumerations whose values are stored or sent. Does not belong here: record types (``records``), Arrow
schemas (``schemas``), anything that computes.
"""

from enum import StrEnum


class RequestState(StrEnum):
    """Where a send request stands. Each move is one audit row."""

    ACCEPTED = "accepted"
    ROUTED = "routed"
    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNROUTED = "unrouted"

    @property
    def is_final(self) -> bool:
        """True when no further move is legal."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {
        RequestState.DONE,
        RequestState.FAILED,
        RequestState.CANCELLED,
        RequestState.EXPIRED,
        RequestState.UNROUTED,
    }
)


class Outcome(StrEnum):
    """How one attempt ended, as the attempts table records it."""

    ACCEPTED = "accepted"
    INVALID_RECIPIENT = "invalid_recipient"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    AMBIGUOUS = "ambiguous"
    SKIPPED = "skipped"
    DRY_RUN = "dry_run"
    EXPIRED = "expired"

    @property
    def is_retryable(self) -> bool:
        """True when the same delivery may be attempted again."""
        return self in RETRYABLE_OUTCOMES


RETRYABLE_OUTCOMES = frozenset({Outcome.THROTTLED, Outcome.TRANSIENT, Outcome.AMBIGUOUS})


class DeadLetterReason(StrEnum):
    """Why a delivery that reached nobody, through no fault of the recipient's, was not attempted again."""

    ATTEMPTS = "attempts_exhausted"
    EXPIRES = "expires_before_retry"
    NO_RETRY = "retry_not_wanted"
    PERMANENT = "permanent"
    RECORD_FAILED = "record_failed"


class Channel(StrEnum):
    """A way to reach a recipient; one folder or module under ``channels/`` each."""

    FCM = "fcm"
    APNS = "apns"
    EMAIL = "email"
    SMS = "sms"
    WEBSOCKET = "websocket"
    INBOX = "inbox"
    WEBPUSH = "webpush"


# What a send uses that names no channels: what costs nothing and what the app has asked its user about.
PUSH_CHANNELS = frozenset({Channel.FCM, Channel.APNS, Channel.WEBPUSH})

# What carries a beacon for the device to call; nobody can tell when an e-mail or a text message arrived.
REPORTING_CHANNELS = frozenset({*PUSH_CHANNELS, Channel.WEBSOCKET})

# What deliveries wait for; an inbox's items are there as soon as they are planned.
QUEUED_CHANNELS = frozenset(Channel) - {Channel.INBOX}


class Platform(StrEnum):
    """What a recipient is reached on; reports are per notification and platform."""

    ANDROID = "android"
    IOS = "ios"
    WEB = "web"  # a browser with an FCM token
    WEBPUSH = "webpush"  # a browser with a subscription of its own
    EMAIL = "email"
    SMS = "sms"
    WEBSOCKET = "websocket"
    INBOX = "inbox"

    @property
    def channel(self) -> Channel:
        """The channel that reaches this platform."""
        return _CHANNELS[self]


_CHANNELS = {
    Platform.ANDROID: Channel.FCM,
    Platform.IOS: Channel.APNS,
    Platform.WEB: Channel.FCM,
    Platform.WEBPUSH: Channel.WEBPUSH,
    Platform.EMAIL: Channel.EMAIL,
    Platform.SMS: Channel.SMS,
    Platform.WEBSOCKET: Channel.WEBSOCKET,
    Platform.INBOX: Channel.INBOX,
}


class Priority(StrEnum):
    """Claim order: high before normal before low."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Sort key, smallest first, as stored in the ledger."""
        return (Priority.HIGH, Priority.NORMAL, Priority.LOW).index(self)


class OnAmbiguous(StrEnum):
    """What to do with a recipient whose last attempt ended without an answer."""

    RESEND = "resend"
    LEAVE = "leave"


class QuietHours(StrEnum):
    """What a send does with a recipient whose quiet hours it falls into."""

    WAIT = "wait"
    SKIP = "skip"
    IGNORE = "ignore"


class CallbackEvent(StrEnum):
    """What callbacks are told: a send's move to each of the final states."""

    DONE = "notification.done"
    FAILED = "notification.failed"
    CANCELLED = "notification.cancelled"
    EXPIRED = "notification.expired"
    UNROUTED = "notification.unrouted"


class MessageState(StrEnum):
    """Where a message to a callback stands."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


class PolicyKind(StrEnum):
    """What a tenant may want done differently; ``name`` tells policies of one kind apart."""

    RETRY = "retry"  # name: a channel
    QUIET_HOURS = "quiet_hours"  # name: empty
    FREQUENCY_CAP = "frequency_cap"  # name: a category, or empty for all sends together
    LIMITS = "limits"  # name: empty; only an admin sets it
    PREFERENCES = "preferences"  # name: a category, or empty for all that have none of their own


class EventState(StrEnum):
    """Where an event stands."""

    ACCEPTED = "accepted"  # not looked at yet, or its enrichment is tried again
    ENRICHED = "enriched"  # back at the router with what enrichment found
    ROUTED = "routed"  # its sends are accepted
    UNROUTED = "unrouted"  # no route matches
    DEAD = "dead"  # enrichment or a route failed for good


class SuppressionReason(StrEnum):
    """Why an address is not written to."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    STOP = "stop"  # an SMS reply
    MANUAL = "manual"


class KeyScope(StrEnum):
    """What a key may do. ``admin`` keys belong to no tenant."""

    ADMIN = "admin"
    SECRET = "secret"  # noqa: S105 - the name of a scope, not a secret
    PUBLISHABLE = "publishable"
    USER = "user"  # a user token: one user's, and never stored (``core.user_tokens``)


class ReceiptEvent(StrEnum):
    """What a device's beacon says happened; also the last segment of the receipt routes."""

    RECEIVED = "received"
    OPENED = "opened"
    CLICKED = "clicked"


class RegistrationOp(StrEnum):
    """Why a registration row was written."""

    UPSERT = "upsert"
    DELETE = "delete"
    DROP = "drop"


class DeliveryMode(StrEnum):
    """How a request's recipients are sent: through the drain's queue, or as a broadcast of shards."""

    DRAIN = "drain"
    BROADCAST = "broadcast"


class ErasureKind(StrEnum):
    """By what a person was named who is to be erased."""

    USER = "user"
    EMAIL = "email"
    PHONE = "phone"
    DEVICE = "device"
    VISITOR = "visitor"


class ErasureState(StrEnum):
    """How far an erasure has come."""

    LEDGER_DONE = "ledger_done"  # the ledger names the person no more; the lake does
    LAKE_DONE = "lake_done"  # nor does the lake; what was under way then is still to be caught
    VERIFIED = "verified"  # everything was looked through again, and nothing was found


class LogFormat(StrEnum):
    """What a raw log's lines look like."""

    FASTLY = "fastly"  # JSON lines with datetime, event and querystring
    CLOUDFRONT = "cloudfront"  # standard logs: tab-separated columns, named by the file's header
    CLOUDFRONT_JSON = "cloudfront_json"  # standard logs (v2) as JSON lines
    COMBINED = "combined"  # Apache's and NGINX' combined and common log formats

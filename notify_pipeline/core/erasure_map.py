"""What is told of people, and where: every column of the ledger and the lake, by what an erasure does with it.

Belongs here: that map, which a test compares with the tables there are. Does not belong here: doing it
(``ledger.erasure_rows``, ``ledger.erasure_texts``, ``erasure_tables``), and why something stays (``docs/erasure.md``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Columns:
    """One table's.

    Attributes:
        row: These name whose row it is: it goes as a whole (in the lake, becomes nobody's).
        within: These may name people among other things: the names are taken out.
        digest: These are kept as keyed digests.
        plain: These name nobody.
        own: What a tenant's staff wrote for everybody, or what names the tenant's own: nobody looks there for people.
    """

    row: frozenset[str] = field(default_factory=frozenset)
    within: frozenset[str] = field(default_factory=frozenset)
    digest: frozenset[str] = field(default_factory=frozenset)
    plain: frozenset[str] = field(default_factory=frozenset)
    own: frozenset[str] = field(default_factory=frozenset)

    @property
    def all(self) -> frozenset[str]:
        """Every column that is classified."""
        return self.row | self.within | self.digest | self.plain | self.own


def _columns(**named: str) -> Columns:
    return Columns(**{name: frozenset(words.split()) for name, words in named.items()})


LEDGER: Mapping[str, Columns] = {
    "audit": _columns(
        within="actor detail", plain="audit_id tenant request_id event from_state to_state at", own="notification_id"
    ),
    "callback_messages": _columns(
        plain="message_id callback_id tenant request_id event payload state attempt_no due_at counted_from lease_owner"
        " lease_until status error created_at ended_at"
    ),
    "callbacks": _columns(
        plain="callback_id tenant secret old_secret old_secret_until events active created_at updated_at", own="url"
    ),
    "cap_uses": _columns(row="recipient", plain="tenant category request_id at"),
    "chunks": _columns(plain="request_id shard chunk ordinals attempts intended_at run_id state path counts retries"),
    "connections": _columns(row="user_id", plain="tenant connection_id endpoint gateway connected_at seen_at"),
    "dead_letters": _columns(
        row="address user_id",
        within="fields",
        plain="delivery_id tenant request_id type category channel platform outcome provider_code reason attempts"
        " died_at replayed_at replayed_as",
        own="notification_id",
    ),
    "deliveries": _columns(
        within="address recipient",
        plain="delivery_id request_id tenant channel platform priority_rank state attempt_no due_at counted_from"
        " expires_at intended_at lease_owner lease_until",
    ),
    "devices": _columns(
        row="token user_id device_token email visitor_guid topics app_version locale timezone",
        plain="tenant platform created_at registered_at revision op drop_reason domain changed_at dropped_by",
    ),
    "domain_origins": _columns(own="origin name"),
    "domains": _columns(
        plain="tenant is_push_feature_enabled created_at updated_at", own="name icon_url allowed_origins"
    ),
    "ended_sessions": _columns(plain="session ends_at"),
    "erasures": _columns(
        within="subject",
        digest="subject_hash",
        plain="erasure_id tenant kind state waits_for counts proof actor requested_at ledger_done_at lake_done_at"
        " verified_at",
    ),
    "events": _columns(
        within="body enrichment reason actor",
        plain="event_id tenant body_sha256 state routes attempt_no replays replayed_at accepted_at due_at updated_at"
        " lease_owner lease_until",
        own="source type id notification_ids",
    ),
    "inbox": _columns(
        row="user_id",
        within="content",
        plain="item_id tenant request_id type category visible_at expires_at created_at announced_at read_at"
        " deleted_at",
        own="notification_id",
    ),
    "key_rates": _columns(row="key_id", plain="next_slot"),
    "keys": _columns(plain="key_id tenant scope sha256 created_at expires_at last_used_at revoked_at", own="label"),
    "leases": _columns(plain="name owner until fence"),
    "likes": _columns(row="customer_id", plain="tenant notification_id created_at removed_at", own="look_id"),
    "looks": _columns(row="owner_id", plain="tenant updated_at", own="look_id image_url deep_link"),
    "meta": _columns(plain="name value"),
    "outbox": _columns(within="rows", plain="seq lake_table row_count at segment_id"),
    "outbox_rejected": _columns(within="rows", plain="seq lake_table at segment_id error rejected_at"),
    "policies": _columns(plain="tenant kind updated_at", own="name value"),
    "preferences": _columns(
        row="recipient", digest="recipient", plain="tenant category channel enabled source updated_at"
    ),
    "rates": _columns(plain="name tokens at ramp_from held_until pace"),
    "replays": _columns(plain="tenant body_sha256 answer created_at", own="replay_key"),
    "requests": _columns(
        within="body",
        plain="request_id tenant body_sha256 type priority_rank state mode reason category replay_of revision domain"
        " accepted_at due_at expires_at updated_at counts lease_owner lease_until",
        own="notification_id",
    ),
    "routes": _columns(plain="tenant created_at updated_at", own="name rule"),
    "segments": _columns(
        plain="segment_id lake_table kind path partition_at state replaced_by deleted_at row_count planned_at landed_at"
    ),
    "shards": _columns(
        plain="request_id shard channel path recipients due_at counted_from expires_at skip done_at lease_owner"
        " lease_until"
    ),
    "suppressions": _columns(
        row="address", digest="address", within="detail", plain="tenant channel reason created_at"
    ),
    "templates": _columns(plain="tenant version created_at actor", own="name body"),
    "tenants": _columns(plain="tenant parent active created_at updated_at", own="name"),
    "usage": _columns(plain="tenant day requests recipients since"),
    "user_messages": _columns(
        row="user_id", within="payload", plain="seq tenant message_id kind previous created_at expires_at"
    ),
    "users": _columns(
        row="user_id timezone quiet_hours email phone locale attributes mailbox", plain="tenant updated_at"
    ),
}
LAKE: Mapping[str, Columns] = {
    "registrations": _columns(
        row="token user_id topics app_version locale timezone",
        plain="tenant platform op reason revision at domain previous",
    ),
    "requests": _columns(
        within="title topics collapse_key body",
        plain="tenant request_id type category priority dry_run accepted_at send_at expires_at revision domain",
        own="notification_id",
    ),
    "audit": _columns(
        within="actor detail", plain="audit_id tenant request_id event from_state to_state at", own="notification_id"
    ),
    "audiences": _columns(plain="tenant request_id channel platform recipients at", own="notification_id"),
    "attempts": _columns(
        row="recipient user_id provider_message_id",
        digest="delivery_id",
        plain="tenant request_id channel platform provider shard attempt_no sent_at answered_at outcome provider_code"
        " run_id consent",
        own="notification_id",
    ),
    "events": _columns(
        within="detail reason",
        plain="tenant event_id state routes accepted_at at",
        own="source type id notification_ids",
    ),
    "receipts": _columns(digest="delivery_id", plain="event platform provider at action", own="notification_id"),
    "quarantine": _columns(within="raw", plain="source_file line_no reason at"),
    "snapshots": _columns(row="recipient user_id locale timezone app_version fields", plain="platform"),
}

"""Small worlds of notifications, attempts and beacons, and ways to put them into a lake."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.schemas import ATTEMPTS, AUDIENCES, AUDIT, RECEIPTS, REGISTRATIONS, REQUESTS, LakeTable

START = datetime(2026, 11, 21, 6, tzinfo=UTC)
PROVIDERS = {
    "android": ("fcm", "fcm"),
    "ios": ("apns", "apns"),
    "web": ("fcm", "fcm"),
    "email": ("email", "ses"),
}
Row = dict[str, Any]


def seconds(number: float) -> datetime:
    """Return the moment so many seconds after START."""
    return START + timedelta(seconds=number)


def delivery_id(*parts: str) -> str:
    """Return a delivery id."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


@dataclass
class World:
    """Rows by lake table."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in TABLES})

    def request(self, notification: str = "n1", tenant: str = "t1", at: float = 0, **more: Any) -> None:
        """Accept a request."""
        row = {
            "tenant": tenant,
            "request_id": f"r-{tenant}-{notification}",
            "notification_id": notification,
            "type": "news",
            "category": None,
            "priority": "normal",
            "title": f"Title of {notification}",
            "topics": ["uk"],
            "collapse_key": None,
            "dry_run": False,
            "accepted_at": seconds(at),
            "send_at": None,
            "expires_at": seconds(at + 86_400),
            "body": "{}",
            "revision": None,
        }
        self.rows["requests"].append(row | more)
        self.state(notification, tenant, "accepted", at)

    def edit(self, revision: int, notification: str = "n1", tenant: str = "t1", **changes: Any) -> None:
        """Edit a request: another row, beside the first."""
        first = next(r for r in self.rows["requests"] if (r["tenant"], r["notification_id"]) == (tenant, notification))
        self.rows["requests"].append(first | changes | {"revision": revision})

    def state(self, notification: str, tenant: str, state: str, at: float) -> None:
        """Move a request."""
        row = {
            "audit_id": delivery_id(notification, tenant, state)[:32],
            "tenant": tenant,
            "request_id": f"r-{tenant}-{notification}",
            "notification_id": notification,
            "event": "move",
            "from_state": None,
            "to_state": state,
            "actor": "test",
            "detail": None,
            "at": seconds(at),
        }
        self.rows["audit"].append(row)

    def audience(self, size: int, platform: str | None = "ios", notification: str = "n1", tenant: str = "t1") -> None:
        """Plan for so many recipients."""
        row = {
            "tenant": tenant,
            "request_id": f"r-{tenant}-{notification}",
            "notification_id": notification,
            "channel": None if platform is None else PROVIDERS[platform][0],
            "platform": platform,
            "recipients": size,
            "at": START,
        }
        self.rows["audiences"].append(row)

    def attempt(
        self,
        who: str,
        outcome: str,
        at: float = 1,
        number: int = 1,
        platform: str | None = "ios",
        notification: str = "n1",
        tenant: str = "t1",
        code: str | None = None,
        **more: Any,
    ) -> str:
        """Record an attempt and return its delivery id."""
        channel, provider = (None, None) if platform is None else PROVIDERS[platform]
        answered = None if outcome in ("ambiguous", "skipped", "expired") else seconds(at + 0.25)
        row = {
            "notification_id": notification,
            "tenant": tenant,
            "request_id": f"r-{tenant}-{notification}",
            "channel": channel,
            "platform": platform,
            "provider": None if outcome in ("skipped", "expired") else provider,
            "recipient": who,
            "delivery_id": delivery_id(tenant, notification, str(channel), who),
            "shard": None,
            "attempt_no": number,
            "sent_at": seconds(at),
            "answered_at": answered,
            "outcome": outcome,
            "provider_code": code,
            "provider_message_id": None,
            "run_id": "run",
        }
        self.rows["attempts"].append(row | more)
        return str(row["delivery_id"])

    def beacon(
        self,
        delivery: str,
        event: str = "received",
        at: float = 5,
        notification: str = "n1",
        action: str | None = None,
    ) -> None:
        """Log a beacon."""
        row = {
            "event": event,
            "notification_id": notification,
            "platform": "ios",
            "provider": "apns",
            "delivery_id": delivery,
            "at": seconds(at),
            "action": action,
        }
        self.rows["receipts"].append(row)

    def token(self, token: str, *ops: str, at: float = 0, platform: str = "ios", tenant: str = "t1") -> None:
        """Change a token, again each day, beginning with its registration."""
        for number, op in enumerate(ops):
            row = {
                "tenant": tenant,
                "token": token,
                "platform": platform,
                "topics": [],
                "op": op,
                "revision": number + 1,
                "at": seconds(at + number * 86_400),
                "previous": ops[number - 1] if number else None,
            }
            self.rows["registrations"].append(row)

    def put(self, lake: Lake, name: str = "all") -> None:
        """Write everything, one file per table."""
        for table, rows in self.rows.items():
            put(lake, table, rows, name)


TABLES: dict[str, LakeTable] = {
    table.name: table for table in (REQUESTS, AUDIENCES, AUDIT, ATTEMPTS, RECEIPTS, REGISTRATIONS)
}


def put(lake: Lake, table: str, rows: Iterable[Row], name: str, at: datetime = START) -> str:
    """Write rows of a table into one file and return its path."""
    path = f"{partition(table, at)}/{name}.parquet"
    lake.write(path, pa.Table.from_pylist(list(rows), schema=TABLES[table].schema))
    return path


def scatter(lake: Lake, world: World, draws: random.Random, files: int = 3) -> None:
    """Write a world's rows shuffled over several files and hours, landed rows some twice, as compaction leaves them."""
    for table, rows in world.rows.items():
        shuffled: Sequence[Row] = draws.sample(rows, len(rows))
        for number in range(files):
            part = list(shuffled[number::files])
            if table != "receipts" and part:
                part += draws.choices(shuffled, k=draws.randint(0, 3))
            put(lake, table, part, f"part-{number}-{draws.random()}", START + timedelta(hours=draws.randint(0, 3)))

"""Bodies and queries of the inbox routes.

Belongs here: models. Does not belong here: what is done with them (``routes``).
"""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from ingest_api.fields import NAME_PATTERN, PageQuery, RequestId, Shown, Strict


class ItemContent(Shown):
    """What an item shows."""

    title: str | None = None
    body: str | None = None
    link: str | None = None
    image_url: str | None = None
    icon_url: str | None = None
    actions: list[dict[str, str]] = Field(
        default_factory=list, description="Buttons: `action`, `title`, and where there are, `link` and `icon_url`."
    )
    data: dict[str, str] = Field(default_factory=dict)


class InboxItemShown(Shown):
    """One item of an inbox."""

    item_id: str = Field(description="Grows with `visible_at`: the newest item has the greatest.")
    notification_id: str = Field(description="A user has one item of each notification.")
    type: str
    category: str | None
    content: ItemContent
    visible_at: datetime = Field(description="When it came to be shown.")
    expires_at: datetime | None = Field(description="Not shown from then on.")
    read_at: datetime | None = Field(description="When it was first read; null: it was not.")


class InboxShown(Shown):
    """A page of an inbox, newest first."""

    items: list[InboxItemShown]
    unread_count: int = Field(description="How many items are unread in all, whatever the filters.")
    next_cursor: str | None


class UnreadCount(Shown):
    """How many items are unread."""

    unread_count: int


class ItemRead(Shown):
    """An item as it is now that it is read."""

    item: InboxItemShown
    unread_count: int


class AllRead(Shown):
    """What was read at once."""

    read: int = Field(description="How many items were unread until now.")
    unread_count: int


class InboxQuery(PageQuery):
    """Which items."""

    unread: bool | None = Field(default=None, description="Only unread ones (`true`), or only read ones (`false`).")
    category: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None


class ReadAll(Strict):
    """Up to where an inbox was read."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"through": "019a92b1c5d07c3e8f60a1b2c3d4e5f6"}]})

    through: RequestId | None = Field(
        default=None,
        description="The newest item that was seen: that one and older ones are read, and none that came meanwhile. By "
        "default all.",
    )

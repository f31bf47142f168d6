"""The ledger's tables of domains: whose contacts they are, and which pages may speak for them.

Belongs here: columns, keys and indexes of domains. Does not belong here: contacts, which are devices (``tables``,
which also says how times and JSON are stored), queries.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text

from notify_pipeline.core.ledger.tables import METADATA

__all__ = ["DOMAINS", "DOMAIN_ORIGINS", "METADATA"]

# A name belongs to one tenant: browsers come without a key, and name nothing but the domain.
DOMAINS = Table(
    "domains",
    METADATA,
    Column("name", Text, primary_key=True),  # lower case
    Column("tenant", Text, nullable=False),
    Column("is_push_feature_enabled", Boolean, nullable=False),
    Column("icon_url", Text),  # of messages that have none of their own
    Column("allowed_origins", Text, nullable=False),  # JSON list, sorted: beside the domain's own
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("ix_domains_tenant", DOMAINS.c.tenant, DOMAINS.c.name)

# Which domains a page of an origin may speak for: their own origins, and those that their owners allowed.
DOMAIN_ORIGINS = Table(
    "domain_origins",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("name", Text, primary_key=True),
)
Index("ix_domain_origins_name", DOMAIN_ORIGINS.c.name)

"""The lake's landing tables as assets that nothing in Dagster makes: the lander does.

Belongs here: their names and columns, for lineage and the catalogue. Does not belong here: landing, compaction.
"""

import dagster as dg

from notify_pipeline.core.lake_columns import COLUMN_COMMENTS, TABLE_COMMENTS
from notify_pipeline.core.schemas import LANDING_TABLES, LakeTable


def spec(table: LakeTable) -> dg.AssetSpec:
    """One table as an asset, with its columns."""
    said = COLUMN_COMMENTS[table.name]
    columns = [dg.TableColumn(field.name, str(field.type), said[field.name]) for field in table.schema]
    return dg.AssetSpec(
        key_of(table.name),
        group_name="lake",
        description=f"{TABLE_COMMENTS[table.name]} Hive-partitioned Parquet, by the hour of {table.partition_by};"
        " landed from the ledger's outbox.",
        metadata={"dagster/column_schema": dg.TableSchema(columns)},
    )


def key_of(table: str) -> dg.AssetKey:
    """The asset key of a table."""
    return dg.AssetKey(["lake", table])


def specs() -> list[dg.AssetSpec]:
    """All of them."""
    return [spec(table) for table in LANDING_TABLES.values()]

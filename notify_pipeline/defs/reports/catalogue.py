"""The report tables as assets, so that Dagster's catalogue shows what is in them.

Belongs here: their names, columns and lineage. Does not belong here: the texts (``reports.catalogue``), building them.
"""

from collections.abc import Iterator

import dagster as dg

from notify_pipeline.reports.catalogue import TABLES, ReportTable
from notify_pipeline.reports.manifests import Version

GROUP = "report_tables"


def key_of(table: str) -> dg.AssetKey:
    """The asset key of a report table."""
    return dg.AssetKey(["reports", table])


def specs(published: dg.AssetKey) -> list[dg.AssetSpec]:
    """All of them, as what a published version holds."""
    return [_spec(table, published) for table in TABLES]


def published(version: Version) -> Iterator[dg.AssetMaterialization]:
    """Yield the news of the tables that a version was published with, and how many rows they have, as far as counted.

    Those that add rows up when they are asked, such as a tenant's days, are not counted.
    """
    for table in TABLES:
        rows = None if table.counted is None else version.rows_of(table.counted)
        counted = {} if rows is None else {"dagster/row_count": rows}
        yield dg.AssetMaterialization(key_of(table.name), metadata={"version": version.number, **counted})


def _spec(table: ReportTable, published: dg.AssetKey) -> dg.AssetSpec:
    columns = [dg.TableColumn(each.name, each.type, each.comment) for each in table.columns]
    return dg.AssetSpec(
        key_of(table.name),
        deps=[published],
        group_name=GROUP,
        kinds={"duckdb", "view"} if table.name != "build" else {"duckdb", "table"},
        description=table.comment,
        metadata={"dagster/column_schema": dg.TableSchema(columns)},
    )

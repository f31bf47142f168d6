"""Two reports side by side: differences, ratios and rates, and why they may not be compared as they stand.

Belongs here: that arithmetic and the caveats. Does not belong here: finding the reports (``reading_details``), HTTP.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from notify_pipeline.reports.reading_rows import COUNTS, Row

SECONDS: Final = ("p50_s", "p90_s", "p99_s")
# Each a count by the count that it is a part of.
RATES: Final = {
    "accepted_rate": ("accepted", "audience"),
    "received_rate": ("received", "accepted"),
    "opened_rate": ("opened", "received"),
    "clicked_rate": ("clicked", "received"),
}
FIGURES: Final = (*COUNTS, *SECONDS, "share_120s", *RATES)

# Beyond this audiences are not alike: the larger is more than a tenth larger.
_ALIKE = 1.1


def compared(first: Row, other: Row) -> Row:
    """Return ``first``, ``other``, ``totals``, ``platforms`` and ``caveats`` (code and message) of two reports.

    Args:
        first: A report as ``reading_details.one`` gives it.
        other: Likewise; differences are its figures minus the first's, ratios its figures by the first's.
    """
    mine, theirs = _by_platform(first), _by_platform(other)
    return {
        "first": first,
        "other": other,
        "totals": _differences(first["totals"], other["totals"]),
        "platforms": [
            {"platform": name, "figures": _differences(mine.get(name, {}), theirs.get(name, {}))}
            for name in sorted({*mine, *theirs})
        ],
        "caveats": [{"code": code, "message": message} for code, message in _caveats(first, other)],
    }


def _by_platform(report: Row) -> dict[str, Mapping[str, Any]]:
    """Return figures by platform. Of a platform with several providers only what can be added up is known."""
    found: dict[str, dict[str, Any]] = {}
    for row in report["platforms"]:
        before = found.get(row["platform"])
        if before is None:
            found[row["platform"]] = row
            continue
        accepted = before["accepted"] + row["accepted"]
        within = sum((each["share_120s"] or 0) * each["accepted"] for each in (before, row))
        sums = {name: before[name] + row[name] for name in COUNTS}
        found[row["platform"]] = sums | {"share_120s": within / accepted if accepted else None}
    return dict(found)


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> Row:
    return {name: _difference(_figure(first, name), _figure(other, name)) for name in FIGURES}


def _figure(figures: Mapping[str, Any], name: str) -> float | None:
    if name in RATES:
        part, whole = (figures.get(each, 0) for each in RATES[name])
        return part / whole if whole else None
    value: float | None = figures.get(name, 0 if name in COUNTS else None)
    return value


def _difference(first: float | None, other: float | None) -> Row:
    return {
        "first": first,
        "other": other,
        "difference": None if first is None or other is None else other - first,
        "ratio": other / first if first and other is not None else None,
    }


def _caveats(first: Row, other: Row) -> Iterator[tuple[str, str]]:
    for name, report in (("first", first), ("other", other)):
        if not report["settled"]:
            yield f"{name}_unsettled", f"The {name} one's figures may still change."
    sizes = sorted(report["totals"]["audience"] for report in (first, other))
    if sizes[1] > _ALIKE * sizes[0]:
        yield "different_audience", "One's audience is more than a tenth larger: compare rates, not counts."
    if _names(first) != _names(other):
        yield "different_platforms", "They went to different platforms: compare platform by platform."
    if first["is_dry_run"] != other["is_dry_run"]:
        yield "dry_run", "One of them is a dry run, which nobody got."
    if first["type"] != other["type"]:
        yield "different_type", "They are of different types."
    for name, report in (("first", first), ("other", other)):
        if report["totals"]["ambiguous"]:
            yield f"{name}_ambiguous", f"Of the {name} one some calls got no answer: more may have been accepted."


def _names(report: Row) -> set[str]:
    return {row["platform"] for row in report["platforms"]}

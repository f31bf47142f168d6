"""The operations page: what waits, what is being sent, how channels do, what holds something up.

Belongs here: the page and its panels. Does not belong here: what they show (``operations.overview``), how a table or a
figure is written (``operations_parts``, ``widgets``), dead letters (``operations_letters``).

The page asks again every few seconds, once for all of its panels; those who look at the same time share what is found.
"""

from datetime import datetime
from typing import Any

from dash import Dash, Input, Output, dcc, html

from ingest_api.dashboard.page import HOME, Page, View, Visit, visitor
from ingest_api.dashboard.pages.operations_parts import Cell, age, chip, table, time
from ingest_api.dashboard.sessions import Session
from ingest_api.dashboard.widgets import aria, figures
from ingest_api.dashboard.words import NONE, count, seconds, share_of, state
from ingest_api.services import Services
from notify_pipeline.core.vocabulary import KeyScope

_SCOPES = frozenset({KeyScope.SECRET, KeyScope.ADMIN})
# A figure is as old as the ledger's answer: counting what waits costs little, and nobody reads faster.
_EVERY_MS = 3_000
_Overview = dict[str, Any]


def _view(services: Services, visit: Visit) -> View:
    content = [
        html.Div(
            [
                html.H1("Operations"),
                html.P("What waits, what is being sent, and what holds something up.", className="lead"),
            ],
            className="head",
        ),
        html.Div(_panels(services, visit.session), id="operations-panels", className="stack"),
        dcc.Interval(id="operations-tick", interval=_EVERY_MS),
    ]
    return View("Operations", html.Div(content, className="stack"))


def _register(dash: Dash, services: Services) -> None:
    @dash.callback(Output("operations-panels", "children"), Input("operations-tick", "n_intervals"))
    def again(_: object) -> Any:
        return _panels(services, visitor(_SCOPES))


def _panels(services: Services, session: Session) -> list[Any]:
    now = services.clock()
    found = services.overviews.of(None if session.is_admin else (session.tenant,), now)
    panels = [
        _figures(found, now, session),
        _broadcasts(found, now, session),
        _queues(found, now, session),
        _channels(found, now),
    ]
    if found["installation"] is not None:
        panels += [_lake(found["installation"]["lake"], now), _providers(found["installation"], now)]
    if found["erasures"]:
        panels.append(_erasures(found, now, session))
    return [*panels, _logs(found, now), html.P(["As of ", time(found["at"]), "."], className="hint")]


def _figures(found: _Overview, now: datetime, session: Session) -> Any:
    due = [each for each in found["queues"] if each["due"] and each["state"] != "sending"]
    oldest = min((each["oldest_due_at"] for each in due if each["oldest_due_at"]), default=None)
    letters = count(found["dead_letters"])
    shown = [
        ("Due now", count(sum(each["due"] for each in due)), f"the oldest for {age(oldest, now)}" if oldest else ""),
        ("Broadcasts under way", count(len(found["broadcasts"])), ""),
        (
            "Dead letters",
            letters if session.is_admin else dcc.Link(letters, href=f"{HOME}dead-letters"),
            "not sent again",
        ),
    ]
    if found["version"] is not None:
        version = found["version"]
        number = f"version {version['version']:,}"
        shown.append(("Reports published", f"{age(version['published_at'], now)} ago", number))
        through = found["logs"]["received_through"]
        shown.append(("Logs read up to", NONE if through is None else f"{age(through, now)} ago", ""))
    if found["installation"] is not None:
        lake = found["installation"]["lake"]
        shown.append(("On the way to the lake", count(sum(lake["entries"].values())), "writes"))
    return figures(shown)


def _broadcasts(found: _Overview, now: datetime, session: Session) -> Any:
    heads = ["Notification", "Priority", "State", "Recipients", "Finished", "Accepted", "Tried, again later", "Shards"]
    rows = [
        [
            Cell(_notification(each, session), about=_whose(each["tenant"], found, session)),
            Cell(each["priority"]),
            Cell(_state(each)),
            Cell(count(each["audience"]), number=True),
            Cell(f"{count(each['finished'])} ({share_of(each['finished'], each['audience'])})", number=True),
            Cell(count(each["accepted"]), number=True),
            Cell(count(each["waiting_again"]), number=True),
            Cell(f"{each['shards_done']} of {each['shards']}", number=True),
        ]
        for each in found["broadcasts"]
    ]
    return _card("broadcasts", "Broadcasts under way", table("Large sends", heads, rows, "No broadcast is being sent."))


def _state(broadcast: dict[str, Any]) -> list[Any]:
    said = [chip(state(broadcast["state"]), "live")]
    if not broadcast["is_held"]:
        said.append(chip("nobody works on it", "warn"))
    if broadcast["drops_stopped"]:
        said.append(chip("so many dead tokens that none is dropped", "bad"))
    return said


def _erasures(found: _Overview, now: datetime, session: Session) -> Any:
    heads = ["Erasure", "By", "State", "Waits for", "Asked for"]
    rows = [
        [
            Cell(html.Code(each["erasure_id"]), about=_whose(each["tenant"], found, session)),
            Cell(each["kind"]),
            Cell(each["state"].replace("_", " ")),
            Cell(each["waits_for"] or NONE),
            Cell(f"{age(each['requested_at'], now)} ago", number=True),
        ]
        for each in found["erasures"]
    ]
    return _card("erasures", "Erasures under way", table("Erasures, the oldest first", heads, rows, ""))


def _queues(found: _Overview, now: datetime, session: Session) -> Any:
    heads = ["Queue", "Priority", *(["Whose"] if session.is_admin else []), "Waiting", "Due now", "Oldest due for"]
    rows = [
        [
            Cell(" ".join(str(each[name]) for name in ("channel", "queue") if each[name]), about=each["state"] or ""),
            Cell(each["priority"] or NONE),
            *([Cell(_whose(each["tenant"], found, session) or "all")] if session.is_admin else []),
            Cell(count(each["count"]), number=True),
            Cell(count(each["due"]), number=True),
            Cell(age(each["oldest_due_at"], now), number=True),
        ]
        for each in found["queues"]
    ]
    return _card("queues", "Queues", table("What waits, by queue and priority", heads, rows, "Nothing waits."))


def _channels(found: _Overview, now: datetime) -> Any:
    heads = ["Channel", "Calls", "Accepted", "Throttled", "Failed", "Dead addresses", "No answer", "Median", "99 %"]
    rows = []
    for each in found["channels"]:
        codes = ", ".join(f"{code['provider_code']} ({count(code['attempts'])})" for code in each["codes"])
        name = each["channel"] if each["channel"] == each["provider"] else f"{each['channel']} by {each['provider']}"
        shown = [share_of(each["accepted"], each["attempts"]), count(each["throttled"]), count(each["failed"])]
        shown += [count(each["invalid"]), count(each["ambiguous"]), seconds(each["p50_s"]), seconds(each["p99_s"])]
        first = [Cell(name, about=codes), Cell(count(each["attempts"]), number=True)]
        rows.append([*first, *(Cell(each, number=True) for each in shown)])
    since = found["channels"][0]["since"] if found["channels"] else now
    about = f"Calls to providers since {since:%H:%M} UTC, as far as the published version knows"
    return _card(
        "channels", "Channels", table(about, heads, rows, "No call to a provider is in the published version.")
    )


def _lake(lake: dict[str, Any], now: datetime) -> Any:
    rows = [[Cell(name), Cell(count(number), number=True)] for name, number in lake["entries"].items()]
    oldest = f"The oldest is {age(lake['oldest_at'], now)} old." if lake["oldest_at"] else ""
    aside = f" {count(lake['rejected'])} writes were kept aside: they do not fit their table." * bool(lake["rejected"])
    shown = table("Writes that wait for the lake", ["Table", "Writes"], rows, "Everything has landed.")
    return _card("lake", "On the way to the lake", html.Div([shown, html.P(oldest + aside, className="hint")]))


def _providers(installation: dict[str, Any], now: datetime) -> Any:
    rates = [
        [
            Cell(html.Code(each["name"])),
            Cell(
                chip(f"paused for {age(now, each['held_until'])} more", "bad")
                if each["held_until"]
                else chip("open", "good")
            ),
            Cell(f"{age(each['used_at'], now)} ago", number=True),
        ]
        for each in installation["throttles"]
    ]
    roles = [
        [
            Cell(each["name"]),
            Cell(chip("alive", "good") if each["is_held"] else chip("not heard of", "bad")),
            Cell(html.Code(each["owner"])),
        ]
        for each in installation["roles"]
    ]
    link = installation["dagster_url"]
    shown = [
        table(
            "Credentials with a limit or a pause", ["Credential", "State", "Used"], rates, "None was asked to pause."
        ),
        table("Roles that one process holds", ["Role", "State", "Held by"], roles, "No role was ever held."),
        *([html.P(html.A("Runs and schedules in Dagster", href=link, rel="noreferrer"))] if link else []),
    ]
    return _card("providers", "Throttling and roles", html.Div(shown, className="stack"))


def _logs(found: _Overview, now: datetime) -> Any:
    logs = found["logs"]
    if logs is None:
        return _card("logs", "Logs", html.P("No version of the reports was published yet.", className="muted"))
    through, settled = logs["received_through"], logs["settled_through"]
    rows = [
        [Cell("Read up to"), Cell(time(through) if through else "nothing yet")],
        [Cell("Settled up to"), Cell(time(settled) if settled else "nothing yet")],
    ]
    nobodys = [
        ("Lines of today and yesterday that could not be read", logs["quarantined"]),
        ("Beacons of deliveries that nobody made", logs["foreign_hits"]),
    ]
    rows += [[Cell(said), Cell(count(lines), number=True)] for said, lines in nobodys if lines is not None]
    return _card("logs", "Logs", table("How far logs are read", ["What", "Value"], rows, ""))


def _card(name: str, title: str, content: Any) -> Any:
    # Of one shape whatever it shows, so that a refresh keeps what the keyboard is at.
    return html.Section(
        [html.H2(title, id=f"operations-{name}"), content],
        className="card",
        key=name,
        **aria(labelledby=f"operations-{name}"),
    )


def _notification(each: dict[str, Any], session: Session) -> Any:
    name = each["notification_id"]
    return name if session.is_admin else dcc.Link(name, href=f"{HOME}notifications/{name}")


def _whose(tenant: str | None, found: _Overview, session: Session) -> str:
    return found["tenants"].get(tenant, tenant or "") if session.is_admin else ""


PAGE = Page("operations", "Operations", _SCOPES, _view, _register)

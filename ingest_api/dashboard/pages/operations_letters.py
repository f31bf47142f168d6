"""Dead letters: the list with its filters, one letter, and sending them again.

Belongs here: these two pages and their callbacks. Does not belong here: what a replay may be refused for
(``dead_letters.sending``), how a table is written (``operations_parts``).

Filters are in the address, so that a filtered list can be kept and shared. What a replay of "all that fit" means is
read from the address too: it is what the list shows. Everything is the session's own tenant's, whatever a call says.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from dash import Dash, Input, Output, State, dcc, html
from pydantic import ValidationError

from ingest_api.dashboard.page import Page, View, Visit, address, parameters, visitor
from ingest_api.dashboard.pages.operations_filters import filters
from ingest_api.dashboard.pages.operations_parts import Cell, chip, table, time
from ingest_api.dashboard.sessions import Session
from ingest_api.dashboard.widgets import aria
from ingest_api.dashboard.words import NONE, count
from ingest_api.dead_letters.models import ListQuery, NewReplay
from ingest_api.dead_letters.sending import send_again
from ingest_api.errors import ApiError, not_found
from ingest_api.paging import following, unpack_key
from ingest_api.services import Services
from notify_pipeline.core.ledger import letters, requests
from notify_pipeline.core.ledger.letters import Letter
from notify_pipeline.core.vocabulary import KeyScope

_PATH = "dead-letters"
_SCOPES = frozenset({KeyScope.SECRET})
# Rows of a page, each with its box to tick: as many parts a replay of the selection is told of.
_ROWS = 25
# The beginning of an address tells it from others; the whole of a device token is nobody's to copy from a screen.
_SHOWN = 24
_SAID = "letters-said"
_NOT_A_FILTER = "Some of these filters are not what they should be: "
_FIELDS = ("channel", "platform", "reason", "provider_code", "type", "notification_id", "user", "from", "until")


def _list_view(services: Services, visit: Visit) -> View:
    content = [
        html.Div(
            [
                html.H1("Dead letters"),
                html.P(
                    "Deliveries that reached nobody through no fault of the recipient's. Each can be sent again once.",
                    className="lead",
                ),
            ],
            className="head",
        ),
        filters(_PATH, visit.query),
        html.Div(id=_SAID, role="status", **aria(live="polite")),
        html.Div(_letters(services, visit.session, visit.query), id="letters", className="stack"),
        _buttons(),
    ]
    return View("Dead letters", html.Div(content, className="stack"))


def _buttons() -> Any:
    return html.Div(
        [
            _confirmed("letters-selected", "Send the selected again", "Send the selected dead letters again now?"),
            _confirmed("letters-all", "Send all that fit again", "Send all dead letters that fit the filters again?"),
        ],
        className="row",
    )


def _confirmed(name: str, words: str, question: str) -> Any:
    button = html.Button(words, type="button", className="button")
    return dcc.ConfirmDialogProvider(button, id=name, message=question)


def _letters(services: Services, session: Session, query: Mapping[str, str]) -> list[Any]:
    """Return the list at an address; always with as many boxes, of which those without a letter are out of sight."""
    try:
        wanted = _wanted(query)
        after = unpack_key(wanted.cursor)
    except (ValidationError, ApiError) as error:
        return [html.P(_NOT_A_FILTER + _fields_of(error), className="notice notice-bad"), *_spare(0)]
    page = letters.page(services.ledger, [session.tenant], wanted.wanted(wanted.replayed), _ROWS, after)
    heads = ["Recipient", "Select", "Notification", "Channel", "Why it died", "Attempts", "Died"]
    rows = [_row(number, letter) for number, letter in enumerate(page.rows)]
    shown = [table("Dead letters, newest first", heads, rows, "There are no dead letters that fit.")]
    if (cursor := following(page.following)) is not None:
        shown.append(html.P(dcc.Link("Older ones", href=address(_PATH, query, cursor=cursor)), className="pages"))
    return [*shown, *_spare(len(rows))]


def _row(number: int, letter: Letter) -> list[Cell]:
    name = _short(letter.address)
    return [
        Cell(dcc.Link(name, href=address(f"{_PATH}/{letter.delivery_id}", {})), about=letter.user_id or ""),
        Cell(_box(number, letter.delivery_id, name) if letter.replayed_at is None else [_box(number), _again(letter)]),
        Cell(letter.notification_id, about=letter.type),
        Cell(letter.channel, about=letter.platform),
        Cell(letter.reason.replace("_", " "), about=letter.provider_code or ""),
        Cell(count(letter.attempts), number=True),
        Cell(time(letter.died_at)),
    ]


def _box(number: int, delivery_id: str = "", name: str = "") -> Any:
    label = html.Span(f"Select {name}", className="unseen")
    options = [{"label": label, "value": delivery_id}] if delivery_id else []
    return dcc.Checklist(options=options, value=[], id=f"letter-{number}")


def _spare(used: int) -> list[Any]:
    return [html.Div([_box(number) for number in range(used, _ROWS)], hidden=True)]


def _again(letter: Letter) -> Any:
    return chip("sent again", "good") if letter.replayed_as else chip("its device is another's", "warn")


def _letter_view(services: Services, visit: Visit) -> View:
    letter = letters.get(services.ledger, [visit.session.tenant], visit.place)
    if letter is None:
        raise not_found("There is no such dead letter.")
    request = requests.get(services.ledger, letter.tenant, letter.request_id)
    body = {} if request is None else {name: request.body[name] for name in _SENT if name in request.body}
    what = [
        ("Recipient", _short(letter.address)),
        ("User", letter.user_id or NONE),
        ("Notification", letter.notification_id),
        ("Type", letter.type),
        ("Channel", f"{letter.channel}, {letter.platform}"),
        ("Last outcome", f"{letter.outcome} {letter.provider_code or ''}"),
        ("Why it died", letter.reason.replace("_", " ")),
        ("Attempts", count(letter.attempts)),
        ("Died", time(letter.died_at)),
        ("Sent again", "not yet" if letter.replayed_at is None else time(letter.replayed_at)),
    ]
    rows = [[Cell(name), Cell(value)] for name, value in what]
    sent = orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()
    content = [
        html.P(dcc.Link("All dead letters", href=address(_PATH, {}))),
        html.H1("Dead letter"),
        html.Section(table("What became of it", ["What", "Value"], rows, ""), className="card"),
        html.Section([html.H2("What was to be sent"), html.Pre(html.Code(sent), tabIndex=0)], className="card"),
        html.Div(id="letter-said", role="status", **aria(live="polite")),
        _confirmed("letter-one", "Send again", "Send this dead letter again now?"),
    ]
    return View("Dead letter", html.Div(content, className="stack"))


# What shows in a notification and how it was to be sent: no recipients, no callbacks, none of the app's own data.
_SENT = ("content", "category", "priority", "ttl", "collapse_key", "send_at", "dry_run")


def _register(dash: Dash, services: Services) -> None:
    boxes = [State(f"letter-{number}", "value") for number in range(_ROWS)]
    listed = [Output(_SAID, "children"), Output("letters", "children"), Output("letters-selected", "submit_n_clicks")]
    listed.append(Output("letters-all", "submit_n_clicks"))
    pressed = [Input("letters-selected", "submit_n_clicks"), Input("letters-all", "submit_n_clicks")]

    @dash.callback(*listed, *pressed, State("address", "search"), *boxes, prevent_initial_call=True)
    def send_listed(selected: object, every: object, search: object, *ticked: object) -> tuple[Any, ...]:
        session, query = visitor(_SCOPES), parameters(search)
        if every:
            said = _send(services, session, {"filter": _filter(query)})
        elif selected:
            ids = [each for some in ticked if isinstance(some, list) for each in some]
            said = _send(services, session, {"ids": ids}) if ids else "Nothing is selected."
        else:
            said = ""
        return said, _letters(services, session, query), 0, 0

    @dash.callback(
        Output("letter-said", "children"),
        Input("letter-one", "submit_n_clicks"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def send_one(pressed: object, pathname: object) -> Any:
        session = visitor(_SCOPES)
        place = LETTER.place(pathname) if isinstance(pathname, str) else None
        return _send(services, session, {"ids": [place]}) if pressed else ""


def _send(services: Services, session: Session, asked: dict[str, Any]) -> Any:
    """Send dead letters again in the name of the session's key; return what came of it, in words."""
    try:
        done = send_again(services, session.tenant, session.key.key_id, NewReplay.model_validate(asked)).answer
    except (ValidationError, ApiError) as error:
        reason = error.message if isinstance(error, ApiError) else _NOT_A_FILTER + _fields_of(error)
        return html.P(f"Nothing was sent: {reason}", className="notice notice-bad")
    number = sum(each["dead_letters"] for each in done["requests"])
    words = [f"Sent again: {count(number)}. New sends: {count(len(done['requests']))}."]
    if done["left_out"]:
        words.append(f"{count(len(done['left_out']))} belong to somebody else's device by now, and are not.")
    if done["already_replayed"]:
        words.append(f"{count(len(done['already_replayed']))} were sent again before.")
    if done["left"]:
        words.append(f"{count(done['left'])} more fit: press again.")
    return html.P(" ".join(words), className="notice")


def _filter(query: Mapping[str, str]) -> dict[str, str]:
    return {name: query[name] for name in _FIELDS if query.get(name)}


def _wanted(query: Mapping[str, str]) -> ListQuery:
    asked = {**_filter(query), "cursor": query.get("cursor") or None, "replayed": query.get("replayed") or None}
    return ListQuery.model_validate(asked)


def _fields_of(error: ValidationError | ApiError) -> str:
    if isinstance(error, ApiError):
        return error.message
    return ", ".join(str(each["loc"][-1]) for each in error.errors() if each["loc"])


def _short(address: str) -> str:
    return address if len(address) <= _SHOWN else f"{address[:_SHOWN]}…"


LIST = Page(_PATH, "Dead letters", _SCOPES, _list_view, _register)
LETTER = Page(_PATH, "", _SCOPES, _letter_view, lambda dash, services: None, has_place=True)

"""Routes: which sends are made of which events.

Belongs here: the routes of routing rules. Does not belong here: events (``events``), storing rules
(``core.ledger.routes``), going by them (``delivery.event_router``).
"""

import orjson
from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, conflict, not_found, unprocessable
from ingest_api.event_routes import enrichers
from ingest_api.event_routes.models import NewRoute, RouteList, RouteName, RouteShown
from ingest_api.keys import Access
from notify_pipeline.core.ledger import routes
from notify_pipeline.core.ledger.routes import MAX_ROUTES, Route, TooManyRoutes

GROUP = Group(
    "routes",
    "Which sends are made of which events. An organization goes by its product's too, and everybody by those that are "
    "built in; one's own takes the place of another by its name.",
)
_NO_ROUTE = {404: "There is no such route."}


@GROUP.endpoint(
    "PUT",
    "/routes/{name}",
    access=Access.SECRET,
    answers={200: Answer("The stored route.", RouteShown)},
    errors={409: f"`too_many_routes`: a tenant may have {MAX_ROUTES}."},
)
def put_route(call: Call, name: RouteName, body: NewRoute) -> Response:
    """Set a route.

    It takes the place of the one by this name, for all events that are routed from now on. Expressions and texts are
    read here: what is wrong with one is said with its place.
    """
    services = call.services
    if faults := [*body.faults(), *enrichers.unavailable(body.enrichment, services.settings)]:
        raise unprocessable(*faults)
    try:
        routes.put(services.ledger, call.tenant, name, body.stored, call.actor, services.clock())
    except TooManyRoutes as error:
        raise conflict("too_many_routes", f"A tenant may have {MAX_ROUTES} routes.", "name") from error
    return _answer(call, name)


@GROUP.endpoint("GET", "/routes", access=Access.SECRET, answers={200: Answer("All of them, by name.", RouteList)})
def list_routes(call: Call) -> Response:
    """List the routes that events are held against: one's own, its product's, and those that are built in."""
    found = routes.find(call.services.ledger, call.tenant)
    return answer(200, {"items": [_shown(call, route) for route in found.values()]})


@GROUP.endpoint(
    "GET", "/routes/{name}", access=Access.SECRET, answers={200: Answer("The route.", RouteShown)}, errors=_NO_ROUTE
)
def show_route(call: Call, name: RouteName) -> Response:
    """Show a route."""
    return _answer(call, name)


@GROUP.endpoint(
    "DELETE",
    "/routes/{name}",
    access=Access.SECRET,
    answers={204: Answer("Removed.")},
    errors={404: "The tenant has no such route of its own."},
)
def remove_route(call: Call, name: RouteName) -> Response:
    """Remove a route.

    Sends that it made go on. An organization then goes by its product's route of this name again.
    """
    services = call.services
    if not routes.remove(services.ledger, call.tenant, name, call.actor, services.clock()):
        raise _no_route()
    return empty()


def _answer(call: Call, name: str) -> Response:
    found = routes.find(call.services.ledger, call.tenant).get(name)
    if found is None:
        raise _no_route()
    return answer(200, _shown(call, found))


def _no_route() -> ApiError:
    return not_found("There is no such route.")


def _shown(call: Call, route: Route) -> dict[str, object]:
    return {
        "name": route.name,
        "inherited": route.tenant not in (call.tenant, None),
        "built_in": route.tenant is None,
        "rule": orjson.loads(route.rule),
        "updated_at": route.updated_at,
    }

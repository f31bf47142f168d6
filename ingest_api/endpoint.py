"""The one way to declare a route: what it takes, who may call it, what it answers.

Belongs here: the declaration (which the OpenAPI document is made from) and the view that carries it out. Does not
belong here: any particular route, the document's form (``openapi``).
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_type_hints

import orjson
from flask import Blueprint, Request, Response, request
from pydantic import BaseModel, TypeAdapter

from ingest_api.anonymous import Page, add_preflight
from ingest_api.errors import JSON_TYPE
from ingest_api.inputs import read_body, read_path, read_query
from ingest_api.keys import Access
from ingest_api.lean import LeanResponse
from ingest_api.services import Services
from notify_pipeline.core.ledger import tenants
from notify_pipeline.core.ledger.keys import KeyInfo

_PARAMETER = re.compile(r"\{(\w+)\}")
# Of every answer that shows a secret. RFC 9111 §5.2.2.5.
NO_STORE = [("Cache-Control", "no-store")]


@dataclass(frozen=True, slots=True)
class Call:
    """One request as its handler sees it, with a key that has the right."""

    services: Services
    request: Request
    key: KeyInfo | None
    organization: str | None = None  # that the key's product acts for
    page: Page | None = None  # that calls, where the route is anonymous

    @property
    def tenant(self) -> str:
        """Whose data this is about. Not for an admin's key, which is nobody's."""
        if self.organization is not None:
            return self.organization
        if self.key is None or self.key.tenant is None:
            raise RuntimeError("this is no tenant's key")
        return self.key.tenant

    @property
    def is_admin(self) -> bool:
        """True when the key is an admin's."""
        return self.key is not None and self.key.tenant is None

    @property
    def product(self) -> str | None:
        """The product that this is about as a whole; None for an admin's key, an organization, and a user."""
        whole = self.organization is None and self.key is not None and self.key.parent is None and self.user_id is None
        return self.key.tenant if whole and self.key is not None else None

    @property
    def user_id(self) -> str | None:
        """The one user that the call speaks for; None for a key, which speaks for its tenant."""
        return None if self.key is None else self.key.user_id

    @property
    def actor(self) -> str:
        """Who does this, for the audit: the key's id, or the user."""
        if self.user_id is not None:
            return f"user:{self.user_id}"
        return "anonymous" if self.key is None else self.key.key_id

    def reads(self, include_organizations: bool) -> tuple[str, ...]:
        """Return the tenants whose rows a list may hold: one's own, and a product's organizations' if asked for.

        Inactive organizations count: their data is the product's to see. Reads the ledger only for a product that
        asks for its organizations' and does not act for one of them.
        """
        tenant = self.tenant
        if (
            not include_organizations
            or self.organization is not None
            or self.key is None
            or self.key.parent is not None
            or self.key.user_id is not None
        ):
            return (tenant,)
        return (tenant, *tenants.organization_ids(self.services.ledger, tenant))


@dataclass(frozen=True, slots=True)
class Answer:
    """A documented answer: what it means, the model of its body (None: empty) and the headers it adds.

    A file has ``content_types``, those that it may have, in the place of a model.
    """

    meaning: str
    model: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON_TYPE
    content_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A declared route."""

    method: str
    path: str
    access: Access
    answers: Mapping[int, Answer]
    errors: Mapping[int, str]
    headers: Mapping[str, tuple[Any, str]]
    handler: Callable[..., Response]
    name: str | None
    parameters: Mapping[str, Any]
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    summary: str
    description: str

    @property
    def operation(self) -> str:
        """A name that no other route has."""
        return self.handler.__name__ if self.name is None else self.name

    @property
    def rule(self) -> str:
        """The path in Werkzeug's notation."""
        return _PARAMETER.sub(r"<\1>", self.path)


class Group:
    """A group of routes: a tag in the document, a blueprint in the application."""

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.about = about
        self.endpoints: list[Endpoint] = []

    def endpoint(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        answers: Mapping[int, Answer],
        errors: Mapping[int, str] | None = None,
        headers: Mapping[str, tuple[Any, str]] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        """Declare the decorated handler as a route.

        The handler takes a ``Call``, then by name the path's parameters, and ``body`` or ``query`` where it has them;
        their annotations are the models. Its docstring's first line is the summary, the rest the description.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            path: With parameters in braces.
            access: Who may call it. ``Access.USER`` needs the path's parameter ``user_id``: a user token is told 404
                for any other user's. ``Access.ANONYMOUS`` brings CORS, a limit per address and the preflight; its
                handlers ask ``domains.finding.domain_for``, which knows whether the page may speak for the domain.
            answers: By status.
            errors: What 404 and 409 mean here; the other errors follow from the declaration.
            headers: Request headers that matter: type and meaning by name.
            name: The operation's id, where the handler's name would not be the only one.
        """

        def declare(handler: Callable[..., Response]) -> Callable[..., Response]:
            shape = _shape(path, handler)
            if access is Access.USER and "user_id" not in shape[0]:
                raise TypeError(f"{path} names no user whose token could open it")
            declared = Endpoint(method, path, access, answers, errors or {}, headers or {}, handler, name, *shape)
            self.endpoints.append(declared)
            return handler

        return declare

    def blueprint(self, services: Services) -> Blueprint:
        """Build the blueprint whose views work with these services."""
        blueprint = Blueprint(self.name, __name__)
        for declared in self.endpoints:
            blueprint.add_url_rule(
                declared.rule,
                endpoint=declared.operation,
                view_func=_view(declared, services),
                methods=[declared.method],
                provide_automatic_options=False,
            )
        anonymous = [declared for declared in self.endpoints if declared.access is Access.ANONYMOUS]
        for rule in dict.fromkeys(declared.rule for declared in anonymous):
            add_preflight(blueprint, rule, [each.method for each in anonymous if each.rule == rule], services)
        return blueprint


def _shape(
    path: str, handler: Callable[..., Response]
) -> tuple[dict[str, Any], type[BaseModel] | None, type[BaseModel] | None, str, str]:
    """Return what a handler's signature and docstring say: path parameters, body, query, summary, description."""
    hints = get_type_hints(handler, include_extras=True)
    names = _PARAMETER.findall(path)
    if missing := [name for name in names if name not in hints]:
        raise TypeError(f"{handler.__name__} lacks the path's parameters {missing}")
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n")
    parameters = {name: hints[name] for name in names}
    return parameters, hints.get("body"), hints.get("query"), summary.rstrip("."), description.strip()


def _view(declared: Endpoint, services: Services) -> Callable[..., Response]:
    adapters = {name: TypeAdapter[str](kind) for name, kind in declared.parameters.items()}
    handler, access, body, query = declared.handler, declared.access, declared.body, declared.query
    needs_key, limit = access.needs_key, services.settings.max_body_bytes
    for_tenants, for_users, for_pages = access.is_for_tenants, access is Access.USER, access is Access.ANONYMOUS

    def view(**arguments: Any) -> Response:
        here = cast(Request, request._get_current_object())  # type: ignore[attr-defined]
        key = services.keys.check(here, access) if needs_key else None
        if key is not None:
            services.rates.check(key)
        organization = services.keys.organization(here, key) if for_tenants and key is not None else None
        page = Page.of(here, services) if for_pages else None
        if adapters:
            read_path(adapters, arguments)
        if for_users and key is not None:
            services.keys.check_user(key, arguments["user_id"])
        if query is not None:
            arguments["query"] = read_query(here, query)
        if body is not None:
            arguments["body"] = read_body(here, body, limit)
        return handler(Call(services, here, key, organization, page), **arguments)

    return view


def answer(status: int, payload: object, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """Return a JSON answer. Models and aware datetimes are written as the document says."""
    data = orjson.dumps(payload, default=_plain, option=orjson.OPT_UTC_Z)
    return LeanResponse(data, status, [*headers, ("Content-Type", JSON_TYPE)])


def empty(status: int = 204) -> Response:
    """Return an answer without a body."""
    response = LeanResponse(status=status)
    del response.headers["Content-Type"]
    return response


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} has no JSON form")

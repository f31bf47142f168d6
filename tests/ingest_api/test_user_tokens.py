"""Making user tokens, and what one opens on a route that takes them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Response

from ingest_api import errors
from ingest_api.endpoint import Answer, Call, Group, answer
from ingest_api.fields import UserInPath
from ingest_api.keys import ORGANIZATION_HEADER, Access
from ingest_api.lean import LeanFlask
from ingest_api.openapi import document
from notify_pipeline.core import user_tokens
from tests.ingest_api.conftest import Api, House

OWN = Group("own", "A route of a user's.")


@OWN.endpoint("GET", "/own/{user_id}", access=Access.USER, answers={200: Answer("Whose.")})
def show_own(call: Call, user_id: UserInPath) -> Response:
    """Show who asks."""
    return answer(200, {"tenant": call.tenant, "user": call.user_id, "actor": call.actor, "reads": call.reads(True)})


@pytest.fixture
def own(house: House) -> Iterator[Api]:
    """A client of a route that takes user tokens, beside the ingress."""
    app = LeanFlask("own", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 1_000
    errors.install(app)
    app.register_blueprint(OWN.blueprint(house.services))
    return Api(app.test_client(), None)


def ask(own: Api, token: str, path: str = "/own/ann", **headers: str) -> Any:
    return own.call("GET", path, headers={"Authorization": f"Bearer {token}"} | headers)


def token_of(house: House, user_id: str = "ann", ttl: int = 60) -> str:
    return str(house.secret.ok("POST", f"/users/{user_id}/token", {"ttl": ttl})["token"])


def test_a_token_is_made_for_as_long_as_asked_for(house: House) -> None:
    made = house.secret.call("POST", "/users/ann/token", {"ttl": 90})
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    until = (house.clock() + timedelta(seconds=90)).replace(microsecond=0)
    assert made.json is not None
    assert made.json["expires_at"] == until.isoformat().replace("+00:00", "Z")
    secret = house.services.ledger.secret(user_tokens.SECRET)
    found = user_tokens.check(secret, made.json["token"], house.clock())
    assert (found.tenant, found.user_id, found.expires_at) == (house.mine.tenant, "ann", until)
    assert house.secret.call("POST", "/users/ann/token", {}).status_code == 201


@pytest.mark.parametrize("body", [{"ttl": 0}, {"ttl": 86_401}, {"ttl": "60"}, {"until": 1}])
def test_a_ttl_beyond_a_day_is_refused(house: House, body: dict[str, Any]) -> None:
    assert house.secret.call("POST", "/users/ann/token", body).status_code == 422


def test_a_token_opens_its_user_s_own(house: House, own: Api) -> None:
    answered = ask(own, token_of(house))
    mine = house.mine.tenant
    assert answered.json == {"tenant": mine, "user": "ann", "actor": "user:ann", "reads": [mine]}
    assert ask(own, token_of(house, "bob")).status_code == 404
    assert ask(own, house.mine.secret_key).json["user"] is None
    assert ask(own, house.mine.publishable_key).status_code == 403


def test_the_widest_user_id_has_a_token_too(house: House, own: Api) -> None:
    name = "\U0001f600" * 256
    assert ask(own, token_of(house, name), f"/own/{name}").json["user"] == name


def test_a_token_opens_nothing_else(house: House) -> None:
    token = token_of(house)
    assert house.api(token).call("GET", "/users/ann").status_code == 403
    assert house.api(token).call("POST", "/users/ann/token", {}).status_code == 403


def test_a_token_ends(house: House, own: Api) -> None:
    token = token_of(house)
    assert ask(own, token).status_code == 200
    house.clock.advance(seconds=60)
    assert ask(own, token).status_code == 401


def test_a_deactivated_tenant_s_tokens_count_no_more(house: House, own: Api) -> None:
    branch = house.mine.organizations[0]
    made = house.api(branch.secret_key).ok("POST", "/users/ann/token", {})["token"]
    assert ask(own, made).status_code == 200
    house.deactivate(house.mine.tenant)  # takes its organizations with it
    house.services.keys.forget_everywhere()
    assert ask(own, made).status_code == 401


def test_a_product_s_user_is_nobody_in_its_organizations(house: House, own: Api) -> None:
    token, branch = token_of(house), house.mine.organizations[0].tenant
    assert ask(own, token, **{ORGANIZATION_HEADER: branch}).status_code == 404
    assert ask(own, token, **{ORGANIZATION_HEADER: house.mine.tenant}).status_code == 200
    acting = {"Authorization": f"Bearer {house.mine.secret_key}", ORGANIZATION_HEADER: branch}
    made = house.anonymous.ok("POST", "/users/ann/token", {}, headers=acting)["token"]
    assert ask(own, made).json["tenant"] == branch


def test_a_route_without_a_user_in_its_path_cannot_take_tokens() -> None:
    with pytest.raises(TypeError, match="names no user"):
        Group("x", "x").endpoint("GET", "/x", access=Access.USER, answers={})(lambda call: answer(200, {}))


def test_the_document_says_who_may(house: House) -> None:
    operation = document([OWN], "1")["paths"]["/own/{user_id}"]["get"]
    assert {"userToken": []} in operation["security"]
    assert "or the user's own token" in operation["description"]

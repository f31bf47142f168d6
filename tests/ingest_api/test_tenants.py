"""Onboarding."""

import pytest

from ingest_api.endpoint import Call
from notify_pipeline.core.ledger import tenants
from tests.ingest_api.conftest import ADMIN, House, fields_of, registration, send


def test_a_product_and_its_organizations_get_working_keys(any_house: House) -> None:
    admin = any_house.api(ADMIN)
    answered = admin.call("POST", "/products", {"name": "P", "organizations": ["O1", "O2"]})
    assert answered.status_code == 201
    assert answered.headers["Cache-Control"] == "no-store"
    made = answered.json
    assert made is not None
    assert [part["name"] for part in made["organizations"]] == ["O1", "O2"]
    keys = [part[kind] for part in (made, *made["organizations"]) for kind in ("secret_key", "publishable_key")]
    ids = [made["product_id"], *(part["organization_id"] for part in made["organizations"])]
    assert len({*keys, *ids}) == 9
    for part in (made, *made["organizations"]):
        any_house.api(part["secret_key"]).ok("POST", "/notifications", send())
        assert any_house.api(part["publishable_key"]).call("GET", "/notifications").status_code == 403


@pytest.mark.parametrize("organizations", [[], ["O"]])
def test_a_name_is_taken_once(any_house: House, organizations: list[str]) -> None:
    admin = any_house.api(ADMIN)
    admin.ok("POST", "/products", {"name": "P", "organizations": organizations})
    answered = admin.call("POST", "/products", {"name": "P", "organizations": ["other"]})
    assert (answered.status_code, fields_of(answered)) == (409, {"name"})
    admin.ok("POST", "/products", {"name": "Q", "organizations": organizations})


HEADER = "Notify-Organization"


def test_a_products_keys_act_for_its_organizations(any_house: House) -> None:
    branch = any_house.mine.organizations[0]
    acting = {"headers": {HEADER: branch.tenant}}
    any_house.secret.ok("POST", "/notifications", send(), **acting)
    any_house.publishable.ok("POST", "/devices", registration(), **acting)
    as_itself = any_house.api(branch.secret_key)
    assert as_itself.ok("GET", "/notifications/n-1")["notification_id"] == "n-1"
    assert as_itself.ok("GET", "/devices/dGhl:APA91b", **acting)["user_id"] == "u-1"
    assert any_house.secret.ok("GET", "/notifications", **acting)["items"] != []
    assert any_house.secret.call("GET", "/notifications/n-1").status_code == 404, "not the product's own"


@pytest.mark.parametrize("named", ["", "nonsense", "0" * 32, "other", "mine", "inactive", "other's"])
def test_an_organization_that_is_not_ones_own_is_not_there(any_house: House, named: str) -> None:
    theirs = any_house.organization(any_house.other, "theirs")
    branch = any_house.mine.organizations[0].tenant
    if named == "inactive":
        any_house.deactivate(branch)
    ids = {
        "other": any_house.other.tenant,
        "mine": any_house.mine.tenant,
        "inactive": branch,
        "other's": theirs.tenant,
    }
    for api in (any_house.secret, any_house.publishable):
        answered = api.call("GET", "/devices/dGhl:APA91b", headers={HEADER: ids.get(named, named)})
        assert (answered.status_code, fields_of(answered)) == (404, {HEADER})
        assert answered.json["error"]["message"] == "There is no such organization."  # type: ignore[index]


def test_an_organizations_key_acts_for_itself_alone(any_house: House) -> None:
    product = any_house.mine
    sister = any_house.organization(product, "sister").tenant
    api = any_house.api(product.organizations[0].secret_key)
    for named in (product.tenant, sister):
        assert api.call("GET", "/notifications", headers={HEADER: named}).status_code == 404


def test_what_lists_may_hold(any_house: House) -> None:
    product, branch = any_house.mine.tenant, any_house.mine.organizations[0]
    find = tenants.find_key

    def reads(key: str, include: bool, organization: str | None = None) -> tuple[str, ...]:
        found = find(any_house.services.ledger, key)
        return Call(any_house.services, None, found, organization).reads(include)  # type: ignore[arg-type]

    any_house.deactivate(branch.tenant)
    assert reads(any_house.mine.secret_key, False) == (product,)
    assert reads(any_house.mine.secret_key, True) == (product, branch.tenant)
    assert reads(any_house.mine.secret_key, True, branch.tenant) == (branch.tenant,)
    assert reads(branch.secret_key, True) == (branch.tenant,)
    assert reads(any_house.other.secret_key, True) == (any_house.other.tenant,)

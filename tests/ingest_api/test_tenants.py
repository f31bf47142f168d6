"""Onboarding: products, organizations, and their keys."""

import hashlib
from typing import Any

import pytest

from ingest_api.endpoint import Call
from notify_pipeline.core.ledger import keys, tenants
from notify_pipeline.core.ledger.engine import Ledger
from tests.ingest_api.conftest import ADMIN, Api, House, fields_of, registration, send
from tests.waiting import wait_for


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
    find = keys.find

    def reads(key: str, include: bool, organization: str | None = None) -> tuple[str, ...]:
        found = find(any_house.services.ledger, key)
        return Call(any_house.services, None, found, organization).reads(include)  # type: ignore[arg-type]

    any_house.deactivate(branch.tenant)
    assert reads(any_house.mine.secret_key, False) == (product,)
    assert reads(any_house.mine.secret_key, True) == (product, branch.tenant)
    assert reads(any_house.mine.secret_key, True, branch.tenant) == (branch.tenant,)
    assert reads(branch.secret_key, True) == (branch.tenant,)
    assert reads(any_house.other.secret_key, True) == (any_house.other.tenant,)


def branch_of(house: House) -> tenants.NewTenant:
    return house.mine.organizations[0]


def test_a_tenant_is_read_renamed_and_replaced(any_house: House) -> None:
    path = f"/products/{any_house.mine.tenant}"
    shown = any_house.secret.ok("GET", path)
    assert (shown["product_id"], shown["name"], shown["active"]) == (any_house.mine.tenant, "mine", True)
    any_house.clock.advance(seconds=5)
    renamed = any_house.secret.ok("PATCH", path, {"name": "ours"})
    assert renamed == {**shown, "name": "ours", "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] > shown["updated_at"] == shown["created_at"]
    again = any_house.secret.ok("PATCH", path, {"name": "ours"})
    assert again == renamed, "nothing changed"
    admin = any_house.api(ADMIN)
    assert admin.ok("PUT", path, {"name": "mine", "active": True})["name"] == "mine"
    assert fields_of(admin.call("PUT", path, {"name": "x"})) == {"active"}
    assert fields_of(admin.call("PATCH", path, {})) == {"body"}
    organization = f"/organizations/{branch_of(any_house).tenant}"
    shown = any_house.secret.ok("PATCH", organization, {"name": "twig"})
    assert (shown["name"], shown["product_id"]) == ("twig", any_house.mine.tenant)
    assert any_house.api(branch_of(any_house).secret_key).ok("GET", organization) == shown


def test_names_are_unique_per_parent(any_house: House) -> None:
    admin, mine, other = any_house.api(ADMIN), any_house.mine.tenant, any_house.other.tenant
    taken = [
        admin.call("PATCH", f"/products/{mine}", {"name": "other"}),
        admin.call("PUT", f"/products/{mine}", {"name": "other", "active": True}),
        any_house.secret.call("POST", f"/products/{mine}/organizations", {"name": "branch"}),
    ]
    sister = any_house.secret.ok("POST", f"/products/{mine}/organizations", {"name": "sister"})["organization_id"]
    taken.append(any_house.secret.call("PATCH", f"/organizations/{sister}", {"name": "branch"}))
    for answered in taken:
        assert (answered.status_code, fields_of(answered)) == (409, {"name"})
        assert answered.json["error"]["code"] == "name_taken"  # type: ignore[index]
    any_house.stranger.ok("POST", f"/products/{other}/organizations", {"name": "branch"})
    any_house.secret.ok("PATCH", f"/organizations/{sister}", {"name": "mine"})


def test_lists_are_paged_and_complete(any_house: House) -> None:
    admin, product = any_house.api(ADMIN), any_house.mine.tenant
    for n in range(4):
        admin.ok("POST", "/products", {"name": f"p{n}"})
        any_house.secret.ok("POST", f"/products/{product}/organizations", {"name": f"o{n}"})
        any_house.secret.ok("POST", f"/products/{product}/keys", {"scope": "secret", "label": f"k{n}"})

    def walk(api: Api, path: str) -> list[Any]:
        found, cursor = [], ""
        while cursor is not None:
            page = api.ok("GET", f"{path}?limit=2{cursor and '&cursor=' + cursor}")
            assert len(page["items"]) <= 2
            found += page["items"]
            cursor = page["next_cursor"]
        return found

    assert [p["name"] for p in walk(admin, "/products")] == ["mine", "other", "p0", "p1", "p2", "p3"]
    organizations = walk(any_house.secret, f"/products/{product}/organizations")
    assert [o["name"] for o in organizations] == ["branch", "o0", "o1", "o2", "o3"]
    keys = walk(any_house.secret, f"/products/{product}/keys")
    assert [(k["scope"], k["label"]) for k in keys[2:]] == [("secret", f"k{n}") for n in range(4)]
    assert {k["scope"] for k in keys[:2]} == {"secret", "publishable"}


def test_an_inactive_product_takes_its_organizations_with_it_and_brings_them_back(any_house: House) -> None:
    admin, mine = any_house.api(ADMIN), any_house.mine
    branch = any_house.api(branch_of(any_house).secret_key)
    admin.ok("PATCH", f"/organizations/{any_house.organization(mine, 'closed').tenant}", {"active": False})
    apis = (any_house.secret, any_house.publishable, branch)
    for api in apis:
        assert api.call("GET", "/devices/x").status_code == 404
    assert any_house.secret.ok("PATCH", f"/products/{mine.tenant}", {"active": False})["active"] is False
    assert [api.call("GET", "/devices/x").status_code for api in apis] == [401, 401, 401]
    assert any_house.stranger.call("GET", "/devices/x").status_code == 404
    assert admin.ok("GET", f"/organizations/{branch_of(any_house).tenant}")["active"] is True
    admin.ok("PATCH", f"/products/{mine.tenant}", {"active": True})
    assert [api.call("GET", "/devices/x").status_code for api in apis] == [404, 404, 404]
    names = {o["name"]: o["active"] for o in admin.ok("GET", f"/products/{mine.tenant}/organizations")["items"]}
    assert names == {"branch": True, "closed": False}


def test_an_inactive_organization_is_refused_and_not_acted_for(any_house: House) -> None:
    branch = branch_of(any_house)
    acting = {"headers": {HEADER: branch.tenant}}
    any_house.secret.ok("GET", "/notifications", **acting)
    any_house.api(branch.secret_key).ok("GET", "/notifications")
    any_house.secret.ok("PUT", f"/organizations/{branch.tenant}", {"name": "branch", "active": False})
    assert any_house.secret.call("GET", "/notifications", **acting).status_code == 404
    assert any_house.api(branch.secret_key).call("GET", "/notifications").status_code == 401
    any_house.secret.ok("GET", "/notifications")


def test_who_may_what(any_house: House) -> None:
    branch = branch_of(any_house)
    own, product = any_house.api(branch.secret_key), any_house.mine.tenant
    sister = any_house.organization(any_house.mine, "sister").tenant
    theirs = any_house.organization(any_house.other, "theirs").tenant
    here = f"/organizations/{branch.tenant}"
    assert own.call("GET", here).status_code == 200
    assert own.call("PATCH", here, {"name": "x"}).status_code == 403
    assert own.call("PUT", here, {"name": "x", "active": False}).status_code == 403
    made = own.ok("POST", f"{here}/keys", {"scope": "secret"})
    assert own.call("DELETE", f"{here}/keys/{made['key_id']}").status_code == 204
    for path in (f"/products/{product}", f"/organizations/{sister}", f"/organizations/{theirs}"):
        assert own.call("GET", path).status_code == 404
        assert own.call("PATCH", path, {"name": "x"}).status_code == 404
        assert own.call("POST", f"{path}/keys", {"scope": "secret"}).status_code == 404
        assert own.call("GET", f"{path}/keys").status_code == 404
    assert own.call("POST", f"/products/{product}/organizations", {"name": "x"}).status_code == 404
    assert any_house.secret.call("GET", f"/organizations/{theirs}").status_code == 404
    assert any_house.secret.call("GET", f"/products/{any_house.other.tenant}").status_code == 404
    assert any_house.secret.call("GET", f"/products/{branch.tenant}").status_code == 404, "is no product"
    assert any_house.api(ADMIN).call("GET", f"/organizations/{product}").status_code == 404, "is no organization"
    # Acting for an organization is being it.
    acting = {"headers": {HEADER: branch.tenant}}
    assert any_house.secret.call("PATCH", here, {"name": "x"}, **acting).status_code == 403
    assert any_house.secret.call("GET", f"/products/{product}", **acting).status_code == 404
    assert any_house.api(ADMIN).call("GET", here, **acting).status_code == 404


def test_a_key_is_made_shown_once_and_revoked(any_house: House) -> None:
    path = f"/products/{any_house.mine.tenant}/keys"
    answered = any_house.secret.call("POST", path, {"scope": "publishable", "label": "app"})
    made = answered.json
    assert answered.status_code == 201 and made is not None and answered.headers["Cache-Control"] == "no-store"
    assert made["key"].startswith("npk_") and made["rotated"] is None
    api = any_house.api(made["key"])
    api.ok("POST", "/devices", registration())
    assert api.call("GET", "/notifications").status_code == 403
    listed = any_house.secret.call("GET", path)
    assert made["key"] not in listed.text and keys_digest(made["key"]) not in listed.text
    (shown,) = (k for k in listed.json["items"] if k["key_id"] == made["key_id"])  # type: ignore[index]
    assert (shown["label"], shown["scope"], shown["revoked_at"]) == ("app", "publishable", None)
    assert any_house.secret.call("DELETE", f"{path}/{made['key_id']}").status_code == 204
    assert api.call("GET", "/devices/dGhl:APA91b").status_code == 401
    (shown,) = (k for k in any_house.secret.ok("GET", path)["items"] if k["key_id"] == made["key_id"])
    assert shown["revoked_at"] is not None
    assert any_house.secret.call("DELETE", f"{path}/{made['key_id']}").status_code == 204, "again"
    assert any_house.stranger.call("DELETE", f"{path}/{made['key_id']}").status_code == 404
    theirs = f"/products/{any_house.other.tenant}/keys/{made['key_id']}"
    assert any_house.stranger.call("DELETE", theirs).status_code == 404
    assert fields_of(any_house.secret.call("POST", path, {"rotate": made["key_id"]})) == {"rotate"}


def keys_digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode()).hexdigest()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scope"),
        ({"label": "x"}, "scope"),
        ({"scope": "admin"}, "scope"),
        ({"scope": "secret", "rotate": "0" * 32}, "rotate"),
        ({"scope": "secret", "overlap_s": 1}, "overlap_s"),
        ({"rotate": "0" * 32}, "rotate"),
        ({"rotate": "x"}, "rotate"),
        ({"rotate": "0" * 32, "overlap_s": -1}, "overlap_s"),
        ({"rotate": "0" * 32, "overlap_s": 10**9}, "overlap_s"),
        ({"scope": "secret", "label": ""}, "label"),
    ],
)
def test_a_key_that_cannot_be_made(house: House, body: dict[str, Any], field: str) -> None:
    answered = house.secret.call("POST", f"/products/{house.mine.tenant}/keys", body)
    assert (answered.status_code, fields_of(answered)) == (422, {field})


def test_the_last_secret_key_may_revoke_itself_and_an_admin_makes_another(any_house: House) -> None:
    path = f"/products/{any_house.other.tenant}/keys"
    listed = any_house.stranger.ok("GET", path)["items"]
    (mine,) = (k["key_id"] for k in listed if k["scope"] == "secret")
    assert any_house.stranger.call("DELETE", f"{path}/{mine}").status_code == 204
    assert any_house.stranger.call("GET", path).status_code == 401
    made = any_house.api(ADMIN).ok("POST", path, {"scope": "secret"})
    any_house.api(made["key"]).ok("GET", path)


def test_a_rotated_key_is_good_until_the_overlap_ends(any_house: House) -> None:
    path = f"/organizations/{branch_of(any_house).tenant}/keys"
    old = any_house.api(branch_of(any_house).secret_key)
    (key_id,) = (k["key_id"] for k in old.ok("GET", path)["items"] if k["scope"] == "secret")
    made = old.ok("POST", path, {"rotate": key_id, "overlap_s": 3600, "label": "2027"})
    assert (made["scope"], made["label"], made["rotated"]["key_id"]) == ("secret", "2027", key_id)
    new = any_house.api(made["key"])
    any_house.clock.advance(seconds=3599)
    old.ok("GET", "/notifications")
    again = old.ok("POST", path, {"rotate": key_id, "overlap_s": 3600})
    assert again["rotated"]["expires_at"] == made["rotated"]["expires_at"], "an end is not put off"
    old.ok("GET", "/notifications")
    # Nobody does anything to the key: the time alone ends it, also where it is remembered.
    any_house.clock.advance(seconds=1)
    assert old.call("GET", "/notifications").status_code == 401
    assert fields_of(new.call("POST", path, {"rotate": key_id})) == {"rotate"}
    third = new.ok("POST", path, {"rotate": made["key_id"], "overlap_s": 0})
    assert new.call("GET", "/notifications").status_code == 401
    assert third["label"] == "2027"
    any_house.api(third["key"]).ok("GET", "/notifications")


def test_last_use_is_noted_in_time(any_house: House) -> None:
    path = f"/products/{any_house.mine.tenant}/keys"
    any_house.secret.ok("GET", "/notifications")
    assert {k["last_used_at"] for k in any_house.api(ADMIN).ok("GET", path)["items"]} == {None}, "not at each request"

    def used() -> dict[str, Any]:
        return {k["scope"]: k["last_used_at"] for k in any_house.api(ADMIN).ok("GET", path)["items"]}

    wait_for(lambda: used()["secret"] is not None)
    assert used() == {"secret": "2026-11-21T06:33:59.123456Z", "publishable": None}
    any_house.publishable.call("GET", "/devices/x")
    any_house.services.close()
    with Ledger.open(any_house.services.settings.ledger_dsn) as ledger:
        stored = {key.scope: key.last_used_at for key in keys.list_page(ledger, any_house.mine.tenant)}
    assert None not in stored.values(), "noted at the end too"


def test_every_act_is_audited_with_the_key_that_did_it(any_house: House) -> None:
    admin = any_house.api(ADMIN)
    made = admin.ok("POST", "/products", {"name": "P"})
    path, api = f"/products/{made['product_id']}", any_house.api(made["secret_key"])
    second = api.ok("POST", f"{path}/keys", {"scope": "secret"})["key_id"]
    api.ok("POST", f"{path}/keys", {"rotate": second, "overlap_s": 9})
    api.call("DELETE", f"{path}/keys/{second}")
    api.call("DELETE", f"{path}/keys/{second}")
    api.ok("POST", f"{path}/organizations", {"name": "O"})
    admin.ok("PATCH", path, {"name": "Q", "active": False})
    admin.ok("PATCH", path, {"active": False})
    admin.ok("PATCH", path, {"active": True})
    rows = sorted(admin.ok("GET", "/audit?limit=500")["items"], key=lambda row: row["audit_id"])
    found = [row for row in rows if row["event"].split(".")[0] in ("tenant", "key")]
    first = [n for n, row in enumerate(found) if row["event"] == "tenant.created"][-2]
    ledger = any_house.services.ledger
    by = {ADMIN: "admin", made["secret_key"]: "product"}
    ids = {info.key_id: by[key] for key in by if (info := keys.find(ledger, key))}
    assert [(row["event"], ids[row["actor"]]) for row in found[first:]] == [
        ("tenant.created", "admin"),
        ("key.created", "admin"),
        ("key.created", "admin"),
        ("key.created", "product"),
        ("key.created", "product"),
        ("key.rotated", "product"),
        ("key.revoked", "product"),
        ("tenant.created", "product"),
        ("key.created", "product"),
        ("key.created", "product"),
        ("tenant.renamed", "admin"),
        ("tenant.deactivated", "admin"),
        ("tenant.reactivated", "admin"),
    ]
    assert found[first + 7]["detail"] == {"name": "O", "parent": made["product_id"]}
    assert made["secret_key"] not in str(found)

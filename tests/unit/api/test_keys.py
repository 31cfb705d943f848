"""Keys over the in-memory doubles: what each scope opens, on every route of every protocol."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from maskline.keys import Scope
from tests.unit.api.conftest import Api, told

OPEN = {
    "/",
    "/docs",
    "/docs/",
    "/docs/<path:path>",
    "/docs/dist/<path:filename>",
    "/healthz",
    "/info",
    "/label-studio/<path:model_id>/webhook",
    "/label-studio/webhook",
    "/openapi.json",
    "/readyz",
    "/v1/artifacts/<path:key>",
}
"""Routes to look at without a key."""
PROJECT = "/<version>/projects/<project>/locations/<location>"


def make(api: Api, *scopes: Scope, tenant: str = "default") -> dict[str, str]:
    """Headers with a new key."""
    asked = {"name": "one", "tenant": tenant, "scopes": scopes}
    answer = api.client.post("/v1/keys", json=asked)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {told(answer)['key']}"}


def routes(api: Api) -> Iterator[tuple[str, str]]:
    """Every rule, and each of its methods."""
    for rule in api.client.application.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield rule.rule, method


def path_of(rule: str) -> str:
    """Something at a rule that is not there."""
    return re.sub(r"<[^>]+>", "x0", rule.replace("<int:number>", "1"))


def needed(rule: str, method: str) -> Scope | None:
    """What a route should need."""
    if rule in OPEN and (rule != "/" or method != "POST"):
        return None
    if rule.startswith("/v1/keys"):
        return Scope.ADMIN
    if rule == "/<dataset:dataset_id>/<version_id>":
        return Scope.SUBMIT  # by GET too
    return Scope.READ if method in ("GET", "HEAD") else Scope.SUBMIT


@pytest.mark.parametrize("scope", Scope)
def test_a_key_opens_what_its_scope_says_and_nothing_else(api: Api, scope: Scope) -> None:
    mine = make(api, scope)
    seen = set()
    for rule, method in routes(api):
        path, need = path_of(rule), needed(rule, method)
        answer = api.client.open(path, method=method, headers=mine)
        is_refused = answer.status_code == 403
        reads_too = rule.startswith("/v1/webhooks") and scope is not Scope.READ
        assert is_refused == (need not in (None, scope) or reads_too), (method, path, answer.text)
        nobody = api.client.open(path, method=method, headers={"Authorization": ""})
        assert (nobody.status_code == 401) == (need is not None), (method, path, nobody.text)
        seen.add(need)
    assert seen == {None, *Scope}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/jobs", lambda told: told["code"] == "forbidden"),
        (f"{PROJECT}/endpoints/x:predict", lambda told: told["error"]["status"] == "PERMISSION_DENIED"),
        ("/models/grabcut", lambda told: "scope 'submit'" in told["error"]),
        ("/infer/instance_segmentation", lambda told: "scope 'submit'" in told["message"]),
    ],
)
def test_a_refusal_is_told_as_the_protocol_tells_it(api: Api, path: str, code: Any) -> None:
    path = path.replace("<version>", "v1")
    answer = api.client.post(path, headers=make(api, Scope.READ), json={})
    assert answer.status_code == 403
    assert code(told(answer))


def test_a_new_key_submits_and_reads_for_the_default_tenant(api: Api) -> None:
    made = told(api.client.post("/v1/keys", json={"name": "lab"}))
    assert (made["tenant"], made["scopes"]) == ("default", ["submit", "read"])
    [listed] = told(api.client.get("/v1/keys"))["keys"]
    assert {**listed, "key": made["key"]} == made


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("tenant", "a:queued", "a-z"),  # would name another tenant's keys in Redis
        ("tenant", "", "a-z"),
        ("tenant", "A", "a-z"),
        ("scopes", [], "at least 1"),
        ("scopes", ["write"], "'submit', 'read' or 'admin'"),
    ],
)
def test_what_is_no_tenant_or_scope_is_refused(api: Api, field: str, value: Any, words: str) -> None:
    answer = api.client.post("/v1/keys", json={"name": "lab", field: value})
    assert answer.status_code == 422
    assert words in answer.text


def test_an_administrator_of_keys_makes_others(api: Api) -> None:
    mine = make(api, Scope.ADMIN, tenant="lab")
    made = api.client.post("/v1/keys", json={"name": "other", "tenant": "t2"}, headers=mine)
    assert made.status_code == 201
    assert api.client.delete(f"/v1/keys/{told(made)['id']}", headers=mine).status_code == 204


@pytest.mark.parametrize("secret", ["", "0" * 48, "é" * 48])
def test_a_key_with_another_secret_is_none(api: Api, secret: str) -> None:
    right = make(api, Scope.READ)["Authorization"]
    wrong = f"{right.rpartition('_')[0]}_{secret}"
    for header, key in (("Authorization", wrong), ("X-API-Key", wrong.removeprefix("Bearer "))):
        answer = api.client.get("/v1/jobs", headers={"Authorization": "", header: key})
        assert (answer.status_code, told(answer)["code"]) == (401, "unauthenticated")


def test_keys_are_in_the_bucket_until_they_are_revoked(api: Api) -> None:
    made = told(api.client.post("/v1/keys", json={"name": "lab"}))
    assert list(api.artifacts.keys("keys/")) == [f"keys/{made['id']}.json"]
    assert api.client.delete(f"/v1/keys/{made['id']}").status_code == 204
    assert list(api.artifacts.keys("keys/")) == []
    assert api.client.delete(f"/v1/keys/{made['id']}").status_code == 404

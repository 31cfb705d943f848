"""The OpenAPI document: valid, whole, and true."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.unit.api.conftest import PNG, Api, told

UNDOCUMENTED = {"/openapi.json", "/docs"}  # and the way from / to the latter


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer = api.client.get("/openapi.json", headers={"Authorization": ""})
    assert answer.status_code == 200
    return dict(told(answer))


def test_it_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_in_it(api: Api, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in api.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if (rule.rule, method) != ("/", "GET") and not rule.rule.startswith(tuple(UNDOCUMENTED))
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described == routes


def test_every_answer_is_as_it_says(api: Api, document: dict[str, Any]) -> None:
    ended = api.submit()
    api.finish(ended)
    waiting = api.submit()
    schemas: Registry[Any] = Registry().with_resource("urn:api", DRAFT202012.create_resource(document))
    for method, path, route in (
        ("post", "/v1/jobs", "/v1/jobs"),
        ("get", f"/v1/jobs/{waiting}", "/v1/jobs/{job_id}"),
        ("get", f"/v1/jobs/{ended}", "/v1/jobs/{job_id}"),
        ("get", f"/v1/jobs/{ended}/prediction", "/v1/jobs/{job_id}/prediction"),
        ("get", f"/v1/jobs/{waiting}/prediction", "/v1/jobs/{job_id}/prediction"),
        ("get", f"/v1/jobs/{ended}/segments", "/v1/jobs/{job_id}/segments"),
        ("get", "/v1/jobs", "/v1/jobs"),
        ("get", "/v1/jobs?pageSize=0", "/v1/jobs"),
        ("get", "/v1/jobs/none", "/v1/jobs/{job_id}"),
        ("post", f"/v1/jobs/{waiting}:cancel", "/v1/jobs/{job_id}:cancel"),
        ("get", "/v1/models", "/v1/models"),
        ("get", "/v1/models/grabcut", "/v1/models/{model_id}"),
        ("get", "/v1/keys", "/v1/keys"),
        ("get", "/v1/webhooks", "/v1/webhooks"),
        ("get", "/v1/webhooks/none", "/v1/webhooks/{webhook_id}"),
        ("get", "/v1/webhooks/deadLetters", "/v1/webhooks/deadLetters"),
        ("post", "/v1/webhooks/deadLetters/none:replay", "/v1/webhooks/deadLetters/{letter_id}:replay"),
        ("get", "/healthz", "/healthz"),
        ("get", "/readyz", "/readyz"),
    ):
        body = PNG if route == "/v1/jobs" and method == "post" else None
        answer = api.client.open(path, method=method.upper(), data=body, content_type="image/png")
        described = document["paths"][route][method]["responses"][str(answer.status_code)]
        [(media_type, content)] = described["content"].items()
        assert answer.mimetype == media_type
        schema = json.loads(json.dumps(content["schema"]).replace('"#/', '"urn:api#/'))
        Draft202012Validator(schema, registry=schemas).validate(told(answer))


def test_each_operation_names_the_scope_that_it_needs(document: dict[str, Any]) -> None:
    paths = document["paths"]
    for path, method, scope in (
        ("/v1/jobs", "post", "submit"),
        ("/v1/jobs/{job_id}", "get", "read"),
        ("/v1/keys", "get", "admin"),
        ("/{dataset_id}/{version_id}", "get", "submit"),
    ):
        required = paths[path][method]["security"]
        assert [name for one in required for name in one] == list(document["components"]["securitySchemes"])
        assert all(one == [scope] for way in required for one in way.values())
    assert paths["/healthz"]["get"]["security"] == []


def test_the_page_needs_no_key_and_nothing_from_elsewhere(api: Api) -> None:
    page = api.client.get("/", headers={"Authorization": ""}, follow_redirects=True)
    assert page.status_code == 200
    assert "Maskline" in page.text
    assert "https://" not in page.text


def test_what_else_an_answer_may_be_and_that_a_body_may_be_left_out(document: dict[str, Any]) -> None:
    legacy = document["paths"]["/{dataset_id}/{version_id}"]["post"]
    assert set(legacy["responses"]["200"]["content"]) == {"application/json", "image/jpeg"}
    assert legacy["requestBody"]["required"] is False
    embed = document["paths"]["/sam/embed_image"]["post"]
    assert set(embed["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    assert embed["requestBody"]["required"] is True

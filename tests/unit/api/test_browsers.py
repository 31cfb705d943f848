"""What browsers are told: of every answer, of the documentation page, and of pages of other origins."""

import re

import pytest
from werkzeug.test import TestResponse

from tests.unit.api.conftest import ADMIN_KEY, PNG, Api, MakeApi, told
from tests.unit.api.test_keys import path_of, routes

APP = "https://app.example.com"
OTHER = "https://app.example.com.evil.example"
NOBODY = {"Authorization": ""}


@pytest.mark.parametrize("headers", [{}, NOBODY], ids=["with a key", "without"])
def test_every_answer_is_guarded(api: Api, headers: dict[str, str]) -> None:
    for rule, method in [*routes(api), ("/nothing/at/all", "GET"), ("/healthz", "PUT")]:
        answer = api.client.open(path_of(rule), method=method, headers=headers)
        told_of = answer.headers
        assert told_of["X-Content-Type-Options"] == "nosniff", rule
        assert told_of["Referrer-Policy"] == "no-referrer", rule
        assert "default-src 'none'" in told_of["Content-Security-Policy"], rule
        assert "frame-ancestors 'none'" in told_of["Content-Security-Policy"], rule
        is_public = rule.startswith("/docs/") and answer.status_code == 200
        assert is_public or "no-store" in told_of["Cache-Control"], rule
        assert "Access-Control-Allow-Origin" not in told_of, rule


def test_results_are_not_kept(api: Api) -> None:
    job = api.finish(api.submit())
    url = told(api.client.get(f"/v1/jobs/{job.id}"))["prediction"]["categoryMask"]
    for path in (f"/v1/jobs/{job.id}", f"/v1/jobs/{job.id}/categoryMask.png", url):
        answer = api.client.get(path)
        assert answer.status_code == 200
        assert "no-store" in answer.headers["Cache-Control"]


def test_the_documentation_page_runs_its_own_scripts_alone(api: Api) -> None:
    page = api.client.get("/docs/")
    policy = page.headers["Content-Security-Policy"]
    [scripts] = re.findall(r"script-src ([^;]+);", policy)
    assert re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/]{43}='", scripts)
    assert len(re.findall(r"<script>", page.text)) == 1, "each inline script needs its hash"
    assert not re.findall(r"\son\w+=", page.text), "handlers in attributes would not run"
    assert "Content-Length" in page.headers


@pytest.fixture
def open_to_app(make_api: MakeApi) -> Api:
    return make_api(cors_origins=f"{APP}, http://localhost:3000")


def preflight(api: Api, origin: str, path: str = "/v1/jobs", method: str = "POST") -> TestResponse:
    headers = {
        "Authorization": "",
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type,idempotency-key",
    }
    return api.client.options(path, headers=headers)


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
def test_a_listed_page_may_call_on_every_route(open_to_app: Api, origin: str) -> None:
    for rule, method in routes(open_to_app):
        answer = preflight(open_to_app, origin, path_of(rule), method)
        assert (answer.status_code, answer.data) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type,idempotency-key"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


def test_a_listed_page_reads_answers_and_errors(open_to_app: Api) -> None:
    for headers, status in (({}, 202), (NOBODY, 401)):
        answer = open_to_app.client.post(
            "/v1/jobs", data=PNG, content_type="image/png", headers=headers | {"Origin": APP}
        )
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert {"Location", "Retry-After"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.parametrize("origin", [OTHER, "null", "*", "http://app.example.com", f"{APP}:8443", APP.upper()])
def test_other_pages_may_not(open_to_app: Api, origin: str) -> None:
    asked = preflight(open_to_app, origin)
    answered = open_to_app.client.get("/v1/jobs", headers={"Origin": origin})
    assert (asked.status_code, answered.status_code) == (401, 200)
    for answer in (asked, answered):
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin", "a cache must not give it to a listed page"


def test_no_page_may_unless_the_settings_list_it(api: Api) -> None:
    assert preflight(api, APP).status_code == 401
    answer = api.client.get("/v1/jobs", headers={"Origin": APP})
    assert not {"Access-Control-Allow-Origin", "Vary"} & set(answer.headers.keys())


def test_what_is_no_list_of_headers_is_not_given_back(open_to_app: Api) -> None:
    headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "a: b",
        "Authorization": f"Bearer {ADMIN_KEY}",
    }
    answer = open_to_app.client.options("/v1/jobs", headers=headers)
    assert answer.status_code == 204
    assert "Access-Control-Allow-Headers" not in answer.headers

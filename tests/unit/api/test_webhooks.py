"""Webhooks by the API: registered, changed, rotated, tested, removed; dead letters listed and replayed."""

import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.keys import make_key
from maskline.webhooks import MAX_ENDPOINTS, TEST_EVENT, Delivery, DeliveryOutcome
from tests.factories import SECRET
from tests.unit.api.conftest import Api, MakeApi, told

URL = "https://receiver.test/hook"
ENDS = ["succeeded", "failed", "cancelled"]
EVERY_END = ["job.succeeded", "job.failed", "job.cancelled", "job.expired", *(f"batch.{end}" for end in ENDS)]


def create(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/webhooks", json={"url": URL} | fields)
    assert answer.status_code == 201, answer.text
    return dict(told(answer))


def outbox_of(api: Api) -> MemoryOutbox:
    assert isinstance(api.services.outbox, MemoryOutbox)
    return api.services.outbox


def due(api: Api) -> list[Delivery]:
    return outbox_of(api).due(100, 0)


def bury(api: Api, count: int = 1) -> list[str]:
    """Ids of new dead letters."""
    ids = []
    for _ in range(count):
        api.finish(api.submit())
        for delivery in due(api):
            outbox_of(api).bury(delivery.model_copy(update={"tries": 10, "problem": "no"}))
            ids.append(delivery.id)
        time.sleep(0.002)
    return ids


def secrets_of(api: Api, webhook: dict[str, Any]) -> list[str]:
    endpoint = api.services.webhooks.get("default", webhook["id"])
    return [one.secret for one in endpoint.valid_secrets(time.time_ns() // 1_000_000)]


def test_a_webhook_is_shown_with_its_secret_once(api: Api) -> None:
    answer = api.client.post("/v1/webhooks", json={"url": URL, "description": "ours"})
    made = told(answer)
    assert answer.headers["Location"] == f"/v1/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    assert (made["events"], made["enabled"], made["description"]) == (EVERY_END, True, "ours")
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert told(api.client.get(f"/v1/webhooks/{made['id']}")) == shown
    assert told(api.client.get("/v1/webhooks")) == {"webhooks": [shown]}
    given = create(api, secret=SECRET, events=["job.started", "job.started"])
    assert (given["secret"], given["events"]) == (SECRET, ["job.started"])


def test_every_job_is_told_of(api: Api) -> None:
    webhook = create(api)
    job = api.finish(api.submit())
    [delivery] = due(api)
    assert (delivery.subject, delivery.endpoint) == (job.id, webhook["id"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "ftp://x.test"}, "/url"),
        ({"url": URL, "events": []}, "/events"),
        ({"url": URL, "events": ["job.done"]}, "/events/0"),
        ({"url": URL, "secret": "whsec_short"}, "/secret"),
        ({"url": URL, "secret": "whsec_A=" + "A" * 32}, "/secret"),
        ({"url": URL, "description": "x" * 257}, "/description"),
        ({"url": URL, "tenant": "other"}, "/tenant"),
    ],
)
def test_what_is_wrong_is_told(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in told(answer)["errors"]] == [pointer]


def test_a_body_that_is_no_json_is_refused(api: Api) -> None:
    webhook = create(api)
    for method, path in (
        ("POST", ""),
        ("PATCH", f"/{webhook['id']}"),
        ("POST", f"/{webhook['id']}:rotate"),
        ("POST", "/deadLetters:replay"),
    ):
        assert api.client.open(f"/v1/webhooks{path}", method=method, data=b"{").status_code == 400
        large = api.client.open(f"/v1/webhooks{path}", method=method, data=b"x" * 100_000)
        assert large.status_code == 413


def test_there_may_be_so_many_and_no_more(api: Api) -> None:
    webhooks = [create(api) for _ in range(MAX_ENDPOINTS)]
    refused = api.client.post("/v1/webhooks", json={"url": URL})
    assert (refused.status_code, told(refused)["code"]) == (409, "too_many_webhooks")
    api.client.delete(f"/v1/webhooks/{webhooks[0]['id']}")
    create(api)


def test_a_webhook_is_changed_disabled_and_enabled(api: Api) -> None:
    path = f"/v1/webhooks/{create(api)['id']}"
    changed = told(api.client.patch(path, json={"url": f"{URL}/2", "events": ["batch.failed"]}))
    assert (changed["url"], changed["events"], changed["enabled"]) == (f"{URL}/2", ["batch.failed"], True)
    disabled = told(api.client.patch(path, json={"enabled": False}))
    assert (disabled["enabled"], disabled["disabled"]["reason"]) == (False, "client")
    assert told(api.client.patch(path, json={"enabled": False})) == disabled
    assert told(api.client.patch(path, json={"enabled": None, "description": "x"}))["enabled"] is False
    enabled = told(api.client.patch(path, json={"enabled": True}))
    assert enabled == changed | {"description": "x"}
    assert told(api.client.get(path)) == enabled


def test_a_new_secret_leaves_the_old_one_a_while(api: Api) -> None:
    webhook = create(api)
    path = f"/v1/webhooks/{webhook['id']}:rotate"
    rotated = told(api.client.post(path))
    assert secrets_of(api, webhook) == [rotated["secret"], webhook["secret"]]
    assert "oldSecretEndsAt" in rotated
    again = told(api.client.post(path, json={"secret": SECRET, "keepOldFor": 60}))
    assert again["secret"] == SECRET
    assert secrets_of(api, webhook) == [SECRET, rotated["secret"], webhook["secret"]]
    at_once = told(api.client.post(path, json={"keepOldFor": 0}))
    assert secrets_of(api, webhook) == [at_once["secret"]]
    assert "oldSecretEndsAt" not in at_once
    assert api.client.post(path, json={"keepOldFor": 604_801}).status_code == 422


def test_no_secret_ends_before_its_time_however_many_follow(api: Api) -> None:
    webhook = create(api)
    path = f"/v1/webhooks/{webhook['id']}:rotate"
    secrets = [webhook["secret"]]
    for keep_s in (3600, 60, 3600, 3600):
        secrets.insert(0, told(api.client.post(path, json={"keepOldFor": keep_s}))["secret"])
    refused = api.client.post(path)
    assert (refused.status_code, told(refused)["code"]) == (409, "too_many_secrets")
    assert "keepOldFor 0" in told(refused)["detail"]
    assert secrets_of(api, webhook) == secrets
    at_once = told(api.client.post(path, json={"keepOldFor": 0}))
    assert secrets_of(api, webhook) == [at_once["secret"]]


def test_a_removed_webhook_is_gone(api: Api) -> None:
    path = f"/v1/webhooks/{create(api)['id']}"
    assert api.client.delete(path).status_code == 204
    for method, suffix in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", ":rotate"),
        ("POST", ":test"),
    ):
        answer = api.client.open(path + suffix, method=method, json={})
        assert (answer.status_code, told(answer)["code"]) == (404, "webhook_not_found")
    api.finish(api.submit())
    assert due(api) == []


def test_another_tenant_sees_nothing(api: Api) -> None:
    webhook = create(api)
    [letter] = bury(api)
    record, key = make_key("foreign")
    api.services.keys.add(record.model_copy(update={"tenant": "other"}))
    headers = {"Authorization": f"Bearer {key}"}
    path = f"/v1/webhooks/{webhook['id']}"
    for method, at in (
        ("GET", path),
        ("PATCH", path),
        ("DELETE", path),
        ("POST", f"{path}:rotate"),
        ("POST", f"{path}:test"),
        ("POST", f"/v1/webhooks/deadLetters/{letter}:replay"),
    ):
        assert api.client.open(at, method=method, json={}, headers=headers).status_code == 404, at
    assert told(api.client.get("/v1/webhooks", headers=headers)) == {"webhooks": []}
    assert told(api.client.get("/v1/webhooks/deadLetters", headers=headers)) == {"deadLetters": []}
    replay = {"since": "2020-01-01T00:00:00Z"}
    answer = api.client.post("/v1/webhooks/deadLetters:replay", json=replay, headers=headers)
    assert told(answer) == {"replayed": 0}
    assert len(told(api.client.get("/v1/webhooks/deadLetters"))["deadLetters"]) == 1


# --- tests


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (DeliveryOutcome(status=204), {"delivered": True, "status": 204}),
        (
            DeliveryOutcome(status=500, problem="it answered with status 500"),
            {"delivered": False, "status": 500, "problem": "it answered with status 500"},
        ),
        (
            DeliveryOutcome(problem="not a public host"),
            {"delivered": False, "problem": "not a public host"},
        ),
    ],
)
def test_the_answer_to_a_test_is_told(api: Api, outcome: DeliveryOutcome, expected: dict[str, Any]) -> None:
    webhook = create(api)

    def work() -> None:
        while not (waiting := due(api)):
            time.sleep(0.01)
        outbox_of(api).tested(waiting[0], outcome)

    worker = threading.Thread(target=work)
    worker.start()
    answer = api.client.post(f"/v1/webhooks/{webhook['id']}:test")
    worker.join()
    assert answer.status_code == 200
    event_id = told(answer).pop("eventId")
    assert event_id.endswith("_test")
    assert told(answer) == expected | {"eventId": event_id}


def test_without_a_worker_there_is_no_answer_to_a_test(make_api: MakeApi) -> None:
    api = make_api(max_wait="0.1")
    webhook = create(api)
    answer = api.client.post(f"/v1/webhooks/{webhook['id']}:test")
    assert (answer.status_code, told(answer)["code"]) == (503, "webhook_not_tested")
    assert "Retry-After" in answer.headers
    assert [one.type for one in due(api)] == [TEST_EVENT]


# --- dead letters


def listed(client: FlaskClient, query: str = "") -> list[str]:
    return [letter["id"] for letter in told(client.get(f"/v1/webhooks/deadLetters{query}"))["deadLetters"]]


def test_dead_letters_are_listed_in_pages(api: Api) -> None:
    webhook = create(api)
    ids = bury(api, 3)
    page = told(api.client.get("/v1/webhooks/deadLetters?pageSize=2"))
    letter = page["deadLetters"][0]
    assert letter.pop("happenedAt") <= letter.pop("buriedAt")
    assert letter == {
        "id": ids[2],
        "eventId": ids[2].partition(".")[0],
        "type": "job.succeeded",
        "webhook": webhook["id"],
        "subject": ids[2].split("_")[1],
        "version": 3,
        "tries": 10,
        "problem": "no",
    }
    assert listed(api.client, f"?pageSize=2&pageToken={page['nextPageToken']}") == [ids[0]]
    assert listed(api.client, f"?webhook={webhook['id']}") == ids[::-1]
    assert listed(api.client, "?webhook=wh_none") == []
    wrong = api.client.get("/v1/webhooks/deadLetters?pageToken=x&pageSize=0")
    assert sorted(fault["parameter"] for fault in told(wrong)["errors"]) == ["pageSize", "pageToken"]


def test_one_dead_letter_is_sent_again(api: Api) -> None:
    create(api)
    first, second = bury(api, 2)
    path = f"/v1/webhooks/deadLetters/{first}:replay"
    assert told(api.client.post(path)) == {"replayed": 1}
    assert [delivery.id for delivery in due(api)] == [first]
    assert listed(api.client) == [second]
    again = api.client.post(path)
    assert (again.status_code, told(again)["code"]) == (404, "dead_letter_not_found")


def test_dead_letters_of_a_disabled_webhook_are_not_sent(api: Api) -> None:
    webhook = create(api)
    [letter] = bury(api)
    api.client.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": False})
    body = {"since": "2020-01-01T00:00:00Z", "webhook": webhook["id"]}
    for answer in (
        api.client.post(f"/v1/webhooks/deadLetters/{letter}:replay"),
        api.client.post("/v1/webhooks/deadLetters:replay", json=body),
    ):
        assert (answer.status_code, told(answer)["code"]) == (409, "webhook_disabled")
    body.pop("webhook")
    assert told(api.client.post("/v1/webhooks/deadLetters:replay", json=body)) == {"replayed": 0}
    assert listed(api.client) == [letter]
    api.client.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": True})
    assert told(api.client.post(f"/v1/webhooks/deadLetters/{letter}:replay")) == {"replayed": 1}


def test_dead_letters_of_a_removed_webhook_stay(api: Api) -> None:
    webhook = create(api)
    [letter] = bury(api)
    api.client.delete(f"/v1/webhooks/{webhook['id']}")
    gone = api.client.post(f"/v1/webhooks/deadLetters/{letter}:replay")
    assert (gone.status_code, told(gone)["code"]) == (404, "dead_letter_not_found")
    body = {"since": "2020-01-01T00:00:00Z"}
    assert told(api.client.post("/v1/webhooks/deadLetters:replay", json=body)) == {"replayed": 0}
    assert listed(api.client) == [letter]


def test_the_dead_letters_of_a_time_are_sent_again(api: Api) -> None:
    webhook = create(api)
    ids = bury(api, 3)
    page = told(api.client.get("/v1/webhooks/deadLetters"))["deadLetters"]
    path = "/v1/webhooks/deadLetters:replay"
    times = {"since": page[2]["buriedAt"], "until": page[1]["buriedAt"]}
    nobody = api.client.post(path, json=times | {"webhook": "wh_none"})
    assert (nobody.status_code, told(nobody)["code"]) == (404, "webhook_not_found")
    assert told(api.client.post(path, json=times | {"webhook": webhook["id"]})) == {"replayed": 1}
    assert [delivery.id for delivery in due(api)] == ids[:1]
    assert told(api.client.post(path, json={"since": "2020-01-01T00:00:00+01:00"})) == {"replayed": 2}
    assert listed(api.client) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/since"),
        ({"since": "2020-01-01T00:00:00"}, "/since"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "2999-01-01T00:00:00Z"}, "/since"),
        ({"since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "/since"),
        ({"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-14:00", "x": 1}, "/x"),
    ],
)
def test_a_time_that_is_none_is_refused(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post("/v1/webhooks/deadLetters:replay", json=body)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in told(answer)["errors"]] == [pointer]


def test_every_time_that_there_is_can_be_asked_for(api: Api) -> None:
    body = {"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-14:00"}
    assert told(api.client.post("/v1/webhooks/deadLetters:replay", json=body)) == {"replayed": 0}

"""Batches of the native API over the doubles: what is taken, refused, shown, steered and read."""

import json
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.batch_artifacts import RECORDS, Shard, pack_key, part_key, problems_key, shard_key, summary_key
from maskline.batches import (
    Batch,
    BatchState,
    ChunkEnd,
    ChunkKey,
    ChunkPlan,
    ItemForm,
    SourceKind,
)
from maskline.errors import ArtifactStoreUnavailable
from maskline.keys import Scope
from maskline.requests import Output, Priority
from tests.factories import make_card
from tests.unit.api.conftest import Api, MakeApi, told
from tests.unit.api.test_keys import make

BATCHES = "/v1/batches"
ITEM = {"image": "s3://imports/a.png"}
LINES = b'{"image": "s3://imports/a.png"}\n{"image": "s3://imports/b.png"}\n'
BOX = {"label": "cup", "box": [1, 2, 30, 40]}


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    made = make_api(import_buckets="imports,others", export_buckets="exports")
    made.artifacts.put("in.jsonl", LINES, "application/jsonl", bucket="imports")
    return made


def post(api: Api, body: Any = None, **headers: str) -> TestResponse:
    return api.client.post(BATCHES, json={} if body is None else body, headers=headers)


def create(api: Api, body: Any = None, **headers: str) -> str:
    answer = post(api, body, **headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{BATCHES}/{told(answer)['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    return str(told(answer)["id"])


def kept(api: Api, batch_id: str) -> Batch:
    return api.services.batches.get("default", batch_id)


def problem(answer: TestResponse, status: int, code: str) -> Any:
    assert (answer.status_code, told(answer).get("code")) == (status, code), answer.text
    assert answer.mimetype == "application/problem+json"
    return told(answer)


def pointers(answer: TestResponse) -> dict[str, str]:
    faults = problem(answer, 422, "invalid_request")["errors"]
    return {fault.get("parameter") or fault["pointer"]: fault["detail"] for fault in faults}


def run(api: Api, batch_id: str, chunks: int = 2, failed: int = 0, state: Any = BatchState.SUCCEEDED) -> None:
    """End a batch as workers would, with so many chunks of ten items."""
    store = api.services.batches
    assert isinstance(store, MemoryBatchStore)
    batch = kept(api, batch_id)
    plan = ChunkPlan(part=1, form=ItemForm.ITEM, offset=0, length=9, line=1, items=10)
    begun = batch.progress.model_copy(
        update={"state": BatchState.RUNNING, "items": 10 * chunks, "chunks": chunks, "part": batch.parts}
    )
    saved = store.save(batch, begun, 60, [plan] * chunks)
    assert saved is not None
    while (chunk := store.claim("grabcut", "w", 60)) is not None:
        end = ChunkEnd(
            number=chunk.number, attempt=chunk.attempt, succeeded=10 - failed, failed=failed, flagged=1
        )
        for shard in Shard:
            text = f"{shard} of {chunk.number}\n".encode()
            api.artifacts.put(shard_key(chunk.key, shard), text, "application/jsonl")
        assert store.finish(chunk.key, end, 10)
    if state is not None:
        ended = begun.model_copy(update={"state": state, "ended_ms": 1_700_000_000_000})
        assert store.save(kept(api, batch_id), ended, 60)
        api.artifacts.put(summary_key(batch_id, 0), b'{"items": 20}', "application/json")


# -- making one


def test_a_list_of_items_is_taken(api: Api) -> None:
    items = [{"id": "a", **ITEM, "prompts": [BOX]}, {**ITEM, "metadata": {"any": 1}}]
    body = {
        "items": items,
        "displayName": "Night run",
        "metadata": {"mine": [1]},
        "parameters": {"confidenceThreshold": 0.25},
        "review": {"minConfidence": 0.5},
        "autoOrient": False,
    }
    answer = post(api, body)
    assert answer.status_code == 202, answer.text
    shown = told(answer)
    assert (shown["state"], shown["model"], shown["subtask"]) == ("queued", "grabcut", "semantic")
    assert (shown["displayName"], shown["metadata"]) == ("Night run", {"mine": [1]})
    assert (shown["parts"], shown["isComplete"], shown["isAllRead"], shown["items"]) == (1, True, False, 0)
    assert told(api.client.get(answer.headers["Location"])) == shown
    assert list(map(json.loads, api.artifacts.get(part_key(shown["id"], 1)).splitlines())) == [
        {"id": "a", **ITEM, "prompts": [BOX]},
        {**ITEM, "metadata": {"any": 1}},
    ]
    wanted = kept(api, shown["id"]).request
    assert wanted.form is ItemForm.ITEM
    assert wanted.request.parameters == {"confidenceThreshold": 0.25}
    assert (wanted.request.priority, wanted.request.auto_orient) == (Priority.BULK, False)
    assert set(wanted.request.outputs) == {Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.SEGMENTS}
    assert wanted.review.min_confidence == 0.5


def manifest_of(api: Api, lines: bytes, request: Any = None, **headers: str) -> TestResponse:
    data: dict[str, Any] = {"manifest": (BytesIO(lines), "items.jsonl")}
    if request is not None:
        data["request"] = request if isinstance(request, str) else json.dumps(request)
    return api.client.post(BATCHES, data=data, headers=headers)


def test_a_manifest_is_taken_as_it_is(api: Api) -> None:
    answer = manifest_of(api, LINES + b"no json\n", {"displayName": "n"})
    assert answer.status_code == 202, answer.text
    shown = told(answer)
    assert (shown["displayName"], shown["parts"], shown["isComplete"]) == ("n", 1, True)
    assert api.artifacts.get(part_key(shown["id"], 1)) == LINES + b"no json\n"


@pytest.mark.parametrize(
    ("request_part", "status", "code", "words"),
    [
        ("no json", 400, "malformed_request", ""),
        ({"items": [ITEM]}, 422, "invalid_request", "in the manifest alone"),
        ({"x": 1}, 422, "invalid_request", "there is no such field"),
    ],
)
def test_a_manifest_beside_a_request_that_is_wrong(
    api: Api, request_part: Any, status: int, code: str, words: str
) -> None:
    answer = manifest_of(api, LINES, request_part)
    problem(answer, status, code)
    assert words in answer.text
    assert list(api.artifacts.keys("batch")) == []


def test_bodies_that_are_no_batch(api: Api) -> None:
    problem(api.client.post(BATCHES, data=b"x", content_type="text/plain"), 415, "unsupported_media_type")
    problem(api.client.post(BATCHES, data=b"{", content_type="application/json"), 400, "malformed_request")
    nothing = api.client.post(BATCHES, data={"request": "{}"}, content_type="multipart/form-data")
    assert "'manifest'" in problem(nothing, 400, "malformed_request")["detail"]
    other = {"manifest": (BytesIO(b"x"), "a"), "other": (BytesIO(b"x"), "b")}
    assert (
        "manifest, other" in problem(api.client.post(BATCHES, data=other), 400, "malformed_request")["detail"]
    )


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"items": []}, {"/items": "at least 1"}),
        ({"items": [ITEM], "source": {"manifest": "s3://imports/in.jsonl"}}, {"": "not both"}),
        ({"items": [{"image": "a.png"}]}, {"/items/0/image": "give s3://BUCKET/KEY"}),
        ({"items": [{"image": {"pack": 0, "offset": 0, "length": 1}}]}, {"/items/0/image/pack": "1"}),
        ({"items": [{"id": "a", **ITEM}, ITEM, {"id": "a", **ITEM}]}, {"/items/2/id": "item 0 has this id"}),
        ({"items": [{"id": "2", **ITEM}, ITEM]}, {"/items/1/id": "item 0 has this id too: '2'"}),
        ({"items": [{**ITEM, "x": 1}]}, {"/items/0/x": "no such field"}),
        ({"subtask": "panoptic"}, {"/subtask": "does not do panoptic"}),
        ({"parameters": {"confidenceThreshold": 2}}, {"/parameters/confidenceThreshold": "maximum"}),
        ({"metadata": {"a": "x" * 5000}}, {"/metadata": "4096"}),
        ({"review": {"minConfidence": 2}}, {"/review/minConfidence": "1"}),
        ({"priority": "bulk"}, {"/priority": "no such field"}),
        ({"source": {}}, {"/source": "exactly one"}),
        ({"source": {"manifest": "s3://imports/none"}}, {"/source/manifest": "can't be read"}),
        ({"source": {"images": "s3://maskline/a"}}, {"/source/images": "not open for import"}),
        (
            {"source": {"coco": "s3://imports/in.jsonl", "imagePrefix": "s3://others/"}},
            {"/source/imagePrefix": "in the bucket 'imports'"},
        ),
        ({"destination": "s3://imports/x"}, {"/destination": "not open for export; these are: exports"}),
        ({"destination": "s3://exports/../x"}, {"/destination": '".."'}),
    ],
)
def test_what_is_wrong_is_told_by_its_place(api: Api, body: Any, faults: dict[str, str]) -> None:
    answer = post(api, body)
    found = pointers(answer)
    assert found.keys() == faults.keys()
    for place, words in faults.items():
        assert words in found[place]
    assert list(api.artifacts.keys("batch")) == []
    assert api.services.batches.active(9) == []


def test_an_unknown_model(api: Api) -> None:
    problem(post(api, {"model": "none", "items": [ITEM]}), 404, "model_not_found")


def test_a_model_that_needs_prompts_may_get_them_from_the_items(api: Api) -> None:
    card = make_card("eager").model_copy(update={"automatic": False})
    api.services.models.publish("w", [card], 60)
    create(api, {"model": "eager", "items": [{**ITEM, "prompts": [BOX]}]})


@pytest.mark.parametrize(
    ("source", "kind", "key", "images"),
    [
        ({"manifest": "gs://imports/in.jsonl"}, SourceKind.LINES, "in.jsonl", ""),
        ({"images": "s3://imports/set/", "pattern": "*.jpg"}, SourceKind.IMAGES, "set/", ""),
        ({"images": "s3://imports"}, SourceKind.IMAGES, "", ""),
        ({"coco": "s3://imports/set/labels.json"}, SourceKind.COCO, "set/labels.json", "set/"),
        (
            {"coco": "s3://imports/set/labels.json", "imagePrefix": "s3://imports/photos/"},
            SourceKind.COCO,
            "set/labels.json",
            "photos/",
        ),
        ({"yolo": "s3://imports/set/"}, SourceKind.YOLO, "set/", ""),
    ],
)
def test_items_can_be_elsewhere(api: Api, source: Any, kind: SourceKind, key: str, images: str) -> None:
    api.artifacts.put("set/labels.json", b"{}", "application/json", bucket="imports")
    batch = kept(api, create(api, {"source": source, "destination": "s3://exports/out"}))
    [found] = batch.request.sources
    assert (found.kind, found.bucket, found.key, found.images) == (kind, "imports", key, images)
    assert found.pattern == source.get("pattern", "")
    assert (batch.parts, batch.is_complete) == (0, True)
    assert batch.request.destination is not None
    assert batch.request.destination.prefix == "out/"


def test_one_key_is_one_batch(api: Api) -> None:
    body = {"items": [ITEM]}
    key = {"Idempotency-Key": "k"}
    first = create(api, body, **key)
    assert create(api, body, **key) == first
    assert len(api.services.batches.active(9)) == 1
    problem(post(api, {"items": [ITEM], "displayName": "x"}, **key), 422, "idempotency_key_reused")
    problem(post(api, {"items": [{**ITEM, "id": "other"}]}, **key), 422, "idempotency_key_reused")
    assert create(api, body) != first
    other = make(api, *Scope, tenant="other")
    assert create(api, body, **key, **other) != first
    assert "Idempotency-Key" in pointers(post(api, body, **{"Idempotency-Key": "k" * 256}))


def test_a_batch_that_redis_did_not_take_leaves_nothing_that_counts(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ArtifactStoreUnavailable("no answer")

    monkeypatch.setattr(api.services.batches, "create", away)
    answer = post(api, {"items": [ITEM]})
    problem(answer, 503, "artifact_store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert list(api.artifacts.keys(RECORDS)) == []


# -- uploads


def put(api: Api, path: str, body: bytes = LINES) -> TestResponse:
    return api.client.put(f"{BATCHES}/{path}", data=body, content_type="application/octet-stream")


def test_parts_and_packs_are_uploaded(api: Api) -> None:
    batch = create(api)
    assert (kept(api, batch).parts, kept(api, batch).is_complete) == (0, False)
    assert put(api, f"{batch}/packs/7", b"images").status_code == 204
    assert api.artifacts.get(pack_key(batch, 7)) == b"images"
    for number in (1, 2):
        answer = put(api, f"{batch}/parts/{number}")
        assert (answer.status_code, told(answer)["parts"]) == (200, number)
    assert api.artifacts.get(part_key(batch, 2)) == LINES
    answer = api.client.post(f"{BATCHES}/{batch}:complete")
    assert (answer.status_code, told(answer)["isComplete"]) == (200, True)
    assert api.client.post(f"{BATCHES}/{batch}:complete").status_code == 200


def test_an_upload_that_is_repeated_changes_nothing(api: Api) -> None:
    batch = create(api)
    for body in (b"first", b"second"):
        assert put(api, f"{batch}/packs/1", body).status_code == 204
        assert told(put(api, f"{batch}/parts/1", body))["parts"] == 1
    assert api.artifacts.get(pack_key(batch, 1)) == b"first"
    assert api.artifacts.get(part_key(batch, 1)) == b"first"


def test_parts_come_in_order(api: Api) -> None:
    batch = create(api)
    put(api, f"{batch}/parts/1")
    assert "the next is 2" in pointers(put(api, f"{batch}/parts/3"))[""]
    assert list(api.artifacts.keys(part_key(batch, 3))) == []
    for path in ("parts/0", "packs/0", "parts/100001", "packs/100001"):
        assert "from 1 to 100000" in pointers(put(api, f"{batch}/{path}"))[""]
    assert put(api, f"{batch}/parts/-1").status_code == 404
    problem(put(api, f"{batch}/parts/2", b""), 400, "malformed_request")


@pytest.mark.parametrize("path", ["parts/1", "parts/2", "packs/1"])
def test_a_closed_batch_takes_no_uploads(api: Api, path: str) -> None:
    batch = create(api)
    put(api, f"{batch}/parts/1")
    api.client.post(f"{BATCHES}/{batch}:complete")
    problem(put(api, f"{batch}/{path}"), 409, "batch_closed")


# -- watching and steering


def test_its_life_is_shown(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    for call, state in (("pause", "paused"), ("resume", "queued")):
        assert told(api.client.post(f"{BATCHES}/{batch}:{call}"))["state"] == state
    run(api, batch, failed=2, state=None)
    shown = told(api.client.get(f"{BATCHES}/{batch}"))
    assert (shown["state"], shown["isAllRead"]) == ("running", True)
    assert shown["counts"] == {
        "queued": 0,
        "running": 0,
        "succeeded": 16,
        "failed": 4,
        "cancelled": 0,
        "flagged": 2,
    }
    assert told(api.client.post(f"{BATCHES}/{batch}:cancel"))["state"] == "cancelling"
    problem(api.client.get(f"{BATCHES}/{batch}/summary"), 409, "batch_not_finished")
    problem(api.client.delete(f"{BATCHES}/{batch}"), 409, "batch_not_finished")
    problem(api.client.post(f"{BATCHES}/{batch}:retry"), 409, "batch_not_finished")


def test_what_was_not_begun_when_it_ended_is_cancelled(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    run(api, batch, state=None)
    now = kept(api, batch)
    ended = now.progress.model_copy(update={"state": BatchState.CANCELLED, "items": 50})
    assert api.services.batches.save(now, ended, 60)
    answer = api.client.get(f"{BATCHES}/{batch}")
    assert "Retry-After" not in answer.headers
    shown = told(answer)
    assert (shown["state"], shown["counts"]["cancelled"], shown["counts"]["queued"]) == ("cancelled", 30, 0)
    problem(api.client.post(f"{BATCHES}/{batch}:retry"), 409, "batch_not_finished")


def test_failed_items_are_tried_anew(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    run(api, batch, failed=1)
    shown = told(api.client.get(f"{BATCHES}/{batch}"))
    assert (shown["state"], shown["finishedAt"]) == ("succeeded", "2023-11-14T22:13:20Z")
    answer = api.client.post(f"{BATCHES}/{batch}:retry")
    assert (answer.status_code, told(answer)["state"]) == (202, "running")
    assert "finishedAt" not in told(answer)
    assert api.client.post(f"{BATCHES}/{batch}:retry").status_code == 202
    problem(api.client.delete(f"{BATCHES}/{batch}"), 409, "batch_not_finished")
    problem(api.client.get(f"{BATCHES}/{batch}/summary"), 409, "batch_not_finished")
    good = create(api, {"items": [ITEM]})
    run(api, good)
    problem(api.client.post(f"{BATCHES}/{good}:retry"), 409, "batch_not_finished")


def test_a_batch_that_has_ended_can_be_removed(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    run(api, batch)
    assert api.client.delete(f"{BATCHES}/{batch}").status_code == 204
    problem(api.client.get(f"{BATCHES}/{batch}"), 404, "batch_not_found")
    assert f"{RECORDS}{batch}/removed.json" in set(api.artifacts.keys(RECORDS))


def test_lists_have_pages(api: Api) -> None:
    made = [create(api, {"displayName": str(n)}) for n in range(3)]
    first = told(api.client.get(BATCHES, query_string={"pageSize": 2}))
    rest = told(api.client.get(BATCHES, query_string={"pageSize": 2, "pageToken": first["nextPageToken"]}))
    listed = [batch["id"] for batch in first["batches"] + rest["batches"]]
    assert sorted(listed) == sorted(made)
    assert (len(first["batches"]), "nextPageToken" in rest) == (2, False)
    for query in ({"pageSize": 0}, {"pageSize": 201}, {"pageToken": "x"}):
        problem(api.client.get(BATCHES, query_string=query), 422, "invalid_request")


def test_what_is_not_there(api: Api) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("PUT", "/packs/1"),
        ("PUT", "/parts/1"),
        ("POST", ":complete"),
        ("POST", ":pause"),
        ("POST", ":resume"),
        ("POST", ":cancel"),
        ("POST", ":retry"),
        ("GET", "/shards"),
        ("GET", "/results"),
        ("GET", "/errors"),
        ("GET", "/review"),
        ("GET", "/problems"),
        ("GET", "/summary"),
    ):
        problem(api.client.open(f"{BATCHES}/1{path}", method=method, data=b"x"), 404, "batch_not_found")


# -- results


def test_results_are_read_as_one(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    run(api, batch, chunks=3, failed=1)
    for path, shard in (("results", "predictions"), ("errors", "errors"), ("review", "review")):
        answer = api.client.get(f"{BATCHES}/{batch}/{path}")
        assert answer.mimetype == "application/jsonl"
        assert answer.text == "".join(f"{shard} of {n}\n" for n in (1, 2, 3))
    assert told(api.client.get(f"{BATCHES}/{batch}/summary")) == {"items": 20}


def test_prompts_that_sources_did_not_give_are_told(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    path = f"{BATCHES}/{batch}/problems"
    assert api.client.get(path).text == ""
    for source in (1, 2):
        api.artifacts.put(problems_key(batch, source), f"{source}\n".encode(), "")
    answer = api.client.get(path)
    assert (answer.mimetype, answer.text) == ("application/jsonl", "1\n2\n")


def test_the_chunks_that_have_ended_have_addresses(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    run(api, batch, chunks=5, failed=0)
    page = told(api.client.get(f"{BATCHES}/{batch}/shards", query_string={"pageSize": 2}))
    assert ([one["number"] for one in page["shards"]], page["isLast"]) == ([1, 2], False)
    rest = told(api.client.get(f"{BATCHES}/{batch}/shards", query_string={"after": 2}))
    assert ([one["number"] for one in rest["shards"]], rest["isLast"]) == ([3, 4, 5], True)
    shard = rest["shards"][0]
    assert (shard["succeeded"], shard["failed"], shard["flagged"]) == (10, 0, 1)
    assert "errors" not in shard
    address = shard["predictions"].partition("//")[2].partition("/")[2]
    assert api.client.get(f"/{address}", headers={"Authorization": ""}).text == "predictions of 3\n"
    problem(api.client.get(f"{BATCHES}/{batch}/shards", query_string={"after": -1}), 422, "invalid_request")


def test_chunks_are_listed_up_to_the_first_that_has_not_ended(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    store = api.services.batches
    plan = ChunkPlan(part=1, form=ItemForm.ITEM, offset=0, length=9, line=1, items=10)
    now = kept(api, batch)
    begun = now.progress.model_copy(update={"state": BatchState.RUNNING, "items": 30, "chunks": 3})
    ends = {number: ChunkEnd(number=number, attempt=1, succeeded=10) for number in (1, 3)}
    assert store.save(now, begun, 60, [plan] * 3, ends)
    page = told(api.client.get(f"{BATCHES}/{batch}/shards"))
    assert ([one["number"] for one in page["shards"]], page["isLast"]) == ([1], False)
    ended = begun.model_copy(update={"state": BatchState.CANCELLED})
    assert store.save(kept(api, batch), ended, 60)
    page = told(api.client.get(f"{BATCHES}/{batch}/shards"))
    assert ([one["number"] for one in page["shards"]], page["isLast"]) == ([1, 3], True)


def test_errors_of_rounds_before_are_not_told(api: Api) -> None:
    batch = create(api, {"items": [ITEM]})
    run(api, batch, failed=1)
    api.client.post(f"{BATCHES}/{batch}:retry")
    now = kept(api, batch)
    plan = ChunkPlan(part=2, form=ItemForm.NOTED, offset=0, length=9, line=21, items=2)
    begun = now.progress.model_copy(
        update={"state": BatchState.RUNNING, "chunks": 3, "rounds": 1, "first_of_round": 3}
    )
    store = api.services.batches
    ends = {3: ChunkEnd(number=3, attempt=1, succeeded=1, failed=1)}
    assert store.save(now, begun, 60, [plan], ends, parts=1)
    key = ChunkKey(batch, 3, 1)
    for shard in (Shard.PREDICTIONS, Shard.ERRORS):
        api.artifacts.put(shard_key(key, shard), f"{shard} of 3\n".encode(), "")
    assert api.client.get(f"{BATCHES}/{batch}/errors").text == "errors of 3\n"
    assert api.client.get(f"{BATCHES}/{batch}/results").text.count("\n") == 3
    shards = told(api.client.get(f"{BATCHES}/{batch}/shards"))["shards"]
    assert [(one["failed"], "errors" in one) for one in shards] == [(0, False), (0, False), (1, True)]
    shown = told(api.client.get(f"{BATCHES}/{batch}"))
    assert (shown["rounds"], shown["counts"]["failed"], shown["counts"]["succeeded"]) == (1, 1, 19)


def test_what_no_worker_can_export_is_not_asked_of_one(api: Api) -> None:
    assert told(api.client.get("/v1/exportFormats")) == {"exportFormats": []}
    batch = create(api, {"items": [ITEM]})
    run(api, batch)
    assert api.client.get(f"{BATCHES}/{batch}/exports/coc").status_code == 202  # none has told what it knows
    api.services.models.publish("w", [make_card()], 60, export_formats=("voc", "coco"))
    assert told(api.client.get("/v1/exportFormats")) == {"exportFormats": ["coco", "voc"]}
    refused = problem(api.client.get(f"{BATCHES}/{batch}/exports/coc"), 422, "export_failed")
    assert refused["detail"] == "there is no format 'coc'; there are: coco, voc"
    assert api.client.get(f"{BATCHES}/{batch}/exports/voc").status_code == 202


def test_the_key_of_a_batch_that_was_deleted_makes_no_other(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    batch = create(api, {"items": [ITEM]}, **key)
    run(api, batch)
    assert api.client.delete(f"{BATCHES}/{batch}").status_code == 204
    problem(post(api, {"items": [ITEM]}, **key), 422, "idempotency_key_reused")


def test_a_part_that_comes_as_the_batch_is_completed_leaves_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = create(api, {})
    add_part = api.services.batches.add_part

    def add_late(tenant: str, batch_id: str, part: int) -> Batch:
        api.services.batches.complete(tenant, batch_id)
        return add_part(tenant, batch_id, part)

    monkeypatch.setattr(api.services.batches, "add_part", add_late)
    problem(put(api, f"{batch}/parts/1"), 409, "batch_closed")
    assert list(api.artifacts.keys(f"batches/{batch}/")) == []

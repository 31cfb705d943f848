"""Vertex AI's batch prediction jobs over the doubles: what is taken, refused, shown, listed and forgotten."""

from typing import Any

import pytest

from maskline.batches import BatchState, ChunkEnd, ChunkPlan, ItemFailure, ItemForm
from maskline.jobs import Failure
from maskline.requests import Output, Priority
from tests.factories import make_card
from tests.unit.api.conftest import Api, MakeApi, told
from tests.unit.api.test_vertex import LOCATION, STREET, violations

JOBS = f"{LOCATION}/batchPredictionJobs"
INPUT = "gs://imports/in.jsonl"


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    made = make_api(import_buckets="imports", export_buckets="exports")
    made.artifacts.put("in.jsonl", b"{}\n", "application/jsonl", bucket="imports")
    return made


def body(**changes: Any) -> dict[str, Any]:
    return {
        "displayName": "Night run",
        "model": "projects/p/locations/us-central1/models/grabcut",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [INPUT]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://exports/night/"},
        },
    } | changes


def create(api: Api, **changes: Any) -> str:
    answer = api.client.post(JOBS, json=body(**changes))
    assert answer.status_code == 200, answer.text
    return str(told(answer)["name"]).rpartition("/")[2]


def test_what_was_sent_is_given_back_with_what_came_of_it(api: Api) -> None:
    sent = body(labels={"a": "b"}, modelParameters={"confidenceThreshold": 0.25}, serviceAccount="x")
    answer = told(api.client.post(f"{JOBS}?%24alt=json%3Benum-encoding%3Dint", json=sent))
    sent.pop("serviceAccount")
    assert sent.items() <= answer.items()
    assert answer["state"] == "JOB_STATE_PENDING"
    assert answer["completionStats"] == {
        "successfulCount": "0",
        "failedCount": "0",
        "incompleteCount": "-1",
    }
    assert answer["outputInfo"]["gcsOutputDirectory"].startswith("gs://exports/night/prediction-grabcut-")
    assert answer["createTime"].endswith("Z")
    [batch] = api.services.batches.active(9)
    assert batch.request.request.parameters == {"confidenceThreshold": 0.25}
    assert batch.request.request.priority is Priority.BULK
    assert batch.request.request.outputs == (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK)
    assert told(api.client.get(f"/v1/{answer['name']}")) == answer


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"displayName": ""}, {"displayName": "at least 1"}),
        ({"x": 1}, {"x": "no such field"}),
        ({"modelParameters": {"confidenceThreshold": 2}}, {"modelParameters.confidenceThreshold": "maximum"}),
        (
            {"inputConfig": {"instancesFormat": "csv", "gcsSource": {"uris": [INPUT]}}},
            {"inputConfig.instancesFormat": "jsonl"},
        ),
        (
            {"inputConfig": {"instancesFormat": "jsonl", "bigquerySource": {"inputUri": "bq://x"}}},
            {"inputConfig.gcsSource": "required", "inputConfig.bigquerySource": "no such field"},
        ),
        (
            {
                "inputConfig": {
                    "instancesFormat": "jsonl",
                    "gcsSource": {"uris": ["gs://imports/*.jsonl", "/etc/passwd"]},
                }
            },
            {
                "inputConfig.gcsSource.uris[0]": "without wildcards",
                "inputConfig.gcsSource.uris[1]": "give gs://",
            },
        ),
        (
            {
                "inputConfig": {
                    "instancesFormat": "jsonl",
                    "gcsSource": {"uris": ["gs://maskline/x", "s3://imports/none"]},
                },
                "outputConfig": {
                    "predictionsFormat": "jsonl",
                    "gcsDestination": {"outputUriPrefix": "gs://imports/out"},
                },
            },
            {
                "inputConfig.gcsSource.uris[0]": "not open for import; these are: imports",
                "inputConfig.gcsSource.uris[1]": "can't be read",
                "outputConfig.gcsDestination.outputUriPrefix": "not open for export; these are: exports",
            },
        ),
        ({"instanceConfig": {"instanceType": "array"}}, {"instanceConfig.instanceType": "give object"}),
        ({"generateExplanation": True}, {"generateExplanation": "there are no explanations"}),
    ],
)
def test_what_is_wrong_is_told_by_its_field(api: Api, changes: Any, faults: dict[str, str]) -> None:
    answer = api.client.post(JOBS, json=body(**changes))
    assert answer.status_code == 400
    found = violations(answer)
    assert found.keys() == faults.keys()
    for field, word in faults.items():
        assert word in found[field]
    assert not api.services.batches.active(9)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("gs://exports/" + "d" * 300, "more than 255 bytes"),
        ("gs://exports/" + "ä" * 128, "more than 255 bytes"),
        ("gs://exports/" + "d/" * 490, "more than 1024 bytes"),
        ("gs://exports/../maskline/x", 'empty, "." or ".."'),
        ("gs://exports/x/./y", 'empty, "." or ".."'),
        ("gs://exports//x", 'empty, "." or ".."'),
    ],
)
def test_a_destination_that_no_store_could_take_is_refused(api: Api, prefix: str, words: str) -> None:
    config = {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": prefix}}
    answer = api.client.post(JOBS, json=body(outputConfig=config))
    assert answer.status_code == 400
    assert words in violations(answer)["outputConfig.gcsDestination.outputUriPrefix"]


@pytest.mark.parametrize("prefix", ["gs://exports", "gs://exports/", "s3://exports/" + "d" * 255 + "/ä ü//"])
def test_other_destinations_are_taken(api: Api, prefix: str) -> None:
    config = {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": prefix}}
    create(api, outputConfig=config)


def test_names_in_snake_case_are_the_same(api: Api) -> None:
    sent = body(serviceAccount="x", modelParameters={"confidenceThreshold": 0})
    snake = {
        "displayName": "display_name",
        "serviceAccount": "service_account",
        "modelParameters": "model_parameters",
    }
    answer = api.client.post(JOBS, json={snake.get(name, name): value for name, value in sent.items()})
    assert answer.status_code == 200, answer.text
    sent.pop("serviceAccount")
    assert sent.items() <= told(answer).items()
    assert told(answer).keys().isdisjoint(["serviceAccount", *snake.values()])
    for field in ("displayName", "display_name"):
        page = told(api.client.get(JOBS, query_string={"filter": f'{field}="Night run"'}))
        assert page["batchPredictionJobs"] == [told(answer)]


def test_fields_that_mean_nothing_here_are_left_out(api: Api) -> None:
    ignored = {
        "dedicatedResources": {"machineSpec": {}},
        "disableContainerLogging": True,
        "encryptionSpec": {"kmsKeyName": "k"},
        "manualBatchTuningParameters": {"batchSize": 4},
        "serviceAccount": None,
    }
    answer = api.client.post(JOBS, json=body(**ignored))
    assert answer.status_code == 200, answer.text
    assert told(answer).keys().isdisjoint(ignored)


def test_parameters_that_no_document_could_hold_are_refused(api: Api) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    answer = api.client.post(JOBS, json=body(modelParameters={"a": deep}))
    assert "32 arrays" in violations(answer)["modelParameters"]


@pytest.mark.parametrize(
    ("name", "model", "parameters"),
    [
        ("grabcut", "grabcut", 0.5),
        ("projects/p/locations/l/models/grabcut@1", "grabcut", 0.5),
        ("projects/p/locations/l/publishers/our/models/street.1", "our/street.1", 0.5),
        ("publishers/our/models/street.1", "our/street.1", 0.5),
        ("publishers/google/models/our--street-1@default", "our/street.1", 0.5),
        ("publishers/google/models/1234567890", "our/street.1", 0.25),
    ],
)
def test_a_model_has_a_name_or_a_publisher_s(api: Api, name: str, model: str, parameters: float) -> None:
    card = make_card("our/street.1").model_copy(update={"endpoints": (STREET,)})
    api.services.models.publish("w", [make_card(), card], 60)
    create(api, model=name)
    [batch] = api.services.batches.active(9)
    assert batch.request.request.model == model
    assert batch.request.request.parameters == {"confidenceThreshold": parameters}


def test_unknown_models_and_jobs(api: Api) -> None:
    for model in ("projects/p/locations/l/models/none", "publishers/our/models/none"):
        assert api.client.post(JOBS, json=body(model=model)).status_code == 404
    assert api.client.post(JOBS, json=body(model="models/x/y")).status_code == 400
    for answer in (
        api.client.get(f"{JOBS}/1"),
        api.client.delete(f"{JOBS}/1"),
        api.client.post(f"{JOBS}/1:cancel", json={}),
    ):
        assert (answer.status_code, told(answer)["error"]["status"]) == (404, "NOT_FOUND")


def test_its_life(api: Api) -> None:
    job = create(api)
    refused = api.client.delete(f"{JOBS}/{job}")
    assert (refused.status_code, told(refused)["error"]["status"]) == (409, "ABORTED")
    assert told(api.client.post(f"{JOBS}/{job}:cancel", json={})) == {}
    assert told(api.client.get(f"{JOBS}/{job}"))["state"] == "JOB_STATE_CANCELLING"
    batches = api.services.batches
    batch = batches.get("default", job)
    plan = ChunkPlan(part=1, form=ItemForm.JSONL, offset=0, length=9, line=1, items=5)
    ends = {1: ChunkEnd(number=1, attempt=1, succeeded=4, failed=1)}
    read = batch.progress.model_copy(update={"imported": 1, "part": 1, "items": 7, "chunks": 1})
    batch = batches.save(batch, read, 60, [plan], ends, parts=1) or batch
    progress = batch.progress.model_copy(
        update={
            "state": BatchState.CANCELLED,
            "started_ms": 1_700_000_000_000,
            "ended_ms": 1_700_000_001_500,
            "failure": Failure(code="cancelled", message="by its client"),
            "partial_failures": (ItemFailure(code=5, message="gone"),),
        }
    )
    assert batches.save(batch, progress, 60)
    shown = told(api.client.get(f"{JOBS}/{job}"))
    assert shown["state"] == "JOB_STATE_CANCELLED"
    assert shown["error"] == {"code": 1, "message": "by its client"}
    assert shown["partialFailures"] == [{"code": 5, "message": "gone"}]
    assert shown["completionStats"] == {"successfulCount": "4", "failedCount": "1", "incompleteCount": "2"}
    assert shown["endTime"] == "2023-11-14T22:13:21.500000Z"
    deleted = told(api.client.delete(f"{JOBS}/{job}"))
    assert deleted["done"] is True
    assert api.client.get(f"{JOBS}/{job}").status_code == 404
    for version in ("v1", "v1beta1", "ui"):
        path = f"/{version}/{deleted['name']}"
        assert told(api.client.get(path)) == deleted
        assert told(api.client.post(f"{path}:wait", json={})) == deleted
        assert told(api.client.post(f"{path}:cancel", json={})) == {}
        assert told(api.client.delete(path)) == {}
        assert api.client.get(f"{path}x").status_code == 404
    assert told(api.client.get(f"/ui{LOCATION.removeprefix('/v1')}/operations")) == {"operations": []}


def test_lists_have_pages_and_filters(api: Api) -> None:
    first, second = create(api), create(api, displayName='the "other"')

    def listed(**query: Any) -> tuple[list[str], Any]:
        answer = told(api.client.get(JOBS, query_string=query))
        names = [job["name"].rpartition("/")[2] for job in answer["batchPredictionJobs"]]
        return names, answer.get("nextPageToken")

    api.client.post(f"{JOBS}/{second}:cancel", json={})
    page, token = listed(pageSize=1)
    assert page == [first]
    assert listed(pageSize=1, pageToken=token) == ([second], None)
    assert listed(filter=r'display_name="the \"other\""')[0] == [second]
    assert listed(filter='state="JOB_STATE_PENDING" AND displayName="Night run"')[0] == [first]
    assert listed(filter='state!="JOB_STATE_PENDING"')[0] == [second]

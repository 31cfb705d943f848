"""Google's client for Vertex AI against the running service: same calls, same classes, same exceptions."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import RefreshError
from google.cloud import aiplatform
from google.cloud.aiplatform.v1.schema.predict.instance_v1.types import ImageSegmentationPredictionInstance
from google.cloud.aiplatform.v1.schema.predict.params_v1.types import ImageSegmentationPredictionParams
from google.cloud.aiplatform.v1.schema.predict.prediction_v1.types import ImageSegmentationPredictionResult
from google.cloud.aiplatform_v1 import EndpointServiceClient, ModelServiceClient, PredictionServiceClient
from google.oauth2.credentials import Credentials
from PIL import Image

from maskline import Client, Prompt
from maskline.local import Stack
from tests import tiny_transformers as tiny
from tests.clients.conftest import SURE
from tests.factories import DISC_BOX, encoded, picture

LOCATION = "projects/ours/locations/us-central1"
STREETS = "1234567890123456789"
RGB = picture(96, 144)
PNG = encoded(RGB, "PNG")
JPEG = encoded(picture(64, 96), "JPEG")
GoogleClient = Any  #: of a library without types


def pixels(png: bytes | str) -> np.ndarray:
    data = base64.b64decode(png) if isinstance(png, str) else png
    return np.asarray(Image.open(BytesIO(data)))


def instance(image: bytes = PNG) -> Any:
    content = base64.b64encode(image).decode()
    return ImageSegmentationPredictionInstance(content=content, mime_type="image/png").to_value()


def parameters(threshold: float) -> Any:
    if threshold == 0:  # Google's class does not send it
        return {"confidenceThreshold": 0}
    return ImageSegmentationPredictionParams(confidence_threshold=threshold).to_value()


def results(response: Any) -> list[Any]:
    """The predictions in Google's own class, which refuses fields that it does not know."""
    return [
        ImageSegmentationPredictionResult.from_json(json.dumps(dict(one))) for one in response.predictions
    ]


def connect(kind: Any, stack: Stack, **options: Any) -> Any:
    credentials = options.pop("credentials", None) or Credentials(stack.api_key)
    where = ClientOptions(api_endpoint=stack.url, **options)
    return kind(
        transport="rest",
        client_options=where,
        **({} if "api_key" in options else {"credentials": credentials}),
    )


@pytest.fixture(scope="module")
def predictor(stack: Stack) -> GoogleClient:
    return connect(PredictionServiceClient, stack)


def sdk_of(stack: Stack) -> GoogleClient:
    """Google's high-level client, pointed at the service."""
    aiplatform.init(
        project="ours",
        location="us-central1",
        api_endpoint=stack.url,
        api_transport="rest",
        credentials=Credentials(stack.api_key),
    )
    return aiplatform


@pytest.fixture
def sdk(stack: Stack) -> GoogleClient:
    return sdk_of(stack)


def test_predictions_are_the_native_masks(predictor: GoogleClient, native: Client) -> None:
    for threshold in (0.0, SURE, 0.5):
        response = predictor.predict(
            endpoint=f"{LOCATION}/endpoints/mine--streets",
            instances=[instance(), instance(JPEG)],
            parameters=parameters(threshold),
        )
        assert response.model == f"{LOCATION}/models/mine--streets"
        assert response.model_display_name == "Streets"
        for image, result in zip((PNG, JPEG), results(response), strict=True):
            job = native.submit(image, model="mine/streets", parameters={"confidenceThreshold": threshold})
            done = native.wait(job.id, timeout=60)
            assert base64.b64decode(result.category_mask) == native.category_mask(done.id)
            assert base64.b64decode(result.confidence_mask) == native.confidence_mask(done.id)


def test_predictions_are_the_library_s(predictor: GoogleClient, tmp_path: Path) -> None:
    upstream, processor = tiny.save(tiny.segformer, tmp_path)
    with torch.inference_mode():
        outputs = upstream(**processor(images=[RGB], return_tensors="pt"))
    [theirs] = processor.post_process_semantic_segmentation(outputs, target_sizes=[RGB.shape[:2]])
    response = predictor.predict(
        endpoint=f"{LOCATION}/publishers/mine/models/streets",
        instances=[instance()],
        parameters=parameters(0),
    )
    [result] = results(response)
    assert np.array_equal(pixels(result.category_mask), theirs.numpy() + 1)
    mask = Image.open(BytesIO(base64.b64decode(result.confidence_mask)))
    assert (mask.mode, mask.size) == ("L", (144, 96))


def test_the_endpoint_s_threshold_holds_where_none_is_sent(predictor: GoogleClient) -> None:
    masks = {}
    for endpoint, given in ((STREETS, None), ("mine--streets", SURE), ("mine--streets", None)):
        response = predictor.predict(
            endpoint=f"{LOCATION}/endpoints/{endpoint}",
            instances=[instance()],
            parameters=None if given is None else parameters(given),
        )
        masks[endpoint, given] = pixels(results(response)[0].category_mask)
    assert np.array_equal(masks[STREETS, None], masks["mine--streets", SURE])
    assert not np.array_equal(masks[STREETS, None], masks["mine--streets", None])


def test_raw_prediction(predictor: GoogleClient, stack: Stack) -> None:
    body = {"instances": [{"content": base64.b64encode(PNG).decode()}]}
    endpoint = f"{LOCATION}/endpoints/{STREETS}"
    wrapped = predictor.raw_predict(
        endpoint=endpoint,
        http_body={"content_type": "application/json", "data": json.dumps(body).encode()},
    )
    plain = httpx.post(
        f"{stack.url}/v1/{endpoint}:rawPredict",
        json=body,
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=60,
    )
    refused = httpx.post(
        f"{stack.url}/v1/{endpoint}:rawPredict",
        json={"httpBody": {"data": "é"}},
        headers={"Authorization": f"Bearer {stack.api_key}"},
    )
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    with pytest.raises(exceptions.BadRequest, match="not JSON"):
        predictor.raw_predict(endpoint=endpoint, http_body={"data": b"{"})
    assert wrapped.content_type == "application/json"
    assert json.loads(wrapped.data)["predictions"] == plain.json()["predictions"]
    assert plain.headers["X-Vertex-AI-Deployed-Model-Id"] == "mine--streets"


def test_the_high_level_endpoint(sdk: GoogleClient, predictor: GoogleClient) -> None:
    endpoint = sdk.Endpoint(STREETS)
    assert endpoint.display_name == "Sure streets"
    [deployed] = endpoint.list_models()
    assert deployed.model.endswith("/models/mine--streets")
    prediction = endpoint.predict(instances=[{"content": base64.b64encode(PNG).decode()}])
    low_level = predictor.predict(endpoint=f"{LOCATION}/endpoints/{STREETS}", instances=[instance()])
    assert prediction.predictions[0] == dict(low_level.predictions[0])
    assert prediction.deployed_model_id == "mine--streets"
    assert prediction.model_version_id == "1"
    assert len(prediction.metadata["jobs"]) == 1


def test_promptable_models_take_prompts_beside_the_image(
    sdk: GoogleClient, native: Client, disc: bytes
) -> None:
    prompt = {"label": "disc", "box": list(DISC_BOX)}
    prediction = sdk.Endpoint("grabcut").predict(
        instances=[{"content": base64.b64encode(disc).decode(), "prompts": [prompt]}]
    )
    job = native.submit(
        disc,
        model="grabcut",
        prompts=[Prompt(label="disc", box=DISC_BOX)],
        parameters={"confidenceThreshold": 0.5},
    )
    done = native.wait(job.id, timeout=60)
    assert base64.b64decode(prediction.predictions[0]["categoryMask"]) == native.category_mask(done.id)
    [colors] = prediction.metadata["annotationSpecColors"]
    assert [one["displayName"] for one in colors] == ["background", "disc"]


def test_models_and_their_colors(sdk: GoogleClient, stack: Stack) -> None:
    [model] = sdk.Model.list(filter='display_name="Streets"')
    assert model.resource_name == f"{LOCATION}/models/mine--streets"
    assert sdk.Model("mine--streets@1").version_id == "1"
    gapic = connect(ModelServiceClient, stack).get_model(name=model.resource_name)
    colors = {one["displayName"]: dict(one["color"]) for one in dict(gapic.metadata)["annotationSpecColors"]}
    assert colors["grass"] == {"green": 1.0}
    palette = palette_of(sdk)
    for entry in dict(gapic.metadata)["annotationSpecColors"]:
        color = tuple(
            round(float(dict(entry["color"]).get(part, 0)) * 255) for part in ("red", "green", "blue")
        )
        assert palette[int(entry["id"])] == color


def palette_of(sdk: GoogleClient) -> list[tuple[int, ...]]:
    """The colours in the category mask itself."""
    [prediction] = sdk.Endpoint("mine--streets").predict([{"content": base64.b64encode(PNG).decode()}])[0]
    flat = Image.open(BytesIO(base64.b64decode(prediction["categoryMask"]))).getpalette() or []
    return [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]


def test_endpoints_are_listed(sdk: GoogleClient, stack: Stack) -> None:
    assert {one.name for one in sdk.Endpoint.list()} >= {STREETS, "mine--streets", "grabcut"}
    pager = connect(EndpointServiceClient, stack).list_endpoints(
        request={"parent": LOCATION, "page_size": 1, "filter": 'endpoint!="grabcut"'}
    )
    names = [one.name.rpartition("/")[2] for one in pager]
    assert {STREETS, "mine--streets"} < set(names)
    assert len(set(names)) == len(names)
    assert "grabcut" not in names


@pytest.mark.parametrize(
    ("sent", "threshold", "field"),
    [
        ({"content": "%"}, 0.5, "instances[0].content"),
        ({"content": base64.b64encode(b"no image").decode()}, 0.5, "instances[0].content"),
        ({"content": base64.b64encode(PNG[:-400]).decode()}, 0.5, "instances[0].content"),
        ({"mimeType": "image/png"}, 0.5, "instances[0].content"),
        ({"content": base64.b64encode(PNG).decode()}, 1.5, "parameters.confidenceThreshold"),
    ],
)
def test_what_is_wrong_is_a_bad_request(
    predictor: GoogleClient, sent: dict[str, str], threshold: float, field: str
) -> None:
    with pytest.raises(exceptions.BadRequest) as caught:
        predictor.predict(
            endpoint=f"{LOCATION}/endpoints/{STREETS}",
            instances=[sent],
            parameters={"confidenceThreshold": threshold},
        )
    assert type(caught.value) in {exceptions.BadRequest, exceptions.InvalidArgument}
    assert caught.value.domain == "maskline"
    [violation] = [one for detail in caught.value.details for one in detail.get("fieldViolations", ())]
    assert violation["field"] == field
    assert violation["description"]


def test_no_instances_and_too_large_a_body(predictor: GoogleClient) -> None:
    endpoint = f"{LOCATION}/endpoints/{STREETS}"
    with pytest.raises(exceptions.BadRequest, match="instances"):
        predictor.predict(endpoint=endpoint, instances=[])
    with pytest.raises(exceptions.BadRequest, match="larger than"):
        predictor.predict(endpoint=endpoint, instances=[{"content": "A" * 6_000_000}])
    with pytest.raises(exceptions.BadRequest, match="at most"):
        predictor.predict(endpoint=endpoint, instances=[instance(b"\x89PNG" + b"\0" * 3_100_000)])


def test_unknown_names_are_not_found(predictor: GoogleClient, sdk: GoogleClient) -> None:
    with pytest.raises(exceptions.NotFound, match="there is no model 'none'"):
        predictor.predict(endpoint=f"{LOCATION}/endpoints/none", instances=[instance()])
    with pytest.raises(exceptions.NotFound):
        sdk.Model("none")
    with pytest.raises(exceptions.NotFound):
        sdk.Endpoint("none").predict(instances=[{"content": ""}])


def test_keys(stack: Stack) -> None:
    """As Google's own service: what the caller sees hangs on the kind of credentials."""
    name = f"{LOCATION}/endpoints/{STREETS}"
    by_key = connect(EndpointServiceClient, stack, api_key=stack.api_key)
    assert by_key.get_endpoint(name=name).display_name == "Sure streets"
    with pytest.raises(exceptions.Unauthorized):
        connect(EndpointServiceClient, stack, api_key="mk_wrong_key").get_endpoint(name=name)
    with pytest.raises(RefreshError):
        connect(EndpointServiceClient, stack, credentials=Credentials("mk_wrong_key")).get_endpoint(name=name)
    anonymous = connect(EndpointServiceClient, stack, credentials=AnonymousCredentials())
    key = ("authorization", f"Bearer {stack.api_key}")
    assert anonymous.get_endpoint(name=name, metadata=[key]).display_name == "Sure streets"

"""A job on each family through the whole service, against the upstream package on the same weights."""

from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam

from maskline import ApiError, Client, JobDidNotSucceed, Prompt
from maskline.local import Stack
from maskline.requests import Output, Subtask
from tests import tiny_transformers as tiny
from tests.factories import OF_EVERY_MODEL, encoded, picture

RGB = picture(96, 144)
BOX = Prompt(label="disc", box=(17, 9, 63, 55))


@pytest.fixture(scope="module")
def sam() -> Sam:
    """Segment Anything ViT-B with random weights."""
    torch.manual_seed(5)
    return sam_model_registry["vit_b"]()


@pytest.fixture(scope="module")
def predictor(sam: Sam) -> SamPredictor:
    """Upstream's, which has seen the image."""
    predictor = SamPredictor(sam)
    predictor.set_image(RGB)
    return predictor


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sam: Sam) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("models")
    torch.save(sam.state_dict(), folder / "sam.pth")
    for make in (tiny.segformer, tiny.mask2former):
        tiny.save(make, folder / make.__name__)
    entry = (
        "  - {{id: {}, aliases: [{}], family: sam, displayName: Sam, weights: {{path: {}}}, "
        "options: {{variant: vit_b}}}}\n"
    )
    learned = (
        "  - {{id: {}, family: transformers, displayName: Mine, weights: {{path: {}}}, "
        "options: {{subtasks: [{}]}}}}\n"
    )
    (folder / "catalog.yaml").write_text(
        "models:\n"
        + entry.format("mine/sam", "sam/vit_b", folder / "sam.pth")
        + entry.format("gone", "sam/gone", folder / "gone.pth")
        + learned.format("mine/segformer", folder / "segformer", "semantic")
        + learned.format("mine/mask2former", folder / "mask2former", "panoptic, instance, semantic")
    )
    settings = {
        "MASKLINE_CATALOG_FILE": str(folder / "catalog.yaml"),
        "MASKLINE_WORKER_MODELS": "mine/sam,gone,grabcut,mine/segformer,mine/mask2former",
        "MASKLINE_DEVICE": "cpu",
    }
    with Stack(folder / "stack", environment=settings) as running:
        yield running


@pytest.fixture(scope="module")
def service(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, stack.api_key) as client:
        yield client


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)))


def test_segment_anything_through_the_service_is_upstream(service: Client, predictor: SamPredictor) -> None:
    logits, scores, _ = predictor.predict(box=np.array(BOX.box), multimask_output=False, return_logits=True)
    job = service.submit(encoded(RGB, "PNG"), model="mine/sam", prompts=[BOX], outputs=list(Output))
    done = service.wait(job.id, timeout=200)
    mask = logits[0] > 0
    assert np.array_equal(pixels(service.category_mask(done.id)), mask)
    probability = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    sure = np.where(mask, probability, 1 - probability)
    assert np.abs(pixels(service.confidence_mask(done.id)) - 255 * sure).max() <= 0.51
    [segment] = service.segments(done.id).segments
    assert (segment.label, segment.area) == ("disc", mask.sum())
    assert segment.score == pytest.approx(float(np.clip(scores[0], 0, 1)), abs=1e-6)
    assert pixels(service.overlay(done.id)).shape == RGB.shape


def test_roboflow_s_routes_of_segment_anything_are_upstream(stack: Stack, predictor: SamPredictor) -> None:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    body: dict[str, Any] = {"sam_version_id": "vit_b", "image_id": "mine"}
    content = b64encode(encoded(RGB, "PNG")).decode()
    with httpx.Client(base_url=stack.url, headers=headers, timeout=200) as http:
        embedded = http.post("/sam/embed_image", json=body | {"image": {"type": "base64", "value": content}})
        assert embedded.status_code == 200, embedded.text
        theirs = predictor.get_image_embedding().numpy()
        assert np.array_equal(np.array(embedded.json()["embeddings"], np.float32), theirs)
        binary = http.post("/sam/embed_image", json=body | {"format": "binary"})
        assert np.array_equal(np.load(BytesIO(binary.content)), theirs)
        for coords, labels in (([[40, 32], [100, 80]], [1, 0]), ([[17, 9], [63, 55]], [2, 3])):
            said = {"point_coords": coords, "point_labels": labels}
            answer = http.post("/sam/segment_image", json=body | said)
            prompt = {name: np.array(value) for name, value in said.items()}
            if labels == [2, 3]:
                prompt = {"box": np.array(coords).ravel()}
            [mask], _, _ = predictor.predict(**prompt, multimask_output=False)
            assert np.array_equal(coco.decode(answer.json()["rle"][0]), mask)


def test_models_without_weights_fail_their_jobs_and_no_others(service: Client) -> None:
    lost = service.submit(encoded(RGB, "PNG"), model="gone", prompts=[BOX])
    with pytest.raises(JobDidNotSucceed, match=r"weights_unusable: .*gone\.pth; put them there"):
        service.wait(lost.id, timeout=60)
    assert service.wait(service.submit(encoded(RGB, "PNG"), model="grabcut", prompts=[BOX]).id, timeout=60)


def test_the_card_tells_what_the_model_takes(service: Client) -> None:
    card = service.model("mine/sam")
    assert card.available
    assert set(card.prompt_kinds) == {"box", "points", "mask"}
    properties = card.parameters_schema["properties"]
    assert isinstance(properties, dict)
    assert {"multimaskOutput", "pointsPerSide", "confidenceThreshold"} <= properties.keys()


@pytest.mark.parametrize(
    ("model", "subtask"),
    [
        ("segformer", Subtask.SEMANTIC),
        ("mask2former", Subtask.SEMANTIC),
        ("mask2former", Subtask.PANOPTIC),
        ("mask2former", Subtask.INSTANCE),
    ],
)
def test_models_that_know_categories_through_the_service(
    service: Client, tmp_path: Path, model: str, subtask: Subtask
) -> None:
    upstream, processor = tiny.save(getattr(tiny, model), tmp_path)
    with torch.inference_mode():
        outputs = upstream(**processor(images=[RGB], return_tensors="pt"))
    threshold: dict[str, Any] = {} if subtask is Subtask.SEMANTIC else {"threshold": 0.1}
    post_process = getattr(processor, f"post_process_{subtask}_segmentation")
    [theirs] = post_process(outputs, target_sizes=[RGB.shape[:2]], **threshold)
    expected = np.zeros(RGB.shape[:2], np.int64)
    if subtask is Subtask.SEMANTIC:
        expected = theirs.numpy() + 1
    else:
        for info in theirs["segments_info"]:
            expected[theirs["segmentation"].numpy() == info["id"]] = info["label_id"] + 1
    job = service.submit(
        encoded(RGB, "PNG"),
        model=f"mine/{model}",
        subtask=subtask,
        parameters=threshold,
        outputs=OF_EVERY_MODEL,
    )
    done = service.wait(job.id, timeout=100)
    assert np.array_equal(pixels(service.category_mask(done.id)), expected)
    assert pixels(service.confidence_mask(done.id)).shape == expected.shape
    assert {spec.display_name for spec in done.annotation_specs or ()} == {
        "background",
        *(f"class {i}" for i in range(tiny.CLASSES)),
    }
    assert {one.category_id for one in service.segments(done.id).segments} >= set(np.unique(expected)) - {0}
    assert pixels(service.overlay(done.id)).shape == RGB.shape


def test_what_a_model_does_not_do_is_refused_at_once(service: Client) -> None:
    with pytest.raises(ApiError, match="/subtask: mine/segformer does not do panoptic; it does semantic"):
        service.submit(encoded(RGB, "PNG"), model="mine/segformer", subtask=Subtask.PANOPTIC)
    with pytest.raises(ApiError, match="/prompts: mine/segformer takes no prompts"):
        service.submit(encoded(RGB, "PNG"), model="mine/segformer", prompts=[BOX])

"""One item, from its image to its masks."""

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from maskline.batch_results import ReviewReason, ReviewThresholds
from maskline.batches import LabelSum
from maskline.errors import ArtifactStoreUnavailable, DeadlineExceeded
from maskline.jobs import Failure
from maskline.requests import Output, Prompt
from tests.unit.worker.bulk.world import (
    HEIGHT,
    NO_REVIEW,
    REQUEST,
    WIDTH,
    QuickModels,
    World,
    image_of,
    item_of,
)
from worker.bulk.item_runner import ItemRunner, Labelled
from worker.bulk.lines import Item


@pytest.fixture
def world() -> World:
    made = World()
    made.put_images(range(1, 6))
    return made


def run(
    world: World,
    item: Item,
    runner: ItemRunner | None = None,
    thresholds: ReviewThresholds = NO_REVIEW,
) -> Labelled | Failure:
    return (runner or world.item_runner()).run(item, world.images(item), thresholds)


def labelled(outcome: Labelled | Failure) -> Labelled:
    assert isinstance(outcome, Labelled), outcome
    return outcome


def failure(outcome: Labelled | Failure) -> Failure:
    assert isinstance(outcome, Failure), outcome
    return outcome


def pixels_of(mask: str | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert mask is not None
    return np.asarray(Image.open(BytesIO(base64.b64decode(mask))))


def test_an_item_is_labelled(world: World) -> None:
    outcome = labelled(run(world, item_of(), thresholds=ReviewThresholds(min_confidence=0.9)))
    red = np.zeros((HEIGHT, WIDTH), np.uint8)
    red[:, : WIDTH // 2] = 1
    assert np.array_equal(pixels_of(outcome.prediction.category_mask), red)
    assert np.array_equal(pixels_of(outcome.prediction.confidence_mask), np.full((HEIGHT, WIDTH), 220))
    assert (outcome.width, outcome.height, outcome.bit_depth) == (WIDTH, HEIGHT, 8)
    assert [spec.display_name for spec in outcome.annotation_specs] == ["background", "thing"]
    assert [(one.label, one.area, one.score) for one in outcome.segments] == [("thing", 24, 0.75)]
    assert outcome.sums == {"thing": LabelSum(items=1, segments=1, pixels=24)}
    assert outcome.mean_confidence == pytest.approx(220 / 255, abs=1e-6)
    assert [flag.reason for flag in outcome.flags] == [ReviewReason.LOW_CONFIDENCE]
    timings = outcome.timings
    assert (timings.model, timings.batch) == (250, 500)
    assert min(timings.fetch, timings.decode, timings.render) >= 0


def test_only_the_masks_that_were_asked_for_are_made(world: World) -> None:
    request = REQUEST.model_copy(update={"outputs": (Output.CONFIDENCE_MASK,)})
    prediction = labelled(run(world, item_of(request=request))).prediction
    assert prediction.category_mask is None
    assert prediction.confidence_mask is not None


@pytest.mark.parametrize(
    ("image", "changes", "code", "words"),
    [
        ("s3://imports/absent.png", {}, "image_unreachable", "does not exist"),
        ("s3://imports/none.png", {}, "image_unreadable", ""),
        ("s3://imports/1.png", {"subtask": "panoptic"}, "invalid_request", "/subtask"),
        (
            "s3://imports/1.png",
            {"prompts": (Prompt(label="x", box=(0, 0, WIDTH + 1, 2)),)},
            "invalid_request",
            "/prompts/0/box",
        ),
        ("s3://imports/1.png", {"model": "other"}, "prediction_failed", ""),
    ],
)
def test_what_is_wrong_with_an_item_is_its_failure(
    world: World, image: str, changes: dict[str, object], code: str, words: str
) -> None:
    world.artifacts.put("none.png", b"no image", "image/png", bucket="imports")
    told = failure(run(world, item_of(image=image, request=REQUEST.model_copy(update=changes))))
    assert (told.code, words in told.message) == (code, True), told


def test_what_the_model_says_of_an_image_is_its_failure(world: World) -> None:
    def fail(number: int) -> None:
        if number == 1:
            raise DeadlineExceeded("it took too long")
        if number == 2:
            raise RuntimeError("secret")

    world.models = QuickModels(before=fail)
    slow, broken, good = (run(world, item_of(n, f"s3://imports/{n}.png")) for n in (1, 2, 3))
    assert failure(slow) == Failure(code="deadline_exceeded", message="it took too long")
    assert failure(broken).code == "prediction_failed"
    assert "secret" not in failure(broken).message
    labelled(good)


def test_an_item_that_could_not_be_read_is_not_run(world: World) -> None:
    why = Failure(code="malformed_request", message="no JSON")
    assert run(world, replace(item_of(), failure=why, request=None, image=None)) is why
    assert not world.models.seen


def test_a_store_that_does_not_answer_is_no_failure_of_the_item(world: World) -> None:
    def away(number: int) -> None:
        raise ArtifactStoreUnavailable("no answer")

    world.models = QuickModels(before=away)
    with pytest.raises(ArtifactStoreUnavailable):
        run(world, item_of())


# -- identical images


def test_identical_images_are_run_once(world: World) -> None:
    world.artifacts.put("copy.png", image_of(1), "image/png", bucket="imports")
    runner = world.item_runner()
    first = labelled(run(world, item_of(1), runner))
    assert labelled(run(world, item_of(2, "s3://imports/copy.png"), runner)) == first
    assert labelled(run(world, item_of(3, "s3://imports/2.png"), runner))
    assert world.models.seen == {1: 1, 2: 1}


def test_identical_images_of_which_other_things_are_asked_are_run(world: World) -> None:
    runner = world.item_runner()
    for changes in (
        {},
        {"prompts": (Prompt(label="cup", points=((1, 1),)),)},
        {"parameters": {"confidenceThreshold": 0.25}},
        {"auto_orient": False},
        {"outputs": (Output.CATEGORY_MASK,)},
    ):
        item = item_of(request=REQUEST.model_copy(update=changes))
        labelled(run(world, item, runner))
        labelled(run(world, item, runner))
    strict = labelled(run(world, item_of(), runner, ReviewThresholds(min_confidence=1)))
    assert [flag.reason for flag in strict.flags] == [ReviewReason.LOW_CONFIDENCE]
    assert world.models.seen == {1: 6}


def test_identical_images_are_run_once_also_side_by_side(world: World) -> None:
    gate, begun = threading.Event(), threading.Event()

    def wait(number: int) -> None:
        begun.set()
        assert gate.wait(10)

    world.models = QuickModels(before=wait)
    runner = world.item_runner()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(run, world, item_of(), runner)
        assert begun.wait(10)
        others = [pool.submit(run, world, item_of(), runner) for _ in range(4)]
        gate.set()
        outcomes = {id(labelled(one.result(10))) for one in (first, *others)}
    assert len(outcomes) == 1
    assert world.models.seen == {1: 1}


def test_a_failure_is_not_remembered(world: World) -> None:
    def fail_once(number: int) -> None:
        if world.models.seen[number] == 1:
            raise RuntimeError

    world.models = QuickModels(before=fail_once)
    runner = world.item_runner()
    assert failure(run(world, item_of(), runner)).code == "prediction_failed"
    labelled(run(world, item_of(), runner))

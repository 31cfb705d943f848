"""The campaigns of ``bench`` in small: requests of every shape, and harmed images."""

from pathlib import Path

from bench import fuzz_api, fuzz_images
from bench.hostile_images import hostile_images
from maskline.local import Stack

CASES = 400
IMAGES = 200


def test_no_request_breaks_the_api_or_its_description(tmp_path: Path) -> None:
    with Stack(tmp_path, environment=fuzz_api.ENVIRONMENT) as stack:
        fuzzer = fuzz_api.ApiFuzzer(stack)
        campaign = fuzzer.run(CASES)
        fuzzer.close()
    assert campaign.findings == {}
    assert campaign.cases == CASES
    assert {200, 400, 404, 422} <= set(campaign.statuses)


def test_no_image_breaks_the_worker(tmp_path: Path) -> None:
    campaign = fuzz_images.Campaign()
    with fuzz_images.watched_stack(tmp_path, campaign) as stack:
        fuzz_images.ImageFuzzer(stack, campaign).run(hostile_images(IMAGES, seed=3))
    assert campaign.wrong == []
    assert campaign.images == IMAGES
    assert all(figure.is_met for figure in campaign.figures()), campaign
    results = {outcome.partition(": ")[2] for outcome in campaign.outcomes}
    assert {"result", "image_unreadable", "image_too_large"} <= results

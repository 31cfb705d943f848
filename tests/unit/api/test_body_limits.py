"""No route reads more of a body than it may: held while the body streams in, with a length or without."""

import base64
from io import RawIOBase

import pytest

from api.intake import most_json_bytes
from maskline.settings import Settings
from tests.factories import make_card
from tests.unit.api.conftest import Api, MakeApi
from tests.unit.api.test_keys import path_of, routes

MOST_IMAGE_BYTES = 100_000
MOST_BYTES = most_json_bytes(MOST_IMAGE_BYTES) + (1 << 16)
DRAINED_BYTES = 4 * MOST_IMAGE_BYTES

BEGINNINGS = {
    "application/json": b'{"a": "',
    "image/png": b"\x89PNG\r\n\x1a\n",
    "application/x-www-form-urlencoded": b"a=",
    "multipart/form-data; boundary=b": (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    ),
}


class Endless(RawIOBase):
    """A body that goes on for ever, as one in chunks can."""

    def __init__(self, beginning: bytes) -> None:
        self.given = 0
        self._rest = beginning

    @property
    def environ(self) -> dict[str, object]:
        """What gunicorn tells of a body in chunks."""
        return {"wsgi.input": self, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        assert self.given < 1 << 26, "somebody reads without end"
        part = self._rest[: len(buffer)].ljust(len(buffer), b"a")
        self._rest = self._rest[len(buffer) :]
        buffer[:] = part
        self.given += len(part)
        return len(part)


@pytest.fixture
def api(make_api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> Api:
    # These are gigabytes, which go to the disk.
    for most in (
        "batch_intake._MAX_JSON_BYTES",
        "batch_intake.MAX_MANIFEST_BYTES",
        "batches.MAX_MANIFEST_BYTES",
        "batches.MAX_PACK_BYTES",
    ):
        monkeypatch.setattr(f"api.{most}", MOST_IMAGE_BYTES)
    api = make_api(max_image_bytes=str(MOST_IMAGE_BYTES))
    card = make_card().model_copy(update={"aliases": ("grabcut/1",)})
    api.services.models.publish("w", [card], 60)
    return api


@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("content_type", BEGINNINGS)
def test_no_route_reads_a_body_without_end(api: Api, content_type: str, has_key: bool) -> None:
    headers = {} if has_key else {"Authorization": ""}
    statuses = set()
    for rule, method in routes(api):
        body = Endless(BEGINNINGS[content_type])
        answer = api.client.open(
            path_of(rule).replace("x0/x0", "grabcut/1"),
            method=method,
            content_type=content_type,
            headers=headers,
            environ_overrides=body.environ,
        )
        assert answer.status_code < 500 or rule == "/readyz", (method, rule, answer.text)
        assert body.given <= MOST_BYTES + DRAINED_BYTES, (method, rule)
        statuses.add(answer.status_code)
    assert (413 if has_key else 401) in statuses


@pytest.mark.parametrize(
    ("path", "content_type", "most"),
    [
        ("/v1/jobs", "image/png", MOST_IMAGE_BYTES),
        ("/v1/jobs", "application/json", most_json_bytes(MOST_IMAGE_BYTES)),
        ("/models/grabcut", "image/png", MOST_IMAGE_BYTES),
        ("/v1/keys", "application/json", 1 << 16),
        ("/model/add", "application/json", 1 << 16),
        ("/infer/instance_segmentation", "application/json", most_json_bytes(MOST_IMAGE_BYTES)),
        ("/v1/projects/p/locations/l/batchPredictionJobs", "application/json", 1 << 20),
    ],
)
def test_a_body_that_is_too_long_is_told_so_at_its_limit(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str, content_type: str, most: int
) -> None:
    monkeypatch.setattr("api.application._DRAINED_IMAGES", 0)
    body = Endless(BEGINNINGS[content_type])
    answer = api.client.post(
        path,
        content_type=content_type,
        environ_overrides=body.environ,
    )
    assert answer.status_code == (400 if "projects" in path else 413), answer.text
    assert f"larger than the {most} bytes" in answer.text
    assert body.given <= most + (1 << 16)
    told_before = Endless(b"")
    length = api.client.post(
        path,
        content_type=content_type,
        environ_overrides={"wsgi.input": told_before, "CONTENT_LENGTH": str(most + 1)},
    )
    assert length.status_code == answer.status_code
    assert told_before.given == 0, "its length alone is enough to refuse it"


def test_base64_is_measured_as_the_image_that_it_is(api: Api) -> None:
    image = base64.b64encode(bytes(MOST_IMAGE_BYTES + 1)).decode()
    for path, body in (
        ("/v1/jobs", {"image": {"content": image}}),
        ("/models/grabcut", {"inputs": image}),
        (
            "/infer/instance_segmentation",
            {"model_id": "grabcut", "image": {"type": "base64", "value": image}},
        ),
    ):
        assert api.client.post(path, json=body).status_code == 413, path


def test_the_default_is_a_few_times_an_image() -> None:
    assert most_json_bytes(Settings().max_image_bytes) < 2 * Settings().max_image_bytes

"""The S3 adapter against a real S3 server."""

import threading
import time
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import ClassVar

import boto3
import httpx
import pytest
from botocore.config import Config

from maskline.adapters import s3_artifacts
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.errors import ArtifactNotFound, ArtifactStoreUnavailable, ImageTooLarge
from maskline.local import Stack
from maskline.local.ports import free_port
from maskline.settings import Settings

BODY = bytes(range(256)) * 2000


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    public = {"MASKLINE_S3_PUBLIC_ENDPOINT": stack.environment["MASKLINE_S3_ENDPOINT"]}
    return Settings.from_env(stack.environment | public)


@pytest.fixture(scope="module")
def store(settings: Settings) -> S3ArtifactStore:
    return S3ArtifactStore.from_settings(settings)


@pytest.mark.parametrize("key", ["tests/a.png", "tests/a b+c%20d.png", "tests/ä/ß.json", "tests/x~y=z&w.png"])
@pytest.mark.parametrize("form", [bytes, BytesIO])
def test_what_is_put_comes_back(store: S3ArtifactStore, settings: Settings, key: str, form: type) -> None:
    store.put(key, form(BODY), "image/png")
    assert store.get(key) == BODY
    assert store.size(key) == len(BODY)
    size, chunks = store.stream(key)
    assert (size, b"".join(chunks)) == (len(BODY), BODY)
    secret = settings.s3_secret_key
    assert secret is not None
    reader = boto3.client(  # somebody else's reading of the protocol
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=secret.get_secret_value(),
        region_name=settings.s3_region,
        config=Config(s3={"addressing_style": "path"}),
    )
    assert reader.get_object(Bucket="maskline", Key=key)["Body"].read() == BODY
    assert store.uri(key) == f"s3://maskline/{key}"
    assert key in set(store.keys("tests/"))
    store.delete([key, "tests/never-there"])
    for call in (store.get, store.size, store.stream):
        with pytest.raises(ArtifactNotFound):
            call(key)


def test_a_listing_tells_how_old_objects_are(store: S3ArtifactStore) -> None:
    old, young = "tests/aged/1/x.png", "tests/aged/2/x.png"
    store.put(old, b"", "image/png")
    time.sleep(2.5)
    store.put(young, b"", "image/png")
    ages = {one.key: one.age_s for one in store.objects("tests/aged/")}
    assert set(ages) == set(store.keys("tests/aged/")) == {old, young}
    assert ages[old] >= ages[young] + 2


def test_too_large_an_object_is_not_read(store: S3ArtifactStore) -> None:
    store.put("tests/large", BODY, "image/png")
    assert store.get("tests/large", max_bytes=len(BODY)) == BODY
    with pytest.raises(ImageTooLarge):
        store.get("tests/large", max_bytes=len(BODY) - 1)


def test_other_buckets_and_parts_of_objects(store: S3ArtifactStore) -> None:
    store.put("tests/ö x.jsonl", BODY, "application/jsonl", bucket="exports")
    assert store.get("tests/ö x.jsonl", bucket="exports") == BODY
    assert store.size("tests/ö x.jsonl", bucket="exports") == len(BODY)
    size, chunks = store.stream("tests/ö x.jsonl", bucket="exports", start=1000)
    assert (size, b"".join(chunks)) == (len(BODY) - 1000, BODY[1000:])
    with pytest.raises(ArtifactNotFound):
        store.put("x", BODY, "application/jsonl", bucket="none-of-these")


def test_a_stream_that_is_left_early_spoils_no_later_call(store: S3ArtifactStore) -> None:
    large = BODY * 20
    store.put("tests/long", large, "application/jsonl")
    for _ in range(5):
        _, chunks = store.stream("tests/long")
        next(chunks)
        assert isinstance(chunks, Generator)
        chunks.close()
        assert store.get("tests/long") == large


def test_a_presigned_url_opens_one_object_for_a_while(store: S3ArtifactStore) -> None:
    store.put("tests/presigned.png", BODY, "image/png")
    url = store.presign("tests/presigned.png", 2)
    assert url is not None
    assert httpx.get(url).content == BODY
    assert httpx.get(url.replace("presigned", "other")).status_code in {400, 403}
    time.sleep(3)
    assert httpx.get(url).status_code in {400, 403}


def test_an_absent_store_is_told_as_such(settings: Settings) -> None:
    absent = S3ArtifactStore.from_settings(
        settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    )
    for call in (absent.check, lambda: absent.get("x"), lambda: absent.put("x", b"", "image/png")):
        with pytest.raises(ArtifactStoreUnavailable):
            call()


def test_a_wrong_key_is_no_missing_object(settings: Settings) -> None:
    stranger = S3ArtifactStore.from_settings(settings.model_copy(update={"s3_access_key": "stranger"}))
    with pytest.raises(ArtifactStoreUnavailable):
        stranger.get("tests/x")


class Picky(BaseHTTPRequestHandler):
    """A store that answers each PUT with the next of some statuses, and then closes the connection."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[list[int]] = []
    bodies: ClassVar[list[bytes]] = []

    def do_PUT(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.statuses.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = True  # without a word

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def picky(settings: Settings) -> Iterator[S3ArtifactStore]:
    Picky.bodies.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Picky)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    yield S3ArtifactStore.from_settings(settings.model_copy(update={"s3_endpoint": endpoint}))
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("form", [bytes, BytesIO])
def test_an_upload_is_sent_once_or_until_it_is_taken(picky: S3ArtifactStore, form: type) -> None:
    Picky.statuses = [200, 201, 500, 503, 200]
    for _ in range(3):
        picky.put("tests/x.png", form(BODY), "image/png")
    assert Picky.statuses == []
    assert Picky.bodies == [BODY] * 5


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, ArtifactNotFound), (408, ArtifactStoreUnavailable), (429, ArtifactStoreUnavailable)],
)
def test_another_s_bucket_refuses_or_asks_for_patience(
    picky: S3ArtifactStore, status: int, error: type[Exception]
) -> None:
    Picky.statuses = [status]
    with pytest.raises(error):
        picky.put("tests/x.png", BODY, "image/png", bucket="exports")


@pytest.mark.parametrize("status", [403, 404])
def test_an_upload_that_is_refused_is_not_sent_again(picky: S3ArtifactStore, status: int) -> None:
    Picky.statuses = [status, 200]
    with pytest.raises(ArtifactStoreUnavailable):
        picky.put("tests/x.png", BODY, "image/png")
    assert len(Picky.bodies) == 1


def test_what_is_too_large_for_one_request_goes_in_pieces(
    store: S3ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(s3_artifacts, "_MAX_WHOLE_BYTES", 6 << 20)
    monkeypatch.setattr(s3_artifacts._IN_PIECES, "multipart_chunksize", 5 << 20)
    store._client.meta.events.register("before-call.s3", lambda model, **_: sent.append(model.name))
    large, small = BODY * 24, BODY
    for key, body in (("tests/large", large), ("tests/small", small)):
        store.put(key, BytesIO(body), "application/zip")
        assert store.get(key) == body
    assert sent == [
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPart",
        "UploadPart",
        "CompleteMultipartUpload",
    ]
    store.delete(["tests/large", "tests/small"])
    with pytest.raises(ArtifactNotFound):
        store.put("large", BytesIO(large), "application/zip", bucket="never-there")


def test_the_end_of_an_object_is_read_alone(store: S3ArtifactStore) -> None:
    body = bytes(range(256)) * 40
    store.put("tail/x", body, "application/octet-stream")
    for most in (1, 100, len(body), len(body) + 1, 1 << 20):
        assert store.tail("tail/x", most) == body[-most:]
    with pytest.raises(ArtifactNotFound):
        store.tail("tail/absent", 10)

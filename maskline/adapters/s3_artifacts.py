"""Artifacts in an S3 store.

Single objects travel by plain presigned HTTP requests: a whole call of boto3's client costs several times
what the transfer of a mask does. Listing, deleting and checking are boto3's.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from io import SEEK_END, BytesIO
from itertools import islice
from typing import BinaryIO, Self
from urllib.parse import quote

import boto3
import structlog
import urllib3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from maskline.adapters.s3_signing import presigned_url
from maskline.adapters.uploads import Uploader, UploadFailed
from maskline.errors import ArtifactNotFound, ArtifactStoreUnavailable, ImageTooLarge, ServiceError
from maskline.ports import StoredObject
from maskline.settings import Settings, SettingsError

logger = structlog.get_logger(module=__name__)

_SIGNATURE_LIFE_S = 300
_TIMEOUT = urllib3.Timeout(connect=5, read=30)
# A put can be repeated: its key is new and its body the same.
_RETRIES = urllib3.Retry(
    total=3, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504), allowed_methods=None, redirect=0
)
_BROKEN_OFF_READS = 2  # are made anew: the retries above end with the answer's head
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)  # later it may be taken
_POOL_SIZE = 64
_CHUNK_BYTES = 1 << 18
_MAX_WHOLE_BYTES = 5_000_000_000  # S3 takes no more at once
_IN_PIECES = TransferConfig(multipart_threshold=1, multipart_chunksize=1 << 24, use_threads=False)
_DELETE_BATCH = 1000  # most keys that S3 takes in one DeleteObjects


_AWAY = "the artifact store does not answer; try again in a moment"


class _BrokenOff(ArtifactStoreUnavailable):
    """An answer that began well."""


class _RangeRefused(ArtifactStoreUnavailable):
    """There are no such bytes."""


class S3ArtifactStore:
    """``ArtifactStore`` over one bucket."""

    def __init__(
        self,
        *,
        bucket: str,
        region: str,
        endpoint: str | None,
        public_endpoint: str | None,
        access_key: str | None,
        secret_key: str | None,
    ) -> None:
        """``endpoint``: of the store, None for AWS; ``public_endpoint``: where clients reach it, None if
        they don't (for AWS they always do). Keys left out are found the way boto3 finds them."""
        session = boto3.Session(access_key, secret_key, region_name=region)
        self._bucket = bucket
        self._region = region
        self._endpoint = endpoint
        self._public_endpoint = public_endpoint
        credentials = session.get_credentials()
        if credentials is None:
            raise SettingsError("there are no S3 keys; set MASKLINE_S3_ACCESS_KEY and MASKLINE_S3_SECRET_KEY")
        self._credentials = credentials
        self._uploader = Uploader()
        self._pools: dict[str, urllib3.HTTPConnectionPool] = {}
        self._client = session.client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint else "virtual"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "max_attempts": 3},
                max_pool_connections=_POOL_SIZE,
            ),
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The store that the settings name."""
        secret_key = settings.s3_secret_key
        return cls(
            bucket=settings.s3_bucket,
            region=settings.s3_region,
            endpoint=settings.s3_endpoint,
            public_endpoint=settings.s3_public_endpoint,
            access_key=settings.s3_access_key,
            secret_key=secret_key.get_secret_value() if secret_key else None,
        )

    def put(self, key: str, body: bytes | BinaryIO, media_type: str, *, bucket: str | None = None) -> None:
        into = bucket or self._bucket
        file = BytesIO(body) if isinstance(body, bytes) else body
        length = file.seek(0, SEEK_END)
        file.seek(0)
        if length > _MAX_WHOLE_BYTES:
            with _translated() if into == self._bucket else _translated_of(into):
                self._client.upload_fileobj(file, into, key, {"ContentType": media_type}, Config=_IN_PIECES)
            return
        url = self._sign("PUT", self._endpoint, into, key, _SIGNATURE_LIFE_S)
        headers = {"Content-Type": media_type, "Content-Length": str(length)}
        try:
            try:
                status = self._uploader.put(url, file, length, media_type)
                reason = f"status {status}"
            except UploadFailed as error:
                status, reason = None, str(error)
            if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR:
                _require_success(status, is_ours=into == self._bucket)
                return
            logger.warning("upload repeated", key=key, reason=reason)
            file.seek(0)
            self._send("PUT", into, key, body=file, headers=headers)
        except ArtifactNotFound as error:
            if into != self._bucket:
                raise ArtifactNotFound(f"the bucket {into!r} does not exist, or refuses") from error
            raise ArtifactStoreUnavailable(f"the bucket {self._bucket!r} does not exist") from error

    def get(self, key: str, *, bucket: str | None = None, max_bytes: int | None = None) -> bytes:
        for _ in range(_BROKEN_OFF_READS):
            with suppress(_BrokenOff):
                return self._get(key, bucket, max_bytes)
        return self._get(key, bucket, max_bytes)

    def part(self, key: str, start: int, length: int) -> bytes:
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        for _ in range(_BROKEN_OFF_READS):
            with suppress(_BrokenOff):
                return self._part(key, headers)
        return self._part(key, headers)

    def _part(self, key: str, headers: dict[str, str]) -> bytes:
        try:
            return self._get(key, None, None, headers=headers)
        except _RangeRefused:
            return b""

    def copy(self, key: str, to_key: str, *, to_bucket: str) -> None:
        with _translated_of(to_bucket):
            self._client.copy_object(
                Bucket=to_bucket, Key=to_key, CopySource={"Bucket": self._bucket, "Key": key}
            )

    def tail(self, key: str, most_bytes: int) -> bytes:
        try:
            return self._get(key, None, None, headers={"Range": f"bytes=-{most_bytes}"})
        except _RangeRefused:  # some stores do so where the object is shorter
            return self.get(key)

    def _get(
        self, key: str, bucket: str | None, max_bytes: int | None, headers: dict[str, str] | None = None
    ) -> bytes:
        response = self._send("GET", bucket or self._bucket, key, headers=headers, preload=False)
        try:
            if max_bytes is not None and _content_length(response) > max_bytes:
                response.close()
                raise ImageTooLarge(
                    f"the object is {_content_length(response)} bytes; at most {max_bytes} are taken"
                )
            return response.read()
        except urllib3.exceptions.HTTPError as error:
            raise _BrokenOff(_AWAY) from error
        finally:
            response.release_conn()

    def size(self, key: str, *, bucket: str | None = None) -> int:
        return _content_length(self._send("HEAD", bucket or self._bucket, key))

    def stream(self, key: str, *, bucket: str | None = None, start: int = 0) -> tuple[int, Iterator[bytes]]:
        headers = {"Range": f"bytes={start}-"} if start else None
        response = self._send("GET", bucket or self._bucket, key, headers=headers, preload=False)
        return _content_length(response), _chunks(response)

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            with _translated():
                self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )

    def keys(self, prefix: str) -> Iterator[str]:
        return (one.key for one in self.objects(prefix))

    def objects(self, prefix: str, *, bucket: str | None = None) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2")
        with _translated() if bucket is None else _translated_of(bucket):
            for page in pages.paginate(Bucket=bucket or self._bucket, Prefix=prefix):
                now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"], (now - entry["LastModified"]).total_seconds())

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def presign(self, key: str, expires_s: float) -> str | None:
        if self._public_endpoint is None and self._endpoint is not None:
            return None
        return self._sign("GET", self._public_endpoint, self._bucket, key, int(expires_s))

    def check(self) -> None:
        with _translated():
            self._client.head_bucket(Bucket=self._bucket)

    def ensure_bucket(self) -> None:
        """Make the bucket if there is none.

        Raises:
            ArtifactStoreUnavailable: the store does not answer, or refuses.
        """
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                raise ArtifactStoreUnavailable(f"the bucket {self._bucket!r} can't be reached") from error
            with _translated():
                self._client.create_bucket(Bucket=self._bucket)
        except BotoCoreError as error:
            raise ArtifactStoreUnavailable("the artifact store does not answer") from error

    def _send(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        body: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
        preload: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        with _translated():
            url = self._sign(method, self._endpoint, bucket, key, _SIGNATURE_LIFE_S)
            origin, target = _split(url)
            response = self._pool(origin).urlopen(
                method,
                target,
                body=body,
                headers=headers,
                preload_content=preload,
                retries=_RETRIES,
                timeout=_TIMEOUT,
            )
        try:
            _require_success(response.status, is_ours=bucket == self._bucket)
        except ServiceError:
            response.drain_conn()
            response.release_conn()
            raise
        return response

    def _pool(self, origin: str) -> urllib3.HTTPConnectionPool:
        # urllib3's PoolManager does the same, and takes as long over it as over a small request.
        if origin not in self._pools:
            pool = urllib3.connection_from_url(origin, maxsize=_POOL_SIZE, blocksize=_CHUNK_BYTES)
            self._pools.setdefault(origin, pool)
        return self._pools[origin]

    def _sign(self, method: str, endpoint: str | None, bucket: str, key: str, expires_s: int) -> str:
        path = quote(key, safe="/-_.~")
        url = (
            f"{endpoint.rstrip('/')}/{bucket}/{path}"
            if endpoint
            else f"https://{bucket}.s3.{self._region}.amazonaws.com/{path}"
        )
        credentials = self._credentials.get_frozen_credentials()
        return presigned_url(
            method,
            url,
            access_key=credentials.access_key or "",
            secret_key=credentials.secret_key or "",
            session_token=credentials.token,
            region=self._region,
            expires_s=expires_s,
        )


def _require_success(status: int, *, is_ours: bool) -> None:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status == HTTPStatus.NOT_FOUND:
        raise ArtifactNotFound("the object does not exist")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _RangeRefused("the object is shorter")
    is_refusal = status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING
    if is_refusal and not is_ours:  # our own bucket is the operator's to mend
        raise ArtifactNotFound(f"the bucket refuses it with status {status}")
    raise ArtifactStoreUnavailable(f"the artifact store answered with status {status}")


def _split(url: str) -> tuple[str, str]:
    """``https://host:port``, and the path and query."""
    slash = url.index("/", url.index("//") + 2)
    return url[:slash], url[slash:]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, BotoCoreError, ClientError) as error:
        raise ArtifactStoreUnavailable(_AWAY) from error


@contextmanager
def _translated_of(bucket: str) -> Iterator[None]:
    """As ``_translated``, of a bucket that is not ours and may not be there."""
    with _translated():
        try:
            yield
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
                raise ArtifactNotFound(f"the bucket {bucket!r} does not exist, or refuses") from error
            raise


def _content_length(response: urllib3.BaseHTTPResponse) -> int:
    return int(response.headers.get("Content-Length", 0))


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        with _translated():
            yield from response.stream(_CHUNK_BYTES)
    except GeneratorExit:  # the rest is not wanted; it would be taken for the next answer
        response.close()
        raise
    finally:
        response.release_conn()

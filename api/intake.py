"""The body of a submission: its request, and its image as a file, measured and hashed on the way in."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, BinaryIO, Self, cast

from flask import Request
from pydantic import Field, JsonValue, model_validator

from api.body import broken_off_told, decode_base64, parse_body, parse_json, read_body, salvage
from api.openapi import parse_query
from maskline.errors import Fault, InvalidRequest, MalformedRequest, UnsupportedMediaType
from maskline.plain_words import Right
from maskline.requests import SegmentationRequest
from maskline.wire import WireModel

IMAGE_PART = "image"
REQUEST_PART = "request"
_IN_MEMORY_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_MAX_REQUEST_BYTES = 1 << 20  # of JSON, without the image

_DATA_URL = re.compile(r"\Adata:[^,]{0,256},")

_JSON_PARAMETERS = frozenset(
    {"prompts", "parameters", "outputs", "detections", "picture", "webhook", "metadata"}
)


ImageUrl = Annotated[
    str,
    Field(pattern=r"^https?://[^\s]+$", max_length=4096),
    Right("give an http or https URL of at most 4096 characters"),
]
ImageUri = Annotated[
    str,
    Field(pattern=r"^s3://[^/\s]+/.+$", max_length=2048),
    Right("give s3://BUCKET/KEY, of at most 2048 characters"),
]


class ImageSource(WireModel):
    """Where the image is; exactly one of the fields."""

    content: str | None = None
    """The image's bytes in base64 (standard alphabet)."""
    url: ImageUrl | None = None
    """http or https; fetched by the worker."""
    uri: ImageUri | None = None
    """``s3://bucket/key`` in a bucket that the operator opened for import."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.content, self.url, self.uri)) != 1:
            raise ValueError("give exactly one of content, url and uri")
        return self


class JobRequest(SegmentationRequest):
    """The JSON body of a submission: the request, and where its image is."""

    image: ImageSource
    """The image."""


class JobParameters(SegmentationRequest):
    """Everything about a job but its image.

    Where the body is the image itself these are query parameters; those that are no plain text or number
    (``prompts``, ``parameters``, ``outputs``, ``detections``, ``picture``, ``webhook`` and ``metadata``) are
    then JSON.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """An image's bytes, on their way to the bucket."""

    file: BinaryIO
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What a client sent: the request, and one of the three forms of an image."""

    request: SegmentationRequest
    """What is right about it."""
    faults: tuple[Fault, ...] = ()
    """What is wrong."""
    upload: Upload | None = None
    url: str | None = None
    uri: str | None = None

    def close(self) -> None:
        """Let the image's bytes go."""
        if self.upload is not None:
            self.upload.file.close()


def read_submission(request: Request, max_image_bytes: int) -> Submission:
    """What the body of ``POST /v1/jobs`` says.

    Raises:
        UnsupportedMediaType: the body's content type is none of the three.
        MalformedRequest: the body is not of the form that its content type promises.
        InvalidRequest: fields are wrong.
        RequestEntityTooLarge: (Werkzeug's) the body is larger than an image may be.
    """
    with broken_off_told():
        return _reader(request.mimetype)(request, max_image_bytes)


def most_json_bytes(max_image_bytes: int) -> int:
    """How long a JSON body may be that holds an image in base64."""
    return max_image_bytes * 4 // 3 + _MAX_REQUEST_BYTES


def _require_short(size: int) -> None:
    if size > _MAX_REQUEST_BYTES:
        detail = f"without its image it is {size} bytes of JSON; at most {_MAX_REQUEST_BYTES} are taken"
        raise InvalidRequest([Fault("", detail)])


def _reader(media_type: str) -> Callable[[Request, int], Submission]:
    if media_type == "multipart/form-data":
        return _from_multipart
    if media_type == "application/json":
        return _from_json
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return _from_raw
    raise UnsupportedMediaType(
        f"the content type {media_type!r} is not taken; send multipart/form-data with the parts 'image' and "
        "'request', the image itself as image/*, or JSON as application/json"
        if media_type
        else "the content type is missing; send multipart/form-data, image/* or application/json"
    )


def _from_raw(request: Request, max_image_bytes: int) -> Submission:
    request.max_content_length = max_image_bytes
    fields: dict[str, JsonValue] = {}
    faults = []
    for name, value in request.args.items():
        try:
            fields[name] = parse_json(value) if name in _JSON_PARAMETERS else value
        except ValueError:
            faults.append(Fault("", f"this is no JSON: {value[:80]!r}", parameter=name))
    parsed, more = salvage(fields, JobParameters, in_query=True)
    return Submission(
        request=parsed, faults=(*faults, *more), upload=take_upload(request.stream, request.content_length)
    )


def _from_multipart(request: Request, max_image_bytes: int) -> Submission:
    request.max_content_length = max_image_bytes + _MAX_REQUEST_BYTES
    parse_query(WireModel)
    image = request.files.get(IMAGE_PART)
    names = {str(name) for name in (*request.files, *request.form)}
    if image is None or names - {IMAGE_PART, REQUEST_PART}:
        parts = ", ".join(sorted(names)) or "none"
        raise MalformedRequest(
            "the multipart body needs a file part named 'image', may have a JSON part named 'request', "
            f"and no other; it has: {parts}"
        )
    part = request.files.get(REQUEST_PART)
    text: str | bytes = part.read() if part is not None else request.form.get(REQUEST_PART, "{}")
    _require_short(len(text))
    parsed, faults = salvage(parse_body(text), SegmentationRequest)
    return Submission(request=parsed, faults=tuple(faults), upload=measure(cast(BinaryIO, image.stream)))


def _from_json(request: Request, max_image_bytes: int) -> Submission:
    parse_query(WireModel)
    text = read_body(request, most_json_bytes(max_image_bytes))
    body, faults = salvage(parse_body(text), JobRequest)
    _require_short(len(text) - len(body.image.content or ""))
    fields = {name: getattr(body, name) for name in SegmentationRequest.model_fields}
    parsed = SegmentationRequest.model_construct(body.model_fields_set - {"image"}, **fields)
    if body.image.content is None:
        return Submission(request=parsed, faults=tuple(faults), url=body.image.url, uri=body.image.uri)
    try:
        upload = upload_of_base64(body.image.content)
    except ValueError as error:
        raise InvalidRequest([*faults, Fault("/image/content", str(error))]) from error
    return Submission(request=parsed, faults=tuple(faults), upload=upload)


def upload_of_base64(content: str) -> Upload:
    """The image that is given in base64.

    Raises:
        ValueError: it is not base64; the message is for the client.
    """
    return upload_of(decode_base64(content))


def bare_base64(text: str) -> str:
    """Base64 without what some clients put around it: the beginning of a data URL, line breaks."""
    return "".join(_DATA_URL.sub("", text, count=1).split())


def take_upload(stream: IO[bytes], size: int | None) -> Upload:
    """What a stream gives, as an image on its way; ``size``: of it, where that is known.

    Raises:
        RequestEntityTooLarge: (Werkzeug's) it is larger than the request's ``max_content_length``.
    """
    if size is not None and size <= _IN_MEMORY_BYTES:
        return upload_of(stream.read())
    spool = cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115 (the upload owns it)
    try:
        shutil.copyfileobj(stream, spool, _CHUNK_BYTES)
        return measure(spool)
    except BaseException:
        spool.close()
        raise


def upload_of(body: bytes) -> Upload:
    """These bytes, as an image on its way."""
    return Upload(file=BytesIO(body), size=len(body), sha256=hashlib.sha256(body).hexdigest())


def measure(file: BinaryIO) -> Upload:
    """An image in a file, read once for its size and hash."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    size = file.tell()
    file.seek(0)
    return Upload(file=file, size=size, sha256=digest.hexdigest())


def fingerprint(submission: Submission) -> str:
    """Hash over everything that makes up a submission, for idempotency."""
    image = submission.upload.sha256 if submission.upload else submission.url or submission.uri or ""
    text = json.dumps([submission.request.to_json(), image])
    return hashlib.sha256(text.encode()).hexdigest()[:16]  # a client that finds a twin fools itself alone

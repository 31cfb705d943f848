"""The images of Roboflow's clients: base64 in several wrappings, a file, or a URL."""

from dataclasses import dataclass
from typing import BinaryIO, cast

from flask import Request
from pydantic import TypeAdapter, ValidationError

from api.body import broken_off_told, read_body
from api.intake import ImageUrl, Upload, bare_base64, measure, most_json_bytes, upload_of_base64
from api.protocols.roboflow.fields import Images, InferenceImage
from maskline.errors import ImageTooLarge, MalformedRequest
from maskline.plain_words import tell

_FILE_PART = "file"
_ROOM = 1 << 16  # bytes of a multipart body beside its image
_ESCAPED = b"+/=:;,\r\n "  # what base64, its line breaks and a data URI have that is percent-encoded
_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """An image, in one of its two forms."""

    upload: Upload | None = None
    url: str | None = None


def read_image(request: Request, max_image_bytes: int) -> Given:
    """The image that is the body of a v0 call.

    A body that is no form is base64, whatever its content type says: the client calls it JSON, curl a form.
    It may be a JSON string, or percent-encoded.

    Raises:
        MalformedRequest: there is none, or it is no base64.
        ImageTooLarge: it has more bytes than an image may have.
        RequestEntityTooLarge: (Werkzeug's) the body is larger than is taken.
    """
    if request.mimetype == "multipart/form-data":
        request.max_content_length = max_image_bytes + _ROOM
        with broken_off_told():
            return _from_form(request, max_image_bytes)
    text = _unwrapped(read_body(request, most_json_bytes(max_image_bytes)))
    if not text:
        raise MalformedRequest(
            "there is no image; send it in base64 as the body, or as the part 'file' of a multipart body, or "
            "give its URL as the query parameter 'image'"
        )
    return _from_base64(text, max_image_bytes)


def _unwrapped(body: bytes) -> str:
    """Base64 without the quotes of a JSON string, and without percent-encoding.

    ``urllib``'s ``unquote`` makes an object of every escape, of which a body may have millions.
    """
    body = body.strip()
    if len(body) > 1 and body[:1] == body[-1:] == b'"':
        body = body[1:-1]
    if b"%" in body:
        for code in _ESCAPED:
            for escape in (b"%%%02X" % code, b"%%%02x" % code):
                body = body.replace(escape, bytes((code,)))
    return body.strip().decode("latin-1")


def sources_of(images: Images) -> list[InferenceImage]:
    """The images of a JSON body, which may be in an array."""
    return images if isinstance(images, list) else [images]


def from_source(source: InferenceImage, max_image_bytes: int) -> Given:
    """The image that a JSON body tells of.

    Raises:
        MalformedRequest: it is no base64, or no URL.
        ImageTooLarge: it has more bytes than an image may have.
    """
    if source.type == "base64":
        return _from_base64(source.value, max_image_bytes)
    try:
        return Given(url=_URL.validate_python(source.value))
    except ValidationError as error:
        raise MalformedRequest(f"the image's URL: {tell(error)}") from error


def _from_base64(text: str, max_image_bytes: int) -> Given:
    try:
        upload = upload_of_base64(bare_base64(text))
    except ValueError as error:
        raise MalformedRequest(f"the image can't be loaded: {error}") from error
    return _not_too_large(upload, max_image_bytes)


def _from_form(request: Request, max_image_bytes: int) -> Given:
    part = request.files.get(_FILE_PART)
    if part is None:
        names = ", ".join(map(str, (*request.files, *request.form))) or "none"
        raise MalformedRequest(f"the multipart body needs a file part named 'file'; it has: {names}")
    return _not_too_large(measure(cast(BinaryIO, part.stream)), max_image_bytes)


def _not_too_large(upload: Upload, max_image_bytes: int) -> Given:
    if upload.size > max_image_bytes:
        upload.file.close()
        raise ImageTooLarge(f"the image has {upload.size} bytes; at most {max_image_bytes} are taken")
    return Given(upload=upload)

"""The images of Roboflow's clients: base64 in several wrappings, a file, or a URL."""

import re
from dataclasses import dataclass
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes

from flask import Request
from pydantic import TypeAdapter, ValidationError

from api.body import BROKEN_OFF
from api.intake import ImageUrl, Upload, measure, upload_of_base64
from api.protocols.roboflow.fields import InferenceImage
from maskline.errors import ImageTooLarge, MalformedRequest
from maskline.plain_words import tell

_FILE_PART = "file"
_ROOM = 1 << 16  # bytes of a body beside its image: the parts' headers, line breaks
_LINE_BYTES = 77 / 76  # base64 has a line break after each 76 characters, at most
_DATA_URI = re.compile(rb"^data:[^,]{0,256},")
_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)
_BLANKS = re.compile(rb"\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """An image, in one of its two forms."""

    upload: Upload | None = None
    url: str | None = None

    def close(self) -> None:
        """Let its bytes go."""
        if self.upload is not None:
            self.upload.file.close()


def read_body(request: Request, max_image_bytes: int) -> Given:
    """The image that is the body of a v0 call.

    A body that is no form is base64, whatever its content type says: the client calls it JSON, curl a form.

    Raises:
        MalformedRequest: there is none, or it is no base64.
        ImageTooLarge: it has more bytes than an image may have.
        RequestEntityTooLarge: (Werkzeug's) the body is larger than an image may be.
    """
    is_form = request.mimetype == "multipart/form-data"
    most = max_image_bytes if is_form else int(max_image_bytes * 4 / 3 * _LINE_BYTES)
    request.max_content_length = most + _ROOM
    try:
        if is_form:
            return _from_form(request, max_image_bytes)
        text = request.get_data(cache=False)
    except BROKEN_OFF as error:
        raise MalformedRequest("the body is cut off, or its chunks are damaged") from error
    if not text.strip():
        raise MalformedRequest(
            "there is no image; send it in base64 as the body, or as the part 'file' of a multipart body, or "
            "give its URL as the query parameter 'image'"
        )
    return from_base64(text, max_image_bytes)


def from_base64(text: bytes, max_image_bytes: int) -> Given:
    """The image that is given in base64, as a data URI or with line breaks too.

    Raises:
        MalformedRequest: it is no base64.
        ImageTooLarge: it has more bytes than an image may have.
    """
    text = _DATA_URI.sub(b"", unquote_to_bytes(text) if b"%" in text else text)
    try:
        upload = upload_of_base64(_BLANKS.sub(b"", text).decode("latin-1"))
    except ValueError as error:
        raise MalformedRequest(f"the image can't be loaded: {error}") from error
    return _not_too_large(upload, max_image_bytes)


def from_source(source: InferenceImage, max_image_bytes: int) -> Given:
    """The image that a JSON body tells of.

    Raises:
        MalformedRequest: it is no base64, or no URL.
        ImageTooLarge: it has more bytes than an image may have.
    """
    if source.type == "base64":
        return from_base64(source.value.encode(), max_image_bytes)
    try:
        return Given(url=_URL.validate_python(source.value))
    except ValidationError as error:
        raise MalformedRequest(f"the image's URL: {tell(error)}") from error


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

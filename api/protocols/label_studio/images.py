"""The image of a task: what the worker fetches, and what only Label Studio has.

A file of Label Studio's needs its token. Requests do not choose where a token goes: the address and the token
are the operator's, for each tenant, and what a redirect leads to elsewhere is called without it.
"""

import base64
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from pydantic import JsonValue, TypeAdapter, ValidationError

from api.intake import ImageUrl, Upload, bare_base64, upload_of, upload_of_base64
from maskline.adapters.outgoing import OutgoingClient
from maskline.bucket_uris import not_open, split_uri
from maskline.errors import ImageUnreachable
from maskline.plain_words import tell
from maskline.settings import LabelStudio, Settings

_IMAGE_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)
_BUCKETS = ("s3", "gs")
_CLOUDS = (*_BUCKETS, "azure-blob")  # whose files Label Studio gives a link to
_FILES = ("/data/upload/", "/data/local-files/", "/storage-data/uploaded/")
_FORMS = (
    "give an http or https URL, s3://BUCKET/KEY or gs://BUCKET/KEY, a data URL, or a file of Label Studio's, "
    "as /data/upload/1/image.png"
)


class TaskImage(NamedTuple):
    """One of the three forms of an image, as a submission has them."""

    upload: Upload | None = None
    url: str | None = None
    uri: str | None = None


class TaskImages:
    """Finds the images of tasks."""

    def __init__(self, settings: Settings) -> None:
        """``settings``: which buckets are open, and which Label Studio is whose."""
        self._settings = settings

    def find(self, tenant: str, task_id: int | str | None, value: JsonValue) -> TaskImage:
        """The image that a task's data name; fetched where Label Studio alone has it.

        Raises:
            ValueError: they name none; in words for the client.
            ImageUnreachable: Label Studio does not give it.
            ImageTooLarge: it is larger than images may be.
        """
        if not isinstance(value, str) or not value:
            raise ValueError(f"there is no image; {_FORMS}")
        scheme = value.partition(":")[0].lower()
        if scheme == "data":
            return TaskImage(upload=upload_of_base64(bare_base64(value)))
        studio = self._settings.label_studios.get(tenant)
        if scheme in _CLOUDS:
            return self._in_cloud(studio, scheme, task_id, value)
        if studio is not None and value.startswith(f"{_base(studio)}/"):
            value = value.removeprefix(_base(studio))
        if value.startswith("/"):
            return self._of_label_studio(studio, value)
        if scheme not in ("http", "https"):
            raise ValueError(_FORMS)
        try:
            return TaskImage(url=_IMAGE_URL.validate_python(value))
        except ValidationError as error:
            raise ValueError(tell(error)) from error

    def _in_cloud(
        self, studio: LabelStudio | None, scheme: str, task_id: int | str | None, uri: str
    ) -> TaskImage:
        bucket, _ = split_uri(uri)
        open_buckets = self._settings.import_buckets
        if scheme in _BUCKETS and bucket in open_buckets:
            return TaskImage(uri=uri)
        if studio is None or task_id is None:
            raise ValueError(not_open(bucket, "import", open_buckets))
        file = base64.b64encode(uri.encode()).decode()
        return self._fetched(studio, f"/tasks/{quote(str(task_id), safe='')}/presign/?fileuri={quote(file)}")

    def _of_label_studio(self, studio: LabelStudio | None, path: str) -> TaskImage:
        if studio is None:
            raise ImageUnreachable(
                f"{path} is a file of Label Studio's, and no Label Studio is known; the operator of Maskline "
                "names it in MASKLINE_LABEL_STUDIOS"
            )
        plain = path.partition("?")[0]
        if not plain.startswith(_FILES) or ".." in plain:
            raise ValueError(f"{path} is no file that is fetched from Label Studio; {_FORMS}")
        return self._fetched(studio, path)

    def _fetched(self, studio: LabelStudio, path: str) -> TaskImage:
        image = self._client.get_image(
            f"{_base(studio)}{path}",
            self._settings.max_image_bytes,
            authorization=f"Token {studio.token.get_secret_value()}",
        )
        return TaskImage(upload=upload_of(image))

    @cached_property
    def _client(self) -> OutgoingClient:
        hosts = [urlsplit(studio.url).hostname or "" for studio in self._settings.label_studios.values()]
        return OutgoingClient((*self._settings.outgoing_allow, *hosts))


def _base(studio: LabelStudio) -> str:
    return studio.url.rstrip("/")

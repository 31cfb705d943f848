"""An item of a batch: one image, with what is asked of it alone.

An item is a line of JSON of a manifest:

    {"id": "a7", "image": "s3://photos/a7.jpg", "prompts": [{"label": "cup", "box": [10, 20, 200, 180]}]}
"""

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag

from maskline.plain_words import Right
from maskline.requests import MAX_PROMPTS, Prompt, Subtask
from maskline.wire import FreeObject, WireModel

MAX_ITEM_BYTES = 1 << 20  # of a line: prompts may hold masks
MAX_ID = 1024
_MAX_PACKED = 1 << 40  # far beyond any pack; S3 servers do not take every number

_WRITTEN = r"^(s3|gs)://[^/\s]+/.+$|^https?://[^\s]+$"


def _clean(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("it has control characters; leave them out")
    return text


ImageAddress = Annotated[
    str,
    Field(pattern=_WRITTEN, max_length=4096),
    Right("give s3://BUCKET/KEY, gs://BUCKET/KEY or an http or https URL"),
]


class PackedImage(WireModel):
    """An image within a pack that was uploaded to the batch."""

    pack: Annotated[int, Field(ge=1, le=_MAX_PACKED)]
    """Number of the pack."""
    offset: Annotated[int, Field(ge=0, le=_MAX_PACKED)]
    """Of the image's first byte in the pack."""
    length: Annotated[int, Field(ge=1, le=_MAX_PACKED)]
    """Of the image, in bytes."""


def _tag_of_image(value: object) -> str:
    return "[packed]" if isinstance(value, dict | PackedImage) else "[address]"


ItemImage = Annotated[
    Annotated[ImageAddress, Tag("[address]")] | Annotated[PackedImage, Tag("[packed]")],
    Discriminator(_tag_of_image),
]
"""Where an item's image is."""


class BatchItem(WireModel):
    """One image, with what is asked of it alone; what is left out is as the batch says."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(_clean)] | None = None
    """The caller's, once in a batch; left out: the number of its line. In exports it names the files."""
    line: Annotated[int, Field(ge=1, le=1 << 53)] | None = None
    """The number to tell of it by, such as that of its line in what it was read from; left out: that of its
    line here."""
    image: ItemImage
    """Where the image is: in a bucket that is open for import, at a URL, or in a pack of the batch."""
    subtask: Subtask | None = None
    """In place of the batch's."""
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=MAX_PROMPTS)] | None = None
    """In place of the batch's."""
    parameters: FreeObject = Field(default_factory=dict)
    """Over those of the batch, one by one."""
    auto_orient: bool | None = None
    """In place of the batch's."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """Anything of the caller's, given back beside the result."""

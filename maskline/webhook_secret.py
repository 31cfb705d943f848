"""The secrets that webhooks are signed with, as Standard Webhooks writes them."""

from base64 import b64decode
from typing import Annotated

from pydantic import AfterValidator, Field

from maskline.plain_words import Right


def _whole_secret(secret: str) -> str:
    try:
        length = len(b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError as error:
        raise ValueError("what follows whsec_ is not base64, with its padding") from error
    if not 24 <= length <= 64:
        raise ValueError(f"whsec_ is followed by base64 of {length} bytes; give 24 to 64")
    return secret


WebhookSecret = Annotated[
    str,
    Field(pattern=r"^whsec_[A-Za-z0-9+/=]{32,88}$"),
    Right("give whsec_ and the base64 of 24 to 64 bytes"),
    AfterValidator(_whole_secret),
]
"""Signing secret as Standard Webhooks writes it: ``whsec_`` and base64 of 24 to 64 bytes."""

"""URLs of artifacts: the S3 store's own presigned ones, or, where clients can't reach it, ours.

Ours carry the time at which they end and a signature over that and the key, so they need no API key and no
record.
"""

import hmac
import time

from flask import request

from api.services import Services
from maskline.errors import ArtifactNotFound

ARTIFACT_PATH = "/v1/artifacts"


class ArtifactUrls:
    """Makes artifact URLs, and tells the good ones."""

    def __init__(self, services: Services) -> None:
        """``services``: the store, and the secret that URLs are signed with."""
        self._artifacts = services.artifacts
        self._public_url = services.settings.public_url
        self._expiry_s = services.settings.url_expiry
        self._secret = services.url_secret.encode()

    def make(self, key: str) -> str:
        """A URL for the artifact, on the host that the client called where no setting names another."""
        presigned = self._artifacts.presign(key, self._expiry_s)
        if presigned is not None:
            return presigned
        expires_s = int(time.time() + self._expiry_s)
        base = (self._public_url or request.host_url).rstrip("/")
        return f"{base}{ARTIFACT_PATH}/{key}?expires={expires_s}&signature={self._sign(key, expires_s)}"

    def check(self, key: str, expires_s: int, signature: str) -> None:
        """Return if the URL is one of ours, and not over.

        Raises:
            ArtifactNotFound: it is not.
        """
        if not hmac.compare_digest(signature.encode(), self._sign(key, expires_s).encode()):
            raise ArtifactNotFound("this URL was not made by this service, or was altered")
        if expires_s <= time.time():
            raise ArtifactNotFound("this URL is over; get the job again for a new one")

    def _sign(self, key: str, expires_s: int) -> str:
        return hmac.digest(self._secret, f"{key} {expires_s}".encode(), "sha256").hex()

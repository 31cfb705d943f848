"""URLs of artifacts: the S3 store's own presigned ones, or, where clients can't reach it, ours.

Ours carry the key and the time at which they end in a signed token, so they need no API key and no record.
"""

import time

from itsdangerous import BadSignature, URLSafeSerializer

from api.services import Services
from maskline.errors import ArtifactNotFound

ARTIFACT_PATH = "/v1/artifacts"


class ArtifactUrls:
    """Makes and reads artifact URLs."""

    def __init__(self, services: Services) -> None:
        """``services``: the store and the secret that the tokens are signed with."""
        self._artifacts = services.artifacts
        self._public_url = services.settings.public_url
        self._expiry_s = services.settings.url_expiry
        self._serializer = URLSafeSerializer(services.url_secret, salt="artifact")

    def make(self, key: str, request_root: str) -> str:
        """A URL for the artifact; ``request_root``: the API's base URL as the client wrote it."""
        presigned = self._artifacts.presign(key, self._expiry_s)
        if presigned is not None:
            return presigned
        token = self._serializer.dumps([key, int(time.time() + self._expiry_s)])
        base = (self._public_url or request_root).rstrip("/")
        return f"{base}{ARTIFACT_PATH}/{token}/{key.rpartition('/')[2]}"

    def read(self, token: str) -> str:
        """The key that a token of ours opens.

        Raises:
            ArtifactNotFound: the token is altered or over.
        """
        try:
            key, expires_s = self._serializer.loads(token)
        except BadSignature as error:
            raise ArtifactNotFound("this URL was not made by this service, or was altered") from error
        if expires_s <= time.time():
            raise ArtifactNotFound("this URL is over; get the job again for a new one")
        return str(key)

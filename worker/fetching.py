"""Where the bytes of a job's image come from."""

import time
from collections.abc import Callable
from typing import Protocol

from maskline.bucket_uris import split_uri
from maskline.codec import split_submission
from maskline.errors import ArtifactNotFound, ArtifactStoreUnavailable, ImageUnreachable
from maskline.jobs import PER_EPOCH, ImageRef
from maskline.ports import ArtifactStore

LAST_ATTEMPT = 10  #: at which an object that alone can't be had is given up
_PAUSE_S = 1.0  # before the next attempt, which may come at once


class Fetch(Protocol):
    """Gives the bytes of images."""

    def __call__(self, image: ImageRef, attempt: int = 0) -> bytes | memoryview:
        """The image's bytes.

        ``attempt``: at the job or chunk, from 1; 0: one of few. From ``LAST_ATTEMPT`` on an object of a
        client's bucket that alone can't be had, while the store answers, is not waited for any more.

        Raises:
            RequestError: they can't be had; the message is for the client.
            DependencyError: they can't be had now.
        """
        ...


def fetcher(artifacts: ArtifactStore, get_url: Callable[[str, int], bytes], max_bytes: int) -> Fetch:
    """What gives an image's bytes, wherever it is."""

    def fetch(image: ImageRef, attempt: int = 0) -> bytes | memoryview:
        if image.key is not None:
            return split_submission(artifacts.get(image.key))[0]
        if image.uri is not None:
            return _imported(artifacts, image.uri, max_bytes, attempt % PER_EPOCH >= LAST_ATTEMPT)
        if image.url is not None:
            return get_url(image.url, max_bytes)
        raise ArtifactNotFound("the job names no image")

    return fetch


def _imported(artifacts: ArtifactStore, uri: str, max_bytes: int, is_last: bool) -> bytes:
    """An object of a client's bucket."""
    bucket, key = split_uri(uri)
    try:
        try:
            return artifacts.get(key, bucket=bucket, max_bytes=max_bytes)
        except ArtifactStoreUnavailable:
            time.sleep(_PAUSE_S)
            if not is_last:
                raise
            artifacts.check()
        try:  # the store may have been away until now
            return artifacts.get(key, bucket=bucket, max_bytes=max_bytes)
        except ArtifactStoreUnavailable as error:
            raise ImageUnreachable(f"{uri} can't be read: its store answered with errors") from error
    except ArtifactNotFound as error:
        raise ImageUnreachable(f"{uri} can't be read: {error.message}") from error

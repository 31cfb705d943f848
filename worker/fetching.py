"""Where the bytes of a job's image come from."""

from collections.abc import Callable

from maskline.bucket_uris import split_uri
from maskline.codec import split_submission
from maskline.errors import ArtifactNotFound, ImageUnreachable
from maskline.jobs import ImageRef
from maskline.ports import ArtifactStore

Fetch = Callable[[ImageRef], bytes | memoryview]
"""Gives an image's bytes; raises a ``ServiceError`` where they can't be had."""


def fetcher(artifacts: ArtifactStore, get_url: Callable[[str, int], bytes], max_bytes: int) -> Fetch:
    """What gives an image's bytes, wherever it is."""

    def fetch(image: ImageRef) -> bytes | memoryview:
        if image.key is not None:
            return split_submission(artifacts.get(image.key))[0]
        if image.uri is not None:
            bucket, key = split_uri(image.uri)
            try:
                return artifacts.get(key, bucket=bucket, max_bytes=max_bytes)
            except ArtifactNotFound as error:
                raise ImageUnreachable(f"{image.uri} can't be read: {error.message}") from error
        if image.url is not None:
            return get_url(image.url, max_bytes)
        raise ArtifactNotFound("the job names no image")

    return fetch

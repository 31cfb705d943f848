"""Objects of the S3 store as clients name them: ``s3://bucket/key``, or ``gs://`` as Google's clients do."""

from collections.abc import Iterable

_MAX_KEY_BYTES = 1024  # S3's own limit
_MAX_PART_BYTES = 255  # a name's in most file systems, where a store may keep its objects


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key; empty what the URI does not have."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def why_not_writable(key: str) -> str | None:
    """What stands against an object of this key in any S3 store; None if nothing does."""
    if len(key.encode()) > _MAX_KEY_BYTES:
        return f"its objects' keys would have more than {_MAX_KEY_BYTES} bytes"
    parts = key.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return 'a part between two slashes is empty, "." or ".."'
    if any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return f"a part between two slashes has more than {_MAX_PART_BYTES} bytes"
    return None


def not_open(bucket: str, purpose: str, open_buckets: Iterable[str]) -> str:
    """What to tell of a bucket that its operator did not open. ``purpose``: ``import`` or ``export``."""
    known = ", ".join(open_buckets) or "none"
    return f"the bucket {bucket!r} is not open for {purpose}; these are: {known}"

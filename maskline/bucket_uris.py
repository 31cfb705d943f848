"""Objects of the S3 store as clients name them: ``s3://bucket/key``, or ``gs://`` as Google's clients do."""

from collections.abc import Iterable


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key; empty what the URI does not have."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def not_open(bucket: str, purpose: str, open_buckets: Iterable[str]) -> str:
    """What to tell of a bucket that its operator did not open. ``purpose``: ``import`` or ``export``."""
    known = ", ".join(open_buckets) or "none"
    return f"the bucket {bucket!r} is not open for {purpose}; these are: {known}"

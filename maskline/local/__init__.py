"""The embedded stack: Redis, S3, a worker and the API on one machine, started and ended together."""

from maskline.local.stack import Stack, StackError

__all__ = ["Stack", "StackError"]

"""What workers leave each other in the bucket, for a day or two."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import structlog

from maskline.artifacts import embedding_key
from maskline.errors import ArtifactNotFound
from maskline.ports import ArtifactStore

logger = structlog.get_logger(module=__name__)

_MEDIA_TYPE = "application/octet-stream"
_DAY = timedelta(days=1)


def today_utc() -> date:
    """The day that all workers agree on."""
    return datetime.now(UTC).date()


class BucketShelf:
    """A ``Shelf`` in the bucket. One that fails costs a line in the log, and the work that it would save."""

    def __init__(self, artifacts: ArtifactStore, today: Callable[[], date] = today_utc) -> None:
        """``today``: a key is found on the day that it was kept and on the next."""
        self._artifacts = artifacts
        self._today = today

    def find(self, key: str) -> bytes | None:
        """What was kept under this key today or yesterday."""
        for place in self._places(key):
            try:
                return self._artifacts.get(place)
            except ArtifactNotFound:
                continue
            except Exception as error:
                logger.warning("shared embedding not read", key=place, reason=str(error))
                return None
        return None

    def keep(self, key: str, content: bytes) -> None:
        """Leave it there. Workers that do so at once leave the same."""
        place = self._places(key)[0]
        try:
            self._artifacts.put(place, content, _MEDIA_TYPE)
        except Exception as error:
            logger.warning("shared embedding not kept", key=place, reason=str(error))

    def drop(self, key: str) -> None:
        """Remove what was found."""
        try:
            self._artifacts.delete(self._places(key))
        except Exception as error:
            logger.warning("shared embedding not removed", key=key, reason=str(error))

    def _places(self, key: str) -> tuple[str, str]:
        today = self._today()
        return embedding_key(today, key), embedding_key(today - _DAY, key)

"""What a look at one part of the service found."""

from enum import StrEnum
from typing import Self

from maskline.wire import WireModel


class Health(StrEnum):
    """How a part of the service is."""

    OK = "ok"  #: as it should be
    WARNING = "warning"  #: the service runs, and something will hurt one day
    FAILED = "failed"  #: the service does not run, or does not keep what it promises


class Finding(WireModel):
    """One check, and what it came to."""

    check: str
    """Name of the check, for people and programs."""
    health: Health
    """How the part is."""
    detail: str
    """What was seen, or what is wrong."""
    remedy: str | None = None
    """How to mend it, where something is wrong."""

    @classmethod
    def ok(cls, check: str, detail: str) -> Self:
        """All is well."""
        return cls(check=check, health=Health.OK, detail=detail)

    @classmethod
    def warning(cls, check: str, detail: str, remedy: str) -> Self:
        """It runs, and something will hurt one day."""
        return cls(check=check, health=Health.WARNING, detail=detail, remedy=remedy)

    @classmethod
    def failed(cls, check: str, detail: str, remedy: str) -> Self:
        """It does not run, or a promise is not kept."""
        return cls(check=check, health=Health.FAILED, detail=detail, remedy=remedy)

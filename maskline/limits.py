"""How much a tenant may submit, and how much of that is left to it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from maskline.wire import WireModel

SubmitRate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
SubmitBurst = Annotated[int, Field(ge=1, le=1_000_000)]
MaxQueued = Annotated[int, Field(ge=1)]


class TenantLimits(WireModel):
    """What a tenant may submit. Images count one by one, a batch counts once."""

    submit_rate: SubmitRate | None = None
    """Submissions a second, on average; None: any number."""
    submit_burst: SubmitBurst = 20
    """Submissions that may come at once."""
    max_queued: MaxQueued | None = None
    """Jobs that may wait; None: any number."""

    @property
    def are_none(self) -> bool:
        """Whether there is nothing to hold the tenant to."""
        return self.submit_rate is None and self.max_queued is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Whether a tenant's new jobs are admitted, and how it stands then."""

    retry_after_s: float = 0.0
    """How long until the rate admits them; 0: it does now."""
    left: int = 0
    """Submissions that the rate admits at once now."""
    whole_in_s: float = 0.0
    """When the whole burst can be had again."""
    queued: int = 0
    """Jobs that wait."""
    is_full: bool = False
    """Whether they would be more than may wait."""

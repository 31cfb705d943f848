"""The gate before a tenant's submissions, in Redis: one script looks, decides and counts, by Redis' clock."""

from maskline.adapters.redis_connection import RedisConnection
from maskline.limits import Admission, TenantLimits

_US = 1_000_000


class RedisSubmissionGate:
    """``SubmissionGate`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store, and its counts."""
        self._connection = connection

    def admit(self, tenant: str, jobs: int, limits: TenantLimits) -> Admission:
        interval_us = max(1, round(_US / limits.submit_rate)) if limits.submit_rate is not None else 0
        is_full, wait_us, debt_us, queued = self._connection.run(
            "admit", tenant, jobs, interval_us, limits.submit_burst, limits.max_queued or 0
        )
        return Admission(
            retry_after_s=wait_us / _US,
            left=max(0, (limits.submit_burst * interval_us - debt_us) // interval_us) if interval_us else 0,
            whole_in_s=debt_us / _US,
            queued=queued,
            is_full=bool(is_full),
        )

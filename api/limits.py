"""What each tenant may submit: held before anything is stored, and told in the headers of the answer.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10: ``RateLimit-Policy`` and ``RateLimit``.
"""

import math

from flask import Response, g

from api.services import Services
from maskline.errors import RateLimited, TenantQueueFull
from maskline.limits import Admission, TenantLimits

_KEPT = "limit_headers"


def admit(services: Services, tenant: str, jobs: int) -> None:
    """Return if the tenant may submit so many jobs now; they count from then on.

    Raises:
        RateLimited: it has submitted too many of late.
        TenantQueueFull: too many of its jobs wait.
        JobStoreUnavailable: the store does not answer.
    """
    _admit(services, tenant, jobs, services.settings.limits_of(tenant))


def admit_batch(services: Services, tenant: str) -> None:
    """Return if the tenant may submit a batch now, whose jobs wait for their room.

    Raises:
        RateLimited: it has submitted too much of late.
        JobStoreUnavailable: the store does not answer.
    """
    limits = services.settings.limits_of(tenant)
    _admit(services, tenant, 1, limits.model_copy(update={"max_queued": None}))


def tell_limits(response: Response) -> None:
    """Put into an answer what the tenant has left, if it was asked for."""
    if _KEPT in g:
        response.headers.extend(g.pop(_KEPT))


def _admit(services: Services, tenant: str, jobs: int, limits: TenantLimits) -> None:
    if limits.are_none:
        return
    admission = services.gate.admit(tenant, jobs, limits)
    setattr(g, _KEPT, _headers(admission, limits, jobs))
    if admission.is_full:
        raise TenantQueueFull(
            f"{admission.queued} of your jobs wait, and at most {limits.max_queued} may; try again later"
        )
    if admission.retry_after_s > 0:
        raise RateLimited(
            f"at most {limits.submit_rate:g} submissions a second are taken, {limits.submit_burst} at once; "
            f"try again in {math.ceil(admission.retry_after_s)} s",
            admission.retry_after_s,
        )


def _headers(admission: Admission, limits: TenantLimits, jobs: int) -> dict[str, str]:
    policies, left = [], []
    if limits.submit_rate is not None:
        window_s = math.ceil(limits.submit_burst / limits.submit_rate)
        policies.append(f'"submissions";q={limits.submit_burst};w={window_s}')
        left.append(f'"submissions";r={admission.left};t={math.ceil(admission.whole_in_s)}')
    if limits.max_queued is not None:
        is_admitted = not admission.is_full and admission.retry_after_s == 0
        queued = admission.queued + (jobs if is_admitted else 0)
        policies.append(f'"queued";q={limits.max_queued}')
        left.append(f'"queued";r={max(0, limits.max_queued - queued)}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}

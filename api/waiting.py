"""Requests that wait for a job's end."""

import time

from api.services import Services
from maskline.jobs import Job


def wait_for_end(services: Services, job: Job, wait_s: float) -> Job:
    """The job when it has ended, or when the wait is over.

    That is after ``wait_s`` seconds or the service's own limit, and at once where too many wait already.
    """
    deadline = time.monotonic() + min(wait_s, services.settings.max_wait)
    with services.waiters.seat() as seated:
        while seated and not job.state.is_final and (left := deadline - time.monotonic()) > 0:
            job = services.jobs.wait(job.tenant, job.id, job.version, left)
    return job

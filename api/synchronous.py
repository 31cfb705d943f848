"""Calls that a protocol answers with the result itself: the job runs on the same queue as all others."""

import time
from collections.abc import Sequence

from api.intake import Submission
from api.services import Services
from api.submission import Submitter
from api.waiting import wait_for_end
from maskline.errors import JobWithoutResult, WaitOver, error_of
from maskline.jobs import Job, JobState


class SynchronousCalls:
    """Submits, waits, and gives the jobs in success."""

    def __init__(self, services: Services) -> None:
        """``services``: where the jobs go."""
        self._services = services
        self._submitter = Submitter(services)

    def run(self, tenant: str, submissions: Sequence[Submission]) -> list[Job]:
        """The succeeded job of each submission, in the same order; they run together.

        Raises:
            RequestError: something is wrong with a submission or its image; those before it go on.
            WaitOver: a job did not end within the service's limit; it goes on.
            ServiceError: what the first job that failed ended with.
        """
        jobs = [self._submitter.submit(tenant, submission, None) for submission in submissions]
        deadline = time.monotonic() + self._services.settings.max_wait
        ended = [wait_for_end(self._services, job, max(0.0, deadline - time.monotonic())) for job in jobs]
        for job in ended:
            _require_success(job)
        return ended


def _require_success(job: Job) -> None:
    if job.state is JobState.SUCCEEDED:
        return
    if not job.state.is_final:
        raise WaitOver(
            f"the job {job.id} is {job.state} and goes on; its result can be had at /v1/jobs/{job.id}"
        )
    if job.failure is None:
        raise JobWithoutResult(f"the job {job.id} is {job.state}")
    raise error_of(job.failure.code, job.failure.message)

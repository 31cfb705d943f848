"""Calls that a protocol answers with the result itself: the job runs on the same queue as all others."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress

from api.intake import Submission
from api.limits import admit
from api.services import Services
from api.submission import Checked, Submitter
from api.waiting import take_seat, wait_seated
from maskline.artifact_operations import cancel_job
from maskline.errors import JobWithoutResult, ModelNotReady, ServiceError, WaitOver, error_of
from maskline.jobs import Job, JobState
from maskline.results import ModelCard


class SynchronousCalls:
    """Submits, waits, and gives the jobs in success."""

    def __init__(self, services: Services) -> None:
        """``services``: where the jobs go."""
        self._services = services
        self._submitter = Submitter(services)

    def submit(self, tenant: str, submissions: Sequence[Submission]) -> list[Job]:
        """The queued job of each submission, in the same order; the submissions are closed.

        Raises:
            RequestError: something is wrong with a submission or its image; none was accepted.
            CapacityError: too many calls wait already, or there is no room for them all; none runs.
            DependencyError: Redis or S3 does not answer; none runs.
        """
        with ExitStack() as opened:
            for submission in submissions:
                opened.enter_context(closing(submission))
            return self.accept(tenant, [self.check(submission) for submission in submissions])

    def succeeded(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs in success.

        Raises:
            WaitOver: a job did not end within the service's limit; it goes on.
            ServiceError: what the first job that failed ended with.
        """
        ended = self.wait(jobs)
        for job in ended:
            require_success(job)
        return ended

    def check(self, submission: Submission) -> Checked:
        """The submission, if ``accept`` may take it.

        Raises:
            RequestError: something is wrong with it or its image.
        """
        return self._submitter.check(submission)

    def accept(self, tenant: str, submissions: Sequence[Checked]) -> list[Job]:
        """The queued job of each submission, in the same order.

        Raises:
            CapacityError: too many calls wait already, or there is no room for them all; none runs.
            DependencyError: Redis or S3 does not answer; none runs.
        """
        take_seat(self._services)
        admit(self._services, tenant, len(submissions))
        jobs: list[Job] = []
        try:
            for submission in submissions:
                jobs.append(self._submitter.create(tenant, submission, None))
        except ServiceError:
            for job in jobs:
                with suppress(ServiceError):  # it runs for nobody then
                    cancel_job(self._services.jobs, self._services.artifacts, tenant, job.id)
            raise
        return jobs

    def wait(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, accepted or ended, at their ends, or as they are when the service's limit is over."""
        deadline = time.monotonic() + self._services.settings.max_wait
        return [wait_seated(self._services, job, max(0.0, deadline - time.monotonic())) for job in jobs]

    def run_once(self, tenant: str, submission: Submission, *, waits_for_model: bool) -> Job:
        """The succeeded job of the submission, or of an earlier one that has the same result.

        ``waits_for_model``: whether to wait for a worker that offers the model, if none does now.

        Raises:
            RequestError: something is wrong with the submission or its image.
            ModelNotReady: no living worker offers the model.
            CapacityError: too many calls wait already, or too many jobs; it does not run.
            WaitOver: the job did not end within the service's limit; it goes on.
            ServiceError: what the job ended with.
        """
        checked = self._submitter.check(submission)
        job = self._submitter.earlier(tenant, checked)
        if job is None:
            if not waits_for_model:
                self.require_ready(checked.card)
            [job] = self.accept(tenant, [checked])
        [ended] = self.succeeded([job])
        return ended

    def require_ready(self, card: ModelCard) -> None:
        """Return if a living worker offers the model.

        Raises:
            ModelNotReady: none does.
        """
        if card.id not in self._services.models.available():
            raise ModelNotReady(
                f"the model {card.id!r} is not ready: no worker offers it now; try again later"
            )


def require_success(job: Job) -> None:
    """Return if the job succeeded.

    Raises:
        WaitOver: it has not ended.
        ServiceError: what it failed with.
    """
    if job.state is JobState.SUCCEEDED:
        return
    if not job.state.is_final:
        raise WaitOver(
            f"the job {job.id} is {job.state} and goes on; its result can be had at /v1/jobs/{job.id}"
        )
    if job.failure is None:
        raise JobWithoutResult(f"the job {job.id} is {job.state}")
    raise error_of(job.failure.code, job.failure.message)

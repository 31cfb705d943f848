"""What the client raises.

MasklineError
  ConnectionFailed     the service can't be reached
  ApiError             the service answered with a problem: status, code, detail, errors
    Unavailable        429 or 5xx, after all retries
  JobDidNotSucceed     the job failed, was cancelled or expired; ``job`` says why
  BatchDidNotSucceed   the batch failed or was cancelled; ``batch`` says why
  WaitTimeout          the job goes on, but the time for waiting is over
"""

from maskline.batch_resources import BatchResource
from maskline.errors import Unauthenticated
from maskline.resources import JobResource, Problem


class MasklineError(Exception):
    """The base of all that the client raises."""


class ConnectionFailed(MasklineError):
    """The service can't be reached."""


class ApiError(MasklineError):
    """The service refused the request."""

    def __init__(self, problem: Problem) -> None:
        """``problem``: as the service told it."""
        faults = "".join(f"\n  {f.parameter or f.pointer or '/'}: {f.detail}" for f in problem.errors or ())
        told = problem.detail if not faults else ""
        if problem.code == Unauthenticated.code:
            told += " (here: api_key, or the variable MASKLINE_API_KEY)"
        super().__init__(f"{problem.code} ({problem.status}): {told}{faults}")
        self.problem = problem
        self.status = problem.status
        self.code = problem.code


class Unavailable(ApiError):
    """The service can't answer now; it was asked again, in vain."""


class JobDidNotSucceed(MasklineError):
    """The job ended without a result."""

    def __init__(self, job: JobResource) -> None:
        """``job``: as it ended."""
        reason = f": {job.error.code}: {job.error.message}" if job.error else ""
        super().__init__(f"the job {job.id} is {job.state}{reason}")
        self.job = job


class BatchDidNotSucceed(MasklineError):
    """The batch ended before all of its items were tried."""

    def __init__(self, batch: BatchResource) -> None:
        """``batch``: as it ended."""
        reason = f": {batch.error.code}: {batch.error.message}" if batch.error else ""
        super().__init__(f"the batch {batch.id} is {batch.state}{reason}")
        self.batch = batch


class WaitTimeout(MasklineError):
    """The job did not end in time; it goes on."""

    def __init__(self, job: JobResource) -> None:
        """``job``: as it is now."""
        super().__init__(f"the job {job.id} is still {job.state}")
        self.job = job

"""Requests that wait for a job's end."""

import time
from contextlib import ExitStack

from flask import g

from api.services import Services
from maskline.errors import TooManyCalls
from maskline.jobs import Job


def take_seat(services: Services) -> None:
    """Be one of those that may wait, until this request is answered.

    Raises:
        TooManyCalls: too many wait already.
    """
    if "seat" in g:
        return
    seat = ExitStack()
    if not seat.enter_context(services.waiters.seat()):
        raise TooManyCalls("too many calls wait already; try again in a moment")
    g.seat = seat


def leave_seat() -> None:
    """Let another wait, if this request did."""
    if "seat" in g:
        g.pop("seat").close()


def wait_seated(services: Services, job: Job, wait_s: float) -> Job:
    """The job when it has ended, or after ``wait_s`` seconds."""
    deadline = time.monotonic() + wait_s
    while not job.state.is_final and (left := deadline - time.monotonic()) > 0:
        job = services.jobs.wait(job.tenant, job.id, job.version, left)
    return job


def wait_for_end(services: Services, job: Job, wait_s: float) -> Job:
    """The job when it has ended, or when the wait is over.

    That is after ``wait_s`` seconds or the service's own limit, and at once where too many wait already.
    """
    with services.waiters.seat() as seated:
        return wait_seated(services, job, min(wait_s, services.settings.max_wait) if seated else 0)

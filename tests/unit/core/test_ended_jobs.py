"""Ended jobs that are kept for a moment."""

import time
from dataclasses import replace

from maskline.adapters.ended_jobs import EndedJobs
from maskline.jobs import Job, JobState
from tests.factories import make_job


def ended() -> Job:
    return replace(make_job(), state=JobState.SUCCEEDED)


def test_an_ended_job_is_read_once_in_its_time() -> None:
    kept, job = EndedJobs(for_s=0.05), ended()
    assert kept.find(job.id) is None
    assert kept.read(job.id, lambda: job) == job
    assert kept.find(job.id) is job
    time.sleep(0.06)
    assert kept.find(job.id) is None


def test_what_can_change_or_is_too_large_or_is_not_there_is_not_kept() -> None:
    running, large = replace(make_job(), state=JobState.RUNNING), ended()
    kept = EndedJobs(keeps=lambda job: job.id != large.id)
    for job in (running, large):
        assert kept.read(job.id, lambda job=job: job) == job  # type: ignore[misc]
        assert kept.find(job.id) is None
    assert kept.read("x", lambda: None) is None
    assert kept.find("x") is None


def test_a_change_drops_a_job_even_while_it_is_read() -> None:
    job = ended()
    for drop in (lambda kept: kept.drop(job.id), EndedJobs.drop_all):
        kept = EndedJobs()
        kept.read(job.id, lambda: job)
        drop(kept)
        assert kept.find(job.id) is None

        def read(kept: EndedJobs = kept, drop: object = drop) -> Job:
            assert callable(drop)
            drop(kept)
            return job

        assert kept.read(job.id, read) is job
        assert kept.find(job.id) is None


def test_those_read_last_are_kept() -> None:
    kept, jobs = EndedJobs(most=2), [ended() for _ in range(3)]
    for job in jobs:
        kept.read(job.id, lambda job=job: job)  # type: ignore[misc]
    assert [kept.find(job.id) is not None for job in jobs] == [False, True, True]

"""Orphans in a real bucket, beside the jobs of a real service."""

import time

import pytest

from maskline import Client
from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.artifacts import Artifact, result_key, submission_key
from maskline.jobs import new_job_id
from maskline.local import Stack
from maskline.settings import Settings
from worker import orphans
from worker.orphans import OrphanRemover

AGE_S = 2.0


def test_orphans_go_and_jobs_stay(own_stack: Stack, disc: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_AT_ONCE", 5)
    settings = Settings.from_env(own_stack.environment)
    artifacts = S3ArtifactStore.from_settings(settings)
    jobs = RedisJobStore(RedisConnection(settings.redis_url, settings.redis_prefix), idempotency_expiry_s=60)
    remover = OrphanRemover(store=jobs, artifacts=artifacts, age_s=AGE_S)
    remover.look()
    with Client(own_stack.url, own_stack.api_key) as client:
        kept = client.wait(client.submit(disc).id)
        prediction = client.prediction(kept.id)
        stray = [submission_key(new_job_id(), "png") for _ in range(12)]
        stray += [result_key(new_job_id(), 1, Artifact.PREDICTION), result_key(kept.id, 7, Artifact.OVERLAY)]
        for key in stray:
            artifacts.put(key, b"", "image/png")
        before = set(artifacts.keys("jobs/")) | set(artifacts.keys("results/"))
        time.sleep(AGE_S + 1.5)
        remover.look()
        after = set(artifacts.keys("jobs/")) | set(artifacts.keys("results/"))
        assert after == before - set(stray)
        assert client.prediction(kept.id) == prediction
    jobs.close()

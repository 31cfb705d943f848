"""The API over the in-memory doubles: no servers, no workers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.application import create_app
from api.services import Services, Waiters
from maskline.adapters.memory import (
    MemoryArtifactStore,
    MemoryJobStore,
    MemoryKeyStore,
    MemoryModelDirectory,
    MemorySubmissionGate,
    MemoryTaskQueue,
)
from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.artifacts import Artifact, result_key
from maskline.jobs import Job, Outcome
from maskline.requests import Output
from maskline.results import AnnotationSpec, ResultDocument, SegmentList
from maskline.settings import Settings
from tests.factories import TIMINGS, encoded, make_card, picture

ADMIN_KEY = "mk_admin_of_the_tests"
PNG = encoded(picture(), "PNG")
NO_SEGMENTS = SegmentList(width=96, height=64, segments=())


def told(answer: TestResponse) -> Any:
    """The JSON of an answer."""
    return answer.get_json()


@dataclass(frozen=True, kw_only=True)
class Api:
    """A client of the application, and what is behind it."""

    client: FlaskClient
    services: Services
    jobs: MemoryJobStore
    artifacts: MemoryArtifactStore

    def submit(self) -> str:
        """Id of a job that waits."""
        answer = self.client.post("/v1/jobs", data=PNG, content_type="image/png")
        assert answer.status_code == 202, answer.text
        return str(told(answer)["id"])

    def finish(self, job_id: str, segments: SegmentList | None = None) -> Job:
        """The job, succeeded as a worker would leave it, with a mask of three bytes, and these segments."""
        job = self.jobs.find(job_id)
        assert job is not None
        claimed, before = self.jobs.claim(job.kind, "w", 60), []
        while claimed is not None and claimed.id != job_id:
            before.append(claimed)
            claimed = self.jobs.claim(job.kind, "w", 60)
        assert claimed is not None
        for other in before:
            self.jobs.release(other.id, other.attempt)
        document = ResultDocument(
            width=96,
            height=64,
            bit_depth=8,
            annotation_specs=(AnnotationSpec(id=0, display_name="background", color="#000000"),),
            segment_count=0,
            outputs=(Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.SEGMENTS),
        )
        for artifact, body in (
            (Artifact.CATEGORY_MASK, b"PNG"),
            (Artifact.CONFIDENCE_MASK, b"PNG"),
            (Artifact.SEGMENTS, (segments or NO_SEGMENTS).to_json().encode()),
            (Artifact.PREDICTION, document.to_json().encode()),
        ):
            self.artifacts.put(result_key(job_id, claimed.attempt, artifact), body, artifact.media_type)
        assert self.jobs.finish(job_id, claimed.attempt, Outcome(timings=TIMINGS))
        return self.jobs.get(claimed.tenant, job_id)


MakeApi = Callable[..., Api]


@pytest.fixture
def make_api() -> MakeApi:
    def make(**settings: str) -> Api:
        outbox, artifacts, models = MemoryOutbox(), MemoryArtifactStore(), MemoryModelDirectory()
        jobs = MemoryJobStore(outbox=outbox)
        models.publish("w", [make_card()], 60)
        environment = {"MASKLINE_ADMIN_KEY": ADMIN_KEY}
        environment |= {f"MASKLINE_{name.upper()}": value for name, value in settings.items()}
        read = Settings.from_env(environment)
        services = Services(
            settings=read,
            jobs=jobs,
            artifacts=artifacts,
            queue=MemoryTaskQueue(),
            models=models,
            keys=MemoryKeyStore(),
            batches=MemoryBatchStore(outbox=outbox),
            endpoints=outbox.endpoints,
            outbox=outbox,
            gate=MemorySubmissionGate(jobs),
            waiters=Waiters(read.max_waiters),
            url_secret="secret of the tests",
        )
        client = create_app(services).test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {ADMIN_KEY}"
        return Api(client=client, services=services, jobs=jobs, artifacts=artifacts)

    return make


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()

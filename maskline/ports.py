"""What the core asks of the world: a job store, an artifact store, a task queue, a model directory.

``maskline/adapters`` holds the drivers, and public in-memory doubles of them all.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

from maskline.batches import Batch, Chunk, ChunkEnd, ChunkKey, ChunkPlan, EndedChunk, Progress, Sums
from maskline.jobs import Job, JobState, Kind, Outcome
from maskline.keys import ApiKey
from maskline.limits import Admission, TenantLimits
from maskline.requests import Priority
from maskline.results import ModelCard
from maskline.webhooks import DeadLetterPage, Delivery, DeliveryOutcome, Endpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Idempotency:
    """A caller's promise that two requests are one."""

    key: str
    fingerprint: str
    """Hash over everything that makes up the request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a listing, newest first."""

    jobs: tuple[Job, ...]
    next_token: str | None


class Hint(NamedTuple):
    """What a message to the workers is about: a queued job, and the queue that it belongs in."""

    job_id: str
    model: str
    priority: Priority


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaped:
    """The jobs whose lease had lapsed."""

    returned: tuple[Hint, ...]
    """They wait again."""
    failed: tuple[str, ...]
    """Ids of those that lost too many workers."""


class StoredObject(NamedTuple):
    """An object of the bucket, as a listing tells of it."""

    key: str
    age_s: float
    """Since it was written, by the store's own clock."""


class JobStore(Protocol):
    """The API's side of the job records. Every call is atomic.

    Every method of the three store protocols raises ``JobStoreUnavailable`` when the store does not answer.
    """

    def recall(self, tenant: str, idempotency: Idempotency) -> Job | None:
        """The job that the idempotency key belongs to, or None.

        Raises:
            IdempotencyKeyReused: the key is known with another fingerprint.
            JobNotFound: the key is known, and its job was deleted.
        """
        ...

    def create(
        self,
        job: Job,
        idempotency: Idempotency | None,
        max_queued: int,
        max_queued_of_tenant: int | None = None,
    ) -> Job:
        """The job, now queued and published; or, as it is, the job that the idempotency key belongs to or
        that has this id already.

        The store's clock sets the times; ``expires_ms - created_ms`` says how long the job lives.

        Raises:
            IdempotencyKeyReused: the key is known with another fingerprint.
            QueueFull: ``max_queued`` jobs wait already.
            TenantQueueFull: ``max_queued_of_tenant`` jobs of its tenant do.
        """
        ...

    def recall_result(self, tenant: str, fingerprint: str) -> Job | None:
        """The latest job that succeeded with this ``result_fingerprint``, until it expires or is deleted."""
        ...

    def bind(self, idempotency: Idempotency, job: Job, *, anew: bool = False) -> None:
        """Let the idempotency key belong to a job that is there; a key that is known stays as it is, unless
        ``anew``."""
        ...

    def check(self) -> None:
        """Return if the store answers, and has its memory."""
        ...

    def get(self, tenant: str, job_id: str) -> Job:
        """The job.

        Raises:
            JobNotFound: there is none, or it is another tenant's.
        """
        ...

    def find(self, job_id: str) -> Job | None:
        """The job, whoever it belongs to."""
        ...

    def page(
        self, tenant: str, *, state: JobState | None, model: str | None, size: int, token: str | None
    ) -> Page:
        """At most ``size`` jobs, newest first, beginning after ``token``."""
        ...

    def cancel(self, tenant: str, job_id: str) -> Job:
        """The job, now cancelled; an ended job stays as it is.

        Raises:
            JobNotFound: there is none.
        """
        ...

    def delete(self, tenant: str, job_id: str) -> None:
        """Remove the job, whatever its state; ``expire`` gives its id until its artifacts are gone too.

        Raises:
            JobNotFound: there is none.
        """
        ...

    def wait(self, tenant: str, job_id: str, after_version: int, timeout_s: float) -> Job:
        """The job as soon as its version is above ``after_version``, or as it is when the time is over."""
        ...


class LeaseStore(Protocol):
    """The worker's side: one attempt holds a job by a lease that it must renew."""

    def claim(self, kind: Kind, worker: str, lease_s: float) -> Job | None:
        """The job of this kind that is next, with a new attempt number, running; None: none waits.

        That is the oldest of the tenant whose turn it is.
        """
        ...

    def renew(self, leases: Iterable[tuple[str, int]], lease_s: float) -> set[str]:
        """The ids, of these ``(job id, attempt)``, whose lease is lost or whose job has ended."""
        ...

    def release(self, job_id: str, attempt: int) -> bool:
        """Give the job back to the queue; False: it was no longer held."""
        ...

    def finish(self, job_id: str, attempt: int, outcome: Outcome, *, is_noted: bool = True) -> bool:
        """End the job; True also if it has ended so by this attempt before. False: it was no longer held by
        this attempt, and nothing changed.

        ``is_noted``: the attempt's files in the bucket say so; else ``HousekeepingStore.unnoted`` gives it.

        Raises:
            JobStoreUnavailable: the store lost its memory, and with it who held the job.
        """
        ...


class RebuildingStore(Protocol):
    """The side of whoever fills a store again that lost its memory.

    Until an epoch has begun the store takes no new job, and tells nobody that a job does not exist.
    """

    def epoch(self) -> int | None:
        """The number of the store's memory, from 1; None: it has none, and is to be filled."""
        ...

    def begin_rebuild(self) -> str:
        """A name for a new rebuild, which the store keeps until another one begins, or the epoch.

        It goes with the store's memory: while it is there, so is all that was put in under it.
        """
        ...

    def restore(self, rebuild: str, job: Job, idempotency: Idempotency | None, tell_after_ms: int) -> bool:
        """Put a job in as it was or as it ended; False: it is there, and stays as it is.

        An end after ``tell_after_ms`` (since 1970) becomes an event once more, under the same id.

        Raises:
            RebuildOvertaken: the store does not keep this name of a ``rebuild`` any more.
        """
        ...

    def begin_epoch(self, rebuild: str, number: int) -> None:
        """Everything is in.

        Raises:
            RebuildOvertaken: it is not: the store does not keep this name of a ``rebuild`` any more.
        """
        ...

    def lead(self, name: str, holder: str, for_s: float) -> bool:
        """Whether ``holder`` leads the work ``name``, now and for this long."""
        ...


class HousekeepingStore(Protocol):
    """The sweeper's side."""

    def reap(self, max_attempts: int, limit: int) -> Reaped:
        """Return jobs whose lease lapsed to the queue, or fail them after ``max_attempts`` such losses."""
        ...

    def unpublished(self, older_than_s: float, limit: int) -> list[Hint]:
        """Queued jobs whose message is older than this, oldest first; their message counts as new now."""
        ...

    def queue_depth(self) -> int:
        """Jobs that wait."""
        ...

    def unnoted(self, older_than_s: float, limit: int) -> list[str]:
        """Ids of jobs that ended before this time, and not by an attempt whose files say so, earliest end
        first. They come again until they are ``noted`` or forgotten."""
        ...

    def noted(self, job_id: str) -> None:
        """The bucket has the end of this job."""
        ...

    def expire(self, keep_s: float, limit: int) -> list[str]:
        """End jobs that are due and have not ended, to be kept for ``keep_s`` more seconds; the ids of ended
        or deleted ones that are due. These come again until they are forgotten."""
        ...

    def let_expire(self, job_ids: Iterable[str], in_s: float) -> None:
        """Let these jobs be due to expire in so many seconds, whenever it was before; those that are gone
        stay so."""
        ...

    def forget(self, job_id: str) -> None:
        """Remove every trace of a job; its artifacts are gone by now."""
        ...

    def states(self, job_ids: Iterable[str]) -> dict[str, tuple[JobState, int]]:
        """State and latest attempt of each of these jobs; those that have no record are left out."""
        ...

    def lead(self, name: str, holder: str, for_s: float) -> bool:
        """Whether ``holder`` leads the work ``name``, now and for this long."""
        ...


class ArtifactStore(Protocol):
    """Write-once objects in the bucket.

    Every method raises ``ArtifactStoreUnavailable`` when the store does not answer.
    """

    def put(self, key: str, body: bytes | BinaryIO, media_type: str, *, bucket: str | None = None) -> None:
        """Store an object under a key that was never used.

        Raises:
            ArtifactNotFound: there is no such ``bucket``, or it refuses.
        """
        ...

    def get(self, key: str, *, bucket: str | None = None, max_bytes: int | None = None) -> bytes:
        """The object's bytes.

        Raises:
            ArtifactNotFound: there is none.
            ImageTooLarge: it is larger than ``max_bytes``.
        """
        ...

    def part(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes of the object from its byte ``start`` on; fewer or none where it ends before.

        Raises:
            ArtifactNotFound: there is no such object.
        """
        ...

    def copy(self, key: str, to_key: str, *, to_bucket: str) -> None:
        """Store an object of ours under a key of another bucket, within the store.

        Raises:
            ArtifactNotFound: there is no such object or bucket, or it refuses.
        """
        ...

    def tail(self, key: str, most_bytes: int) -> bytes:
        """The last bytes of the object; all of it where it has no more.

        Raises:
            ArtifactNotFound: there is none.
        """
        ...

    def size(self, key: str, *, bucket: str | None = None) -> int:
        """Bytes of the object.

        Raises:
            ArtifactNotFound: there is none.
        """
        ...

    def stream(self, key: str, *, bucket: str | None = None, start: int = 0) -> tuple[int, Iterator[bytes]]:
        """Size and content of the object, piece by piece, of what begins at its byte ``start``.

        Raises:
            ArtifactNotFound: there is none.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these objects; those that are gone already are no error."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix, in their order."""
        ...

    def objects(self, prefix: str, *, bucket: str | None = None) -> Iterator[StoredObject]:
        """The objects under a prefix in the order of their keys, read from the store as they are asked for.

        Raises:
            ArtifactNotFound: there is no such ``bucket``, or it refuses.
        """
        ...

    def uri(self, key: str) -> str:
        """``s3://bucket/key``."""
        ...

    def presign(self, key: str, expires_s: float) -> str | None:
        """URL that clients can get the object from, or None where the store is not open to them."""
        ...

    def check(self) -> None:
        """Return if the bucket can be reached."""
        ...


class BatchStore(Protocol):
    """The records of batches. Every call is atomic, and raises ``JobStoreUnavailable`` as the job store's."""

    def create(self, batch: Batch, max_active: int, *, max_of_tenant: int | None = None) -> None:
        """Keep a new batch; one that is there stays as it is.

        Raises:
            QueueFull: ``max_active`` have not ended yet.
            TenantQueueFull: ``max_of_tenant`` of its tenant's have not; None: it may have them all.
        """
        ...

    def get(self, tenant: str, batch_id: str) -> Batch:
        """The batch.

        Raises:
            BatchNotFound: there is none, or it is another tenant's.
        """
        ...

    def all(self, tenant: str) -> list[Batch]:
        """Every batch of a tenant, oldest first."""
        ...

    def active(self, limit: int) -> list[Batch]:
        """At most ``limit`` batches that have not ended, oldest first."""
        ...

    def add_part(self, tenant: str, batch_id: str, part: int) -> Batch:
        """The batch, to which a part was uploaded that comes after those it has; one that it has already
        changes nothing.

        Raises:
            BatchNotFound: there is none.
            BatchClosed: it is complete, or has ended.
            InvalidRequest: parts are missing between.
        """
        ...

    def complete(self, tenant: str, batch_id: str) -> Batch:
        """The batch, to which no more parts are added.

        Raises:
            BatchNotFound: there is none.
        """
        ...

    def save(
        self,
        batch: Batch,
        progress: Progress,
        keep_s: float,
        chunks: Sequence[ChunkPlan] = (),
        ends: Mapping[int, ChunkEnd] = ...,
        *,
        parts: int = 0,
    ) -> Batch | None:
        """The batch with its new progress, with these chunks after those that it had, to be run, and with so
        many more parts; None: it was changed since ``batch`` was read, or is gone.

        ``ends``: of those of the chunks, by number, that had ended before the store lost its memory. One that
        has ended is kept for ``keep_s`` seconds, and nobody gets chunks of it.
        """
        ...

    def cancel(self, tenant: str, batch_id: str) -> Batch:
        """The batch, now to be cancelled; one that has ended stays as it is.

        Raises:
            BatchNotFound: there is none.
        """
        ...

    def pause(self, tenant: str, batch_id: str, *, is_paused: bool) -> Batch:
        """The batch, of which no more chunks are handed out, or are again; one that has ended stays as it is.

        Raises:
            BatchNotFound: there is none.
        """
        ...

    def retry(
        self,
        tenant: str,
        batch_id: str,
        *,
        max_active: int | None = None,
        max_of_tenant: int | None = None,
    ) -> Batch:
        """The batch, which has succeeded and goes on with the items that failed.

        Raises:
            BatchNotFound: there is none.
            BatchNotFinished: it has not succeeded, or nothing failed.
            QueueFull, TenantQueueFull: as ``create``; None: there is no such limit.
        """
        ...

    def delete(self, tenant: str, batch_id: str) -> None:
        """Forget a batch that has ended.

        Raises:
            BatchNotFound: there is none.
        """
        ...

    def ended_chunks(self, batch_id: str, first: int, last: int) -> list[EndedChunk]:
        """Those of the chunks ``first`` to ``last`` that have ended, in their order.

        Raises:
            BatchNotFound: there is no such batch.
        """
        ...

    def sums(self, batch_id: str) -> Sums:
        """What its chunks came to.

        Raises:
            BatchNotFound: there is no such batch.
        """
        ...


class ChunkStore(Protocol):
    """The workers' side of batches: one attempt holds a chunk by a lease that it must renew. Every call is
    atomic, and raises ``JobStoreUnavailable`` as the job store's."""

    def claim(self, model: str, worker: str, lease_s: float) -> Chunk | None:
        """The next chunk of the model, with a new attempt number; None: there is nothing to do.

        The tenants take turns; a tenant's oldest batch comes first.
        """
        ...

    def renew(self, chunks: Iterable[ChunkKey], lease_s: float) -> set[ChunkKey]:
        """Those of these whose lease is lost, or whose batch has ended or is to be cancelled."""
        ...

    def release(self, chunk: ChunkKey) -> bool:
        """Give a chunk back, to be run by another; False: it was no longer held."""
        ...

    def take_in_hand(self, chunk: ChunkKey, line: int) -> bool:
        """Note that this line's item is run now, alone, so that it is known whose fault it is if the worker
        is lost; or ``ALL_LINES``, that all are run together. False: the chunk is no longer held."""
        ...

    def finish(self, chunk: ChunkKey, end: ChunkEnd, items: int) -> bool:
        """End a chunk of so many items; True also if this attempt ended it before. False: it was no longer
        held, and nothing changed.

        Raises:
            JobStoreUnavailable: the store lost its memory, and with it who held the chunk.
        """
        ...

    def reap(self, limit: int) -> list[ChunkKey]:
        """The chunks whose lease lapsed, which are handed out again."""
        ...

    def waiting(self, model: str) -> tuple[int, int]:
        """How many chunks of the model wait, and how many are held."""
        ...


class EndpointStore(Protocol):
    """The records of webhook endpoints. Every call is atomic, and raises ``JobStoreUnavailable`` as the job
    store's.

    An enabled endpoint is told of each event of its tenant that it chose: the store's own moves of jobs and
    batches put the deliveries into the outbox, in the same step.
    """

    def save(self, endpoint: Endpoint, *, over: int) -> bool:
        """Keep an endpoint in place of its version ``over`` (0: of none); False: another one is there.

        Raises:
            TooManyWebhooks: it is new, and the tenant has ``MAX_ENDPOINTS``.
        """
        ...

    def find(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """The tenant's endpoint of this id."""
        ...

    def all(self, tenant: str) -> list[Endpoint]:
        """Every endpoint of a tenant, oldest first."""
        ...

    def remove(self, tenant: str, endpoint_id: str) -> None:
        """Forget an endpoint; it is no error if there is none."""
        ...


class Outbox(Protocol):
    """Events on their way to their receivers. Every call is atomic, and raises ``JobStoreUnavailable`` as the
    job store's.

    A delivery is there from the step in which its event happened until it is delivered or buried.
    """

    def due(self, limit: int, hide_for_s: float) -> list[Delivery]:
        """Deliveries that are due; they count as not due for ``hide_for_s``."""
        ...

    def delivered(self, delivery: Delivery) -> None:
        """Forget a delivery that its receiver took; an endpoint does not fail any more."""
        ...

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery that nobody is there for."""
        ...

    def postpone(self, delivery: Delivery, for_s: float) -> None:
        """Make a delivery due again later, as it was not tried."""
        ...

    def retry(self, delivery: Delivery, in_s: float) -> float:
        """Keep a delivery as it is given, and make it due again later. The seconds for which its endpoint has
        failed, with no pause of ``FAILING_GAP_S`` in between; 0 for a job's own webhook, and for an endpoint
        that was removed or disabled meanwhile."""
        ...

    def bury(self, delivery: Delivery) -> None:
        """Move a delivery, as it is given, to the dead letters. They are kept for a time, and only so many of
        a tenant."""
        ...

    def dead_letters(
        self, tenant: str, *, endpoint_id: str | None, size: int, token: str | None
    ) -> DeadLetterPage:
        """At most ``size`` dead letters, latest first, beginning after ``token``; ``endpoint_id``: of this
        one alone.

        Raises:
            ValueError: the token is of no page.
        """
        ...

    def replay(self, tenant: str, delivery_id: str) -> bool:
        """Make a dead letter due now, with all its tries before it; False: there is none."""
        ...

    def replay_between(
        self,
        tenant: str,
        *,
        receivers: Collection[str],
        since_ms: int,
        until_ms: int,
    ) -> int:
        """Do so with all that were buried from ``since_ms`` to before ``until_ms``; how many there were.

        ``receivers``: ids of endpoints, or ``OWN``; the dead letters of others stay.
        """
        ...

    def send_test(self, endpoint: Endpoint) -> str:
        """Put a test event for an endpoint into the outbox, due now; the event's id."""
        ...

    def tested(self, delivery: Delivery, outcome: DeliveryOutcome) -> None:
        """Forget the delivery of a test event, and keep for a while what became of it."""
        ...

    def test_outcome(self, event_id: str) -> DeliveryOutcome | None:
        """What became of a test event; None: nothing yet."""
        ...


class TaskQueue(Protocol):
    """Sends hints to the workers; the record is the truth, so losing one loses nothing.

    Every method raises ``QueueUnavailable`` when the broker does not take the message.
    """

    def publish_job(self, hint: Hint) -> None:
        """Tell the workers that have the model of a queued job."""
        ...

    def backlog(self, hint: Hint) -> int:
        """Messages that wait where this one would."""
        ...

    def publish_chunks(self, model: str, workers: int) -> None:
        """Tell so many of the workers that have the model that chunks of it wait; no more messages than that
        are there afterwards."""
        ...

    def publish_export(self, tenant: str, batch_id: str, export: str) -> None:
        """Ask a worker to export a batch; ``export``: the format and its options."""
        ...

    def publish_overlay(self, job_id: str) -> None:
        """Ask a worker to paint a job's overlay."""
        ...


class KeyStore(Protocol):
    """The API keys' records."""

    def add(self, key: ApiKey) -> None:
        """Keep a key."""
        ...

    def remove(self, key_id: str) -> bool:
        """Forget a key; False: there was none."""
        ...

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id."""
        ...

    def all(self) -> list[ApiKey]:
        """Every key, oldest first."""
        ...


class SubmissionGate(Protocol):
    """Holds each tenant to its limits."""

    def admit(self, tenant: str, jobs: int, limits: TenantLimits) -> Admission:
        """Whether so many new jobs are admitted; those that are count at once.

        The store's clock counts. More jobs than a burst are admitted when all of it can be had, and are paid
        for afterwards.

        Raises:
            JobStoreUnavailable: the store does not answer.
        """
        ...


class ModelDirectory(Protocol):
    """The models and export formats that workers have published."""

    def publish(
        self, worker: str, cards: Iterable[ModelCard], for_s: float, *, export_formats: Iterable[str] = ()
    ) -> None:
        """A worker offers these models, knows these formats, and lives for at least this long."""
        ...

    def withdraw(self, worker: str) -> None:
        """A worker has stopped."""
        ...

    def cards(self) -> dict[str, ModelCard]:
        """Every model that was ever published, by id."""
        ...

    def available(self) -> set[str]:
        """Ids of the models that a living worker offers."""
        ...

    def export_formats(self) -> set[str]:
        """Names of all that were ever published."""
        ...

    def workers(self) -> int:
        """Workers alive."""
        ...

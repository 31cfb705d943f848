"""A worker's parts, wired in one place."""

import os
import secrets
import socket
import threading
from functools import partial

import structlog
from celery import Celery

from maskline.adapters.celery_queue import CeleryHints, CeleryTaskQueue, make_celery
from maskline.adapters.outgoing import OutgoingClient
from maskline.adapters.redis_batches import RedisBatchStore
from maskline.adapters.redis_chunks import RedisChunkStore
from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.adapters.redis_keys import RedisKeyStore
from maskline.adapters.redis_models import RedisModelDirectory
from maskline.adapters.redis_webhooks import RedisEndpointStore, RedisOutbox
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.artifact_operations import note_end
from maskline.batch_records import restore_batches
from maskline.catalog import NotACatalog, load_catalog
from maskline.endpoint_records import EndpointRecords
from maskline.errors import ServiceError
from maskline.image_header import ImageLimits
from maskline.key_records import restore_keys
from maskline.settings import Settings, SettingsError
from maskline.weights import WeightStore
from worker.bucket_shelf import BucketShelf
from worker.bulk.chunk_keeper import ChunkKeeper
from worker.bulk.chunk_runner import ChunkRunner
from worker.bulk.exporter import BatchExporter
from worker.bulk.item_runner import ItemRunner
from worker.bulk.leader import BatchLeader
from worker.exporting.registry import format_names
from worker.family import Resources
from worker.fetching import fetcher
from worker.leases import LeaseKeeper
from worker.orphans import OrphanRemover
from worker.overlays import paint_overlay
from worker.periodic import Periodic
from worker.rebuilding import Rebuilder
from worker.registry import Registry
from worker.residency import Residency
from worker.runner import Runner
from worker.slots import Slots
from worker.sweeper import Sweeper
from worker.webhooks import WebhookDelivery

logger = structlog.get_logger(module=__name__)

_PULSE_S = 5.0
_PULSES_PER_LIFE = 3
_OUTBOX_S = 0.5
_BATCHES_S = 0.5
_REBUILD_S = 1.0
_ORPHANS_S = 300.0  # between two times that it is asked whether a look is due
_OVERLAY_LOCK_S = 60.0
_BESIDE_THE_MODEL = 2  # items of a chunk that are decoded or rendered
WEDGED_EXIT = 70  # EX_SOFTWARE


class Runtime:
    """Everything that a worker process holds."""

    def __init__(self, settings: Settings) -> None:
        """Connects on first use.

        Raises:
            SettingsError: the catalog and the settings do not fit each other.
        """
        self.settings = settings
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._limits = ImageLimits.from_settings(settings)
        connection = RedisConnection(settings.redis_url, settings.redis_prefix)
        outgoing = OutgoingClient(settings.outgoing_allow)
        self._jobs = RedisJobStore(
            connection,
            idempotency_expiry_s=settings.idempotency_expiry,
            make_message=CeleryHints(settings.redis_prefix),
        )
        self._artifacts = S3ArtifactStore.from_settings(settings)
        self._directory = RedisModelDirectory(connection)
        try:
            catalog = load_catalog(settings.catalog_file)
        except NotACatalog as error:
            raise SettingsError(f"MASKLINE_CATALOG_FILE: {error}") from error
        self._registry = Registry(catalog, settings.worker_models)
        self.slots = Slots(settings.worker_threads)
        self.celery: Celery = make_celery(
            settings.redis_url, settings.redis_prefix, self._registry.specs, self.slots.takes_bulk
        )
        self._models = Residency(
            self._registry,
            Resources(
                weights=WeightStore(settings.weights_dir),
                device=settings.device,
                embedding_cache_bytes=settings.embedding_cache_bytes,
                shelf=BucketShelf(self._artifacts) if settings.share_embeddings else None,
            ),
            max_loaded=settings.max_loaded_models,
            max_bytes=settings.model_memory_bytes,
            batch_wait_s=settings.batch_wait,
        )
        self._keeper = LeaseKeeper(
            self._jobs,
            lease_s=settings.lease,
            deadline_s=settings.job_deadline,
            on_failed=self._note_end,
            on_wedged=lambda: self.abandon(WEDGED_EXIT),
        )
        self._fetch = fetcher(self._artifacts, outgoing.get_image, settings.max_image_bytes)
        self.runner = Runner(
            worker=self.name,
            leases=self._jobs,
            keeper=self._keeper,
            artifacts=self._artifacts,
            fetch=self._fetch,
            models=self._models,
            limits=self._limits,
            lease_s=settings.lease,
            image_cache_bytes=settings.image_cache_bytes,
        )
        sweeper = Sweeper(
            holder=self.name,
            store=self._jobs,
            note_end=self._note_end,
            artifacts=self._artifacts,
            queue=CeleryTaskQueue(self.celery),
            interval_s=settings.sweep_interval,
            republish_after_s=settings.republish_after,
            max_attempts=settings.max_attempts,
        )
        batches = RedisBatchStore(connection)
        endpoints = EndpointRecords(RedisEndpointStore(connection), self._artifacts)
        rebuilder = Rebuilder(
            holder=self.name,
            store=self._jobs,
            artifacts=self._artifacts,
            others=(
                partial(restore_keys, self._artifacts, RedisKeyStore(connection)),
                endpoints.restore,  # before the jobs and batches, whose ends are told to them
                partial(restore_batches, self._artifacts, batches, settings.job_expiry),
            ),
            job_expiry_s=settings.job_expiry,
        )
        cards, formats = self._registry.cards(), format_names()
        chunks = RedisChunkStore(connection)
        self._chunk_keeper = ChunkKeeper(
            chunks,
            lease_s=settings.lease,
            deadline_s=settings.job_deadline,
            on_wedged=lambda: self.abandon(WEDGED_EXIT),
        )
        self.chunk_runner = ChunkRunner(
            worker=self.name,
            chunks=chunks,
            keeper=self._chunk_keeper,
            artifacts=self._artifacts,
            fetch=self._fetch,
            items=ItemRunner(
                models=self._models, cards={card.id: card for card in cards}, limits=self._limits
            ),
            items_at_once=self._items_at_once,
            settings=settings,
            is_closing=lambda: self.slots.is_closing,
        )
        self.exporter = BatchExporter(
            batches=batches,
            house=self._jobs,
            artifacts=self._artifacts,
            fetch=self._fetch,
            models=self._directory,
            max_image_bytes=settings.max_image_bytes,
            import_buckets=settings.import_buckets,
        )
        leader = BatchLeader(
            holder=self.name,
            batches=batches,
            chunks=chunks,
            house=self._jobs,
            artifacts=self._artifacts,
            queue=CeleryTaskQueue(self.celery),
            models=self._directory,
            settings=settings,
        )
        self._webhooks = WebhookDelivery(
            outbox=RedisOutbox(
                connection, keep_dead_s=settings.dead_letter_expiry, max_dead=settings.max_dead_letters
            ),
            endpoints=endpoints,
            jobs=self._jobs,
            batches=batches,
            client=outgoing,
            secret=settings.webhook_secret.get_secret_value() if settings.webhook_secret else None,
            public_url=settings.public_url,
        )
        orphans = OrphanRemover(store=self._jobs, artifacts=self._artifacts, age_s=settings.orphan_age)
        self._beside = (
            Periodic(
                "pulse",
                _PULSE_S,
                lambda: self._directory.publish(
                    self.name, cards, _PULSE_S * _PULSES_PER_LIFE, export_formats=formats
                ),
            ),
            Periodic("rebuilder", _REBUILD_S, rebuilder.rebuild_if_lost),
            Periodic("sweeper", settings.sweep_interval, sweeper.sweep),
            Periodic("orphans", _ORPHANS_S, orphans.look),
            Periodic("batches", _BATCHES_S, leader.look),
            Periodic("webhooks", _OUTBOX_S, self._webhooks.deliver_due),
        )

    def start(self) -> None:
        """Begin everything but the jobs themselves.

        Raises:
            ArtifactStoreUnavailable: the bucket can't be reached or made.
        """
        self._artifacts.ensure_bucket()
        self._keeper.start()
        self._chunk_keeper.start()
        for periodic in self._beside:
            periodic.start()
        logger.info("worker started", worker=self.name, models=sorted(self._registry.specs))

    def stop(self) -> None:
        """End, after the jobs have ended."""
        self._directory.withdraw(self.name)
        for periodic in self._beside:
            periodic.stop()
        self._webhooks.close()
        self._keeper.stop()
        self._chunk_keeper.stop()
        self._models.close()
        logger.info("worker stopped", worker=self.name)

    def stop_within_grace(self) -> None:
        """Let the jobs in hand finish, but no longer than the settings allow."""
        self.slots.is_closing = True
        timer = threading.Timer(self.settings.shutdown_grace, self.abandon, args=(0,))
        timer.daemon = True
        timer.start()

    def abandon(self, exit_status: int) -> None:
        """Give the jobs in hand back, and end the process at once: threads can't be stopped.

        The chunks go back too, but not those of a wedged worker: that it was lost with them must count.
        """
        logger.warning("worker abandons its jobs", worker=self.name, jobs=len(self._keeper.held()))
        try:
            self._keeper.release_all()
            if exit_status != WEDGED_EXIT:
                self._chunk_keeper.release_all()
        finally:
            os._exit(exit_status)

    def _items_at_once(self, model: str) -> int:
        """So many that the next run of the model is decoded while one is rendered."""
        return 2 * self._registry.specs[model].max_batch_size + _BESIDE_THE_MODEL

    def _note_end(self, job_id: str) -> bool:
        """Whether the bucket has the end of the job, or there is none to be kept."""
        job = self._jobs.find(job_id)
        return job is None or not job.state.is_final or note_end(self._artifacts, job)

    def paint_overlay(self, job_id: str) -> None:
        """Paint the overlay of a job, unless another thread or worker does."""
        if not self._jobs.lead(f"overlay:{job_id}", secrets.token_hex(8), _OVERLAY_LOCK_S):
            return
        job = self._jobs.find(job_id)
        if job is None:
            return
        try:
            paint_overlay(job, self._artifacts, self._fetch, self._limits)
        except ServiceError as error:
            logger.warning("overlay not painted", job=job_id, code=error.code)

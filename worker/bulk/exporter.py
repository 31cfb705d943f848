"""Exporting a batch that has ended: all of its results into one archive, made once and kept with them."""

import secrets
from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryFile

import structlog

from maskline.artifact_operations import exists, put_once
from maskline.batch_artifacts import Shard, export_key, failed_export_key
from maskline.batch_records import shard_keys
from maskline.batch_results import ItemResult
from maskline.batches import Batch, ExportRequest
from maskline.errors import BatchNotFound, DependencyError, RequestError
from maskline.file_names import FileNames, extension_of
from maskline.jobs import Failure
from maskline.ports import ArtifactStore, BatchStore, HousekeepingStore, ModelDirectory
from maskline.requests import Subtask
from worker.bulk.images import ChunkImages
from worker.bulk.lines import image_of_item
from worker.exporting.categories import TooManyCategories
from worker.exporting.format import ExportOptions
from worker.exporting.labelled_image import LabelledImage
from worker.exporting.registry import export
from worker.fetching import LAST_ATTEMPT, Fetch
from worker.periodic import Periodic

logger = structlog.get_logger(module=__name__)

_LEAD_S = 30.0


class BatchExporter:
    """Makes exports, each once, whichever worker is asked first."""

    def __init__(
        self,
        *,
        batches: BatchStore,
        house: HousekeepingStore,
        artifacts: ArtifactStore,
        fetch: Fetch,
        models: ModelDirectory,
        max_image_bytes: int,
        import_buckets: tuple[str, ...],
    ) -> None:
        """``house``: has the lock; ``fetch``: gives an image's bytes; ``models``: all that workers have."""
        self._batches = batches
        self._house = house
        self._artifacts = artifacts
        self._fetch = fetch
        self._models = models
        self._max_image_bytes = max_image_bytes
        self._import_buckets = import_buckets

    def export(self, tenant: str, batch_id: str, asked: str) -> None:
        """Make an export that is not there, unless another worker does. ``asked``: an ``ExportRequest``.

        Raises:
            DependencyError: Redis or the bucket does not answer.
        """
        request = ExportRequest.model_validate_json(asked)
        try:
            batch = self._batches.get(tenant, batch_id)
        except BatchNotFound:
            return
        key = export_key(batch.id, batch.progress.rounds, request.file_name)
        lead = partial(self._house.lead, f"export:{key}", secrets.token_hex(8), _LEAD_S)
        if exists(self._artifacts, key) or not lead():
            return
        keeping = Periodic("export's lead", _LEAD_S / 4, lead)
        keeping.start()
        try:
            self._make(batch, request, key)
        finally:
            keeping.stop()

    def _make(self, batch: Batch, request: ExportRequest, key: str) -> None:
        if exists(self._artifacts, key):  # another worker had the lead until just now
            return
        with TemporaryFile() as file:
            try:
                export(request.format, self._images(batch), file, self._options(batch, request))
            except DependencyError:
                raise
            except Exception as error:
                is_told = isinstance(error, (ValueError, TooManyCategories, RequestError))
                if not is_told:
                    logger.exception("export failed", batch=batch.id, format=request.format)
                message = str(error) if is_told else "something went wrong; the operator's log has the reason"
                failure = Failure(code="export_failed", message=message)
                failed_key = failed_export_key(batch.id, batch.progress.rounds, request.file_name)
                put_once(self._artifacts, failed_key, failure.to_json().encode(), "application/json")
                return
            self._artifacts.put(key, file, "application/zip")
        logger.info("batch exported", batch=batch.id, format=request.format)

    def _options(self, batch: Batch, request: ExportRequest) -> ExportOptions:
        card = self._models.cards().get(batch.model)
        return ExportOptions(
            annotation_specs=card.annotation_specs if card else (),
            polygons=request.polygons,
            semantic=batch.request.request.subtask is Subtask.SEMANTIC,
            model=batch.model,
        )

    def _images(self, batch: Batch) -> Iterator[LabelledImage]:
        names = FileNames()
        for number, line in enumerate(self._lines(batch), 1):
            result = ItemResult.model_validate_json(line)
            yield LabelledImage(
                number=number,
                file_name=names.image_name(result.id, _extension(result)),
                result=result,
                image_bytes=partial(self._image, batch.id, result),
            )

    def _lines(self, batch: Batch) -> Iterator[bytes]:
        for key in shard_keys(batch, Shard.PREDICTIONS, self._batches):
            yield from self._artifacts.get(key).splitlines()

    def _image(self, batch_id: str, result: ItemResult) -> bytes:
        image = image_of_item(result.instance, self._import_buckets)
        images = ChunkImages(
            batch_id,
            [image],
            self._artifacts,
            self._fetch,
            most=self._max_image_bytes,
            attempt=LAST_ATTEMPT,  # who asks again has the export tried again
        )
        return bytes(images.get(image))


def _extension(result: ItemResult) -> str:
    """That of the image's name, in its address or in the item's id."""
    instance = result.instance
    address = instance.get("image") if isinstance(instance, dict) else None
    return extension_of(address if isinstance(address, str) else result.id)

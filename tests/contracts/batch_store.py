"""The promises of ``BatchStore``."""

import pytest

from maskline.batches import (
    Batch,
    BatchRequest,
    BatchState,
    Destination,
    ItemForm,
    Progress,
    Source,
    new_batch_id,
)
from maskline.errors import BatchNotFound, QueueFull
from maskline.ports import BatchStore
from maskline.requests import SegmentationRequest

ENDED = Progress(state=BatchState.SUCCEEDED, items=3, succeeded=3)
KEPT_S = 60.0


def make_batch(tenant: str = "default") -> Batch:
    return Batch(
        id=new_batch_id(),
        tenant=tenant,
        request=BatchRequest(
            request=SegmentationRequest(model="grabcut"),
            form=ItemForm.JSONL,
            sources=(Source(bucket="imports", key="in.jsonl"),),
            destination=Destination(uri="gs://exports/out", bucket="exports", prefix="out/"),
            resource={"displayName": "n", "labels": {"a": None}},
        ),
        created_ms=1_700_000_000_000,
    )


class BatchStoreContract:
    """A test class of a store extends this one, and has a fixture ``batches``."""

    def test_what_is_kept_comes_back(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, 10)
        assert batches.get("default", batch.id) == batch

    def test_it_is_its_tenant_s_alone(self, batches: BatchStore) -> None:
        batch, other = make_batch(), make_batch("other")
        batches.create(batch, 10)
        batches.create(other, 10)
        for call in (batches.get, batches.cancel, batches.delete):
            with pytest.raises(BatchNotFound):
                call("other", batch.id)
        assert batches.all("default") == [batch]
        assert batches.all("other") == [other]
        assert batches.active(10) == sorted([batch, other], key=lambda one: one.id)
        assert len(batches.active(1)) == 1

    def test_only_so_many_are_active(self, batches: BatchStore) -> None:
        first = make_batch()
        batches.create(first, 1)
        with pytest.raises(QueueFull):
            batches.create(make_batch(), 1)
        assert batches.save(first, ENDED, KEPT_S)
        batches.create(make_batch(), 1)

    def test_a_save_needs_the_latest_version(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, 10)
        moved = batches.save(batch, Progress(state=BatchState.RUNNING), KEPT_S)
        assert moved is not None
        assert moved.progress.state is BatchState.RUNNING
        assert batches.save(batch, ENDED, KEPT_S) is None
        assert batches.get("default", batch.id) == moved
        ended = batches.save(moved, ENDED, KEPT_S)
        assert ended is not None
        assert batches.active(10) == []
        assert batches.all("default") == [ended]

    def test_a_cancelled_one_can_still_be_saved(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, 10)
        assert batches.cancel("default", batch.id).is_cancelling
        ended = batches.save(batch, ENDED, KEPT_S)
        assert ended is not None
        assert batches.cancel("default", batch.id) == ended

    def test_an_ended_one_is_not_cancelled(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, 10)
        batches.save(batch, ENDED, KEPT_S)
        assert not batches.cancel("default", batch.id).is_cancelling

    def test_a_deleted_one_is_gone(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, 10)
        batches.delete("default", batch.id)
        assert batches.all("default") == batches.active(10) == []
        assert batches.save(batch, ENDED, KEPT_S) is None
        with pytest.raises(BatchNotFound):
            batches.get("default", batch.id)

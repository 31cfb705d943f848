"""Batches as the native API shows them."""

import time
from datetime import UTC, datetime

from maskline.batch_resources import BatchResource, BatchStatus, ItemCounts
from maskline.batches import Batch
from maskline.requests import Subtask

_FRESH_S = 60.0  # a pace that is older tells nothing of what is to come


def present(batch: Batch) -> BatchResource:
    """The batch as its client sees it."""
    progress, counts, request = batch.progress, batch.counts, batch.request
    left = max(0, progress.items - counts.succeeded - counts.failed)
    pace = None if batch.has_ended or batch.is_paused else _items_per_second(batch)
    return BatchResource(
        id=batch.id,
        state=_status(batch),
        model=batch.model,
        subtask=request.request.subtask or Subtask.SEMANTIC,
        display_name=request.display_name,
        metadata=request.metadata,
        items=progress.items,
        is_all_read=batch.is_all_cut,
        is_complete=batch.is_complete,
        parts=batch.parts,
        counts=ItemCounts(
            queued=0 if batch.has_ended else max(0, left - counts.running),
            running=counts.running,
            succeeded=counts.succeeded,
            failed=counts.failed,
            cancelled=left if batch.has_ended else 0,
            flagged=counts.flagged,
        ),
        items_per_second=pace,
        seconds_left=round(left / pace, 1) if pace and batch.is_all_cut else None,
        rounds=progress.rounds,
        created_at=_time(batch.created_ms),
        started_at=_time(progress.started_ms) if progress.started_ms else None,
        finished_at=_time(progress.ended_ms) if batch.has_ended and progress.ended_ms else None,
        destination=request.destination.uri if request.destination else None,
        error=progress.failure,
    )


def _status(batch: Batch) -> BatchStatus:
    state = batch.progress.state
    if batch.is_retrying:
        return BatchStatus.RUNNING
    if not state.is_final and batch.is_cancelling:
        return BatchStatus.CANCELLING
    if not state.is_final and batch.is_paused:
        return BatchStatus.PAUSED
    return BatchStatus(state)


def _items_per_second(batch: Batch) -> float | None:
    recent = batch.counts.recent
    if len(recent) < 2 or time.time() - recent[-1][0] / 1000 > _FRESH_S:
        return None
    seconds = (recent[-1][0] - recent[0][0]) / 1000
    return round(sum(items for _, items in recent[1:]) / seconds, 3) if seconds > 0 else None


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)

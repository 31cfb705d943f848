"""What came of a batch, for people and programs."""

from maskline.batch_results import BatchSummary, CategorySummary, SlowItem
from maskline.batches import Batch, Sums


def summarize(batch: Batch, sums: Sums) -> BatchSummary:
    """The summary of a batch whose chunks have come to ``sums``."""
    counts, progress = batch.counts, batch.progress
    ended_ms = counts.recent[-1][0] if counts.recent else progress.started_ms
    seconds = (ended_ms - progress.started_ms) / 1000 if progress.started_ms and ended_ms else 0.0
    categories = sorted(sums.labels.items(), key=lambda one: (-one[1].items, one[0]))
    slowest = sorted(sums.slowest.items(), key=lambda one: -one[1])
    return BatchSummary(
        batch=batch.id,
        model=batch.model,
        items=progress.items,
        succeeded=counts.succeeded,
        failed=counts.failed,
        flagged=counts.flagged,
        seconds=max(0.0, seconds),
        mean_confidence=round(sums.confidence / counts.succeeded, 6) if counts.succeeded else None,
        categories=tuple(
            CategorySummary(display_name=label, items=sum_.items, segments=sum_.segments, pixels=sum_.pixels)
            for label, sum_ in categories
        ),
        slowest=tuple(
            SlowItem(line=int(line), id=item, milliseconds=ms)
            for (line, _, item), ms in ((name.partition(" "), ms) for name, ms in slowest)
        ),
        errors=sums.errors,
    )
